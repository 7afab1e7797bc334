"""MobileNetV2 (Sandler et al., arXiv 1801.04381, table 2) as data: the network to beat."""

from __future__ import annotations

from collections.abc import Sequence

from nasflow.base.errors import UsageError
from stages.space.block_spec import BlockSpec, round_channels
from stages.space.search_space import NetConfig

# (expansion t, channels c, repeats n, stride s) of table 2.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS, STEM_STRIDE, HEAD_CHANNELS = 32, 2, 1280
PUBLISHED_STRIDES = (STEM_STRIDE, *(stride for *_, stride in STAGES))


def mobilenet_v2(
    *,
    resolution: int,
    classes: int,
    width: float = 1.0,
    strides: Sequence[int] = PUBLISHED_STRIDES,
    input_channels: int = 3,
) -> NetConfig:
    """MobileNetV2 of a width multiplier at a resolution in pixels.

    ``strides`` are those of the stem and the seven stages; the published ones reduce by 32 in all.
    A width multiplier below 1 leaves the last convolution at 1280 channels (section 6.1).
    Raises UsageError where ``strides`` has not eight entries of 1 or 2.
    """
    if len(strides) != 1 + len(STAGES) or not set(strides) <= {1, 2}:
        raise UsageError(
            f"MobileNetV2 has a stem and seven stages; a stride plan of {list(strides)} does not fit."
        )
    blocks: list[BlockSpec] = []

    def add(kind: str, out_channels: int, stride: int = 1, kernel: int = 1, expansion: int = 1) -> None:
        last = blocks[-1] if blocks else None
        blocks.append(
            BlockSpec.model_validate(
                {
                    "kind": kind,
                    "kernel": kernel,
                    "expansion": expansion,
                    "stride": stride,
                    "in_channels": last.out_channels if last else input_channels,
                    "out_channels": out_channels,
                    "resolution": last.out_resolution if last else resolution,
                }
            )
        )

    add("stem", round_channels(STEM_CHANNELS * width), strides[0], kernel=3)
    for (expansion, channels, repeats, _), stride in zip(STAGES, strides[1:], strict=True):
        for repeat in range(repeats):
            add(
                "mbconv",
                round_channels(channels * width),
                stride if repeat == 0 else 1,
                kernel=3,
                expansion=expansion,
            )
    add("head", round_channels(HEAD_CHANNELS * max(1.0, width)))
    add("classifier", classes)
    return NetConfig(
        resolution=resolution, input_channels=input_channels, classes=classes, blocks=tuple(blocks)
    )


def fit_strides(strides: Sequence[int]) -> tuple[int, ...]:
    """Spread a space's stride plan (stem, then its stages) over MobileNetV2's stem and seven stages.

    A stride of 2 in stage i of n goes to stage i * 7 // n (counted from 0), or to the nearest free one that
    keeps the order; the total stride is the same, and a plan of eight entries is taken as it is. Raises
    UsageError where more than seven stages have a stride of 2.
    """
    stem, stages = strides[0], list(strides[1:])
    indices = [index for index, stride in enumerate(stages) if stride == 2]
    if len(indices) > len(STAGES):
        raise UsageError(
            f"the stride plan {list(strides)} has {len(indices)} stages of stride 2; MobileNetV2 has "
            f"{len(STAGES)} stages.",
            hint="Merge stages of the search space, or give some of them stride 1.",
        )
    fitted = [1] * len(STAGES)
    target = -1
    for number, index in enumerate(indices):
        still_to_come = len(indices) - number - 1
        target = min(max(index * len(STAGES) // len(stages), target + 1), len(STAGES) - 1 - still_to_come)
        fitted[target] = 2
    return (stem, *fitted)
