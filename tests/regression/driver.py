"""One tiny run on a simulated device, and what came out of it, as JSON on standard output.

It is run by :mod:`tests.regression.__main__` in two versions of nasflow, so it names modules by all the names
that they have had. Each model takes what its multiply-accumulates and values cost: no noise, no clock.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

UNCOUNTED = frozenset(
    {
        "seconds",
        "effort",
        "compute_cost",
        "made_by",
        "at",
        "measured_at",
        "conditions",
        "processor_seconds",
        "device_seconds",
    }
)
"""Fields that tell of the time and place of the run, and not of its outcome."""


def either(*names: str) -> types.ModuleType:
    """The first of these modules that there is."""
    for name in names:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise ModuleNotFoundError(f"none of {', '.join(names)}")


class SimulatedDevice:
    """Answers at once, and equal models always alike."""

    def __init__(self) -> None:
        self._device = import_module("android_bench.device")
        self._cost = import_module("android_bench.virtual_phone.described_cost").operators_ms

    @property
    def overhead(self) -> Any:
        return self._device.LOCAL_OVERHEAD

    def info(self) -> Any:
        return self._device.DeviceInfo(
            kind="local", serial="", model="simulated", soc="none", os_build="none", runtime="none 0"
        )

    def conditions(self) -> Any:
        return self._device.Conditions(at=datetime(2026, 1, 1, tzinfo=UTC))

    def benchmark(self, request: Any) -> Any:
        ms = 0.002 + self._cost(request.model)[0]
        return self._device.LatencyMeasurement(
            median_ms=ms, p5_ms=ms, p95_ms=ms, min_ms=ms, runs=10, rounds=1, round_medians_ms=(ms,)
        )

    def benchmark_many(self, requests: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for index, request in enumerate(requests):
            yield index, self.benchmark(request)

    def run_model(self, model: bytes, inputs_NHWC: Any, options: Any = None) -> Any:
        raise AssertionError("no stage runs a model on the measured device")

    def renew(self) -> None:
        """Nothing to renew."""

    def close(self) -> None:
        """Nothing to close."""


def counted(value: Any) -> Any:
    """A document without what differs from run to run."""
    if isinstance(value, dict):
        return {key: counted(inner) for key, inner in value.items() if key not in UNCOUNTED}
    return [counted(inner) for inner in value] if isinstance(value, list) else value


def main(folder: Path) -> None:
    """Run the configuration in ``folder``; its artifacts come to lie there."""
    import torch

    torch.set_num_threads(1)
    assemble = import_module("nasflow.assemble")
    loader = either("pipeline.config.loader", "pipeline.config")
    config = loader.load_config(assemble.PipelineConfig, folder / "pipeline.yaml", ["data.path=null"])
    pipeline = assemble.build_pipeline(config, folder, lambda _event: None, device=SimulatedDevice())
    with pipeline.store.lock():
        documents = pipeline.run()
    outcome = {name: counted(document.model_dump(mode="json")) for name, document in documents.items()}
    json.dump(outcome, sys.stdout, sort_keys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
