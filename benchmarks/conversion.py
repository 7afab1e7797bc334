"""Does a converted network compute the same, is it as fast as one from Keras, and what does it cost?

MobileNetV2 at 224 pixels goes the whole way to a `.tflite` file. The same network with the same weights is
written in Keras and converted by TFLiteConverter in a process of its own. Conversions alternate, timings are
interleaved; MobileNetV2's files in float16 and int8 are timed in the same rounds. Parity is that of each step
of the conversion on photos and extreme images, of MobileNetV2 with drawn batch normalisation and of
EfficientNet-Lite0 with its published weights, and of their files in float16 and int8 with the float32 file.
``--full`` adds random networks of every space that ships, at 224 pixels, in each precision.
"""

from __future__ import annotations

import atexit
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from android_bench.device import BenchmarkRequest
from android_bench.local.device import LocalDevice
from benchmarks._kept_lines import Job, KeptLines
from benchmarks._keras_networks import KerasConverter
from benchmarks._memory import resident_growth
from benchmarks._other_precisions import (
    OTHERS,
    Photos,
    has_dot_products,
    in_other_precisions,
    made_in,
    snr_bars,
)
from benchmarks._pictures import photos
from benchmarks._report import Bar, Outcome, at_least, at_most, main, say
from nasflow.base.errors import ConversionError
from pipeline.store.scratch import FleetingScratch
from stages.conversion.chain import Finished, Limits, convert_module, convert_network, finish_network
from stages.conversion.config import ConvertConfig, converter_versions
from stages.conversion.converter import TensorflowConverter
from stages.conversion.flatbuffer import Implementations
from stages.conversion.lint import lint_graph
from stages.conversion.parity import Tolerance, evenly_spaced
from stages.conversion.softmax import append_softmax
from stages.convert import Convert
from stages.measurement.paired import PairedRounds
from stages.nn.network import Network
from stages.nn.pretrained import full_network, load_pretrained
from stages.space import SpaceConfig, load_space, shipped_spaces
from stages.space.block_spec import Implementation
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.space.search_space import NetConfig
from stages.verification.statistics import latency_ratio

RESOLUTION, CLASSES = 224, 1000
OPERATORS = 64  # of MobileNetV2; behind them stands the softmax
NETWORKS = 200  # at random, each in every precision, with --full
MAX_RATIO, MAX_TIME_RATIO, MAX_BYTES = 1.03, 1.5, int(1.5 * 2**30)
MAX_INT8_RATIO = 0.6  # of float32's latency, on a CPU with dot products of int8
MAX_DIFF = 1e-4  # of a probability, between the two of the same network
CONFIG = ConvertConfig()
LIMITS = Limits(
    images=CONFIG.images,
    tolerance=Tolerance(CONFIG.max_relative_diff, CONFIG.min_top1_agreement_percent, CONFIG.min_snr_db),
    one_partition=True,
)
FEW = 32  # photos on which random networks are compared


@cache
def _photos() -> Photos:
    return Photos(photos(RESOLUTION).pixels_NHWC)


def run(full: bool) -> Outcome:
    """Convert, prove, time; with ``full`` random networks, too."""
    torch.set_num_threads(1)
    mobilenet = with_drawn_statistics(mobilenet_v2(resolution=RESOLUTION, classes=CLASSES), 0)
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nasflow-conversion-")))
        keras = stack.enter_context(KerasConverter(folder))
        converter = stack.enter_context(TensorflowConverter())
        here = stack.enter_context(LocalDevice())
        ours, native, figures["seconds"] = _conversion_times(mobilenet, converter, keras, 7 if full else 3)
        say(f"conversion: {figures['seconds']}")
        figures["memory_bytes"] = _memory(mobilenet, converter)
        figures["latency"] = _latency(here, ours, native, 100 if full else 40)
        figures["cpu_has_int8_dot_products"] = has_dot_products()
        say(f"conversion: {figures['latency']}")
        lite0 = load_space(SpaceConfig(name="lite0"))
        subjects = {"mobilenet_v2": mobilenet, "lite0": full_network(lite0, load_pretrained(lite0))}
        figures["networks"], figures["precisions"] = {}, {}
        for name, network in subjects.items():
            finished, seconds = _converted(network, {}, converter, here, name)
            figures["networks"][name] = _figures_of(finished, seconds)
            figures["precisions"][name] = in_other_precisions(
                finished.model, _photos(), here, one_partition=True
            )
    figures["operators"] = figures["networks"]["mobilenet_v2"]["operator_counts"]
    bars = _bars(figures)
    if full:
        figures["random_networks"], more = _random_networks()
        bars += more
    return Outcome(figures, bars)


