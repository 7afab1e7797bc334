"""The proof: test-set accuracy and interleaved latency of all networks, and the verdict.

This is the only stage that reads the test split, after every choice has been made. Accuracy is that of
the `.tflite` files, run on this computer (a model computes the same wherever it runs); latency is
measured on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from nasflow.base.errors import UsageError
from pipeline.artifact import Record
from pipeline.stage import TOOL, Context, Stage
from stages.data.config import DataConfig, open_dataset
from stages.documents import (
    ConvertedNetworks,
    LatencyModel,
    ModelFile,
    Precision,
    PrunedNetworks,
    Verification,
)
from stages.measurement.paired import PairedRounds
from stages.verification.answers import answers_of, class_bytes
from stages.verification.counted import Counted, counting_at
from stages.verification.estimate import Estimate
from stages.verification.prediction import evaluate_latency, not_as_expected, verdict
from stages.verification.rivals import accuracy_relation, counting
from stages.verification.sequential import planned_looks
from stages.verification.statistics import Contender, EqualAccuracy, equal_accuracy_speedup

if TYPE_CHECKING:
    from stages.data.dataset import Images
    from stages.verification.side_by_side import Tested


_ENGINE_IMAGES = 16
"""Test images on which another engine's answers are held against LiteRT's."""


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
        12,
        ge=3,
        le=1000,
        description="rounds before the first look at the ratio; in each, every network is timed once, in "
        "random order. One that saw throttling or sleep is measured again",
    )
    max_rounds: int = Field(
        48,
        ge=3,
        le=1000,
        description="go on up to so many rounds while the ratio is neither decided by max_ratio nor precise "
        "enough; the error of the interval is shared by the looks",
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
        20.0,
        ge=0,
        le=60_000,
        description="milliseconds of uncounted runs before each timing; ten runs at least, on this computer "
        "while they take less than 100 ms",
    )
    published_counts: bool = Field(
        False, description="the MobileNetV2s of published_widths may be the reference, too"
    )
    equal_points: float = Field(
        3.0,
        gt=0,
        le=100,
        description="equal accuracy: the found network's is less than the reference's by so many percentage "
        "points at most (95 % interval of the paired difference); where the test images cannot tell, that is "
        "said, and the verdict is not pass",
    )


@dataclass(frozen=True)
class Verify(Stage):
    """Measure all converted networks side by side, and compare at equal accuracy."""

    name: ClassVar[str] = "verify"
    version: ClassVar[int] = 15
    inputs: ClassVar[Mapping[str, str]] = {"converted": "convert", "latency": "latency", "pruned": "prune"}
    output: ClassVar[type[Verification]] = Verification

    config: VerifyConfig
    data: DataConfig
    runtime: RuntimeOptions
    seed: int
    device: Device = field(metadata=TOOL)
    networks: int = field(default=6, metadata=TOOL)
    """How many are expected, for the estimate."""
    measurable: tuple[Precision, ...] = field(default=get_args(Precision), metadata=TOOL)
    """Precisions that the device runs, which is part of its identity; files in others are left out."""
    max_thermal_status: int = field(default=0, metadata=TOOL)
    """The highest at which a phone may be measured."""
    engine: Literal["tflite", "onnx"] = field(default="tflite", metadata=TOOL)
    """Which of a network's float32 models the device is given: its file, or what that was converted from."""

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
        """The rounds; a disturbed device is measured longer. The anchor is timed twice in each."""
        config, overhead = self.config, self.device.overhead
        timing_ms = config.warmup_ms + config.min_ms + overhead.timing_ms
        one_round_s = ((self.networks + 2) * timing_ms + overhead.list_ms + overhead.process_ms) / 1000
        return config.rounds * one_round_s, max(config.rounds, config.max_rounds) * one_round_s

    def run(self, context: Context, **inputs: Any) -> Verification:
        """Answers first, then rounds until the ratio is sure enough, then the verdict.

        The latency model's reference is timed in each round, too: it shows the device's speed.
        Raises UsageError where there is nothing to compare, DeviceError where a model or the device
        answers with nonsense.
        """
        from android_bench.local.device import LocalDevice
        from stages.conversion.measured import measured_network
        from stages.verification.classes import majority_share
        from stages.verification.files import verified_files
        from stages.verification.images import images_report
        from stages.verification.side_by_side import Comparison, Tested
        from stages.verification.surest import surest

        converted: ConvertedNetworks = inputs["converted"]
        latency: LatencyModel = inputs["latency"]
        pruned: PrunedNetworks = inputs["pruned"]
        found, rivals = _the_found_one(converted), self._rivals(converted)
        precision = latency.precision
        files = {network.name: network.file(precision) for network in converted.networks}
        files_of_found = _files_of(converted, found, precision)
        shown = {n: file for n, file in files_of_found.items() if file.precision in self.measurable}
        if left_out := sorted(files_of_found.keys() - shown.keys()):
            runtime = self.device.info().runtime
            runs = " and ".join(self.measurable)
            context.say(f"not measured, as {runtime} runs {runs} alone: {', '.join(left_out)}.")
        others = {name: file for name, file in shown.items() if name not in files}
        dataset = open_dataset(self.data)
        test = dataset.load("test")
        with LocalDevice() as here:
            answers, answer_seconds = answers_of(context, files | others, test, here)
        tested = Tested(
            len(dataset.class_names), test.labels, {name: given.classes_N for name, given in answers.items()}
        )
        models = {name: context.store.read_bytes(file.blob) for name, file in (files | others).items()}
        if self.engine == "onnx":
            models |= self._exported(context, converted, models, test)
        requests = {name: self._request(name, model) for name, model in models.items()}
        anchor = f"{latency.reference.name}+anchor"
        requests[anchor] = self._request(
            anchor,
            measured_network(latency.reference.net, latency.precision, seed=self.seed, output=latency.output),
        )
        rounds = PairedRounds(
            context.scratch,
            self.device,
            requests,
            self.seed,
            anchor=anchor,
            max_thermal_status=self.max_thermal_status,
        )
        outcome, counted = self._measure_until_sure(context, converted, tested, rounds)
        comparison = Comparison(tested, counted, latency, found, outcome.reference, rivals, precision)
        found_latency = evaluate_latency(
            next(network.net for network in converted.networks if network.name == found),
            pruned.found.target_ms,
            latency,
            counted.medians_ms(found),
            counted.medians_ms(anchor),
            counted.error,
            (counted.resolution_ms(found), counted.resolution_ms(anchor)),
        )
        if wrong := not_as_expected(found_latency):
            # What disturbs a device slows short and long networks differently, which no interval tells.
            first = (
                "Other programs disturbed this comparison: repeat it first (nasflow run --force verify). If "
                "that says the same: the"
                if not counted.enough or _unsure_percent(outcome.ratio) > self.config.precision_percent
                else "The"
            )
            context.warn(
                f"{wrong} {first} latency model that it was chosen by can be measured again; search and "
                "training must then be repeated: nasflow run --force profile --force latency."
            )
        surest_right, surest_wrong = surest(answers[found], tested.labels_N)
        return Verification(
            device=self.device.info(),
            runtime=self.runtime,
            test_images=len(test),
            majority_percent=100 * majority_share(tested.images_K),
            labels=context.store.put_bytes(class_bytes(tested.labels_N), ".labels"),
            images=images_report(dataset, self.data, tested.images_K.tolist()),
            equal_points=self.config.equal_points,
            networks=tuple(comparison.verified(network, context.store) for network in converted.networks),
            precisions=verified_files(shown, answers, tested, counted, context.store),
            reference=outcome.reference,
            reference_reason=outcome.reason,
            ratio=outcome.ratio.value,
            ratio_interval_95=outcome.ratio.interval,
            equal_accuracy_speedup=outcome.speedup.value,
            equal_accuracy_speedup_interval_95=outcome.speedup.interval,
            against_random=comparison.against_random(converted.networks),
            anchor=latency.reference.model_copy(update={"measurement": counted.combined(anchor)}),
            found_latency=found_latency,
            surest_right=surest_right,
            surest_wrong=surest_wrong,
            conditions=rounds.conditions(),
            max_ratio=self.config.max_ratio,
            verdict=verdict(
                outcome.ratio,
                self.config.max_ratio,
                found_latency,
                accuracy_relation(
                    -100 * outcome.difference.high, -100 * outcome.difference.low, self.config.equal_points
                ),
                disturbed=not counted.enough,
            ),
            rounds=len(counted),
            rounds_dropped=counted.disturbed,
            disturbed=not counted.enough,
            interval_error=counted.error,
            seconds=answer_seconds + rounds.seconds,
        )

    def _exported(
        self, context: Context, converted: ConvertedNetworks, models: Mapping[str, bytes], test: Images
    ) -> dict[str, bytes]:
        """Each network's ONNX model, which answers a few test images as its file does.

        Raises ConversionError where it does not, UsageError where an earlier version has kept none.
        """
        from android_bench.local.device import LocalDevice
        from stages.conversion.config import ConvertConfig
        from stages.conversion.onnx_output import check_onnx_answers
        from stages.conversion.parity import Tolerance, evenly_spaced

        images_NHWC = test.batch_NHWC(evenly_spaced(len(test), _ENGINE_IMAGES))
        limits = ConvertConfig()
        tolerance = Tolerance(
            max_relative_diff=limits.max_relative_diff,
            min_top1_agreement_percent=limits.min_top1_agreement_percent,
            min_snr_db=limits.min_snr_db,
        )
        exported = {}
        with LocalDevice() as here:
            for network in converted.networks:
                if network.onnx is None:
                    raise UsageError(
                        f"the ONNX model of network {network.name} was not kept.",
                        hint="Convert again: nasflow run --force convert.",
                    )
                name = network.name
                exported[name] = context.store.read_bytes(network.onnx)
                check_onnx_answers(
                    exported[name], models[name], images_NHWC, self.device, here, tolerance, name=name
                )
        return exported

    def _rivals(self, converted: ConvertedNetworks) -> list[str]:
        """The names of those that may be the reference. Raises UsageError where there are none."""
        rivals = counting(converted.networks, published=self.config.published_counts)
        if rivals:
            return rivals
        if any(network.role == "baseline" for network in converted.networks):
            raise UsageError(
                "the found network starts from pretrained weights, and no network to compare it with does: "
                "MobileNetV2s from random weights are no fair reference.",
                hint="Let the space's full network be trained, too: nasflow run --from baseline.",
            )
        raise UsageError(
            "verify has no MobileNetV2 with the space's strides to compare the found network with.",
            hint="Give baseline.widths at least one width, or set verify.published_counts.",
        )

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
        converted: ConvertedNetworks,
        tested: Tested,
        rounds: PairedRounds,
    ) -> tuple[EqualAccuracy, Counted]:
        """Rounds up to each planned look, as in a gate, until the interval says enough.

        It does where it is narrow, and where it lies wholly on one side of the gate: looks share the error,
        so that whoever stops at any of them is right as often as is said.
        """
        config, found, rivals = self.config, _the_found_one(converted), self._rivals(converted)
        roles = {network.role for network in converted.networks if network.name in rivals}
        kind = "reference with pretrained weights" if "full" in roles else "MobileNetV2"
        looks = planned_looks(config.rounds, max(config.rounds, config.max_rounds))
        for look in looks:
            while (at_look := counting_at(rounds, look)) is None:
                rounds.measure()
                context.progress(min(len(rounds), look.blocks), look.blocks, "rounds")
            counted = at_look
            first, *others = (
                Contender(name, tested.correct(name), counted.medians_ms(name), counted.resolution_ms(name))
                for name in (found, *rivals)
            )
            outcome = equal_accuracy_speedup(first, others, kind, look.error)
            unsure_percent = _unsure_percent(outcome.ratio)
            decided = config.max_ratio is not None and not outcome.ratio.holds(config.max_ratio)
            if decided or unsure_percent <= config.precision_percent or not counted.enough:
                break
        if not counted.enough:
            context.warn(
                f"{counted.disturbed} of {len(rounds)} rounds saw the device throttled, asleep or slower "
                "than usual: too few are left to compare by. All are shown, and nothing is decided. "
                "Let it cool, close other programs, and run 'nasflow run --force verify'."
            )
        elif unsure_percent > config.precision_percent and not decided:
            context.warn(
                f"after {len(counted)} rounds that count the latency ratio is known to "
                f"±{unsure_percent:.1f} %, not to ±{config.precision_percent:g} %: other programs (or heat) "
                "disturb the device. Close them, let it cool, and run 'nasflow run --force verify'."
            )
        return outcome, counted


def _unsure_percent(ratio: Estimate) -> float:
    """Half the width of its interval, in percent of it."""
    return 50 * (ratio.high - ratio.low) / ratio.value


def _files_of(converted: ConvertedNetworks, found: str, precision: Precision) -> dict[str, ModelFile]:
    """The found network's files by what they are called; the one that is compared has the network's name."""
    files = next(network.files for network in converted.networks if network.name == found)
    return {found if f.precision == precision else f"{found}+{f.precision}": f for f in files}


def _the_found_one(converted: ConvertedNetworks) -> str:
    names = [network.name for network in converted.networks]
    found = [network.name for network in converted.networks if network.role == "found"]
    if len(found) != 1 or len(set(names)) != len(names):
        raise UsageError(
            f"verify needs one found network and networks of different names, and was given {names}.",
            hint="Repeat these stages: nasflow run --from prune.",
        )
    return found[0]
