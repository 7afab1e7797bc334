"""A small space, and weights of its largest network that stand for pretrained ones: BN has seen images."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from stages.nn.network import Network
from stages.nn.pretrained import PretrainedWeights
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec
from stages.space.weights_origin import WeightsOrigin

ORIGIN = WeightsOrigin(name="toy", version="1", licence="none", sha256="0" * 64)
SPACE = SearchSpace(
    name="toy",
    resolution=16,
    classes=5,
    stem=StemSpec(width=8),
    stages=(
        StageSpec(width=8, layers=1, fixed=Candidate(kernel=3, expansion=1)),
        StageSpec(
            width=8,
            layers=2,
            candidates=(Candidate(kernel=3, expansion=2), Candidate(kernel=3, expansion=4)),
        ),
        StageSpec(width=12, layers=2, stride=2),
    ),
    head_width=24,
    candidates=tuple(Candidate(kernel=kernel, expansion=e) for kernel in (3, 5) for e in (2, 4)),
)


def images(space: SearchSpace, count: int = 40, seed: int = 1, batch: int = 20) -> list[Tensor]:
    """Smooth noise, x_NCHW in -1..1: neighbouring pixels are alike, as in photos."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, space.input_channels, 6, 6, generator=generator)
    side = (space.resolution, space.resolution)
    smooth = functional.interpolate(coarse, side, mode="bilinear", align_corners=False)
    return list(torch.split(smooth.clamp(-1, 1), batch))


def weights_of(space: SearchSpace, seed: int = 0) -> PretrainedWeights:
    """Random weights of a space's largest network; its BN layers know the statistics of images."""
    net = space.network(space.largest_path())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(net).train()
    with torch.no_grad():
        for _ in range(6):
            for x_NCHW in images(space, seed=seed + 100):
                network(x_NCHW)
    return PretrainedWeights(ORIGIN, net, network.state_dict())


@cache
def toy_weights() -> PretrainedWeights:
    """Of :data:`SPACE`."""
    return weights_of(SPACE)