def with_drawn_statistics(net: NetConfig, seed: int) -> Network:
    """A network in inference mode whose batch normalisation has no default number: folding it shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(net)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.3, 2.0, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
        elif isinstance(part, nn.Conv2d):
            part.weight.data.normal_(0, (2 / part.weight[0].numel()) ** 0.5, generator=generator)
        elif isinstance(part, nn.Linear):
            part.weight.data.normal_(0, part.in_features**-0.5, generator=generator)
    return network.eval()


def _conversion_times(
    network: Network, converter: TensorflowConverter, keras: KerasConverter, pairs: int
) -> tuple[bytes, bytes, dict[str, Any]]:
    """Both models, and what their conversions took: alternating, all imports and first calls done before."""
    small = with_drawn_statistics(mobilenet_v2(resolution=32, classes=10, width=0.35), 0)
    convert_module(small, converter, resolution=32)
    keras.convert(small)
    seconds: dict[str, list[float]] = {"ours": [], "keras": []}
    ours = native = b""
    for number in range(pairs):
        say(f"conversion: pair {number + 1} of {pairs}")
        began = time.perf_counter()
        ours = append_softmax(convert_module(network, converter, resolution=RESOLUTION))
        seconds["ours"].append(time.perf_counter() - began)
        native, took = keras.convert(network)
        seconds["keras"].append(took)
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["keras"], strict=True)]
    return ours, native, {**seconds, "ratio": median(ratios)}


def _memory(network: Network, converter: TensorflowConverter) -> int | None:
    """By how much this process and TensorFlow's grow at their highest points while they convert, together.

    Both have converted before: what their imports take is not counted. None where Linux does not tell.
    """
    growth = resident_growth(
        lambda: convert_module(network, converter, resolution=RESOLUTION), (None, converter.pid)
    )
    return None if growth is None else sum(growth)


def _latency(here: LocalDevice, ours: bytes, native: bytes, rounds: int) -> dict[str, Any]:
    models = {"ours": ours, "keras": native}
    models |= {name: made_in(ours, name, _photos()) for name in OTHERS}
    requests = {
        name: BenchmarkRequest(name=name, model=model, warmup_ms=50, min_ms=200)
        for name, model in models.items()
    }
    timed = PairedRounds(FleetingScratch(), here, requests, seed=0)
    while len(timed) < rounds:
        timed.measure()

    def ratio(above: str, below: str) -> dict[str, Any]:
        found = latency_ratio(timed.medians_ms(above), timed.medians_ms(below))
        return {"ratio": found.value, "ratio_interval_95": found.interval}

    return {
        "rounds": rounds,
        "median_ms": {name: timed.combined(name).median_ms for name in models},
        **ratio("ours", "keras"),
        "over_float32": {name: ratio(name, "ours") for name in OTHERS},
        "size_bytes": {name: len(model) for name, model in models.items()},
        "largest_probability_diff": _largest_diff(here, ours, native),
    }


def _largest_diff(here: LocalDevice, ours: bytes, native: bytes) -> float:
    """Whether they are the same network at all."""
    images_NHWC = _photos().batch_NHWC(np.arange(4))
    answers = [here.run_model(model, images_NHWC) for model in (ours, native)]
    return float(np.abs(answers[0] - answers[1]).max())


def _converted(
    network: Network,
    implementations: Implementations,
    converter: TensorflowConverter,
    here: LocalDevice,
    name: str,
) -> tuple[Finished, float]:
    """The proved model, and how many seconds the proof alone took."""
    steps, photos = convert_network(network, converter, implementations, name=name), _photos()
    began = time.perf_counter()
    finished = finish_network(steps, photos, converter, here, LIMITS, name=name)
    return finished, time.perf_counter() - began


def _figures_of(finished: Finished, proof_seconds: float) -> dict[str, Any]:
    gpu = lint_graph(finished.model, delegate="gpu")
    return {
        **finished.check.model_dump(mode="json"),
        "proof_seconds": proof_seconds,
        "findings_on_a_gpu": [finding.model_dump() for finding in gpu.findings],
    }


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    counts, memory = figures["operators"], figures["memory_bytes"]
    others = {name: count for name, count in counts.items() if name != "SOFTMAX"}
    checks = figures["networks"].values()
    edges = [edge for check in checks for edge in check["edges"]]
    int8_ratio = figures["latency"]["over_float32"]["int8"]["ratio"]
    return [
        at_most("operators_beside_the_softmax", sum(others.values()), OPERATORS),
        at_most("latency_ratio", figures["latency"]["ratio"], MAX_RATIO),
        at_most("largest_probability_diff", figures["latency"]["largest_probability_diff"], MAX_DIFF),
        at_most("conversion_time_ratio", figures["seconds"]["ratio"], MAX_TIME_RATIO),
        *([] if memory is None else [at_most("memory_bytes", memory, MAX_BYTES)]),
        *parity_bars([*checks, *edges], ""),
        *(snr_bars(list(figures["precisions"].values()), "")),
        *([at_most("int8_latency_ratio", int8_ratio, MAX_INT8_RATIO)] if has_dot_products() else []),
        at_most("findings", sum(len(c["findings"]) + len(c["findings_on_a_gpu"]) for c in checks), 0),
    ]


def parity_bars(checks: Sequence[Mapping[str, Any]], prefix: str) -> list[Bar]:
    """The worst of all checks against each limit of the configuration."""
    return [
        at_most(
            f"{prefix}largest_relative_diff",
            max(c["max_relative_diff"] for c in checks),
            CONFIG.max_relative_diff,
        ),
        at_least(
            f"{prefix}least_top1_agreement_percent",
            min(c["top1_agreement_percent"] for c in checks),
            CONFIG.min_top1_agreement_percent,
        ),
        at_least(f"{prefix}least_snr_db", min(c["snr_db"] for c in checks), CONFIG.min_snr_db),
    ]


def _random_networks() -> tuple[dict[str, Any], list[Bar]]:
    """All of them, and what becomes of each; a second call goes on where the first was stopped."""
    spaces = [load_space(_space(name)).model_dump_json() for name in shipped_spaces()]
    kept = KeptLines("conversion", [str(Convert.version), str(converter_versions()), *spaces])
    names = shipped_spaces()
    jobs: list[Job] = [(names[number % len(names)], number) for number in range(NETWORKS)]
    found = [result for _, result in kept.results(jobs, convert_one)]
    kept.finish()
    whole = [one for one in found if "error" not in one]
    figures = {
        "networks": len(found),
        "errors": [one["error"] for one in found if "error" in one],
        "largest_relative_diff": max(one["max_relative_diff"] for one in whole),
        "median_seconds": median(one["seconds"] for one in whole),
        "median_snr_db": {
            precision: median(one["precisions"][precision]["snr_db"] for one in whole) for precision in OTHERS
        },
    }
    bars = [
        at_most("random_failed", len(found) - len(whole), 0),
        *parity_bars(whole, "random_"),
        *snr_bars([one["precisions"] for one in whole], "random_"),
    ]
    return figures, bars


def convert_one(job: Job) -> dict[str, Any]:
    """One random network, converted and proved, then in the other precisions.

    In a process that keeps its TensorFlow for the next one.
    """
    name, number = job
    torch.set_num_threads(1)
    space = load_space(_space(str(name)))
    chance = random.Random(f"{name}/{number}")
    net = space.network([chance.randrange(len(layer.blocks)) for layer in space.layers()])
    ways: dict[str, Implementation] = {
        block.key: chance.choice(block.implementations)
        for block in net.blocks
        if len(block.implementations) > 1
    }
    began = time.perf_counter()
    converter, here = _tools()
    whole = _photos()
    images = Photos(whole.pixels_NHWC[evenly_spaced(len(whole), FEW)])
    try:
        network = with_drawn_statistics(net, int(number))
        steps = convert_network(network, converter, ways, name=f"{name}_{number}")
        finished = finish_network(steps, images, converter, here, LIMITS, name=f"{name}_{number}")
        # h-swish falls apart in int8, which runs refuse by default.
        hswish = any(block.hswish for block in net.blocks)
        others = in_other_precisions(finished.model, images, here, one_partition=not hswish)
    except ConversionError as error:
        return {"error": f"{name}/{number}: {error.message}"}
    return {
        **finished.check.model_dump(mode="json", exclude={"operator_counts"}),
        "precisions": others,
        "seconds": time.perf_counter() - began,
    }


@cache
def _tools() -> tuple[TensorflowConverter, LocalDevice]:
    """This process's own, until it ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(TensorflowConverter()), stack.enter_context(LocalDevice())


def _space(name: str) -> SpaceConfig:
    return SpaceConfig(name=name, resolution=RESOLUTION)


if __name__ == "__main__":
    sys.exit(main("conversion", run))
