"""Weights that were trained on other inputs made to take ours: scale of pixels, channels, BN's epsilon."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence

from torch import Tensor

from nasflow.base.errors import UsageError
from stages.nn.blocks import BN_EPSILON

STEM = "blocks.0"


def fold_input(state: MutableMapping[str, Tensor], mean: Sequence[float], std: Sequence[float]) -> None:
    """Make a network that took (p - mean) / std, p in 0..1, take (x - 127.5) / 127.5 for pixels x in 0..255.

    The first takes a * u + b of our input u, with a = 0.5 / std and b = (0.5 - mean) / std, by channel:
    a goes into the first convolution's weights, b times their sum into its BN's mean. This is exact except
    where the convolution reads padding: a zero there meant the mean, and means grey 127.5 now, so that an
    output at the border differs by b times the sum of the weights that fall outside.
    """
    weight = state[f"{STEM}.0.weight"].double()
    channels = weight.shape[1]
    means, stds = (list(values) * channels if len(values) == 1 else list(values) for values in (mean, std))
    if len(means) != channels or len(stds) != channels:
        raise UsageError(
            f"mean has {len(means)} and std {len(stds)} numbers; the weights are for {channels} channels.",
            hint="Give one number for all, or one for each channel.",
        )
    scale = weight.new_tensor([0.5 / s for s in stds])[None, :, None, None]
    shift = [(0.5 - m) / s for m, s in zip(means, stds, strict=True)]
    # Sums that are rounded once: the same bits on every processor.
    constant = [
        math.fsum(b * value for b, taps in zip(shift, kernel, strict=True) for value in taps)
        for kernel in weight.flatten(2).tolist()
    ]
    running_mean = state[f"{STEM}.1.running_mean"]
    state[f"{STEM}.0.weight"] = (weight * scale).to(running_mean.dtype)
    state[f"{STEM}.1.running_mean"] = (running_mean.double() - weight.new_tensor(constant)).to(
        running_mean.dtype
    )


def fold_channels(state: MutableMapping[str, Tensor], input_channels: int) -> None:
    """Make the first convolution take as many channels; of one, it reads as so many equal ones (exact).

    Raises UsageError where neither number is 1.
    """
    weight = state[f"{STEM}.0.weight"]
    if weight.shape[1] == input_channels:
        return
    if input_channels != 1:
        raise UsageError(
            f"the pretrained weights are for {weight.shape[1]} channels; the space has {input_channels}.",
            hint="Set space.pretrained: none, or bring the images to that many channels.",
        )
    state[f"{STEM}.0.weight"] = weight.double().sum(1, keepdim=True).to(weight.dtype)


def fold_epsilon(state: MutableMapping[str, Tensor], epsilon: float) -> None:
    """Make BN layers of another epsilon compute the same with ours (in evaluation)."""
    if epsilon == BN_EPSILON:
        return
    for name in [name for name in state if name.endswith(".running_var")]:
        gamma, variance = name.replace("running_var", "weight"), state[name].double()
        factor = ((variance + BN_EPSILON) / (variance + epsilon)).sqrt()
        state[gamma] = (state[gamma].double() * factor).to(state[gamma].dtype)
