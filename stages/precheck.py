"""Before anything is trained: is every kind of block of the space converted as it was measured?

A few untrained networks that hold every kind go through the whole conversion and are timed beside the
directly written models, which are what the latency model stands for. What cannot be converted, or becomes
something else, would otherwise be known when all training is done. They go through it a few at a time: what
is wrong with the first ones is known before the last ones are made, and no more models than those are held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from nasflow.base.errors import ConversionError
from pipeline.artifact import Record
from pipeline.stage import TOOL, Context, Stage
from pipeline.store.scratch import PartOfScratch
from stages.conversion.config import ConvertConfig, converter_versions
from stages.conversion.covering import covering_networks
from stages.conversion.suitable import check_runs_in
from stages.documents import LatencyModel, Precheck, PrecheckedNetwork
from stages.measurement.paired import PairedRounds
from stages.space.block_spec import BlockSpec, Implementation
from stages.space.search_space import SearchSpace
from stages.verification.counted import Counted, measured_until
from stages.verification.power import CONFIDENCE
from stages.verification.sequential import Look

if TYPE_CHECKING:
    from stages.conversion.converter import TensorflowConverter

TOGETHER = 3  # networks that are converted, then timed in the same rounds
_MOST_NAMED = 3
_ANCHOR = "anchor"


class PrecheckConfig(Record):
    """How converted models are timed, and what they must keep."""

    max_ratio: float = Field(
        1.15,
        gt=1,
        le=10,
        description="refuse a space whose converted model takes more than this many times the measured one",
    )
    rounds: int = Field(
        6,
        ge=3,
        le=1000,
        description="rounds in which each of the two models is timed once; one that saw throttling or sleep "
        "is measured again",
    )
    min_ms: float = Field(20.0, gt=0, le=60_000, description="milliseconds of counted runs in each timing")
    warmup_ms: float = Field(
        3.0, ge=0, le=60_000, description="milliseconds of uncounted runs before each timing"
    )


@dataclass(frozen=True)
class PrecheckStage(Stage):
    """Convert and time untrained networks that hold every kind of block."""

    name: ClassVar[str] = "precheck"
    version: ClassVar[int] = 4
    inputs: ClassVar[Mapping[str, str]] = {"latency": "latency"}
    output: ClassVar[type[Precheck]] = Precheck

    config: PrecheckConfig
    convert: ConvertConfig
    space: SearchSpace
    runtime: RuntimeOptions
    seed: int
    device: Device = field(metadata=TOOL)
    max_thermal_status: int = field(default=0, metadata=TOOL)
    """The highest at which a phone may be measured."""
    engine: Literal["tflite", "onnx"] = field(default="tflite", metadata=TOOL)
    """Which model of a converted network the device is given: the file, or what that was converted from."""

    def environment(self) -> Mapping[str, str]:
        """The device, and the packages that convert."""
        engine = {"engine": self.engine} if self.engine != "tflite" else {}
        return {**self.device.info().identity(), **converter_versions(), **engine}

    def settings(self) -> dict[str, Any]:
        """Of ``convert`` what is looked at here."""
        looked_at = {"output", "max_relative_diff", "require_one_partition"}
        return {**super().settings(), "convert": self.convert.model_dump(mode="json", include=looked_at)}

    def check(self) -> None:
        """Raises UsageError where the precision is none for the space."""
        check_runs_in(self.space, self.runtime, one_partition=self.convert.require_one_partition)

    def estimate_seconds(self) -> float:
        """TensorFlow's start, the conversions, the rounds."""
        one_s = 2.0 + 0.15 * len(self.space.layers())
        return 12.0 + self._networks * one_s + self.device_seconds()[0]

    def device_seconds(self) -> tuple[float, float]:
        """The rounds; the anchor is timed twice in each."""
        config, overhead = self.config, self.device.overhead
        timing_ms = config.warmup_ms + config.min_ms + overhead.timing_ms
        lists = math.ceil(self._networks / TOGETHER)
        timings = 2 * self._networks + 2 * lists
        starting_ms = lists * (overhead.list_ms + overhead.process_ms)
        seconds = config.rounds * (timings * timing_ms + starting_ms) / 1000
        return seconds, seconds

    @property
    def _networks(self) -> int:
        """How many are tried; a few more where the latency stage lets some blocks be computed in parts."""
        return len(covering_networks(self.space, {}))

    def run(self, context: Context, **inputs: Any) -> Precheck:
        """Convert what is not converted yet, then time all of it.

        The latency model's reference is timed in each round, too: it shows the device's speed. Raises
        ConversionError that names the block that is not converted as it was measured.
        """
        latency: LatencyModel = inputs["latency"]
        ways = latency.implementations
        covering = [
            _Subject(f"untrained_{number}", choices, blocks)
            for number, (choices, blocks) in enumerate(covering_networks(self.space, ways), start=1)
        ]
        checked: list[PrecheckedNetwork] = []
        seconds = 0.0
        with ExitStack() as stack:
            conversions = _Conversions(self, context, ways, stack)
            for start in range(0, len(covering), TOGETHER):
                context.progress(start, len(covering), "networks")
                together = covering[start : start + TOGETHER]
                converted = {subject.name: conversions.of(subject) for subject in together}
                rounds = self._measured(context, latency, start, together, len(covering))
                checked += [self._compared(s, converted[s.name], latency, rounds) for s in together]
                seconds += rounds.rounds.seconds
        context.say(
            f"{len(checked)} untrained networks hold every kind of block of space {self.space.name}. "
            "Converted, they are made of the operators that were measured, and take "
            f"{min(n.ratio for n in checked):.3f} to {max(n.ratio for n in checked):.3f} times as long."
        )
        return Precheck(
            device=self.device.info(), runtime=self.runtime, networks=tuple(checked), seconds=seconds
        )

    def _measured(
        self, context: Context, latency: LatencyModel, start: int, together: Sequence[_Subject], of: int
    ) -> Counted:
        """Rounds of some networks' own: a model is compared with the one beside it alone."""

        def tell(rounds: int, wanted: int) -> None:
            context.progress(int(start + len(together) * rounds / wanted), of, "networks")

        own = PartOfScratch(context.scratch, f"from_{start + 1}")
        requests = self._requests(context, latency, together)
        rounds = PairedRounds(
            own,
            self.device,
            requests,
            self.seed,
            anchor=_ANCHOR,
            max_thermal_status=self.max_thermal_status,
        )
        return measured_until(rounds, Look(self.config.rounds, 1 - CONFIDENCE), tell)

    def _requests(
        self, context: Context, latency: LatencyModel, covering: Sequence[_Subject]
    ) -> dict[str, BenchmarkRequest]:
        from stages.conversion.measured import measured_network

        models = {
            _ANCHOR: measured_network(
                latency.reference.net, latency.precision, seed=self.seed, output=latency.output
            )
        }
        for subject in covering:
            for part in ("converted", "written"):
                model = context.scratch.load(f"{subject.name}.{part}")
                assert model is not None
                models[f"{subject.name}_{part}"] = model
        return {
            name: BenchmarkRequest(
                name=name,
                model=model,
                options=self.runtime,
                warmup_ms=self.config.warmup_ms,
                min_ms=self.config.min_ms,
            )
            for name, model in models.items()
        }

    def _compared(
        self, subject: _Subject, conversion: _Conversion, latency: LatencyModel, rounds: Counted
    ) -> PrecheckedNetwork:
        converted, written = (f"{subject.name}_{part}" for part in ("converted", "written"))
        ratio = rounds.ratio(converted, written)
        if ratio.low > self.config.max_ratio:
            named = ", ".join(block.key for block in subject.blocks[:_MOST_NAMED])
            raise ConversionError(
                f"an untrained network of space {self.space.name}, once converted, takes {ratio.value:.2f} "
                f"times as long ({ratio.low:.2f} to {ratio.high:.2f}) on {self.device.info().model} as the "
                f"model of it that was measured; allowed are {self.config.max_ratio:g}. It holds {named} "
                "and others.",
                hint="Predicted latencies would not hold for what ships: please report this space. To go on "
                "anyway, raise precheck.max_ratio.",
            )
        return PrecheckedNetwork(
            choices=subject.choices,
            first_of_kind=tuple(block.key for block in subject.blocks),
            predicted_ms=latency.predict_ms(self.space.network(subject.choices)),
            written=rounds.combined(written),
            converted=rounds.combined(converted),
            ratio=ratio.value,
            ratio_interval_95=ratio.interval,
            **conversion.model_dump(),
        )


