"""A block's layers in PyTorch. Shapes: N images, C channels, H and W pixels.

MBConv is MobileNetV2's inverted residual (arXiv 1801.04381, figure 4), with TensorFlow's SAME padding,
so that the converted model holds no PAD operator. Squeeze-and-excite and h-swish are MobileNetV3's
(arXiv 1905.02244, sections 5.2 and 5.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.space.block_spec import Activation, BlockSpec
from stages.space.padding import same_padding

BN_EPSILON = 1e-3
BN_MOMENTUM = 0.1


class SameConv2d(nn.Conv2d):
    """Convolution without bias with TensorFlow's SAME padding for one known square input size.

    SAME puts the odd row or column of zeros at the bottom and the right; PyTorch can only pad evenly,
    so the uneven case pads first.

    A 1x1 kernel with a stride looks at every stride-th row and column alone. In training those are taken
    first: oneDNN's gradient of strided 1x1 weights in NHWC order, of fewer input channels than a vector
    holds, writes past its buffer, and then hangs, crashes or gives wrong numbers
    (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, resolution: int, groups: int = 1
    ) -> None:
        before, after = same_padding(resolution, kernel, stride)
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=before if before == after else 0,
            groups=groups,
            bias=False,
        )
        self.uneven = None if before == after else (before, after, before, after)
        self.subsampled = kernel == 1 and stride > 1

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Convolve; H and W shrink by the stride, rounded up."""
        if self.subsampled and self.training:
            rows, columns = self.stride
            return functional.conv2d(x_NCHW[:, :, ::rows, ::columns], self.weight, groups=self.groups)
        if self.uneven is not None:
            x_NCHW = functional.pad(x_NCHW, self.uneven)
        return super().forward(x_NCHW)


class DepthwiseConv2d(SameConv2d):
    """One kernel for each channel. Of a single channel only the class tells it from a full convolution."""

    def __init__(self, channels: int, kernel: int, stride: int, resolution: int) -> None:
        super().__init__(channels, channels, kernel, stride, resolution, groups=channels)


def conv_bn(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    resolution: int,
    activation: Activation | None = "relu6",
) -> nn.Sequential:
    """Convolution, batch normalisation and (unless it ends a bottleneck) an activation."""
    return _normalised(SameConv2d(in_channels, out_channels, kernel, stride, resolution), activation)


def _normalised(convolution: nn.Conv2d, activation: Activation | None) -> nn.Sequential:
    layers: list[nn.Module] = [
        convolution,
        nn.BatchNorm2d(convolution.out_channels, eps=BN_EPSILON, momentum=BN_MOMENTUM),
    ]
    if activation is not None:
        layers.append(nn.ReLU6(inplace=True) if activation == "relu6" else nn.Hardswish(inplace=True))
    return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Scale every channel by what all of them look like on average: hard sigmoid of two dense layers.

    The dense layers are 1x1 convolutions, so that images stay images in every framework.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Shape and layout stay as they are."""
        mean_NC11 = x_NCHW.mean((2, 3), keepdim=True)
        gate_NC11 = functional.hardsigmoid(self.excite(functional.relu(self.squeeze(mean_NC11))))
        return x_NCHW * gate_NC11


class MBConv(nn.Module):
    """Inverted residual: expand, filter each channel, project; add the input where shapes allow.

    Squeeze-and-excite stands before the projection. A fused block does the first two in one full
    convolution, and with expansion 1 leaves the projection out.
    """

    def __init__(self, block: BlockSpec) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_fused_parts(block) if block.kind == "fused" else _parts(block)))
        self.residual = block.residual

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""
        out: Tensor = self.layers(x_NCHW)
        return x_NCHW + out if self.residual else out


def _parts(block: BlockSpec) -> list[nn.Module]:
    hidden, activation = block.hidden_channels, block.activation
    parts: list[nn.Module] = []
    if block.expansion > 1:
        parts.append(conv_bn(block.in_channels, hidden, resolution=block.resolution, activation=activation))
    parts.append(
        _normalised(DepthwiseConv2d(hidden, block.kernel, block.stride, block.resolution), activation)
    )
    if block.squeeze_excite:
        parts.append(SqueezeExcite(hidden, block.squeezed_channels))
    return [*parts, _project(block)]


def _fused_parts(block: BlockSpec) -> list[nn.Module]:
    full = conv_bn(
        block.in_channels,
        block.hidden_channels if block.expansion > 1 else block.out_channels,
        kernel=block.kernel,
        stride=block.stride,
        resolution=block.resolution,
        activation=block.activation,
    )
    return [full, _project(block)] if block.expansion > 1 else [full]


def _project(block: BlockSpec) -> nn.Sequential:
    return conv_bn(
        block.hidden_channels, block.out_channels, resolution=block.out_resolution, activation=None
    )


class Classifier(nn.Module):
    """Mean over all places, then a dense layer: (N, C, H, W) to logits (N, classes)."""

    def __init__(self, block: BlockSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(block.in_channels, block.out_channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, classes).

        In training the same mean is taken over an NHWC view: the gradient of the other comes in NCHW order,
        and batch normalisation, given two orders, takes several times as long.
        """
        x_NHWC = x_NCHW.permute(0, 2, 3, 1)
        mean_NC = x_NHWC.flatten(1, 2).mean(1) if self.training else x_NCHW.mean((2, 3))
        logits: Tensor = self.dense(mean_NC)
        return logits


def build_block(block: BlockSpec) -> nn.Module:
    """The module that computes a block."""
    if block.searchable:
        return MBConv(block)
    if block.kind == "classifier":
        return Classifier(block)
    return conv_bn(
        block.in_channels,
        block.out_channels,
        kernel=block.kernel,
        stride=block.stride,
        resolution=block.resolution,
    )


def initialise(module: nn.Module) -> None:
    """He initialisation by fan-out for convolutions, N(0, 0.01) for the dense layer, as in MobileNetV2."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.weight.shape[0] // part.groups * part.weight.shape[2] * part.weight.shape[3]
            nn.init.normal_(part.weight, 0.0, (2.0 / fan_out) ** 0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.01)
            nn.init.zeros_(part.bias)


def to_channels_last(module: nn.Module) -> nn.Module:
    """Weights in NHWC order: two to three times as fast on a CPU."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
