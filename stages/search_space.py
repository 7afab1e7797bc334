"""Architectures as data: blocks, whole networks, and the space that a search moves in.

Terms: a *block* is what a latency table has a row for (stem, MBConv, head, classifier); a *layer* is a
place of the network for which the search chooses one of several candidate blocks, or none (skip).
The family is ProxylessNAS's (arXiv 1812.00332, section 4.1), with MobileNetV2's inverted residual
blocks (arXiv 1801.04381, table 1).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nasflow.errors import UsageError
from pipeline.artifact import Record

LayerKind = Literal["mbconv", "fused"]
BlockKind = Literal["stem", "mbconv", "fused", "head", "classifier"]
Activation = Literal["relu6", "hswish"]
"""ReLU6, or h-swish: x * relu6(x + 3) / 6 (MobileNetV3, arXiv 1905.02244, section 5.2)."""
Implementation = Literal["native", "split"]
"""How a block is computed: as it is written, or its depthwise convolution in four exact parts
(:mod:`stages.conversion.depthwise_split`)."""

_FLOAT32_BYTES = 4


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, never more than 10 % down (MobileNetV2's released code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _is_relu6(activation: Activation) -> bool:
    return activation == "relu6"


def _has_squeeze_excite(value: bool, info: ValidationInfo) -> bool:
    kind = info.data.get("kind", "mbconv")  # where the kind itself is wrong, that is told
    if value and kind != "mbconv":
        raise ValueError(f"squeeze-and-excite stands behind a depthwise convolution; {kind} has none")
    return value


def _has_activation(value: Activation, info: ValidationInfo) -> Activation:
    kind = info.data.get("kind", "mbconv")
    if value != "relu6" and kind not in ("mbconv", "fused"):
        raise ValueError(f"only a block that fills a layer can have h-swish; {kind} has relu6")
    return value


class BlockSpec(Record):
    """One block: what it computes and at which size.

    - ``stem``: convolution, BN, ReLU6.
    - ``mbconv``: 1x1 expansion (left out where expansion is 1), depthwise, 1x1 projection; BN after each,
      ReLU6 after the first two; the input is added where stride is 1 and the widths are equal.
    - ``fused``: MBConv with expansion and depthwise convolution fused into one full convolution
      (EfficientNetV2, arXiv 2104.00298, section 3.3; MobileDets, arXiv 2004.14525); with expansion 1 that
      convolution, with BN and ReLU6, is all.
    - ``head``: 1x1 convolution, BN, ReLU6.
    - ``classifier``: mean over all places, then a dense layer.

    ``squeeze_excite`` (``mbconv`` only; MobileNetV3, arXiv 1905.02244, section 5.3) scales each hidden
    channel behind the depthwise convolution's activation: mean over all places, dense layer to
    ``squeezed_channels``, ReLU, dense layer back, hard sigmoid. ``activation`` ``hswish`` stands in place of
    ReLU6 within an ``mbconv`` or ``fused`` block. Both are written only where they are not the default, so
    that blocks without them keep the documents and fingerprints of before there was either.

    ``resolution`` is the side of the square *input* in pixels. Padding is TensorFlow's SAME.
    """

    kind: BlockKind
    kernel: int = Field(default=1, ge=1, le=11)
    expansion: int = Field(default=1, ge=1, le=16)
    squeeze_excite: bool = Field(default=False, exclude_if=operator.not_)
    activation: Activation = Field(default="relu6", exclude_if=_is_relu6)
    stride: Literal[1, 2] = 1
    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    resolution: int = Field(ge=1)

    _squeeze_excite = field_validator("squeeze_excite")(_has_squeeze_excite)
    _activation = field_validator("activation")(_has_activation)

    @property
    def key(self) -> str:
        """The block's name in a latency table."""
        size = f"{self.in_channels}-{self.out_channels}_r{self.resolution}"
        if self.searchable:
            extras = f"{'_se' if self.squeeze_excite else ''}{'_hs' if self.hswish else ''}"
            return f"{self.kind}_k{self.kernel}_e{self.expansion}{extras}_s{self.stride}_{size}"
        if self.kind == "stem":
            return f"stem_k{self.kernel}_s{self.stride}_{size}"
        return f"{self.kind}_{size}"

    @property
    def short_name(self) -> str:
        """What a drawing shows: ``MBConv6 5x5``, ``MBConv6 5x5 SE HS``."""
        if self.searchable:
            name = "MBConv" if self.kind == "mbconv" else "Fused"
            return " ".join([f"{name}{self.expansion}", f"{self.kernel}x{self.kernel}", *self.extras])
        return {"stem": f"Conv {self.kernel}x{self.kernel}", "head": "Conv 1x1"}.get(
            self.kind, "Pool + dense"
        )

    @property
    def hswish(self) -> bool:
        """Whether h-swish stands in place of ReLU6."""
        return self.activation == "hswish"

    @property
    def extras(self) -> tuple[str, ...]:
        """MobileNetV3's words for what the block has beyond kernel and expansion: ``SE``, ``HS``."""
        return _extras(squeeze_excite=self.squeeze_excite, activation=self.activation)

    @property
    def searchable(self) -> bool:
        """Whether the block is of a kind that fills a layer."""
        return self.kind in ("mbconv", "fused")

    @property
    def residual(self) -> bool:
        """Whether the block adds its input to its output."""
        return self.searchable and self.stride == 1 and self.in_channels == self.out_channels

    @property
    def implementations(self) -> tuple[Implementation, ...]:
        """The ways in which the block can be computed; a latency table keeps the fastest by name."""
        return ("native", "split") if self.kind == "mbconv" and self.kernel in (7, 9) else ("native",)

    @property
    def out_resolution(self) -> int:
        """Side of the square output in pixels (SAME padding: rounded up)."""
        return 1 if self.kind == "classifier" else math.ceil(self.resolution / self.stride)

    @property
    def hidden_channels(self) -> int:
        """Width between expansion and projection."""
        return self.in_channels * self.expansion

    @property
    def squeezed_channels(self) -> int:
        """Width between the two dense layers of squeeze-and-excite: a quarter of the hidden one."""
        return round_channels(self.hidden_channels / 4)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers, batch size 1."""
        inside, outside = self.resolution**2, self.out_resolution**2
        if self.kind == "mbconv":
            expand = inside * self.in_channels * self.hidden_channels if self.expansion > 1 else 0
            depthwise = outside * self.hidden_channels * self.kernel**2
            gate = 2 * self.hidden_channels * self.squeezed_channels if self.squeeze_excite else 0
            return expand + depthwise + gate + outside * self.hidden_channels * self.out_channels
        if self.kind == "fused" and self.expansion > 1:
            full = outside * self.kernel**2 * self.in_channels * self.hidden_channels
            return full + outside * self.hidden_channels * self.out_channels
        if self.kind == "classifier":
            return self.in_channels * self.out_channels
        return outside * self.kernel**2 * self.in_channels * self.out_channels

    @property
    def parameters(self) -> int:
        """Trainable numbers: weights, and scale and shift of each BN."""
        if self.kind == "mbconv":
            hidden = self.hidden_channels
            expand = self.in_channels * hidden + 2 * hidden if self.expansion > 1 else 0
            depthwise = hidden * self.kernel**2 + 2 * hidden
            squeezed = self.squeezed_channels
            gate = 2 * hidden * squeezed + squeezed + hidden if self.squeeze_excite else 0
            return expand + depthwise + gate + hidden * self.out_channels + 2 * self.out_channels
        if self.kind == "fused" and self.expansion > 1:
            hidden = self.hidden_channels
            full = self.kernel**2 * self.in_channels * hidden + 2 * hidden
            return full + hidden * self.out_channels + 2 * self.out_channels
        if self.kind == "classifier":
            return self.in_channels * self.out_channels + self.out_channels
        return self.kernel**2 * self.in_channels * self.out_channels + 2 * self.out_channels

    @property
    def weight_megabytes(self) -> float:
        """What an invocation reads of weights, in float32."""
        return _FLOAT32_BYTES * self.parameters / 1e6

    @property
    def activation_megabytes(self) -> float:
        """Values that the block's operators write, in float32."""
        inside, outside = self.resolution**2, self.out_resolution**2
        values = outside * self.out_channels * (2 if self.residual else 1)
        activated = 0  # what passes through an activation, which as h-swish is an operator of its own
        if self.searchable and self.expansion > 1:
            activated += (inside if self.kind == "mbconv" else outside) * self.hidden_channels
        if self.kind == "mbconv":
            activated += outside * self.hidden_channels
        values += activated * (2 if self.hswish else 1)
        if self.kind == "fused" and self.expansion == 1 and self.hswish:
            values += outside * self.out_channels
        if self.squeeze_excite:  # mean, two dense layers, their result over 6, the product
            values += (outside + 3) * self.hidden_channels + self.squeezed_channels
        return _FLOAT32_BYTES * values / 1e6


