"""A network that computes as its int8 file will, and learns: quantization-aware fine-tuning.

Batch normalisation is folded into the kernels, these are rounded to 255 steps for each output channel, and
what flows between operators to 256 steps between the extremes that were seen (arXiv 1712.05877). Gradients
pass the rounding as if it were not there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stages.nn.blocks import Classifier, MBConv, SqueezeExcite
from stages.nn.network import Network

_MOST = 127
_FOLLOWS = 0.05
"""How fast the extremes follow those of a batch."""


class KernelSteps(nn.Module):
    """Weights in the 255 steps of each output channel: symmetric, the largest weight is the last step."""

    def forward(self, weight: Tensor) -> Tensor:
        """Shape (out, ...) stays."""
        largest = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-8)
        zero = torch.zeros_like(largest, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, largest / _MOST, zero, 0, -_MOST, _MOST)


class ActivationSteps(nn.Module):
    """Values in 256 steps between the extremes that training has seen, 0 always one of the steps."""

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("low", "high", "seen"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Shape stays."""
        if self.training:
            with torch.no_grad():
                self._follow(x.detach())
        scale = ((self.high - self.low) / 255).clamp_min(1e-8)
        zero = (-128 - self.low / scale).round().clamp(-128, 127).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, -128, 127)

    def _follow(self, x: Tensor) -> None:
        rate = torch.where(self.seen > 0, _FOLLOWS, 1.0)
        self.low.lerp_(x.amin().clamp_max(0), rate)
        self.high.lerp_(x.amax().clamp_min(0), rate)
        self.seen.fill_(1.0)


class Shift(nn.Module):
    """What is left of batch normalisation when its scale is in the kernel: a number for each channel."""

    def __init__(self, shift_C: Tensor) -> None:
        super().__init__()
        self.shift = nn.Parameter(shift_C)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Shape stays."""
        return x_NCHW + self.shift[:, None, None]


class FakeQuantized(nn.Module):
    """A copy of a trained network that computes in steps: ``x_NCHW`` to logits (N, classes)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.inner = copy.deepcopy(network)
        self.steps = nn.ModuleList()
        for unit in [part for part in self.inner.modules() if _is_unit(part)]:
            _fold(unit)
            self._watch(unit)
        for part in list(self.inner.modules()):
            if isinstance(part, nn.Conv2d | nn.Linear):
                parametrize.register_parametrization(part, "weight", KernelSteps())
            if isinstance(part, SqueezeExcite | Classifier) or (isinstance(part, MBConv) and part.residual):
                self._watch(part)
        self.source = ActivationSteps()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.inner(self.source(x_NCHW))
        return logits

    def _watch(self, part: nn.Module) -> None:
        steps = ActivationSteps()
        self.steps.append(steps)
        part.register_forward_hook(lambda _module, _inputs, output: steps(output))

    def plain(self) -> Network:
        """The network with the weights that were learned; its batch normalisation adds the shift alone."""
        network = Network(self.inner.net)
        learned = [part for part in self.inner.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        empty = [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        units = [part for part in self.inner.modules() if _is_unit(part)]
        with torch.no_grad():
            for source, target in zip(learned, empty, strict=True):
                (kernels,) = source.parametrizations.values()  # type: ignore[operator]
                target.weight.copy_(kernels.original)
                if target.bias is not None and source.bias is not None:
                    target.bias.copy_(source.bias)
            for unit, other in zip(units, (p for p in network.modules() if _is_unit(p)), strict=True):
                shift, norm = unit[1], other[1]  # type: ignore[index]
                norm.weight.fill_(1.0)
                norm.running_mean.zero_()
                norm.running_var.fill_(1.0 - norm.eps)
                norm.bias.copy_(shift.shift)
        return network.eval()


def _is_unit(part: nn.Module) -> bool:
    """Convolution, batch normalisation (or what is left of it), activation."""
    return (
        isinstance(part, nn.Sequential)
        and len(part) > 1
        and isinstance(part[0], nn.Conv2d)
        and isinstance(part[1], nn.BatchNorm2d | Shift)
    )


def _fold(unit: nn.Module) -> None:
    """The scale of its batch normalisation into the kernel, the rest into a :class:`Shift`."""
    assert isinstance(unit, nn.Sequential)
    convolution, norm = unit[0], unit[1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale_C = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift_C = norm.bias.double() - norm.running_mean.double() * scale_C
        convolution.weight.copy_(convolution.weight.double() * scale_C[:, None, None, None])
    unit[1] = Shift(shift_C.to(convolution.weight.dtype))
