"""The names that others give to a network's tensors, by its structure; and tensors put under our names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from nasflow.base.errors import IntegrityError
from stages.nn.weights_source import NamesLayout
from stages.space.search_space import NetConfig

STEM_WEIGHT = "blocks.0.0.weight"
_COUNTER = ".num_batches_tracked"  # of BN: not a weight, and not in every file
_SHOWN = 3


def prefixes(layout: NamesLayout, layers: Sequence[int], net: NetConfig) -> dict[str, str]:
    """For each convolution, BN and dense layer of a network: our prefix, and the layout's.

    ``layers``: how many blocks each of its stages has, stem and head not counted.
    """
    return dict(_LAYOUTS[layout](layers, net))


def _efficientnet_pytorch(_layers: Sequence[int], net: NetConfig) -> Iterator[tuple[str, str]]:
    """github.com/lukemelas/EfficientNet-PyTorch and its relatives: blocks numbered through."""
    for ours, block, number in _places(net):
        if block == "stem":
            yield from ((f"{ours}.0", "_conv_stem"), (f"{ours}.1", "_bn0"))
        elif block == "head":
            yield from ((f"{ours}.0", "_conv_head"), (f"{ours}.1", "_bn1"))
        elif block == "classifier":
            yield f"{ours}.dense", "_fc"
        else:
            parts = ("_expand_conv", "_depthwise_conv", "_project_conv")[-_parts(net, number) :]
            norms = ("_bn0", "_bn1", "_bn2")[-len(parts) :]
            for index, (conv, norm) in enumerate(zip(parts, norms, strict=True)):
                yield f"{ours}.layers.{index}.0", f"_blocks.{number}.{conv}"
                yield f"{ours}.layers.{index}.1", f"_blocks.{number}.{norm}"


def _timm(layers: Sequence[int], net: NetConfig) -> Iterator[tuple[str, str]]:
    """timm's EfficientNet family, MobileNetV2 among it: blocks numbered within their stage."""
    within = [(stage, index) for stage, count in enumerate(layers) for index in range(count)]
    for ours, block, number in _places(net):
        if block == "stem":
            yield from ((f"{ours}.0", "conv_stem"), (f"{ours}.1", "bn1"))
        elif block == "head":
            yield from ((f"{ours}.0", "conv_head"), (f"{ours}.1", "bn2"))
        elif block == "classifier":
            yield f"{ours}.dense", "classifier"
        else:
            stage, place = within[number]
            expanded = _parts(net, number) == 3
            parts = ("conv_pw", "conv_dw", "conv_pwl") if expanded else ("conv_dw", "conv_pw")
            for index, conv in enumerate(parts):
                yield f"{ours}.layers.{index}.0", f"blocks.{stage}.{place}.{conv}"
                yield f"{ours}.layers.{index}.1", f"blocks.{stage}.{place}.bn{index + 1}"


def _torchvision(_layers: Sequence[int], net: NetConfig) -> Iterator[tuple[str, str]]:
    """torchvision's MobileNetV2 (its ``models/mobilenetv2.py``): all numbered through in ``features``."""
    for ours, block, number in _places(net):
        if block in ("stem", "head"):
            place = 0 if block == "stem" else number + 1
            yield from ((f"{ours}.{part}", f"features.{place}.{part}") for part in (0, 1))
        elif block == "classifier":
            yield f"{ours}.dense", "classifier.1"
        else:
            theirs, last = f"features.{number + 1}.conv", _parts(net, number) - 1
            for index in range(last):
                yield from ((f"{ours}.layers.{index}.{part}", f"{theirs}.{index}.{part}") for part in (0, 1))
            yield from ((f"{ours}.layers.{last}.{part}", f"{theirs}.{last + part}") for part in (0, 1))


_LAYOUTS: Mapping[str, Callable[[Sequence[int], NetConfig], Iterator[tuple[str, str]]]] = {
    "efficientnet_pytorch": _efficientnet_pytorch,
    "timm": _timm,
    "torchvision": _torchvision,
}


def _places(net: NetConfig) -> Iterator[tuple[str, str, int]]:
    """(our prefix, kind, number among the blocks that fill layers) of each block."""
    number = 0
    for index, block in enumerate(net.blocks):
        yield f"blocks.{index}", block.kind, number
        number += block.searchable


def _parts(net: NetConfig, number: int) -> int:
    block = [block for block in net.blocks if block.searchable][number]
    return 3 if block.expansion > 1 else 2


def rename(
    stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Mapping[str, str], source: str
) -> dict[str, Tensor]:
    """The stored tensors under our names. The number of classes, and of the images' channels, may be another.

    ``wanted`` is the state of the network that takes them. Raises IntegrityError with missing, left-over and
    wrongly shaped tensors, three at most of each.
    """
    state: dict[str, Tensor] = {}
    taken: set[str] = set()
    problems: dict[str, list[str]] = {"missing": [], "of another shape": [], "left over": []}
    for ours, like in wanted.items():
        if ours.endswith(_COUNTER):
            state[ours] = torch.zeros((), dtype=like.dtype)
            continue
        theirs = _translated(ours, names)
        taken.add(theirs)
        tensor = stored.get(theirs)
        if tensor is None:
            problems["missing"].append(theirs if theirs == ours else f"{theirs} (for {ours})")
        elif tensor.shape != like.shape and not _may_differ(ours, tensor, like):
            shapes = f"{list(tensor.shape)}, not {list(like.shape)}"
            problems["of another shape"].append(f"{theirs} ({shapes})")
        elif not tensor.isfinite().all():
            problems.setdefault("not finite", []).append(theirs)
        else:
            state[ours] = tensor.detach().clone().to(like.dtype)
    problems["left over"] = sorted(
        name for name in stored if name not in taken and not name.endswith(_COUNTER)
    )
    told = [_told(kind, found) for kind, found in problems.items() if found]
    if told:
        raise IntegrityError(
            f"the weights in {source} are not those of the space's largest network: {'; '.join(told)}.",
            hint="Compare the names in the mapping file with those in the weights file, and the space "
            "(stages, kernels, expansions, space.width_multiplier) with the network that was trained.",
        )
    return state


def _translated(ours: str, names: Mapping[str, str]) -> str:
    head = ours
    while head:
        if head in names:
            return names[head] + ours[len(head) :]
        head = head.rpartition(".")[0]
    return ours


def _may_differ(ours: str, tensor: Tensor, like: Tensor) -> bool:
    """In the number of classes, and of the channels of the images."""
    if tensor.dim() != like.dim():
        return False
    if ".dense." in ours:
        return tensor.shape[1:] == like.shape[1:]
    return ours == STEM_WEIGHT and tensor.shape[::2] == like.shape[::2] and tensor.shape[3] == like.shape[3]


def _told(kind: str, found: list[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{kind}: {', '.join(found[:_SHOWN])}{more}"
