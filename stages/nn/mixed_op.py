"""One layer of the supernet: all candidates, of which binary gates let one through.

Binarisation keeps one path's activations in memory (ProxylessNAS, arXiv 1812.00332, section 3.2): a weight
step runs one candidate; an architecture step runs a pair of sampled candidates, one of them without a graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.nn.blocks import build_block
from stages.space.search_space import SearchLayer


class MixedOp(nn.Module):
    """The candidates of one layer; the skip is the identity and has no weights."""

    def __init__(self, layer: SearchLayer) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(
            nn.Identity() if block is None else build_block(block) for block in layer.blocks
        )

    def forward(self, x_NCHW: Tensor, choice: int) -> Tensor:
        """The output of one candidate."""
        out: Tensor = self.candidates[choice](x_NCHW)
        return out

    def forward_pair(self, x_NCHW: Tensor, active: int, other: int, gates_2: Tensor) -> Tensor:
        """The active candidate's output, with a true gradient for both gates of the pair.

        ``gates_2`` holds (1, 0): gate 0 belongs to ``active``, gate 1 to ``other``. The value is
        gate_0 * o_active + gate_1 * o_other = o_active; backward gives dL/dgate = <dL/dout, o> for
        each (equation 4's left factor). The gradient flows to the layer's input through the active path
        alone, and the other path keeps no activations but its output.
        """
        with torch.no_grad():
            o_other = self.candidates[other](x_NCHW)
        o_active = self.candidates[active](x_NCHW)
        return _GatedPair.apply(o_active, o_other, gates_2)  # type: ignore[no-any-return,no-untyped-call]


class _GatedPair(torch.autograd.Function):
    """gate_0 * o_active + gate_1 * o_other at gates (1, 0), without a copy of the activations."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *tensors: Tensor) -> Tensor:
        o_active, o_other, _ = tensors
        ctx.save_for_backward(o_active, o_other)
        return o_active.view_as(o_active)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, Tensor]:
        o_active, o_other = ctx.saved_tensors  # type: ignore[attr-defined]
        (grad,) = grads
        return grad, None, torch.stack([(grad * o_active).sum(), (grad * o_other).sum()])
