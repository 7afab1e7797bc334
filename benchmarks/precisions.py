"""The network found for float32 and the one found for int8, each measured in both precisions.

The quick start's pipeline runs once for each precision: latency table, latency model, search, training,
verification. The two found networks are then timed together, in both precisions, in the same rounds; their
accuracies are those of the files on all test images. Beside them, how the order of random networks of the
space changes: by the latency model of one precision and by that of the other.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from platformdirs import user_cache_path
from scipy.stats import spearmanr

from android_bench.device import BenchmarkRequest, ModelPrecision
from android_bench.local.device import LocalDevice
from benchmarks._report import Bar, Outcome, at_most, main, say
from benchmarks.quickstart import configuration
from nasflow.assemble import build_pipeline
from pipeline.reporters.reporters import PlainReporter
from pipeline.store.scratch import FleetingScratch
from stages.documents import LatencyModel, SearchResult, Verification, VerifiedFile
from stages.measurement.paired import PairedRounds
from stages.reporting.notation import architecture_line
from stages.space.search_space import NetConfig
from stages.verification.statistics import latency_ratio

PRECISIONS: tuple[ModelPrecision, ...] = ("float32", "int8")
NETWORKS = 400
SEED = 0
MOST_LOST = 1.5  # points, the upper end of the interval


def run(full: bool) -> Outcome:
    """One pipeline for each precision, then all four files side by side."""
    folder = user_cache_path("nasflow") / "benchmarks" / f"precisions-{'full' if full else 'quick'}"
    reporter = PlainReporter(sys.stderr)
    requests: dict[str, BenchmarkRequest] = {}
    models: dict[str, LatencyModel] = {}
    found: dict[str, dict[str, Any]] = {}
    for precision in PRECISIONS:
        say(f"precisions: a search in {precision}")
        changes = [f"runtime.precision={precision}", "convert.precisions=[float32, int8]"]
        pipeline = build_pipeline(
            configuration(SEED, full=full, changes=changes), folder / precision, reporter
        )
        with pipeline.store.lock():
            documents = pipeline.run()
        verify, latency = documents["verify"], documents["latency"]
        assert isinstance(verify, Verification)
        assert isinstance(latency, LatencyModel)
        models[precision] = latency
        (network,) = (n for n in verify.networks if n.role == "found")
        found[precision] = _described(network.net, verify.precisions)
        for file in verify.precisions:
            if file.precision in PRECISIONS:
                name = f"found_for_{precision}_in_{file.precision}"
                content = pipeline.store.read_bytes(file.model)
                requests[name] = BenchmarkRequest(name=name, model=content, min_ms=60, warmup_ms=20)
    space = documents["search"]
    assert isinstance(space, SearchResult)
    reporter.close()
    order = order_of_networks(space, models)
    with LocalDevice() as device:
        rounds = PairedRounds(FleetingScratch(), device, requests, SEED)
        while len(rounds) < (48 if full else 12):
            rounds.measure()
    figures = {"found": found, "side_by_side": side_by_side(rounds), "order": order}
    shutil.rmtree(folder)
    return Outcome(figures, _bars(found))


def _described(net: NetConfig, files: tuple[VerifiedFile, ...]) -> dict[str, Any]:
    return {
        "architecture": architecture_line(net),
        "macs": net.macs,
        "parameters": net.parameters,
        "files": {
            file.precision: {
                "size_bytes": file.model.size_bytes,
                "accuracy_percent": file.accuracy_percent,
                "points_against_float32": file.accuracy_points,
                "points_interval_95": file.accuracy_points_interval_95,
                "calibration_error_percent": file.calibration_error_percent,
                "fine_tuned": file.fine_tuned,
            }
            for file in files
        },
    }


def side_by_side(rounds: PairedRounds) -> dict[str, Any]:
    """Medians of the four files, and what each network takes in int8 and against the other one."""

    def ratio(above: str, below: str) -> dict[str, Any]:
        found = latency_ratio(rounds.medians_ms(above), rounds.medians_ms(below))
        return {"ratio": found.value, "interval_95": list(found.interval)}

    names = [f"found_for_{target}_in_{run_in}" for target in PRECISIONS for run_in in PRECISIONS]
    return {
        "median_ms": {name: rounds.combined(name).median_ms for name in names},
        "int8_over_float32": {
            f"found_for_{target}": ratio(f"found_for_{target}_in_int8", f"found_for_{target}_in_float32")
            for target in PRECISIONS
        },
        "found_for_int8_over_found_for_float32": {
            run_in: ratio(f"found_for_int8_in_{run_in}", f"found_for_float32_in_{run_in}")
            for run_in in PRECISIONS
        },
    }


def order_of_networks(search: SearchResult, models: Mapping[str, LatencyModel]) -> dict[str, Any]:
    """How two latency models order the same random networks."""
    generator = random.Random(SEED)
    layers = search.space.layers()
    nets = [
        search.space.network([generator.randrange(len(layer.blocks)) for layer in layers])
        for _ in range(NETWORKS)
    ]
    first, second = ([models[precision].predict_ms(net) for net in nets] for precision in PRECISIONS)
    pairs = list(combinations(range(NETWORKS), 2))
    turned = sum((first[i] - first[j]) * (second[i] - second[j]) < 0 for i, j in pairs)
    ratios = sorted(int8 / plain for plain, int8 in zip(first, second, strict=True))
    return {
        "networks": NETWORKS,
        "spearman": float(spearmanr(first, second).statistic),
        "pairs_in_the_other_order_percent": 100 * turned / len(pairs),
        "int8_over_float32_range": [ratios[0], ratios[-1]],
        "block_int8_over_float32": {
            key: models["int8"].block_ms[key] / ms for key, ms in models["float32"].block_ms.items() if ms > 0
        },
    }


def _bars(found: Mapping[str, dict[str, Any]]) -> list[Bar]:
    return [
        at_most(
            f"found_for_{target}_points_lost_upper_end",
            -found[target]["files"]["int8"]["points_interval_95"][0],
            MOST_LOST,
        )
        for target in PRECISIONS
    ]


if __name__ == "__main__":
    sys.exit(main("precisions", run))
