"""Before anything is trained: is every kind of block of the space converted as it was measured?

A few untrained networks that hold every kind go through the whole conversion and are timed beside the
directly written models, which are what the latency model stands for. What cannot be converted, or becomes
something else, would otherwise be known when all training is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, Field, ValidationError

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from nasflow.errors import ConversionError
from pipeline.artifact import Record
from pipeline.stage import TOOL, Context, Stage
from stages.convert import ConvertConfig, converter_versions
from stages.documents import LatencyModel, Precheck, PrecheckedNetwork
from stages.search_space import BlockSpec, Implementation, SearchSpace
from stages.statistics import latency_ratio
from stages.verification.rounds import Rounds

_NETWORKS = 3  # as many as the shipped spaces need; for an estimate
_MOST_NAMED = 3


class PrecheckConfig(Record):
    """How converted models are timed, and what they must keep."""

    max_ratio: float = Field(
        1.15,
        gt=1,
        le=10,
        description="refuse a converted model that takes longer than so many times the measured one",
    )
    rounds: int = Field(6, ge=3, le=1000, description="rounds in which each of both is timed once")
    min_ms: float = Field(20.0, gt=0, le=60_000, description="counted invocations of a model in a round")
    warmup_ms: float = Field(3.0, ge=0, le=60_000, description="uncounted invocations before them")


@dataclass(frozen=True)
class PrecheckStage(Stage):
    """Convert and time untrained networks that hold every kind of block."""

    name: ClassVar[str] = "precheck"
    version: ClassVar[int] = 1
    inputs: ClassVar[Mapping[str, str]] = {"latency": "latency"}
    output: ClassVar[type[Precheck]] = Precheck

    config: PrecheckConfig
    convert: ConvertConfig
    space: SearchSpace
    runtime: RuntimeOptions
    seed: int
    device: Device = field(metadata=TOOL)

    def environment(self) -> Mapping[str, str]:
        """The device, and the packages that convert."""
        return {**self.device.info().identity(), **converter_versions()}

    def settings(self) -> dict[str, Any]:
        """Of ``convert`` what is looked at here."""
        looked_at = {"max_relative_diff", "require_one_partition"}
        return {**super().settings(), "convert": self.convert.model_dump(mode="json", include=looked_at)}

    def estimate_seconds(self) -> float:
        """TensorFlow's start, the conversions, the rounds."""
        return 12.0 + _NETWORKS * 5.0 + self.device_seconds()[0]

    def device_seconds(self) -> tuple[float, float]:
        """The rounds."""
        config, overhead = self.config, self.device.overhead
        timing_ms = config.warmup_ms + config.min_ms + overhead.timing_ms
        seconds = config.rounds * (2 * _NETWORKS * timing_ms + overhead.list_ms) / 1000
        return seconds, seconds

    def run(self, context: Context, **inputs: Any) -> Precheck:
        """Convert what is not converted yet, then time all of it.

        Raises ConversionError that names the block that is not converted as it was measured.
        """
        from stages.conversion.covering import covering_networks

        latency: LatencyModel = inputs["latency"]
        ways = latency.implementations
        covering = [
            _Subject(f"untrained_{number}", choices, blocks)
            for number, (choices, blocks) in enumerate(covering_networks(self.space, ways), start=1)
        ]
        kept = {subject.name: _load(context, subject) for subject in covering}
        if None in kept.values():
            kept = self._convert(context, covering, ways, kept)
        rounds = Rounds(context, self.device, self._requests(context, covering), self.seed)
        while len(rounds) < self.config.rounds:
            rounds.measure()
            context.progress(len(rounds), self.config.rounds, "rounds")
        checked = []
        for subject in covering:
            conversion = kept[subject.name]
            assert conversion is not None
            checked.append(self._judged(subject, conversion, latency, rounds))
        context.say(
            f"{len(checked)} untrained networks hold every kind of block of space {self.space.name}. "
            "Converted, they are made of the operators that were measured, and take "
            f"{min(n.ratio for n in checked):.3f} to {max(n.ratio for n in checked):.3f} times as long."
        )
        return Precheck(
            device=self.device.info(), runtime=self.runtime, networks=tuple(checked), seconds=rounds.seconds
        )

    def _convert(
        self,
        context: Context,
        covering: Sequence[_Subject],
        ways: Mapping[str, Implementation],
        kept: Mapping[str, _Conversion | None],
    ) -> dict[str, _Conversion | None]:
        from android_bench.local import LocalDevice
        from stages.conversion.converter import TensorflowConverter

        done = dict(kept)
        with ExitStack() as stack:
            converter = stack.enter_context(TensorflowConverter())
            here = stack.enter_context(LocalDevice())
            from stages.conversion.trial import try_network

            for place, subject in enumerate(covering):
                context.progress(place, len(covering), "networks", subject.name)
                if done[subject.name] is not None:
                    continue
                tried = try_network(
                    self.space.network(subject.choices),
                    ways,
                    converter,
                    here,
                    name=subject.name,
                    max_relative_diff=self.convert.max_relative_diff,
                    one_partition=self.convert.require_one_partition,
                )
                conversion = _Conversion(
                    operators=tried.structure.operators,
                    delegate_partitions=tried.structure.delegate_partitions,
                    max_relative_diff=tried.max_relative_diff,
                )
                context.scratch.save(f"{subject.name}.converted", tried.converted)
                context.scratch.save(f"{subject.name}.written", tried.written)
                context.scratch.save(f"{subject.name}.json", conversion.model_dump_json().encode())
                done[subject.name] = conversion
        context.progress(len(covering), len(covering), "networks")
        return done

    def _requests(self, context: Context, covering: Sequence[_Subject]) -> dict[str, BenchmarkRequest]:
        requests = {}
        for subject in covering:
            for part in ("converted", "written"):
                model = context.scratch.load(f"{subject.name}.{part}")
                assert model is not None
                requests[f"{subject.name}_{part}"] = BenchmarkRequest(
                    name=f"{subject.name}_{part}",
                    model=model,
                    options=self.runtime,
                    warmup_ms=self.config.warmup_ms,
                    min_ms=self.config.min_ms,
                )
        return requests

    def _judged(
        self, subject: _Subject, conversion: _Conversion, latency: LatencyModel, rounds: Rounds
    ) -> PrecheckedNetwork:
        converted, written = (f"{subject.name}_{part}" for part in ("converted", "written"))
        ratio = latency_ratio(rounds.medians_ms(converted), rounds.medians_ms(written))
        if ratio.low > self.config.max_ratio:
            named = ", ".join(block.key for block in subject.blocks[:_MOST_NAMED])
            raise ConversionError(
                f"an untrained network of space {self.space.name}, once converted, takes {ratio.value:.2f} "
                f"times as long ({ratio.low:.2f} to {ratio.high:.2f}) on {self.device.info().model} as the "
                f"model of it that was measured; allowed are {self.config.max_ratio:g}. It holds {named} "
                "and others.",
                hint="Predicted latencies would not hold for what ships: please report this space. To go on "
                "all the same, raise precheck.max_ratio.",
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


def _load(context: Context, subject: _Subject) -> _Conversion | None:
    """What an interrupted run has converted."""
    parts = [context.scratch.load(f"{subject.name}.{part}") for part in ("converted", "written", "json")]
    if parts[0] is None or parts[1] is None or parts[2] is None:
        return None
    try:
        return _Conversion.model_validate_json(parts[2])
    except ValidationError:  # written by another version of nasflow: convert again
        return None
