"""One block of a network as data: what it computes, its size, its name, what it costs.

A *block* is what a latency table has a row for (stem, MBConv, head, classifier).
"""

from __future__ import annotations

import math
import operator
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.artifact import Record

LayerKind = Literal["mbconv", "fused"]
BlockKind = Literal["stem", "mbconv", "fused", "head", "classifier"]
Activation = Literal["relu6", "hswish"]
"""ReLU6, or h-swish: x * relu6(x + 3) / 6 (MobileNetV3, arXiv 1905.02244, section 5.2)."""
Implementation = Literal["native", "split"]
"""How a block is computed: as it is written, or its depthwise convolution in four exact parts
(:mod:`stages.conversion.depthwise_split`)."""
ModelOutput = Literal["probabilities", "logits"]
"""What a model answers: probabilities, by a softmax at the end of its graph, or what stands before it."""

_FLOAT32_BYTES = 4


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, never more than 10 % down (MobileNetV2's released code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def is_relu6(activation: Activation) -> bool:
    """Whether an activation is the default, which is not written."""
    return activation == "relu6"


def check_squeeze_excite(value: bool, info: ValidationInfo) -> bool:
    """Validator of a record with a ``kind``. Raises ValueError where that has no depthwise convolution."""
    kind = info.data.get("kind", "mbconv")  # where the kind itself is wrong, that is told
    if value and kind != "mbconv":
        raise ValueError(f"squeeze-and-excite stands behind a depthwise convolution; {kind} has none")
    return value


def check_activation(value: Activation, info: ValidationInfo) -> Activation:
    """Validator of a record with a ``kind``. Raises ValueError where that always has ReLU6."""
    kind = info.data.get("kind", "mbconv")
    if value != "relu6" and kind not in ("mbconv", "fused"):
        raise ValueError(f"only a block that fills a layer can have h-swish; {kind} has relu6")
    return value


def extra_words(*, squeeze_excite: bool, activation: Activation) -> tuple[str, ...]:
    """MobileNetV3's words for what a block has beyond kernel and expansion: ``SE``, ``HS``."""
    return (*(["SE"] if squeeze_excite else []), *(["HS"] if activation == "hswish" else []))


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
    activation: Activation = Field(default="relu6", exclude_if=is_relu6)
    stride: Literal[1, 2] = 1
    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    resolution: int = Field(ge=1)

    _squeeze_excite = field_validator("squeeze_excite")(check_squeeze_excite)
    _activation = field_validator("activation")(check_activation)

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
        return extra_words(squeeze_excite=self.squeeze_excite, activation=self.activation)

    @property
    def searchable(self) -> bool:
        """Whether the block is of a kind that fills a layer."""
        return self.kind in ("mbconv", "fused")

    @property
    def residual(self) -> bool:
        """Whether the block adds its input to its output."""
        return self.searchable and self.stride == 1 and self.in_channels == self.out_channels

    @property
    def chainable(self) -> bool:
        """Whether the block's output has the shape of its input, so that another can follow."""
        return self.kind != "classifier" and self.stride == 1 and self.in_channels == self.out_channels

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
    def copy_bytes(self) -> int:
        """What each copy of the block in one model moves through memory that one alone has in the cache.

        Its weights, and where copies cannot be chained an output that is kept: fetched into the cache to be
        written, and written back.
        """
        kept = 0 if self.chainable else self.out_resolution**2 * self.out_channels
        return _FLOAT32_BYTES * (self.parameters + 2 * kept)

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
        if self.squeeze_excite:  # mean (unless of a single place), two dense layers, the gate, the product
            values += (outside + (3 if outside > 1 else 2)) * self.hidden_channels + self.squeezed_channels
        return _FLOAT32_BYTES * values / 1e6
