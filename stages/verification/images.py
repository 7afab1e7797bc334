"""What a run's images are, as the report says it."""

from __future__ import annotations

from collections.abc import Sequence

from stages.data.config import DataConfig
from stages.data.dataset import Dataset
from stages.documents import ClassImages, ImagesReport
from stages.verification.power import what_can_be_shown


def images_report(dataset: Dataset, config: DataConfig, test_by_class: Sequence[int]) -> ImagesReport:
    """From the data set, its configuration, and the test images of each class."""
    counts, shown = dataset.counts, what_can_be_shown(sum(test_by_class))
    return ImagesReport(
        source=config.source,
        name=dataset.name,
        resolution=dataset.resolution,
        channels=dataset.channels,
        train_images=counts["train"],
        architecture_images=counts["architecture"],
        choice_images=counts["choice"],
        test_images=sum(test_by_class),
        shared_choice=dataset.shared_choice,
        classes=tuple(
            ClassImages(name=name, test=images)
            for name, images in zip(dataset.class_names, test_by_class, strict=True)
        ),
        augmentation=config.augmentation.preset,
        balance=config.balance,
        folds=config.folds,
        fold=None if config.folds is None else config.fold,
        split_seed=config.split_seed,
        difference_points=shown.difference_points,
        assumed_discordance=shown.discordance,
        accuracy_points=shown.accuracy_points,
    )
