"""The proof: test-set accuracy and interleaved latency of all networks, and the verdict.

This is the only stage that reads the test split, after every choice has been made. Accuracy is that of
the `.tflite` files, run on this computer (a model computes the same wherever it runs); latency is
measured on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from nasflow.base.errors import UsageError
from pipeline.artifact import Record
from pipeline.stage import TOOL, Context, Stage
from stages.data.config import DataConfig, open_dataset
from stages.documents import (
    AgainstFound,
    AgainstRandom,
    ConvertedNetwork,
    ConvertedNetworks,
    LatencyModel,
    PrunedNetworks,
    Verification,
    VerifiedNetwork,
)
from stages.measurement.paired import PairedRounds
from stages.space.search_space import NetConfig
from stages.verification.answers import correct_answers
from stages.verification.prediction import evaluate_latency, not_as_expected, verdict
from stages.verification.statistics import (
    Contender,
    EqualAccuracy,
    difference_from_mean,
    equal_accuracy_speedup,
    latency_ratio,
    paired_difference,
    wilson_interval,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class VerifyConfig(Record):
    """How the networks are measured, and what the found one must reach."""

    max_ratio: float | None = Field(
        None,
        gt=0,
        le=10,
        examples=[0.55],
        description="the gate: highest allowed latency of the found network over the reference's; set: "
        "'nasflow run' exits with 0 (pass), 1 (fail) or 3 (inconclusive); unset: figures, no verdict",
    )
    rounds: int = Field(
        12, ge=3, le=1000, description="rounds in which every network is timed once, in random order"
    )
    max_rounds: int = Field(
        48, ge=3, le=1000, description="go on up to so many rounds while the ratio is not precise enough"
    )
    precision_percent: float = Field(
        2.0,
        gt=0,
        le=50,
        description="precise enough: half the width of the ratio's 95 % interval, in percent",
    )
    min_ms: float = Field(
        60.0,
        gt=0,
        le=60_000,
        description="milliseconds of counted runs in each timing: longer than elsewhere, for this is the "
        "proof",
    )
    warmup_ms: float = Field(
        20.0, ge=0, le=60_000, description="milliseconds of uncounted runs before each timing"
    )
    published_counts: bool = Field(
        False, description="the MobileNetV2s of published_widths may be the reference, too"
    )


@dataclass(frozen=True)
class Verify(Stage):
    """Measure all converted networks side by side, and compare at equal accuracy."""

    name: ClassVar[str] = "verify"
    version: ClassVar[int] = 6
    inputs: ClassVar[Mapping[str, str]] = {"converted": "convert", "latency": "latency", "pruned": "prune"}
    output: ClassVar[type[Verification]] = Verification

    config: VerifyConfig
    data: DataConfig
    runtime: RuntimeOptions
    seed: int
    device: Device = field(metadata=TOOL)
    networks: int = field(default=6, metadata=TOOL)
    """How many are expected, for the estimate."""

    def environment(self) -> Mapping[str, str]:
        """The device, the images, and the runtime of this computer that says what the networks answer."""
        from android_bench.local.device import LocalDevice

        return {
            **self.device.info().identity(),
            **open_dataset(self.data).identity(),
            "accuracy_runtime": LocalDevice().info().runtime,
        }

    def check_files(self) -> None:
        """Raises DatasetMissingError where the images' folder does not hold what is read."""
        open_dataset(self.data).check_folder("test")

    def estimate_seconds(self) -> float:
        """The rounds, and the networks' answers."""
        return self.device_seconds()[0] + self.networks * 5.0

    def device_seconds(self) -> tuple[float, float]:
        """The rounds."""
        config, overhead = self.config, self.device.overhead
        timing_ms = config.warmup_ms + config.min_ms + overhead.timing_ms
        one_round_s = ((self.networks + 1) * timing_ms + overhead.list_ms) / 1000
        return config.rounds * one_round_s, max(config.rounds, config.max_rounds) * one_round_s

    def run(self, context: Context, **inputs: Any) -> Verification:
        """Answers first, then rounds until the ratio is sure enough, then the verdict.

        The latency model's reference is timed in each round, too: it shows the device's speed.
        Raises UsageError where there is nothing to compare, DeviceError where a model or the device
        answers with nonsense.
        """
        from android_bench.local.device import LocalDevice
        from stages.conversion.flatbuffer import network_model

        converted: ConvertedNetworks = inputs["converted"]
        latency: LatencyModel = inputs["latency"]
        pruned: PrunedNetworks = inputs["pruned"]
        found, rivals = _the_found_one(converted), self._rivals(converted)
        with LocalDevice() as here:
            correct, answer_seconds = correct_answers(
                context, converted.networks, open_dataset(self.data).load("test"), here
            )
        requests = {
            network.name: self._request(network.name, context.store.read_bytes(network.file().blob))
            for network in converted.networks
        }
        anchor = f"{latency.reference.name}+anchor"
        requests[anchor] = self._request(anchor, network_model(latency.reference.net, seed=self.seed))
        rounds = PairedRounds(context.scratch, self.device, requests, self.seed)
        outcome = self._measure_until_sure(context, found, rivals, correct, rounds)
        found_latency = evaluate_latency(
            next(network.net for network in converted.networks if network.name == found),
            pruned.found.target_ms,
            latency,
            rounds.medians_ms(found),
            rounds.medians_ms(anchor),
        )
        if wrong := not_as_expected(found_latency):
            context.warn(
                f"{wrong} The latency model that it was chosen by can be measured again; search and training "
                "must then be repeated: nasflow run --force profile --force latency."
            )
        return Verification(
            device=self.device.info(),
            runtime=self.runtime,
            test_images=len(correct[found]),
            networks=tuple(
                _verified(context, network, correct, rounds, found, latency) for network in converted.networks
            ),
            reference=outcome.reference,
            reference_reason=outcome.reason,
            ratio=outcome.ratio.value,
            ratio_interval_95=outcome.ratio.interval,
            equal_accuracy_speedup=outcome.speedup.value,
            equal_accuracy_speedup_interval_95=outcome.speedup.interval,
            against_random=_against_random(converted, found, correct, rounds, latency),
            anchor=latency.reference.model_copy(update={"measurement": rounds.combined(anchor)}),
            found_latency=found_latency,
            max_ratio=self.config.max_ratio,
            verdict=verdict(outcome.ratio, self.config.max_ratio, found_latency),
            rounds=len(rounds),
            seconds=answer_seconds + rounds.seconds,
        )

    def _rivals(self, converted: ConvertedNetworks) -> list[str]:
        roles = ("baseline", "baseline_published") if self.config.published_counts else ("baseline",)
        rivals = [network.name for network in converted.networks if network.role in roles]
        if not rivals:
            raise UsageError(
                "verify has no MobileNetV2 with the space's strides to compare the found network with.",
                hint="Give baseline.widths at least one width, or set verify.published_counts.",
            )
        return rivals

    def _request(self, name: str, model: bytes) -> BenchmarkRequest:
        return BenchmarkRequest(
            name=name,
            model=model,
            options=self.runtime,
            warmup_ms=self.config.warmup_ms,
            min_ms=self.config.min_ms,
        )

    def _measure_until_sure(
        self,
        context: Context,
        found: str,
        rivals: Sequence[str],
        correct: Mapping[str, NDArray[np.bool_]],
        rounds: PairedRounds,
    ) -> EqualAccuracy:
        """Stop when the interval is narrow, never because it is favourable: that would bias it."""
        config = self.config
        wanted, most = config.rounds, max(config.rounds, config.max_rounds)
        while True:
            while len(rounds) < wanted:
                rounds.measure()
                context.progress(len(rounds), wanted, "rounds")
            first, *others = (
                Contender(name, correct[name], rounds.medians_ms(name)) for name in (found, *rivals)
            )
            outcome = equal_accuracy_speedup(first, others)
            unsure_percent = 50 * (outcome.ratio.high - outcome.ratio.low) / outcome.ratio.value
            if unsure_percent <= config.precision_percent:
                return outcome
            if len(rounds) >= most:
                context.warn(
                    f"after {len(rounds)} rounds the latency ratio is known to ±{unsure_percent:.1f} %, "
                    f"not to ±{config.precision_percent:g} %: other programs (or heat) disturb the device. "
                    "Close them, let it cool, and run 'nasflow run --force verify'."
                )
                return outcome
            wanted = min(most, len(rounds) + max(1, config.rounds // 2))


def _the_found_one(converted: ConvertedNetworks) -> str:
    names = [network.name for network in converted.networks]
    found = [network.name for network in converted.networks if network.role == "found"]
    if len(found) != 1 or len(set(names)) != len(names):
        raise UsageError(
            f"verify needs one found network and networks of different names, and was given {names}.",
            hint="Repeat these stages: nasflow run --from prune.",
        )
    return found[0]


def _verified(
    context: Context,
    network: ConvertedNetwork,
    correct: Mapping[str, NDArray[np.bool_]],
    rounds: PairedRounds,
    found: str,
    latency: LatencyModel,
) -> VerifiedNetwork:
    import numpy as np

    bits = correct[network.name]
    accuracy = wilson_interval(int(bits.sum()), len(bits))
    return VerifiedNetwork(
        name=network.name,
        role=network.role,
        net=network.net,
        origin=network.origin,
        images_seen=network.images_seen,
        validation_accuracy_percent=network.validation_accuracy_percent,
        accuracy_percent=100 * accuracy.value,
        accuracy_interval_95=(100 * accuracy.low, 100 * accuracy.high),
        predicted_ms=_prediction(network.net, latency),
        measurement=rounds.combined(network.name),
        parameters=network.net.parameters,
        macs=network.net.macs,
        against_found=None if network.name == found else _against(network.name, found, correct, rounds),
        model=network.file().blob,
        correct=context.store.put_bytes(np.packbits(bits).tobytes(), ".bits"),
    )


def _against(
    name: str, found: str, correct: Mapping[str, NDArray[np.bool_]], rounds: PairedRounds
) -> AgainstFound:
    difference = paired_difference(correct[name], correct[found])
    ratio = latency_ratio(rounds.medians_ms(name), rounds.medians_ms(found))
    return AgainstFound(
        accuracy_points=100 * difference.value,
        accuracy_points_interval_95=(100 * difference.low, 100 * difference.high),
        latency_ratio=ratio.value,
        latency_ratio_interval_95=ratio.interval,
    )


def _against_random(
    converted: ConvertedNetworks,
    found: str,
    correct: Mapping[str, NDArray[np.bool_]],
    rounds: PairedRounds,
    latency: LatencyModel,
) -> AgainstRandom | None:
    import numpy as np

    drawn = [network for network in converted.networks if network.role == "random"]
    if not drawn:
        return None
    difference = difference_from_mean(correct[found], np.stack([correct[network.name] for network in drawn]))
    (own_ms,) = (latency.predict_ms(n.net) for n in converted.networks if n.name == found)
    predicted = [latency.predict_ms(network.net) / own_ms for network in drawn]
    by_round = zip(*(rounds.medians_ms(network.name) for network in drawn), strict=True)
    measured = latency_ratio([fmean(times_ms) for times_ms in by_round], rounds.medians_ms(found))
    return AgainstRandom(
        networks=len(drawn),
        accuracy_points=100 * difference.value,
        accuracy_points_interval_95=(100 * difference.low, 100 * difference.high),
        predicted_ratio=fmean(predicted),
        predicted_ratio_range=(min(predicted), max(predicted)),
        latency_ratio=measured.value,
        latency_ratio_interval_95=measured.interval,
    )


def _prediction(net: NetConfig, latency: LatencyModel) -> float | None:
    """None where the network has a block that the space does not (MobileNetV2's have)."""
    if any(block.key not in latency.block_ms for block in net.blocks):
        return None
    return latency.predict_ms(net)
