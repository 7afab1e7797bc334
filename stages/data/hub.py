"""A data set of the Hugging Face hub, or a folder of Parquet or WebDataset files, through ``datasets``.

A small one is fetched and kept as memory-mapped tables (:mod:`stages.data.hub_tables`), a large one is read
where its files lie (:mod:`stages.data.streamed`). From the bytes on, all is as with a folder: hashes, copies,
parts. Needs the optional package (``nasflow[hub]``).
"""

from __future__ import annotations

from dataclasses import dataclass

from nasflow.base.errors import DatasetMissingError
from stages.data.config import DataConfig
from stages.data.hub_builder import data_files_of, features_of, go_offline, open_builder
from stages.data.image_bytes import ImageBytes
from stages.data.image_folder import ImageFolder
from stages.data.listed import Listing


@dataclass(frozen=True)
class HubImages(ImageFolder):
    """The images of ``config.name``."""

    @property
    def name(self) -> str:
        """That on the hub; files in a folder of a person's own have none that is told."""
        return "hub" if self.config.path is not None else str(self.config.name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels' names, sorted."""
        return self.catalogue.class_names

    def identity(self) -> dict[str, str]:
        """As a folder's; besides the order in which images are shown, where it is not the usual one."""
        units = self.catalogue.inventory.content.units()
        return {**super().identity(), **({} if units is None else {"order": units.order})}

    def is_at_hand(self) -> bool:
        """Whether nothing has to be fetched."""
        try:
            self.check_at_hand()
        except DatasetMissingError:
            return False
        return True

    def check_at_hand(self) -> None:
        """Raises DatasetMissingError where it would have to be fetched; nothing is fetched after this."""
        go_offline()
        open_hub(self.config)

    def check_folder(self, part: object) -> None:
        """Raises UsageError where it cannot be learned from."""
        self.look()


def open_hub(config: DataConfig) -> tuple[Listing, ImageBytes]:
    """The images of a configuration and their files, numbered alike.

    They are read where they lie if their files take more than ``data.cache_gigabytes``. Raises UsageError
    where no images with one label each are in it, DatasetMissingError where it is not there and cannot be
    fetched, MachineError where the package is not installed.
    """
    builder = open_builder(config)
    from stages.data.hub_columns import Columns
    from stages.data.hub_tables import open_tables
    from stages.data.shards import find_shards, total_bytes
    from stages.data.streamed import open_streamed

    name = str(config.name)
    shards = find_shards(data_files_of(builder), name)
    if total_bytes(shards) > config.cache_gigabytes * 1e9:
        columns = Columns.of(features_of(builder, name), list(shards), name)
        if (streamed := open_streamed(shards, columns, name)) is not None:
            return streamed
    return open_tables(builder, name)
