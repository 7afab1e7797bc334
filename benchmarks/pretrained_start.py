"""What derived weights are worth before any training: accuracy of a linear probe, against the full network's.

The full network is EfficientNet-Lite0 with its ImageNet weights at 128 pixels. Smaller ones (3x3 kernels
everywhere, expansion 3 everywhere, both) start from weights that are cut out of it (``cut``), then fitted on
the full network's activations (``independent``: what a supernet starts from) or on their own (``exact``), or
are ``random``. A dense layer is fitted in closed form to the features of 70 % of the pictures; the others are
its test.

Then random paths: do the errors of their blocks' fits, which need no labels, rank them as the probe does?
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._block_error_ranks import rank_correlations
from benchmarks._pictures import Pictures, chosen, drawings, names, photos
from benchmarks._report import Bar, Outcome, at_least, at_most, main, say
from stages.nn.blocks import MBConv
from stages.nn.derive import channel_importance, cut, most_important
from stages.nn.network import Network
from stages.nn.pretrained import load_pretrained
from stages.nn.probe import features, ridge_classifier
from stages.nn.start import PretrainedStart
from stages.nn.supernet import Supernet, recalibrate_bn
from stages.space import SpaceConfig, load_space
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig, SearchSpace

RESOLUTION, IMAGES = 128, 200
STARTS = ("cut", "independent", "exact", "random")


def run(full: bool) -> Outcome:
    """Photos; with ``full`` drawings too, and more splits and paths."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    bars: list[Bar] = []
    sets = {"photos": (photos, 5 if full else 2)} | ({"drawings": (drawings, 3)} if full else {})
    for name, (read, splits) in sets.items():
        pictures = read(RESOLUTION)
        say(f"{name}: {', '.join(names(pictures))}")
        found = _starts(pictures, splits, name)
        figures[name] = found
        if name == "photos":
            found["paths"] = _ranks(pictures, 40 if full else 24)
            bars += [
                at_least(f"{network}_exact_points", found[f"{network}_exact"]["points"], limit)
                for network, limit in {"k3": -3.0, "e3": -4.0, "both": -5.0}.items()
            ]
            bars.append(at_most("exact_fit_seconds", found["exact_fit_seconds"], 30.0))
    return Outcome(figures=figures, bars=bars)


def _starts(pictures: Pictures, splits: int, name: str) -> dict[str, Any]:
    space = _space(pictures)
    weights = load_pretrained(space)
    nets = _nets(space)
    accuracy: dict[str, list[float]] = {}
    seconds: list[float] = []
    for number, (training, test) in enumerate(pictures.splits(splits)):
        start_images = pictures.batches(chosen(training, IMAGES, number))
        start = PretrainedStart(space, weights, start_images)
        torch.manual_seed(number)
        supernet = Supernet(space).eval()
        started = time.monotonic()
        start.fill(supernet)
        filled = time.monotonic() - started
        accuracy.setdefault("full", []).append(_probe(start.full, pictures, training, test))
        for kind, path in nets.items():
            net = space.network(path)
            torch.manual_seed(number)
            started = time.monotonic()
            exact = start.network(net)
            seconds.append(time.monotonic() - started)
            networks = {
                "cut": _cut(net, start.full),
                "independent": supernet.extract(path).eval(),
                "exact": exact,
                "random": _random(net, start_images),
            }
            for way, network in networks.items():
                accuracy.setdefault(f"{kind}_{way}", []).append(_probe(network, pictures, training, test))
        say(
            f"{name}, split {number + 1} of {splits}: supernet in {filled:.0f} s; "
            + ", ".join(f"{key} {100 * values[-1]:.1f}" for key, values in accuracy.items())
        )
    reference = accuracy["full"]
    return {
        "classes": list(names(pictures)),
        "exact_fit_seconds": median(seconds),
        "full": {"percent": 100 * mean(reference)},
        **{
            key: {
                "percent": 100 * mean(values),
                "points": 100 * mean(_less(values, reference)),
                "points_deviation": 100 * stdev(_less(values, reference)) if splits > 1 else 0.0,
            }
            for key, values in accuracy.items()
            if key != "full"
        },
    }


def _less(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, reference, strict=True)]


def _ranks(pictures: Pictures, count: int) -> dict[str, Any]:
    space = _space(pictures)
    ((training, _),) = pictures.splits(1)
    start = PretrainedStart(space, load_pretrained(space), pictures.batches(chosen(training, IMAGES, 0)))
    return rank_correlations(space, start, pictures, count)


def _space(pictures: Pictures) -> SearchSpace:
    space = load_space(SpaceConfig(name="lite0", resolution=RESOLUTION))
    return space.model_copy(update={"classes": len(pictures.class_names)})


def _nets(space: SearchSpace) -> Mapping[str, tuple[int, ...]]:
    """Paths of 3x3 kernels, of expansion 3, of both; where a layer has none, its largest block."""
    paths: dict[str, list[int]] = {"k3": [], "e3": [], "both": []}
    for layer, largest in zip(space.layers(), space.largest_path(), strict=True):
        full = layer.blocks[largest]
        assert full is not None
        wanted = {"k3": (3, full.expansion), "e3": (full.kernel, 3), "both": (3, 3)}
        for kind, (kernel, expansion) in wanted.items():
            sizes = [None if block is None else (block.kernel, block.expansion) for block in layer.blocks]
            paths[kind].append(sizes.index((kernel, expansion)) if (kernel, expansion) in sizes else largest)
    return {kind: tuple(path) for kind, path in paths.items()}


def _cut(net: NetConfig, full: Network) -> Network:
    """The network with weights that were cut out, and nothing fitted."""
    network = Network(net).eval()
    by_layer = {layer: index for index, layer in enumerate(full.net.layers) if layer >= 0}
    for index, (block, layer, module) in enumerate(zip(net.blocks, net.layers, network.blocks, strict=True)):
        source = by_layer[layer] if layer >= 0 else index - len(net.blocks) if index else 0
        whole: BlockSpec = full.net.blocks[source]
        if block == whole:
            module.load_state_dict(full.blocks[source].state_dict())
            continue
        original = full.blocks[source]
        assert isinstance(module, MBConv) and isinstance(original, MBConv)
        cut(original, module, most_important(channel_importance(original), block.hidden_channels))
    return network


def _random(net: NetConfig, x_batches: Sequence[torch.Tensor]) -> Network:
    """Random weights; BN knows the pictures."""
    network = Network(net)
    recalibrate_bn(network, iter(x_batches))
    return network.eval()


def _probe(
    network: Network, pictures: Pictures, training: NDArray[np.int64], test: NDArray[np.int64]
) -> float:
    labels = torch.from_numpy(pictures.labels)
    weight_KC, bias_K = ridge_classifier(
        features(network, pictures.batches(training)), labels[training], len(pictures.class_names)
    )
    logits = features(network, pictures.batches(test)).double() @ weight_KC.T + bias_K
    return float((logits.argmax(1) == labels[test]).double().mean())


if __name__ == "__main__":
    sys.exit(main("pretrained_start", run))
