"""What a module computes, counted while it runs."""

from __future__ import annotations

from torch import Tensor, nn


def multiply_accumulates(module: nn.Module, x_NCHW: Tensor) -> tuple[Tensor, int]:
    """A module's output, and its multiply-accumulates as seen by its convolutions and dense layers."""
    counted = 0

    def count(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal counted
        if isinstance(layer, nn.Conv2d):
            counted += out[0].numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            counted += layer.weight.numel()

    hooks = [part.register_forward_hook(count) for part in module.modules()]
    out = module(x_NCHW)
    for hook in hooks:
        hook.remove()
    return out, counted
