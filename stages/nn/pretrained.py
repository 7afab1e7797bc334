"""Pretrained weights put into our networks: read, checked, converted once, kept in the account's cache."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from nasflow.base.errors import IntegrityError, UsageError
from nasflow.base.files import cache_folder, hash_or_none, read_or_none, write_atomic
from pipeline.artifact import sha256_hex
from stages.nn.blocks import to_channels_last
from stages.nn.input_fold import fold_channels, fold_epsilon, fold_input
from stages.nn.network import Network, save_state
from stages.nn.weight_names import prefixes, rename
from stages.nn.weights_source import (
    CONVERSION_VERSION,
    PACKAGES,
    PackagedWeights,
    origin_of,
    read_map,
)
from stages.space import SpaceConfig, load_space
from stages.space.mobilenet_v2 import STAGES as MOBILENET_STAGES
from stages.space.search_space import NetConfig, SearchSpace
from stages.space.weights_origin import WeightsOrigin


@dataclass(frozen=True)
class PretrainedWeights:
    """The weights of a space's largest network (``net``, with the classes that it was trained on)."""

    origin: WeightsOrigin
    net: NetConfig
    state: Mapping[str, Tensor]


def load_pretrained(space: SearchSpace, folder: Path | None = None) -> PretrainedWeights:
    """The weights that a space names, for inputs as ours: (x - 127.5) / 127.5.

    ``folder``: where converted weights are kept; None: ``pretrained`` in the account's cache. Raises
    UsageError where the space names none, MachineError where the package is not installed, IntegrityError
    where a file is not what it should be or belongs to another network, ConfigError.
    """
    if space.pretrained is None:
        raise UsageError(f"space {space.name} names no pretrained weights.", hint="Set space.pretrained.")
    origin = origin_of(space.pretrained)
    wanted = _wanted(_largest(space))
    if space.pretrained in PACKAGES:
        name = f"{space.pretrained}-{origin.sha256[:8]}-{CONVERSION_VERSION}.safetensors"
        kept = (folder or cache_folder() / "pretrained") / name
        stored = _kept(kept)
        if stored is None:
            stored = convert(PACKAGES[space.pretrained], kept)
        state = rename(stored, wanted, {}, origin.name)
    else:
        state = _own(Path(space.pretrained), wanted, _layers(space), _largest(space))
    fold_channels(state, space.input_channels)
    (classes,) = (len(tensor) for name, tensor in state.items() if name.endswith(".dense.bias"))
    return PretrainedWeights(origin=origin, net=_largest(space, classes), state=state)


def full_network(space: SearchSpace, weights: PretrainedWeights, seed: int = 0) -> Network:
    """The space's largest network with the pretrained weights.

    Where it has another number of classes than these, its dense layer is fresh: N(0, 0.01) from ``seed``.
    """
    return _with_classes(_largest(space), weights.state, seed)


def _with_classes(net: NetConfig, weights: Mapping[str, Tensor], seed: int) -> Network:
    """A network with these weights; a dense layer of other classes is fresh."""
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        network = Network(net)
    state = dict(weights)
    generator = torch.Generator().manual_seed(seed)
    for name, like in network.state_dict().items():
        if state[name].shape == like.shape:
            continue
        if name.endswith(".dense.weight"):
            state[name] = 0.01 * torch.randn(like.shape, generator=generator)
        elif name.endswith(".dense.bias"):
            state[name] = torch.zeros_like(like)
    network.load_state_dict(state)
    to_channels_last(network)
    return network.eval()


def mobilenet(path: Path, net: NetConfig, seed: int = 0) -> Network:
    """MobileNetV2 with the weights that a mapping file names, for inputs as ours; see :func:`full_network`.

    ``net``: as :func:`stages.space.mobilenet_v2.mobilenet_v2` makes it, at its published strides. Other
    libraries pad evenly where a stride of 2 is: their convolutions look at other rows and columns by one
    pixel, which hardly matters inside a picture. Raises UsageError, IntegrityError, ConfigError.
    """
    state = _own(path, _wanted(net), [repeats for _, _, repeats, _ in MOBILENET_STAGES], net)
    fold_channels(state, net.input_channels)
    return _with_classes(net, state, seed)


def convert(packaged: PackagedWeights, kept: Path) -> dict[str, Tensor]:
    """A package's file under our names and for our inputs; also written to ``kept``, with its hash beside it.

    Raises MachineError where the package is not installed, IntegrityError where its file is another.
    """
    path = packaged.path()
    packaged.check(hash_or_none(path))
    space = load_space(SpaceConfig(name=packaged.space))
    net = _largest(space)
    names = prefixes(packaged.layout, _layers(space), net)
    state = rename(_read(path), _wanted(net), names, path.name)
    fold_input(state, [packaged.mean], [packaged.std])
    data = save_state(state)
    write_atomic(kept, data)
    write_atomic(_hash_file(kept), sha256_hex(data).encode())
    return state


def _largest(space: SearchSpace, classes: int | None = None) -> NetConfig:
    changed = space if classes is None else space.model_copy(update={"classes": classes})
    return changed.network(changed.largest_path())


def _wanted(net: NetConfig) -> dict[str, Tensor]:
    """Names, shapes and types of a network's tensors; on no device, so that nothing is drawn."""
    with torch.device("meta"):
        return Network(net).state_dict()


def _hash_file(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}.sha256")


def _kept(path: Path) -> dict[str, Tensor] | None:
    """What was converted before; None where it is not there or not whole: then it is made again."""
    data, expected = read_or_none(path), read_or_none(_hash_file(path))
    if data is None or expected is None or sha256_hex(data) != expected.decode("ascii", "replace"):
        return None
    return load(data)


def _layers(space: SearchSpace) -> list[int]:
    return [stage.layers for stage in space.stages]


def _own(
    path: Path, wanted: Mapping[str, Tensor], layers: Sequence[int], net: NetConfig
) -> dict[str, Tensor]:
    mapping, file = read_map(path)
    names = mapping.names if isinstance(mapping.names, dict) else prefixes(mapping.names, layers, net)
    state = rename(_read(file), wanted, names, file.name)
    fold_epsilon(state, mapping.bn_epsilon)
    fold_input(state, mapping.mean, mapping.std)
    return state


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a PyTorch file, of which nothing is executed."""
    data = read_or_none(path)
    if data is None:
        raise UsageError(f"there is no weights file {path}.")
    try:
        if path.suffix == ".safetensors":
            return load(data)
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise IntegrityError(
            f"{path} is not a whole weights file: {type(error).__name__}.",
            hint="It must be a .safetensors file, or a PyTorch file (.pth, .pt, .bin) of tensors alone.",
            raw=str(error),
        ) from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise IntegrityError(
            f"{path} does not hold tensors by name alone.",
            hint="Save the model's state_dict() and nothing else, best as safetensors.",
        )
    return dict(stored)
