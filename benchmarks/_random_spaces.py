"""Random search spaces: legal, of every shape that a YAML file may ask for, and small enough to be tried."""

from __future__ import annotations

import random
from typing import Any

from stages.data.config import DataConfig, open_dataset
from stages.space.search_space import SearchSpace

IMAGES = open_dataset(DataConfig())
KERNELS = (1, 3, 5, 7, 9, 11)
DEEPEST, MOST_STAGES = 60, 8


def random_space(seed: int, *, trainable: bool, most_macs: int) -> SearchSpace:
    """A space of 1 to 60 layers.

    ``trainable``: for the images that there are, else of 8 to 96 pixels and 2 to 1,000 classes. All widths
    are halved until the largest network has at most ``most_macs`` multiply-accumulates, or all of them are 1.
    """
    chance = random.Random(f"{seed}/{trainable}")
    resolution = IMAGES.resolution if trainable else chance.randint(8, 96)
    strides = _strides(chance, resolution)
    stages = _stages(chance, strides[1:])
    plain: dict[str, Any] = {
        "name": f"random_{seed}",
        "resolution": resolution,
        "classes": len(IMAGES.class_names) if trainable else round(2 * 500 ** chance.random()),
        "input_channels": IMAGES.channels if trainable else chance.choice((1, 3, 4)),
        "width_multiplier": chance.choice((1.0, 1.0, 0.3, 0.75, 1.4)),
        "stem": {
            "width": chance.randint(1, 24),
            "kernel": chance.choice(KERNELS),
            "stride": strides[0],
        },
        "stages": stages,
        "head_width": chance.randint(1, 96),
        "candidates": _candidates(chance, chance.randint(1, 6)),
        "skip": chance.random() < 0.7,
    }
    while True:
        space = SearchSpace.model_validate(plain)
        wide = [plain["stem"], *plain["stages"]]
        if largest_macs(space) <= most_macs or max(part["width"] for part in wide) == 1:
            return space
        for part in wide:
            part["width"] = max(1, part["width"] // 2)
        plain["width_multiplier"] = 1.0  # which rounds to multiples of 8: narrower would not get cheaper


def largest_macs(space: SearchSpace) -> int:
    """Multiply-accumulates of the space's largest network."""
    fixed = sum(block.macs for block in space.fixed_blocks())
    return fixed + sum(max(b.macs for b in layer.blocks if b is not None) for layer in space.layers())


def _strides(chance: random.Random, resolution: int) -> list[int]:
    """Of the stem and of each stage; their product divides the resolution."""
    left = chance.randint(0, _halvings(resolution))
    indices = 1 + chance.randint(1, MOST_STAGES)
    halving = set(chance.sample(range(indices), min(left, indices)))
    return [2 if index in halving else 1 for index in range(indices)]


def _halvings(resolution: int) -> int:
    return (resolution & -resolution).bit_length() - 1


def _stages(chance: random.Random, strides: list[int]) -> list[dict[str, Any]]:
    depth = max(len(strides), round(DEEPEST ** chance.random()))
    cuts = sorted(chance.sample(range(1, depth), len(strides) - 1))
    layers = [high - low for low, high in zip([0, *cuts], [*cuts, depth], strict=True)]
    return [
        {
            "width": round(40 ** chance.random()),
            "layers": count,
            "stride": stride,
            "fixed": _candidate(chance) if chance.random() < 0.2 else None,
        }
        for count, stride in zip(layers, strides, strict=True)
    ]


def _candidates(chance: random.Random, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        candidate = _candidate(chance)
        if candidate not in found:
            found.append(candidate)
    return found


def _candidate(chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(("mbconv", "mbconv", "fused"))
    return {
        "kind": kind,
        "kernel": chance.choice(KERNELS),
        "expansion": round(6 ** chance.random()),
        "squeeze_excite": kind == "mbconv" and chance.random() < 0.3,
        "activation": chance.choice(("relu6", "relu6", "hswish")),
    }
