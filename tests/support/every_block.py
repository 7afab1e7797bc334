"""A network that holds every kind of block, and weights that make every fold and every layout visible."""

from __future__ import annotations

import torch
from torch import nn

from stages.nn.network import Network
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig


def as_if_trained(module: Network, seed: int = 0) -> Network:
    """Weights and BN statistics that make every fold and every layout visible; inference mode."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.3, 2.0, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
        elif isinstance(part, nn.Conv2d):
            fan_in = part.weight[0].numel()
            part.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        elif isinstance(part, nn.Linear):
            part.weight.data.normal_(0, part.in_features**-0.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
    return module.eval()


def every_kind_of_block() -> NetConfig:
    """Stem and MBConv with each kernel and stride, with and without expansion and residual, odd sizes;
    squeeze-and-excite and h-swish alone and together, at odd sizes and at a single place."""
    blocks: list[BlockSpec] = []
    channels, resolution = 3, 33
    both = {"squeeze_excite": True, "activation": "hswish"}
    for kind, kernel, expansion, stride, width, *extras in (
        ("stem", 5, 1, 2, 8),
        ("mbconv", 3, 1, 1, 8),
        ("mbconv", 5, 3, 2, 16),
        ("mbconv", 5, 6, 1, 16),
        ("mbconv", 7, 2, 2, 24),
        ("mbconv", 7, 1, 1, 24),
        ("mbconv", 3, 2, 2, 16),
        ("fused", 3, 1, 1, 16),
        ("fused", 3, 1, 1, 24),
        ("fused", 5, 2, 1, 24),
        ("fused", 3, 1, 1, 24, {"activation": "hswish"}),
        ("mbconv", 5, 3, 1, 24, {"squeeze_excite": True}),
        ("mbconv", 3, 6, 1, 24, {"activation": "hswish"}),
        ("mbconv", 7, 1, 1, 24, both),
        ("mbconv", 5, 3, 2, 16, both),
        ("fused", 3, 2, 1, 16, {"activation": "hswish"}),
        ("mbconv", 3, 2, 2, 16, {"squeeze_excite": True}),
        ("mbconv", 3, 2, 1, 16, both),
        ("head", 1, 1, 1, 40),
        ("classifier", 1, 1, 1, 10),
    ):
        block = BlockSpec.model_validate(
            {
                "kind": kind,
                "kernel": kernel,
                "expansion": expansion,
                "stride": stride,
                "in_channels": channels,
                "out_channels": width,
                "resolution": resolution,
                **{key: value for given in extras for key, value in given.items()},
            }
        )
        blocks.append(block)
        channels, resolution = block.out_channels, block.out_resolution
    return NetConfig(resolution=33, classes=10, blocks=tuple(blocks))
