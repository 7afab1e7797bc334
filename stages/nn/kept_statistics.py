"""Batch normalisation that keeps the statistics it was given, in training too: for pretrained networks.

A small batch of few images has statistics far from those that the pretrained layers, and whatever was fitted
to their outputs, were made for; what the weights know is lost before they have learned to live with others.
"""

from __future__ import annotations

from typing import Self

from torch import nn


class KeptBatchNorm2d(nn.BatchNorm2d):
    """Normalises by its running statistics, and never changes them; scale and shift learn as usual."""

    def train(self, mode: bool = True) -> Self:
        """Stay as in evaluation, whatever the network does."""
        del mode
        return super().train(False)


def keep_statistics(module: nn.Module) -> None:
    """Let every batch normalisation in it keep its statistics. State and names stay."""
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = KeptBatchNorm2d
            part.eval()
