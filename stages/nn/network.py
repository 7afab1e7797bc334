"""One network in PyTorch, built from its description.

Two lines load a found network::

    net = NetConfig.model_validate_json(Path("network.json").read_bytes())
    model = load_network(net, Path("network.safetensors").read_bytes())
"""

from __future__ import annotations

from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from nasflow.base.errors import IntegrityError
from stages.nn.blocks import build_block, initialise, to_channels_last
from stages.space.search_space import NetConfig


class Network(nn.Module):
    """The blocks of a :class:`NetConfig` in a row: ``x_NCHW`` (mean 0, -1..1) to logits (N, classes)."""

    def __init__(self, net: NetConfig) -> None:
        super().__init__()
        self.net = net
        self.blocks = nn.ModuleList(build_block(block) for block in net.blocks)
        initialise(self)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, classes)."""
        for block in self.blocks:
            x_NCHW = block(x_NCHW)
        return x_NCHW


def save_state(state: Mapping[str, Tensor]) -> bytes:
    """Parameters and BN statistics as safetensors."""
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def save_weights(module: nn.Module) -> bytes:
    """All parameters and BN statistics of a module as safetensors."""
    return save_state(module.state_dict())


def load_weights(network: Network, weights: bytes) -> None:
    """Put stored weights into a network. Raises IntegrityError where they belong to another one."""
    try:
        stored = load(weights)
    except SafetensorError as error:
        raise IntegrityError(
            f"these weights of {len(weights)} bytes are not a complete safetensors file: {error}.",
            hint="Copy network.safetensors again from the run that made it.",
        ) from error
    try:
        network.load_state_dict(stored)
    except RuntimeError as error:
        raise IntegrityError(
            "these weights belong to another network than the one described.",
            hint="Take network.json and network.safetensors from the same run.",
            raw=str(error),
        ) from error
    to_channels_last(network)


def load_network(net: NetConfig, weights: bytes) -> Network:
    """A trained network, ready for inference. Raises IntegrityError where the weights do not fit."""
    network = Network(net)
    load_weights(network, weights)
    return network.eval()
