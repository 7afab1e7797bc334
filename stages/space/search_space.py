"""Architectures as data: whole networks, and the space that a search moves in.

Terms: a *block* is what a latency table has a row for (:mod:`stages.space.block_spec`); a *layer* is a place
of the network for which the search chooses one of several candidate blocks, or none (skip).
The family is ProxylessNAS's (arXiv 1812.00332, section 4.1), with MobileNetV2's inverted residual
blocks (arXiv 1801.04381, table 1).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from nasflow.base.errors import UsageError
from pipeline.artifact import Record
from stages.space.block_spec import (
    Activation,
    BlockSpec,
    Implementation,
    LayerKind,
    check_activation,
    check_squeeze_excite,
    extra_words,
    is_relu6,
    round_channels,
)
from stages.space.network_words import Networks

__all__ = [
    "Activation",
    "BlockSpec",
    "Candidate",
    "Implementation",
    "NetConfig",
    "SearchLayer",
    "SearchSpace",
    "StageSpec",
    "StemSpec",
    "round_channels",
]


_MOST_CHANNELS = 16_384  # mistyped, not meant: one more layer of that kind would be a gigabyte of weights


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
        for index, block in enumerate(self.blocks):
            if (block.in_channels, block.resolution) != (channels, resolution):
                raise ValueError(
                    f"block {index} ({block.key}) does not fit its input of {channels} channels at "
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


def _label(block: BlockSpec | Candidate) -> str:
    kind = [] if block.kind == "mbconv" else [block.kind]
    extras = extra_words(squeeze_excite=block.squeeze_excite, activation=block.activation)
    return " ".join([*kind, f"k{block.kernel}", f"e{block.expansion}", *extras])


class Candidate(Record):
    """One way to fill a layer: what :class:`BlockSpec` says of a block, without stride and sizes."""

    kind: LayerKind = "mbconv"
    kernel: int = Field(ge=1, le=11)
    expansion: int = Field(ge=1, le=16)
    squeeze_excite: bool = Field(default=False, exclude_if=operator.not_)
    activation: Activation = Field(default="relu6", exclude_if=is_relu6)

    _squeeze_excite = field_validator("squeeze_excite")(check_squeeze_excite)
    _activation = field_validator("activation")(check_activation)

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


def _check_different(candidates: tuple[Candidate, ...] | None) -> tuple[Candidate, ...] | None:
    if candidates is not None and len(set(candidates)) != len(candidates):
        raise ValueError("candidates: the same candidate is listed twice")
    return candidates


def _is_none(value: object) -> bool:
    return value is None


class StageSpec(Record):
    """A run of layers of one width; the first has the stride, the others stride 1.

    ``fixed`` replaces the space's candidates for this stage by one block that is not searched, ``candidates``
    by others. Both are written only where they are set, so that spaces without them keep their hashes.
    """

    width: int = Field(ge=1, le=_MOST_CHANNELS)
    layers: int = Field(ge=1, le=100)
    stride: Literal[1, 2] = 1
    fixed: Candidate | None = None
    candidates: tuple[Candidate, ...] | None = Field(default=None, min_length=1, exclude_if=_is_none)

    _several = field_validator("candidates")(_check_different)

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.fixed is not None and self.candidates is not None:
            raise ValueError("fixed and candidates exclude each other: one is not searched, the other is")
        return self


class StemSpec(Record):
    """The first convolution."""

    width: int = Field(ge=1, le=_MOST_CHANNELS)
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
    ``pretrained`` names the weights from which its networks start (:mod:`stages.nn.weights_source`); it is
    written only where it is set.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    resolution: int = Field(ge=8, le=1024)
    classes: int = Field(ge=2)
    input_channels: int = Field(default=3, ge=1)
    width_multiplier: float = Field(default=1.0, gt=0, le=8)
    stem: StemSpec
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    head_width: int = Field(ge=1, le=_MOST_CHANNELS)
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    skip: bool = True
    pretrained: str | None = Field(default=None, min_length=1, exclude_if=_is_none)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.candidates)) != len(self.candidates):
            raise ValueError("candidates: the same candidate is listed twice")
        if self.resolution % self.total_stride:
            raise ValueError(
                f"resolution {self.resolution} is not a multiple of the total stride {self.total_stride}"
            )
        return self

    @property
    def total_stride(self) -> int:
        """Pixels of the input image, in one direction, for one place of the last features."""
        return self.stem.stride * math.prod(stage.stride for stage in self.stages)

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
            for index in range(stage.layers):
                blocks: list[BlockSpec | None] = [
                    BlockSpec(
                        kind=candidate.kind,
                        kernel=candidate.kernel,
                        expansion=candidate.expansion,
                        squeeze_excite=candidate.squeeze_excite,
                        activation=candidate.activation,
                        stride=stage.stride if index == 0 else 1,
                        in_channels=channels,
                        out_channels=self._width(stage.width),
                        resolution=resolution,
                    )
                    for candidate in ((stage.fixed,) if stage.fixed else stage.candidates or self.candidates)
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
        indices = [-1]
        for index, (layer, choice) in enumerate(zip(layers, choices, strict=True)):
            if not 0 <= choice < len(layer.blocks):
                raise UsageError(
                    f"choice {choice} in layer {index} of space {self.name}: it has candidates 0 to "
                    f"{len(layer.blocks) - 1}."
                )
            block = layer.blocks[choice]
            if block is not None:
                blocks.append(block)
                indices.append(index)
        return NetConfig(
            resolution=self.resolution,
            input_channels=self.input_channels,
            classes=self.classes,
            blocks=(*blocks, *self._tail()),
            layers=(*indices, -1, -1),
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

    def keys(self) -> list[list[str | None]]:
        """The block of each layer's candidates, by name; None is the skip."""
        return [[None if block is None else block.key for block in layer.blocks] for layer in self.layers()]

    def largest_path(self) -> tuple[int, ...]:
        """The candidate with the most parameters in each layer, the first of equals; never the skip."""
        sizes = [
            [-1 if block is None else block.parameters for block in layer.blocks] for layer in self.layers()
        ]
        return tuple(layer.index(max(layer)) for layer in sizes)

    def middle_path(self) -> tuple[int, ...]:
        """The middle candidate of each layer: a network of about average cost, for estimates."""
        return tuple((len(layer.blocks) - 1) // 2 for layer in self.layers())

    @property
    def parameters(self) -> int:
        """Trainable numbers of all candidates together: those of the supernet."""
        candidates = sum(block.parameters for layer in self.layers() for block in layer.blocks if block)
        return candidates + sum(block.parameters for block in self.fixed_blocks())

    @property
    def size(self) -> int:
        """How many paths the space holds."""
        return math.prod(len(layer.blocks) for layer in self.layers())

    @property
    def different_networks(self) -> int:
        """How many networks these paths are.

        A skip here or there in a run of equal layers gives the same one.
        """
        return Networks.of(self.keys()).count()

    @property
    def stride_plan(self) -> tuple[int, ...]:
        """Strides of stem and stages: what a MobileNetV2 on equal terms is given."""
        return (self.stem.stride, *(stage.stride for stage in self.stages))
