"""What the package ``datasets`` finds of a name: files, columns, tables; its errors in plain words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nasflow.base import files
from nasflow.base.errors import DatasetMissingError, MachineError, UsageError
from stages.data.config import DataConfig
from stages.data.names import shown

if TYPE_CHECKING:
    import datasets

_INSTALL = "Install it: pip install 'nasflow[hub]'"


def open_builder(config: DataConfig) -> datasets.DatasetBuilder:
    """What knows the data set's files; no image is fetched yet.

    Raises DatasetMissingError, UsageError, and MachineError where the package is not installed.
    """
    if find_spec("datasets") is None:
        raise MachineError(
            "data.source hub needs the package datasets, which is not installed.", hint=_INSTALL
        )
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    where = config.path or str(config.name)
    with _plain_errors(where):
        return datasets.load_dataset_builder(
            where, revision=config.revision, cache_dir=str(files.cache_folder() / "hub")
        )


def data_files_of(builder: datasets.DatasetBuilder) -> Mapping[str, Sequence[str]]:
    """The files of each split; none where only the tables of an earlier time are at hand."""
    return builder.config.data_files or {}


def features_of(builder: datasets.DatasetBuilder, name: str) -> datasets.Features:
    """The columns, as the first file has them. Raises as :func:`open_builder`."""
    with _plain_errors(name):
        builder.as_streaming_dataset()
    return builder.info.features


def tables_of(builder: datasets.DatasetBuilder, name: str) -> datasets.DatasetDict:
    """All splits; fetched where they are not in the cache. Raises as :func:`open_builder`."""
    import datasets

    with _plain_errors(name):
        builder.download_and_prepare()
        loaded = builder.as_dataset()
    if not isinstance(loaded, datasets.DatasetDict):
        raise UsageError(f"The data set {shown(name)} has no splits.")
    return loaded


def go_offline() -> None:
    """Let nothing be fetched by this process from now on."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if find_spec("datasets") is None:
        return
    import datasets
    import huggingface_hub.constants

    datasets.config.HF_HUB_OFFLINE = True
    huggingface_hub.constants.HF_HUB_OFFLINE = True


@contextmanager
def _plain_errors(where: str) -> Iterator[None]:
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except (FileNotFoundError, ConnectionError) as error:  # the first: no such data set
        raise DatasetMissingError(
            f"The data set {shown(where)} cannot be fetched, and is not in the cache.",
            hint="Check data.name, data.revision, offline and the network; a private one needs HF_TOKEN. A "
            "folder of Parquet or WebDataset files on this computer needs no network.",
            raw=str(error),
        ) from error
    except (ValueError, RuntimeError, DatasetGenerationError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"The data set {shown(where)} cannot be read: {shown(first[:200])}",
            hint="It must hold Parquet, WebDataset or image files, and have one configuration.",
            raw=str(error),
        ) from error
    except OSError as error:
        raise DatasetMissingError(
            f"The data set {shown(where)} cannot be fetched: {shown(str(error)[:200])}",
            hint="Check data.name, data.revision, the network and the space on the disk.",
            raw=str(error),
        ) from error
