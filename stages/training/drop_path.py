"""Stochastic depth: in training, residual blocks are left out at random (Huang et al., arXiv 1603.09382).

A block is left out for each image by itself, with a probability that rises linearly with depth from 0 at the
first block to ``rate`` at the last (equation 4). What is kept is divided by the probability of being kept, so
that the expectation is the whole network, which is what is evaluated, averaged and stored.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from stages.nn.blocks import MBConv
from stages.nn.network import Network
from stages.seeds import TrainingStream, derived_seed


class DropPath:
    """Leaves out residual blocks of a network in its training mode; its weights and names stay as they are.

    All that is random is drawn from (seed, step), for a whole batch, whoever has which share of it.
    """

    def __init__(self, network: Network, rate: float, seed: int) -> None:
        last = len(network.blocks) - 1
        self._seed = seed
        self._rates: list[float] = []
        self._scales_BN = torch.empty(0, 0)
        self._next: list[int] = []
        for depth, block in enumerate(network.blocks):
            if rate and isinstance(block, MBConv) and block.residual:
                block.layers.register_forward_hook(partial(self._scaled, len(self._rates)))
                self._rates.append(rate * depth / last)

    def begin_step(self, step: int, share: slice, batch_size: int) -> None:
        """Draw for a batch, whose images ``share`` then pass through the network once, whole or in parts."""
        if not self._rates:
            return
        generator = torch.Generator().manual_seed(derived_seed(self._seed, TrainingStream.DROP_PATH, step))
        rates_B1 = torch.tensor(self._rates)[:, None]
        chances_BN = torch.rand((len(self._rates), batch_size), generator=generator)
        self._scales_BN = ((chances_BN >= rates_B1) / (1 - rates_B1))[:, share]
        self._next = [0] * len(self._rates)

    def _scaled(self, index: int, branch: nn.Module, _arguments: object, out_NCHW: Tensor) -> Tensor:
        """What residual block ``index`` adds for the next images of the share."""
        if not branch.training:
            return out_NCHW
        first = self._next[index]
        self._next[index] = first + len(out_NCHW)
        scales_N = self._scales_BN[index, first : self._next[index]]
        return out_NCHW * scales_N.to(out_NCHW.device, out_NCHW.dtype)[:, None, None, None]
