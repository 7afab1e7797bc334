"""What a run's images are, as the report says it."""

from __future__ import annotations

from collections.abc import Sequence

from stages.data.config import DataConfig
from stages.data.dataset import Dataset, Part
from stages.documents import ClassImages, ImagesReport
from stages.verification.power import what_can_be_shown

LEARNED: frozenset[Part] = frozenset({"train", "architecture", "choice"})
MOST_NAMED = 20


def images_report(dataset: Dataset, config: DataConfig, test_by_class: Sequence[int]) -> ImagesReport:
    """From the data set, its configuration, and the test images of each class."""
    counts, shown, facts = dataset.counts, what_can_be_shown(sum(test_by_class)), dataset.facts()
    known = LEARNED & facts.by_class.keys()
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
            ClassImages(name=name, test=images, **{part: facts.by_class[part][index] for part in known})
            for index, (name, images) in enumerate(zip(dataset.class_names, test_by_class, strict=True))
        ),
        files_found=facts.files_found,
        exact_copies=facts.exact_copies,
        near_copies=facts.near_copies,
        copies=None if facts.files_found is None else config.copies,
        left_out=facts.left_out,
        label_conflicts=facts.label_conflicts,
        groups=facts.groups,
        broken=None if facts.broken is None else facts.broken[:MOST_NAMED],
        broken_images=None if facts.broken is None else len(facts.broken),
        augmentation=config.augmentation.preset,
        balance=config.balance,
        folds=config.folds,
        fold=None if config.folds is None else config.fold,
        split_seed=config.split_seed,
        difference_points=shown.difference_points,
        assumed_discordance=shown.discordance,
        accuracy_points=shown.accuracy_points,
    )
