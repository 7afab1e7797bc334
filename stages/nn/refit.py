"""A cut block fitted to the block that it was cut from, on unlabelled images, in closed form.

1. The depthwise kernel of each channel: least squares to the full kernel's outputs.
2. The projection: ridge regression to the full block's outputs, drawn towards the cut weights, of the one of
   STRENGTHS that fits the kept-back images best (each fifth).

Sums run in float64 over batches. BN's statistics become those of the images, with scale and shift such that
it computes the same: training, where BN uses a batch's statistics, then starts from what was fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.nn.blocks import MBConv, SameConv2d
from stages.nn.derive import Parts, convolution, gain_and_shift, norm

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of ridge regression, as shares of the inputs' mean variance."""
KERNEL_STRENGTH = 1e-3
HELD_OUT = 5
MOST_PLACES = 256
"""Of an image that are samples, about: more of them look like their neighbours."""


@dataclass(frozen=True)
class Sample:
    """A batch at one layer, x_NCHW each."""

    derived: Tensor  # the block's input, as the network computes it that is derived
    original: Tensor  # the block's input, as the full network computes it
    wanted: Tensor  # the block's output, as the full network computes it


class Moments:
    """Sums over samples of inputs (with a 1 added) and targets: enough to fit, and for a fit's error."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.count = 0
        self.gram = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64)
        self.cross = torch.zeros(outputs, inputs + 1, dtype=torch.float64)
        self.squares = torch.zeros(outputs, dtype=torch.float64)

    def add(self, a_NCHW: Tensor, target_NCHW: Tensor) -> None:
        """Places of images are samples: all of them, or of large images every third, fifth and so on."""
        a_IS = _samples(a_NCHW)
        t_OS = _samples(target_NCHW)
        self.count += a_IS.shape[1]
        sums = a_IS.sum(1, dtype=torch.float64)
        self.gram[:-1, :-1] += (a_IS @ a_IS.T).double()
        self.gram[-1, :-1] += sums
        self.gram[:-1, -1] += sums
        self.gram[-1, -1] += a_IS.shape[1]
        self.cross[:, :-1] += (t_OS @ a_IS.T).double()
        self.cross[:, -1] += t_OS.sum(1, dtype=torch.float64)
        self.squares += t_OS.double().square().sum(1)

    def plus(self, other: Moments) -> Moments:
        """Over the samples of both."""
        both = Moments(len(self.gram) - 1, len(self.cross))
        both.count = self.count + other.count
        both.gram, both.cross = self.gram + other.gram, self.cross + other.cross
        both.squares = self.squares + other.squares
        return both

    def error(self, weight_OI: Tensor) -> float:
        """Mean squared error of ``weight_OI`` @ (inputs, 1), summed over the outputs."""
        explained = ((weight_OI @ self.gram) * weight_OI).sum() - 2 * (weight_OI * self.cross).sum()
        return max(0.0, float(self.squares.sum() + explained)) / max(1, self.count)

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Of the inputs."""
        mean = self.gram[-1, :-1] / self.count
        return mean, self.gram[:-1, :-1] / self.count - mean[:, None] * mean

    def ridge(self, prior_OI: Tensor, strength: float) -> Tensor:
        """The weights of least squared error, where the squared distance to the prior counts, too.

        It counts ``strength`` times the inputs' mean variance.
        """
        variance = self.mean_and_covariance()[1].diagonal().clamp(min=0).mean()
        penalty = torch.full((len(self.gram),), float(variance) * strength * self.count, dtype=torch.float64)
        penalty[-1] = 0.0  # the constant is free
        penalty += 1e-12 * self.gram.diagonal().mean()
        missing = self.cross - prior_OI @ self.gram
        solved: Tensor = torch.linalg.solve(self.gram + penalty.diag(), missing.T)
        return prior_OI + solved.T


