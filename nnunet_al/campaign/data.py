"""The raw dataset of a campaign, read and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from nnunet_al.errors import DatasetError
from nnunet_al.file_locks import file_lock, remove_empty
from nnunet_al.files import remove_temporary_files
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.image_store import store_folder
from nnunet_al.nnunet.raw_dataset import CaseFiles, RawDataset
from nnunet_al.nnunet.verification import verify_dataset
from nnunet_al.terminal import say


@dataclass(frozen=True)
class Data:
    """The raw dataset and the facts about its cases.

    Attributes
    ----------
    facts : of all training cases
    tests : the files of the test cases, wherever they lie
    test_facts : of the test cases
    remember : saves the facts, so that the next call need not read the files again
    others : the training cases of the dataset that were left alone
    """

    dataset: RawDataset
    facts: dict[str, CaseFacts]
    tests: dict[str, CaseFiles]
    test_facts: dict[str, CaseFacts]
    remember: Callable[[], None]
    others: tuple[str, ...] = field(default=())


@contextmanager
def reading_alone(
    roots: Roots, dataset: str, test: str, workers: int, cases: Collection[str] | None = None
) -> Iterator[Data]:
    """Yield the result of `read_data`; other processes that have to read the same dataset wait until it is remembered.

    Then they find the facts. A block that ends without that, because the dataset or the request was refused, leaves
    nothing behind.
    """
    lock = store_folder(roots, dataset) / "lock_facts"
    absent = [folder for folder in lock.parents if not folder.exists()]
    keep = False
    with ExitStack() as others_wait:

        def alone() -> None:
            # over NFS a folder can be removed only when a removed file in it is closed, too
            others_wait.callback(remove_empty, dict.fromkeys([*lock.parents[:2], *absent]))
            said = partial(say, f"Another process checks the images of {dataset}; waiting for it.")
            others_wait.enter_context(file_lock(lock, timeout_seconds=math.inf, waiting=said))
            others_wait.callback(forget)

        def forget() -> None:
            # several that are refused at one moment do not know which of them came first
            if not keep and [file.name for file in lock.parent.iterdir()] == [lock.name]:
                lock.unlink()

        data = read_data(roots, dataset, test, workers, cases, alone)

        def remember() -> None:
            nonlocal keep
            data.remember()
            keep = True
            others_wait.close()

        yield replace(data, remember=remember)


def check_dataset(roots: Roots, dataset: str, test: str, workers: int) -> Data:
    """Read and check a dataset once, for all campaigns that come after.

    Raises DatasetError for the first file that is not in order.
    """
    with reading_alone(roots, dataset, test, workers) as data:
        data.remember()
    return data


def read_data(
    roots: Roots,
    dataset: str,
    test: str,
    workers: int,
    cases: Collection[str] | None = None,
    alone: Callable[[], object] = lambda: None,
) -> Data:
    """Read and check a dataset; files that have not changed since they were last remembered are not read again.

    Of a campaign that has begun only its ``cases`` are looked at: cases that were added to the dataset, or withdrawn
    from the campaign, may be in any state. Unfinished files of killed processes among the dataset's preprocessed images
    are removed. ``alone`` is called before any file has to be read.

    Raises DatasetError for the first file that is not in order.
    """
    raw = RawDataset.read(roots.raw / dataset)
    cache = store_folder(roots, dataset) / "facts.json"
    remove_temporary_files(cache.parent)
    writes: list[Callable[[], None]] = []

    def remember() -> None:
        for write in writes:
            write()

    if test == "ts" and (both := sorted(raw.cases.keys() & raw.test_cases.keys())):
        raise DatasetError(f"-test ts: the case {both[0]} is in imagesTr and imagesTs of {raw.folder}: rename it.")
    raw, others = _only(raw, cases)
    tests = raw.test_cases if test == "ts" else raw.cases
    facts = verify_dataset(raw, workers, cache, {**tests, **raw.cases}, defer_write=writes.append, before_reading=alone)
    pool_facts, test_facts = ({case: facts[case] for case in some} for some in (raw.cases, tests))
    return Data(raw, pool_facts, tests, test_facts, remember, others)


def _only(raw: RawDataset, wanted: Collection[str] | None) -> tuple[RawDataset, tuple[str, ...]]:
    if wanted is None:
        return raw, ()
    cases, tests = ({case: files[case] for case in files if case in wanted} for files in (raw.cases, raw.test_cases))
    return replace(raw, cases=cases, test_cases=tests), tuple(sorted(raw.cases.keys() - cases.keys()))
