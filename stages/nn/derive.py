"""A smaller block cut out of a larger one that has pretrained weights: kernels cropped, channels chosen.

What this module computes needs no images; :mod:`stages.nn.refit` then fits the weights on some.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasflow.base.errors import UsageError
from stages.nn.blocks import MBConv, SameConv2d
from stages.space.block_spec import BlockSpec


@dataclass(frozen=True)
class Parts:
    """The three steps of an ``mbconv`` block; each is convolution, BN and, but for the last, activation."""

    expand: nn.Sequential | None
    depthwise: nn.Sequential
    project: nn.Sequential

    @staticmethod
    def of(block: MBConv) -> Parts:
        """The parts of a module that :func:`check_derivable` lets pass."""
        *expand, depthwise, project = (part for part in block.layers if isinstance(part, nn.Sequential))
        return Parts(expand[0] if expand else None, depthwise, project)

    def hidden(self, x_NCHW: Tensor) -> Tensor:
        """What the depthwise convolution reads."""
        hidden: Tensor = x_NCHW if self.expand is None else self.expand(x_NCHW)
        return hidden


def convolution(part: nn.Module) -> SameConv2d:
    """The convolution of a step."""
    assert isinstance(part, nn.Sequential)
    conv = part[0]
    assert isinstance(conv, SameConv2d)
    return conv


def norm(part: nn.Module) -> nn.BatchNorm2d:
    """The BN of a step."""
    assert isinstance(part, nn.Sequential)
    found = part[1]
    assert isinstance(found, nn.BatchNorm2d)
    return found


def gain_and_shift(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What BN multiplies by and adds in evaluation, by channel, float64."""
    assert bn.running_mean is not None and bn.running_var is not None
    gain = bn.weight.detach().double() / (bn.running_var.double() + bn.eps).sqrt()
    return gain, bn.bias.detach().double() - gain * bn.running_mean.double()


def check_derivable(block: BlockSpec, full: BlockSpec) -> None:
    """Raises UsageError where a candidate cannot be cut out of the full network's block of its layer."""
    if block == full:
        return
    plain = all(b.kind == "mbconv" and not b.squeeze_excite for b in (block, full))
    same = (block.activation, block.stride, block.in_channels, block.out_channels) == (
        (full.activation, full.stride, full.in_channels, full.out_channels)
    )
    smaller = block.expansion <= full.expansion and (block.expansion > 1 or full.expansion == 1)
    if not (plain and same and smaller):
        raise UsageError(
            f"candidate {block.key} cannot start from the pretrained block {full.key}.",
            hint="A candidate of kind mbconv with another kernel and a smaller expansion above 1 can, of the "
            "same activation and without squeeze-and-excite. Take the others out of the space, or set "
            "space.pretrained: none.",
        )


def channel_importance(full: MBConv) -> Tensor:
    """How much each hidden channel contributes (hidden,), float64: what is known without images.

    Standard deviation of the activation behind the depthwise convolution, were its BN's output normally
    distributed as BN's scale and shift say, times the norm of the channel's column of the projection.
    """
    parts = Parts.of(full)
    bn = norm(parts.depthwise)
    deviation = _clipped_deviation(bn.bias.detach().double(), bn.weight.detach().double().abs())
    gain, _ = gain_and_shift(norm(parts.project))
    rows = convolution(parts.project).weight.detach().double().flatten(1) * gain[:, None]
    norms: Tensor = torch.linalg.vector_norm(rows, dim=0)
    return deviation * norms


def _clipped_deviation(mean: Tensor, deviation: Tensor) -> Tensor:
    """Standard deviation of min(max(x, 0), 6) for normally distributed x, by 64 quantiles."""
    levels = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    normal: Tensor = torch.special.ndtri(levels)
    return (mean[:, None] + deviation[:, None] * normal).clamp(0, 6).std(dim=1)


def most_important(importance: Tensor, keep: int) -> Tensor:
    """Indices of the ``keep`` largest, in ascending order; of equals the first."""
    return importance.argsort(descending=True, stable=True)[:keep].sort().values


@torch.no_grad()
def cut(full: MBConv, target: MBConv, channels: Tensor) -> None:
    """Write the weights of a full block's hidden ``channels`` into a smaller block of the same layer.

    Kernels are cropped to their centre; a kernel larger than the full one gets zeros around it and computes
    the same. Both keep their centre where it was under TensorFlow's SAME padding, for sides of 3 and more.
    """
    whole, part = Parts.of(full), Parts.of(target)
    if whole.expand is not None and part.expand is not None:
        convolution(part.expand).weight.copy_(convolution(whole.expand).weight[channels])
        _copy_norm(norm(whole.expand), norm(part.expand), channels)
    kernel = convolution(part.depthwise).weight
    kernel.copy_(_centred(convolution(whole.depthwise).weight[channels], kernel.shape[-1]))
    _copy_norm(norm(whole.depthwise), norm(part.depthwise), channels)
    convolution(part.project).weight.copy_(convolution(whole.project).weight[:, channels])
    norm(part.project).load_state_dict(norm(whole.project).state_dict())


def _centred(kernels: Tensor, side: int) -> Tensor:
    margin = (side - kernels.shape[-1]) // 2
    return functional.pad(kernels, (margin,) * 4)  # a negative margin crops


def _copy_norm(source: nn.BatchNorm2d, target: nn.BatchNorm2d, channels: Tensor) -> None:
    state = source.state_dict()
    target.load_state_dict({name: value[channels] if value.dim() else value for name, value in state.items()})