def _samples(x_NCHW: Tensor) -> Tensor:
    """(C, S): every place of small images; of larger ones every step-th, such that each column counts."""
    width = x_NCHW.shape[3]
    step = max(1, x_NCHW.shape[2] * width // MOST_PLACES)
    while math.gcd(step, width) > 1:
        step += 1
    return x_NCHW.transpose(0, 1).flatten(1)[:, ::step].contiguous()


@dataclass(frozen=True)
class FitError:
    """Squared error of a block's output against the full block's, as a share of that one's variance."""

    cut: float
    fitted: float


class SplitMoments:
    """Moments of the images that are fitted, and of those kept back."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.fit, self.held = Moments(inputs, outputs), Moments(inputs, outputs)
        self.seen = 0

    def add(self, a_NCHW: Tensor, target_NCHW: Tensor) -> None:
        """Each fifth image is kept back."""
        held = (torch.arange(len(a_NCHW)) + self.seen) % HELD_OUT == HELD_OUT - 1
        self.seen += len(a_NCHW)
        self.fit.add(a_NCHW[~held], target_NCHW[~held])
        self.held.add(a_NCHW[held], target_NCHW[held])

    def best(self, prior_OI: Tensor) -> tuple[Tensor, Moments]:
        """Ridge weights of the strength that fits the kept-back images best; and the moments of all.

        The kept-back images are not fitted afterwards either: to the blocks behind this one they would no
        longer be new.
        """
        everything = self.fit.plus(self.held)
        if self.held.count == 0:
            return self.fit.ridge(prior_OI, 1.0), everything
        solved = [self.fit.ridge(prior_OI, strength) for strength in STRENGTHS]
        errors = [self.held.error(weight_OI) for weight_OI in solved]
        return solved[errors.index(min(errors))], everything


@torch.no_grad()
def refit_block(block: MBConv, full: MBConv, channels: Tensor, samples: Sequence[Sample]) -> FitError:
    """Fit a block that was cut from ``full`` with its hidden ``channels``; both in evaluation mode.

    Where the cut block is nearer to the full one than the fitted (which it hardly ever is), it stays.
    """
    wanted = [sample.wanted for sample in samples]
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    cut_error = difference([block(sample.derived) for sample in samples], wanted)
    small, whole = Parts.of(block), Parts.of(full)
    if small.expand is not None:
        _restate_pointwise(small.expand, (sample.derived for sample in samples))
    if convolution(small.depthwise).kernel_size == convolution(whole.depthwise).kernel_size:
        _restate_depthwise(small, (sample.derived for sample in samples))
    else:
        _refit_kernels(small, whole, channels, samples)
    projection = convolution(small.project)
    moments = SplitMoments(projection.in_channels, projection.out_channels)
    for sample in samples:
        hidden = small.depthwise(small.hidden(sample.derived))
        moments.add(hidden, sample.wanted - sample.derived if block.residual else sample.wanted)
    _refit_pointwise(small.project, moments)
    fitted_error = difference([block(sample.derived) for sample in samples], wanted)
    if fitted_error > cut_error:
        block.load_state_dict(before)
        fitted_error = cut_error
    return FitError(cut=cut_error, fitted=fitted_error)


@torch.no_grad()
def refit_step(part: nn.Module, samples: Sequence[Sample]) -> FitError:
    """Fit a step of 1x1 convolution, BN and activation to what it computes on the full network's inputs."""
    conv, bn = convolution(part), norm(part)
    targets = [bn(conv(sample.original)) for sample in samples]
    cut_error = difference([bn(conv(sample.derived)) for sample in samples], targets)
    moments = SplitMoments(conv.in_channels, conv.out_channels)
    for sample, target in zip(samples, targets, strict=True):
        moments.add(sample.derived, target)
    before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    _refit_pointwise(part, moments)
    fitted_error = difference([bn(conv(sample.derived)) for sample in samples], targets)
    if fitted_error > cut_error:
        part.load_state_dict(before)
        fitted_error = cut_error
    return FitError(cut=cut_error, fitted=fitted_error)


def difference(batches: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Squared difference as a share of the variance of what was wanted, over all channels together."""
    squares, power, count = 0.0, 0.0, 0
    sums = torch.zeros(wanted[0].shape[1], dtype=torch.float64)
    for batch, target in zip(batches, wanted, strict=True):
        squares += float((batch - target).square().sum(dtype=torch.float64))
        power += float(target.square().sum(dtype=torch.float64))
        sums += target.sum((0, 2, 3), dtype=torch.float64)
        count += target.numel() // target.shape[1]
    spread = power - float((sums * sums).sum()) / count
    return squares / max(spread, 1e-30)


def _restate_pointwise(part: nn.Module, batches: Iterable[Tensor]) -> None:
    """BN's statistics of a 1x1 convolution's outputs on these inputs; what it computes stays."""
    weight = convolution(part).weight.flatten(1)
    moments = Moments(weight.shape[1], 0)
    for x_NCHW in batches:
        moments.add(x_NCHW, x_NCHW[:, :0])
    mean, covariance = moments.mean_and_covariance()
    rows = weight.double()
    _set_statistics(norm(part), rows @ mean, ((rows @ covariance) * rows).sum(1))


def _set_statistics(bn: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Other running statistics, and scale and shift that give the same function."""
    assert bn.running_mean is not None and bn.running_var is not None
    gain, shift = gain_and_shift(bn)
    variance = variance.clamp(min=0)
    bn.running_mean.copy_(mean)
    bn.running_var.copy_(variance)
    bn.weight.copy_(gain * (variance + bn.eps).sqrt())
    bn.bias.copy_(shift + gain * mean)


def _refit_kernels(small: Parts, whole: Parts, channels: Tensor, samples: Sequence[Sample]) -> None:
    """Each channel's kernel, and a constant that its BN takes up."""
    conv, bn = convolution(small.depthwise), norm(small.depthwise)
    taps = conv.weight[0].numel()
    gram = torch.zeros(len(channels), taps + 1, taps + 1, dtype=torch.float64)
    cross = torch.zeros(len(channels), taps + 1, dtype=torch.float64)
    for sample in samples:
        target_CS = _samples(convolution(whole.depthwise)(whole.hidden(sample.original))[:, channels])
        patches_CTS = _patches(conv, small.hidden(sample.derived))
        gram += (patches_CTS @ patches_CTS.transpose(1, 2)).double()
        cross += (patches_CTS @ target_CS[:, :, None])[:, :, 0].double()
    count = gram[:, -1, -1]
    prior = torch.cat(
        [conv.weight.flatten(1).double(), torch.zeros(len(channels), 1, dtype=torch.float64)], 1
    )
    power = gram.diagonal(dim1=1, dim2=2)[:, :-1].mean(1, keepdim=True)
    penalty = (KERNEL_STRENGTH * power + 1e-9 * count[:, None]).repeat(1, taps + 1)
    penalty[:, -1] = 1e-9 * count
    missing = cross - (gram @ prior[:, :, None])[:, :, 0]
    solved = prior + torch.linalg.solve(gram + torch.diag_embed(penalty), missing)
    kernels, constant = solved[:, :-1], solved[:, -1]
    conv.weight.copy_(kernels.reshape(conv.weight.shape))
    assert bn.running_mean is not None
    bn.running_mean -= constant.to(bn.running_mean.dtype)
    means = gram[:, -1, :-1] / count[:, None]
    mean = (kernels * means).sum(1)
    power_of_output = ((gram[:, :-1, :-1] @ kernels[:, :, None])[:, :, 0] * kernels).sum(1) / count
    _set_statistics(bn, mean, power_of_output - mean.square())


def _restate_depthwise(small: Parts, batches: Iterable[Tensor]) -> None:
    """BN's statistics of the depthwise convolution's outputs on these inputs; what it computes stays."""
    conv = convolution(small.depthwise)
    sums, squares = (torch.zeros(conv.out_channels, dtype=torch.float64) for _ in range(2))
    count = 0
    for x_NCHW in batches:
        out_CS = _samples(conv(small.hidden(x_NCHW))).double()
        count += out_CS.shape[1]
        sums += out_CS.sum(1)
        squares += out_CS.square().sum(1)
    mean = sums / count
    _set_statistics(norm(small.depthwise), mean, squares / count - mean.square())


def _patches(conv: SameConv2d, hidden_NCHW: Tensor) -> Tensor:
    """What each kernel reads at each place, and a 1: (channels, taps + 1, samples)."""
    margin = conv.uneven if conv.uneven is not None else (conv.padding[0],) * 4
    padded = functional.pad(hidden_NCHW, margin)  # type: ignore[arg-type]
    side, stride = conv.kernel_size[0], conv.stride[0]
    places = (padded.shape[-1] - side) // stride + 1
    span = (places - 1) * stride + 1
    taps = [
        _samples(padded[:, :, row : row + span : stride, column : column + span : stride])
        for row in range(side)
        for column in range(side)
    ]
    return torch.stack([*taps, torch.ones_like(taps[0])], dim=1)


def _refit_pointwise(part: nn.Module, moments: SplitMoments) -> None:
    """Fit a step of 1x1 convolution and BN to targets behind its BN."""
    conv, bn = convolution(part), norm(part)
    assert bn.running_mean is not None and bn.running_var is not None
    gain, shift = gain_and_shift(bn)
    prior = torch.cat([gain[:, None] * conv.weight.flatten(1).double(), shift[:, None]], 1)
    solved, everything = moments.best(prior)
    # The convolution keeps its scale, so that weight decay and learning rate mean what they meant before.
    scale = torch.where(gain.abs() > 1e-6, gain, torch.ones_like(gain))
    rows = solved[:, :-1] / scale[:, None]
    mean, covariance = everything.mean_and_covariance()
    variance = ((rows @ covariance) * rows).sum(1).clamp(min=0)
    conv.weight.copy_(rows[:, :, None, None])
    bn.running_mean.copy_(rows @ mean)
    bn.running_var.copy_(variance)
    bn.weight.copy_(scale * (variance + bn.eps).sqrt())
    bn.bias.copy_(solved[:, -1] + scale * (rows @ mean))
