"""Which block of a model is the first whose output is not PyTorch's.

The model is cut behind a block, whose output it then answers with. Blocks behind one that differs differ too,
so the first is found by bisection.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from android_bench.device import Device
from stages.conversion.flatbuffer import Implementations, network_model
from stages.conversion.model_file import packed, unpacked
from stages.conversion.operators import Operator, read_operators
from stages.conversion.parity import allowed_share, in_double
from stages.nn.network import Network
from stages.space.search_space import NetConfig

Images = NDArray[np.float32]


@dataclass(frozen=True)
class DifferingBlock:
    """A block, counted from 0, and by which share of its largest output value it differs from PyTorch's."""

    index: int
    key: str
    relative_diff: float

    def __str__(self) -> str:
        """``block 3 (mbconv_k3_e6_s1_24-24_r16), by 0.4 of its largest value``."""
        return f"block {self.index} ({self.key}), by {self.relative_diff:.3g} of its largest value"


def first_differing_block(
    logits_model: bytes,
    module: Network,
    implementations: Implementations,
    images_NHWC: Images,
    here: Device,
    max_relative_diff: float,
) -> DifferingBlock | None:
    """The first block whose output differs by more than is allowed, or than float32 makes of the network.

    None where there is none, or where the model is not made of the operators that the network is measured as:
    its blocks cannot be found in it then. Raises DeviceError where a model does not run.
    """
    places = block_ends(logits_model, module.net, implementations)
    if places is None:
        return None
    single, exact = (_outputs(network, images_NHWC) for network in (module, in_double(module)))

    def difference(index: int) -> tuple[float, bool]:
        """By how much a block's output differs, and whether that is too much."""
        seen = here.run_model(cut_behind(logits_model, places[index]), images_NHWC)
        scale = max(float(np.abs(exact[index]).max()), float(np.finfo(np.float32).tiny))
        rounding = float(np.abs(single[index] - exact[index]).max()) / scale
        relative = float(np.abs(seen.reshape(exact[index].shape) - exact[index]).max()) / scale
        return relative, not relative <= allowed_share(max_relative_diff, rounding)

    good, bad = -1, len(places) - 1
    found, wrong = difference(bad)
    if not wrong:
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        relative, wrong = difference(middle)
        if wrong:
            bad, found = middle, relative
        else:
            good = middle
    return DifferingBlock(bad, module.net.blocks[bad].key, found)


def block_ends(
    logits_model: bytes, net: NetConfig, implementations: Implementations
) -> tuple[int, ...] | None:
    """For each block the place of its last operator in the model's list; None where they do not match.

    The directly written model names its blocks. Blocks stand one behind the other in both: what is an
    operator's n-th occurrence in one is its n-th in the other.
    """
    written = read_operators(network_model(net, implementations=implementations, output="logits"))
    places: dict[tuple[Operator, int], int] = {}
    seen: Counter[Operator] = Counter()
    for place, found in enumerate(read_operators(logits_model)):
        places[found.operator, seen[found.operator]] = place
        seen[found.operator] += 1
    if seen != Counter(placed.operator for placed in written):
        return None
    ends: dict[str, int] = {}
    count: Counter[Operator] = Counter()
    for placed in written:
        ends[".".join(placed.tensor.split(".")[:2])] = places[placed.operator, count[placed.operator]]
        count[placed.operator] += 1
    return tuple(ends.values())


def cut_behind(model: bytes, place: int) -> bytes:
    """The model up to the operator at a place, whose output it answers with."""
    content = unpacked(model)
    graph = content.subgraphs[0]
    graph.operators = graph.operators[: place + 1]
    graph.outputs = list(graph.operators[place].outputs)
    content.signatureDefs = None  # they name the output that is no longer computed
    return packed(content)


def _outputs(network: torch.nn.Module, images_NHWC: Images) -> list[NDArray[Any]]:
    """Each block's output, NHWC where it is an image."""
    blocks = network.get_submodule("blocks")
    assert isinstance(blocks, torch.nn.ModuleList)
    x = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).to(next(network.parameters()).dtype)
    found = []
    with torch.inference_mode():
        for block in blocks:
            x = block(x)
            found.append((x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy())
    return found
