"""A look at the images of one's own before anything else is done: progress, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nasflow.assemble import artifacts_folder, resolve_data
from nasflow.config import PipelineConfig
from pipeline.events import Emit, Event, Message, Progress
from stages.data.config import DataConfig, open_dataset
from stages.data.names import shown

if TYPE_CHECKING:
    from pipeline.reporters.reporters import Reporter
    from stages.data.catalogue import Catalogue


def look_at_images(config: PipelineConfig, base_dir: Path, emit: Emit, *, warn: bool = True) -> None:
    """Read the images, those that are new since the last look; ``warn``: say what will not be used, and
    how their folder was understood.

    Nothing is done where the source knows its images (Fashion-MNIST). Raises UsageError where the images
    cannot be learned from, or where results would be written among them; DatasetMissingError where they are
    not there.
    """
    data = resolve_data(config.data, base_dir)
    if data.source == "fashion_mnist":
        return
    from nasflow.own_images.findings import data_root
    from nasflow.own_images.keep_out import check_outside
    from nasflow.own_images.warnings import image_warnings
    from stages.data.image_folder import ImageFolder

    dataset = open_dataset(data)
    if not isinstance(dataset, ImageFolder):
        return
    if data.source == "folder" or config.offline:
        dataset.check_at_hand()
    artifacts, root = artifacts_folder(config, base_dir), data_root(data)
    hint = "Move pipeline.yaml out of the folder of the images, or set 'artifacts' to a folder elsewhere."
    check_outside(artifacts, root, hint=hint)
    telling = Telling(data, emit)
    catalogue = dataset.look(telling.reading, telling.comparing)
    check_outside(artifacts, root, (image.path for image in catalogue.inventory.images), hint=hint)
    if not warn:
        return
    for text in image_warnings(catalogue):
        emit(Message("", text, level="warning"))
    emit(Message("", how_read(catalogue)))


def how_read(catalogue: Catalogue) -> str:
    """Images, classes, and how the folder was understood: a part may have been taken for a class."""
    count, classes = len(catalogue.inventory.images), len(catalogue.class_names)
    return f"{count:,} images in {classes} classes: {shown(catalogue.inventory.listing.layout)}."


class Telling:
    """Turns the progress of a look at images into events; silent where all is known already."""

    def __init__(self, data: DataConfig, emit: Emit) -> None:
        self._data, self._emit = data, emit
        self._reads = False
        self._total = 0

    def reading(self, done: int, total: int) -> None:
        """So many of all images are read."""
        self._total = total
        if not self._reads and done == total:
            return
        if not self._reads:
            self._reads = True
            where = self._data.path if self._data.source == "folder" else self._data.name
            again = f" ({done:,} are known)" if done else ""
            count = f"{total - done:,} image{'' if total - done == 1 else 's'}"
            text = f"Reading {count} of {where}{again}: next time only those that changed."
            self._emit(Message("", text))
        self._emit(Progress("", done, total, "images", note="reading"))

    def comparing(self, share: float) -> None:
        """Such a share of all images is compared with all others."""
        done = min(self._total, round(share * self._total))
        self._emit(Progress("", done, self._total, "images", note="looking for copies"))


class Told:
    """What a command that runs no stage is told: kept for its outcome; progress is shown at once."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._screen: Reporter | None = None

    def __call__(self, event: Event) -> None:
        """Keep an event, or show it."""
        if not isinstance(event, Progress):
            self.events.append(event)
            return
        if self._screen is None:
            from nasflow.cli.screen import screen

            self._screen = screen(as_json=False)
        self._screen(event)
        if event.done >= event.total:
            self._screen.close()