class NetConfig(Record):
    """One network: its blocks in order, each fitting the one before.

    ``layers`` says for each block which layer of the search space it fills (-1: none).
    """

    resolution: int = Field(ge=1)
    input_channels: int = Field(default=3, ge=1)
    classes: int = Field(ge=2)
    blocks: tuple[BlockSpec, ...] = Field(min_length=2)
    layers: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _chained(self) -> Self:
        channels, resolution = self.input_channels, self.resolution
        for place, block in enumerate(self.blocks):
            if (block.in_channels, block.resolution) != (channels, resolution):
                raise ValueError(
                    f"block {place} ({block.key}) does not fit its input of {channels} channels at "
                    f"{resolution} pixels"
                )
            channels, resolution = block.out_channels, block.out_resolution
        if self.blocks[-1].kind != "classifier" or channels != self.classes:
            raise ValueError(f"the last block must be a classifier with {self.classes} outputs")
        if self.layers and len(self.layers) != len(self.blocks):
            raise ValueError("layers must name one layer (or -1) for each block")
        return self

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(block.macs for block in self.blocks)

    @property
    def parameters(self) -> int:
        """Trainable numbers."""
        return sum(block.parameters for block in self.blocks)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the stem and of the blocks that fill layers, in order."""
        return tuple(b.stride for b in self.blocks if b.kind == "stem" or b.searchable)


def _extras(*, squeeze_excite: bool, activation: Activation) -> tuple[str, ...]:
    return (*(["SE"] if squeeze_excite else []), *(["HS"] if activation == "hswish" else []))


def _label(block: BlockSpec | Candidate) -> str:
    kind = [] if block.kind == "mbconv" else [block.kind]
    extras = _extras(squeeze_excite=block.squeeze_excite, activation=block.activation)
    return " ".join([*kind, f"k{block.kernel}", f"e{block.expansion}", *extras])


class Candidate(Record):
    """One way to fill a layer: what :class:`BlockSpec` says of a block, without stride and sizes."""

    kind: LayerKind = "mbconv"
    kernel: int = Field(ge=1, le=11)
    expansion: int = Field(ge=1, le=16)
    squeeze_excite: bool = Field(default=False, exclude_if=operator.not_)
    activation: Activation = Field(default="relu6", exclude_if=_is_relu6)

    _squeeze_excite = field_validator("squeeze_excite")(_has_squeeze_excite)
    _activation = field_validator("activation")(_has_activation)

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a kernel's side must be odd")
        return value

    @property
    def label(self) -> str:
        """``k5 e3``, ``fused k3 e1``, ``k5 e6 SE HS``."""
        return _label(self)


class StageSpec(Record):
    """A run of layers of one width; the first has the stride, the others stride 1.

    ``fixed`` replaces the space's candidates for this stage by one block that is not searched.
    """

    width: int = Field(ge=1)
    layers: int = Field(ge=1, le=100)
    stride: Literal[1, 2] = 1
    fixed: Candidate | None = None


class StemSpec(Record):
    """The first convolution."""

    width: int = Field(ge=1)
    kernel: int = Field(default=3, ge=1, le=11)
    stride: Literal[1, 2] = 2


class SearchLayer(Record):
    """One place for which the search chooses. ``blocks[i]`` is candidate i; None is the skip."""

    blocks: tuple[BlockSpec | None, ...] = Field(min_length=1)

    def label(self, choice: int) -> str:
        """What a drawing calls a choice: ``k5 e3`` or ``skip``."""
        block = self.blocks[choice]
        return "skip" if block is None else _label(block)


class SearchSpace(Record):
    """A family of networks: stem, stages of layers, head, classifier.

    Where a layer keeps width and resolution, the skip joins its candidates if ``skip`` is set.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    resolution: int = Field(ge=8, le=1024)
    classes: int = Field(ge=2)
    input_channels: int = Field(default=3, ge=1)
    width_multiplier: float = Field(default=1.0, gt=0, le=8)
    stem: StemSpec
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    head_width: int = Field(ge=1)
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    skip: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.candidates)) != len(self.candidates):
            raise ValueError("candidates: the same candidate is listed twice")
        total_stride = self.stem.stride * math.prod(stage.stride for stage in self.stages)
        if self.resolution % total_stride:
            raise ValueError(
                f"resolution {self.resolution} is not a multiple of the total stride {total_stride}"
            )
        return self

    def _width(self, channels: int) -> int:
        scaled = channels * self.width_multiplier
        return channels if self.width_multiplier == 1.0 else round_channels(scaled)

    def _stem(self) -> BlockSpec:
        return BlockSpec(
            kind="stem",
            kernel=self.stem.kernel,
            stride=self.stem.stride,
            in_channels=self.input_channels,
            out_channels=self._width(self.stem.width),
            resolution=self.resolution,
        )

    def layers(self) -> tuple[SearchLayer, ...]:
        """All layers in order, fixed ones (a single candidate) among them."""
        stem = self._stem()
        channels, resolution = stem.out_channels, stem.out_resolution
        layers: list[SearchLayer] = []
        for stage in self.stages:
            for place in range(stage.layers):
                blocks: list[BlockSpec | None] = [
                    BlockSpec(
                        kind=candidate.kind,
                        kernel=candidate.kernel,
                        expansion=candidate.expansion,
                        squeeze_excite=candidate.squeeze_excite,
                        activation=candidate.activation,
                        stride=stage.stride if place == 0 else 1,
                        in_channels=channels,
                        out_channels=self._width(stage.width),
                        resolution=resolution,
                    )
                    for candidate in ((stage.fixed,) if stage.fixed else self.candidates)
                ]
                first = blocks[0]
                assert first is not None
                if self.skip and stage.fixed is None and first.residual:
                    blocks.append(None)
                layers.append(SearchLayer(blocks=tuple(blocks)))
                channels, resolution = first.out_channels, first.out_resolution
        return tuple(layers)

    def _tail(self) -> tuple[BlockSpec, BlockSpec]:
        last = next(b for b in self.layers()[-1].blocks if b is not None)
        head = BlockSpec(
            kind="head",
            in_channels=last.out_channels,
            out_channels=self._width(self.head_width),
            resolution=last.out_resolution,
        )
        classifier = BlockSpec(
            kind="classifier",
            in_channels=head.out_channels,
            out_channels=self.classes,
            resolution=head.out_resolution,
        )
        return head, classifier

    def network(self, choices: Sequence[int]) -> NetConfig:
        """The network that takes candidate ``choices[i]`` in layer i. Raises UsageError."""
        layers = self.layers()
        if len(choices) != len(layers):
            raise UsageError(
                f"{len(choices)} choices were given for the {len(layers)} layers of space {self.name}."
            )
        blocks: list[BlockSpec] = [self._stem()]
        places = [-1]
        for place, (layer, choice) in enumerate(zip(layers, choices, strict=True)):
            if not 0 <= choice < len(layer.blocks):
                raise UsageError(
                    f"choice {choice} in layer {place} of space {self.name}: it has candidates 0 to "
                    f"{len(layer.blocks) - 1}."
                )
            block = layer.blocks[choice]
            if block is not None:
                blocks.append(block)
                places.append(place)
        return NetConfig(
            resolution=self.resolution,
            input_channels=self.input_channels,
            classes=self.classes,
            blocks=(*blocks, *self._tail()),
            layers=(*places, -1, -1),
        )

    def fixed_blocks(self) -> tuple[BlockSpec, ...]:
        """Blocks that every network has outside its layers: stem, head, classifier."""
        return (self._stem(), *self._tail())

    def distinct_blocks(self) -> tuple[BlockSpec, ...]:
        """Every block that some network of the space has, each once, in order of appearance."""
        seen: dict[str, BlockSpec] = {}
        stem, head, classifier = self.fixed_blocks()
        inner = (block for layer in self.layers() for block in layer.blocks if block is not None)
        for block in (stem, *inner, head, classifier):
            seen.setdefault(block.key, block)
        return tuple(seen.values())

    @property
    def size(self) -> int:
        """How many networks the space holds."""
        return math.prod(len(layer.blocks) for layer in self.layers())

    @property
    def stride_plan(self) -> tuple[int, ...]:
        """Strides of stem and stages: what a MobileNetV2 on equal terms is given."""
        return (self.stem.stride, *(stage.stride for stage in self.stages))
