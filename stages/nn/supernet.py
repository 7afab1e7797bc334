"""The over-parameterised network that holds every network of a search space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stages.nn.blocks import build_block, initialise
from stages.nn.mixed_op import MixedOp
from stages.nn.network import Network
from stages.space.search_space import SearchSpace


class Supernet(nn.Module):
    """Stem, one :class:`MixedOp` for each layer, head and classifier.

    A *path* names one candidate for each layer. Weights only: the architecture parameters are
    :class:`stages.nas.architecture.Architecture`'s.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        stem, head, classifier = space.fixed_blocks()
        self.space = space
        self.stem = build_block(stem)
        self.layers = nn.ModuleList(MixedOp(layer) for layer in space.layers())
        self.head = build_block(head)
        self.classifier = build_block(classifier)
        initialise(self)

    def forward(
        self,
        x_NCHW: Tensor,
        path: Sequence[int] = (),
        *,
        pairs: Sequence[tuple[int, int]] | None = None,
        gates_L2: Sequence[Tensor | None] = (),
    ) -> Tensor:
        """Logits (N, classes) of the network that ``path`` picks out; nothing else is computed.

        ``pairs`` and ``gates_L2`` in its place: see :meth:`forward_pairs`. What wraps a module for training
        on several devices sees its forward alone.
        """
        if pairs is not None:
            return self.forward_pairs(x_NCHW, pairs, gates_L2)
        x_NCHW = self.stem(x_NCHW)
        for layer, choice in zip(self.layers, path, strict=True):
            x_NCHW = layer(x_NCHW, choice)
        logits: Tensor = self.classifier(self.head(x_NCHW))
        return logits

    def forward_pairs(
        self, x_NCHW: Tensor, pairs: Sequence[tuple[int, int]], gates_L2: Sequence[Tensor | None]
    ) -> Tensor:
        """Logits of the active path, differentiable in the gates of each layer's pair.

        ``pairs[l]`` is (active, other); where ``gates_L2[l]`` is None, layer l has one candidate only.
        """
        x_NCHW = self.stem(x_NCHW)
        for layer, (active, other), gates_2 in zip(self.layers, pairs, gates_L2, strict=True):
            assert isinstance(layer, MixedOp)
            if gates_2 is None:
                x_NCHW = layer(x_NCHW, active)
            else:
                x_NCHW = layer.forward_pair(x_NCHW, active, other, gates_2)
        logits: Tensor = self.classifier(self.head(x_NCHW))
        return logits

    @contextmanager
    def architecture_step(self) -> Iterator[None]:
        """Within: weights get no gradients, and BN uses the batch's statistics but remembers none.

        BN does so in training mode, which is the caller's to choose. Afterwards all is as it was.
        """
        tracked = [(m, m.track_running_stats) for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        learning = [(parameter, parameter.requires_grad) for parameter in self.parameters()]
        self.requires_grad_(False)
        for norm, _ in tracked:
            norm.track_running_stats = False
        try:
            yield
        finally:
            for parameter, learns in learning:
                parameter.requires_grad_(learns)
            for norm, tracks in tracked:
                norm.track_running_stats = tracks

    def extract(self, path: Sequence[int]) -> Network:
        """The network of a path with a copy of its weights; skipped layers vanish (pruning by path)."""
        network = Network(self.space.network(path))
        parts: list[nn.Module] = [self.stem]
        for layer, spec, choice in zip(self.layers, self.space.layers(), path, strict=True):
            assert isinstance(layer, MixedOp)
            if spec.blocks[choice] is not None:
                parts.append(layer.candidates[choice])
        parts += [self.head, self.classifier]
        for target, source in zip(network.blocks, parts, strict=True):
            target.load_state_dict(source.state_dict())
        return network


def recalibrate_bn(network: nn.Module, batches: Iterator[Tensor]) -> None:
    """Replace BN statistics by the plain average over ``batches`` of x_NCHW.

    A supernet's running statistics mix all paths; before networks are compared, each needs its own
    (Yu et al., arXiv 2003.04276; Cai et al., arXiv 1908.09791).
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's cumulative average
    was_training = network.training
    network.train()
    with torch.no_grad():
        for x_NCHW in batches:
            network(x_NCHW)
    network.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
