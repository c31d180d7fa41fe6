"""nnU-Net's choice of the reader for a dataset's files."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_al.nnunet.environment import quiet
from nnunet_al.stopping import stop_if_interrupted

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter


def choose_reader(dataset_json: dict[str, Any], image: Path) -> type[BaseReaderWriter]:
    """Return nnU-Net's reader: the one that ``dataset.json`` declares, or the first one that can read ``image``.

    Raises RuntimeError if none can; KeyboardInterrupt at an interruption, which nnU-Net takes for an error of a reader.
    """
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    try:
        with quiet(), redirect_stderr(StringIO()):  # on which nnU-Net prints a traceback of each reader that fails
            found: type[BaseReaderWriter] = determine_reader_writer_from_dataset_json(
                dataset_json, str(image), verbose=False
            )
    finally:
        stop_if_interrupted()
    return found