@dataclass(frozen=True)
class _Subject:
    """A network to be tried, and the blocks that are the first of their kind in it."""

    name: str
    choices: tuple[int, ...]
    blocks: tuple[BlockSpec, ...]


class _Conversion(BaseModel):
    operators: int
    delegate_partitions: int
    max_relative_diff: float


@dataclass
class _Conversions:
    """Converts what an interrupted run has not converted. TensorFlow starts with the first one, once."""

    stage: PrecheckStage
    context: Context
    ways: Mapping[str, Implementation]
    stack: ExitStack
    tools: tuple[TensorflowConverter, Device] | None = None

    def of(self, subject: _Subject) -> _Conversion:
        """What is known of a network's conversion; its models are in the scratch. Raises ConversionError."""
        if (kept := _load(self.context, subject)) is not None:
            return kept
        if self.tools is None:
            from android_bench.local.device import LocalDevice
            from stages.conversion.converter import TensorflowConverter

            # First, so that TensorFlow loads while PyTorch loads and exports the first network.
            converter = self.stack.enter_context(TensorflowConverter())
            self.tools = converter, self.stack.enter_context(LocalDevice())
        from stages.conversion.trial import try_network

        limits, runtime, scratch = self.stage.convert, self.stage.runtime, self.context.scratch
        tried = try_network(
            self.stage.space.network(subject.choices),
            self.ways,
            *self.tools,
            name=subject.name,
            max_relative_diff=limits.max_relative_diff,
            one_partition=limits.require_one_partition,
            output=limits.output,
            precision=runtime.precision,
            delegate=runtime.delegate,
        )
        conversion = _Conversion(
            operators=tried.graph.operators,
            delegate_partitions=tried.graph.delegate_partitions,
            max_relative_diff=tried.max_relative_diff,
        )
        scratch.save(
            f"{subject.name}.converted", tried.onnx if self.stage.engine == "onnx" else tried.converted
        )
        scratch.save(f"{subject.name}.written", tried.written)
        scratch.save(f"{subject.name}.json", conversion.model_dump_json().encode())
        return conversion


def _load(context: Context, subject: _Subject) -> _Conversion | None:
    """What an interrupted run has converted."""
    parts = [context.scratch.load(f"{subject.name}.{part}") for part in ("converted", "written", "json")]
    if parts[0] is None or parts[1] is None or parts[2] is None:
        return None
    try:
        return _Conversion.model_validate_json(parts[2])
    except ValidationError:  # written by another version of nasflow: convert again
        return None
