"""The raw dataset of a campaign, read and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from nnunet_al.errors import DatasetError
from nnunet_al.file_locks import file_lock, remove_empty
from nnunet_al.files import remove_temporary_files
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.case_files import name_collision
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.image_store import store_folder
from nnunet_al.nnunet.raw_dataset import CaseFiles, RawDataset
from nnunet_al.nnunet.verification import verify_dataset
from nnunet_al.terminal import say
from nnunet_al.text import count, first_names

_NAMED = 5


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
    from the campaign, may be in any state. Without ``cases`` every file has to be accounted for. Unfinished files of
    killed processes among the dataset's preprocessed images are removed. ``alone`` is called before any file has to be
    read.

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
    if cases is None:
        check_accounts(raw, test)
    raw, others = _only(raw, cases)
    if collision := name_collision({*raw.cases, *(raw.test_cases if test == "ts" else ())}):
        raise DatasetError(collision)
    tests = raw.test_cases if test == "ts" else raw.cases
    facts = verify_dataset(raw, workers, cache, {**tests, **raw.cases}, defer_write=writes.append, before_reading=alone)
    pool_facts, test_facts = ({case: facts[case] for case in some} for some in (raw.cases, tests))
    return Data(raw, pool_facts, tests, test_facts, remember, others)


def check_accounts(raw: RawDataset, test: str) -> None:
    """Say which files of a dataset are left alone on purpose.

    Raises DatasetError if there are others that no case uses, or declared ones that are not there.
    """
    for account in raw.accounts(test):
        for fault in account.faults:
            raise DatasetError(fault)
    for account in raw.accounts(test):
        for remark in account.remarks:
            say(remark)


def say_faults(raw: RawDataset, test: str) -> None:
    """Say what `check_accounts` would refuse, for a campaign that has begun and goes on with what it has."""
    for account in raw.accounts(test):
        for fault in account.faults:
            say(fault)


def labels_line(facts: Mapping[str, CaseFacts]) -> str:
    """Return one sentence on how many cases have labels, with the names of those that have none."""
    without = [case for case, known in sorted(facts.items()) if known.label_hash is None]
    empty = sum(known.label_state == "unannotated" for known in facts.values())
    partly = sum(known.label_state == "partial" for known in facts.values())
    details = [f"none: {first_names(without, _NAMED)}"] if without else []
    details += [f"annotated in part: {partly}"] if partly else []
    details += [f"ignored everywhere: {empty}"] if empty else []
    some = f" ({'; '.join(details)})" if details else ""
    return f"{len(facts) - len(without)} of {count(len(facts), 'case')} have labels{some}."


def _only(raw: RawDataset, wanted: Collection[str] | None) -> tuple[RawDataset, tuple[str, ...]]:
    if wanted is None:
        return raw, ()
    cases, tests = ({case: files[case] for case in files if case in wanted} for files in (raw.cases, raw.test_cases))
    return replace(raw, cases=cases, test_cases=tests), tuple(sorted(raw.cases.keys() - cases.keys()))
