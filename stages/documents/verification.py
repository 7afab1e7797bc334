"""Output of ``verify``: what the networks are on test images and on the device."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from android_bench.device import Conditions, DeviceInfo, LatencyMeasurement, RuntimeOptions
from pipeline.artifact import Blob, Document, Record
from stages.documents.images import ImagesReport
from stages.documents.latency import ReferenceLatency
from stages.documents.origin import ElementType, Origin, Precision, PretrainedFrom, Role
from stages.space.equal_latency import equal_latency
from stages.space.search_space import NetConfig

Verdict = Literal["ungated", "pass", "fail", "inconclusive"]


class FoundLatency(Record):
    """The found network's time against its prediction and its target.

    ``ms`` is at the speed that predictions stand for: measured against the latency model's reference, round
    by round. It leaves an interval where its own lies wholly outside.
    """

    ms: float
    interval_95: tuple[float, float]
    predicted_ms: float
    predicted_interval_95: tuple[float, float]
    target_ms: float
    prediction: Literal["holds", "slower", "faster"]
    target: Literal["kept", "missed"]


class AgainstFound(Record):
    """A network beside the found one: same test images, same interleaved rounds.

    ``accuracy_points`` is the network's accuracy minus the found network's in percentage points,
    ``latency_ratio`` its latency over the found network's.
    """

    accuracy_points: float
    accuracy_points_interval_95: tuple[float, float]
    only_correct: int | None = Field(
        default=None, description="images on which it alone is right; None: an earlier version"
    )
    only_found_correct: int | None = Field(default=None, description="on which the found network alone is")
    balanced_points: float | None = Field(
        default=None, description="the same difference of balanced accuracies; None: an earlier version"
    )
    balanced_points_interval_95: tuple[float, float] | None = None
    latency_ratio: float
    latency_ratio_interval_95: tuple[float, float]


class AgainstRandom(Record):
    """The found network beside so many random ones of equal predicted latency: same test images and rounds.

    ``accuracy_points`` is the found network's accuracy minus the mean of theirs, in percentage points. Of
    several, the interval holds for other random networks of that latency, too. ``predicted_ratio`` is the
    mean of their predicted latencies over the found network's, ``latency_ratio`` that of the measured ones.
    """

    networks: int = Field(ge=1)
    accuracy_points: float
    accuracy_points_interval_95: tuple[float, float]
    predicted_ratio: float = Field(gt=0)
    predicted_ratio_range: tuple[float, float] = Field(description="the least and the greatest of theirs")
    latency_ratio: float = Field(gt=0)
    latency_ratio_interval_95: tuple[float, float]

    @property
    def in_band(self) -> bool:
        """Whether each of them is predicted to take as long as the found network."""
        return all(map(equal_latency, self.predicted_ratio_range))

    @property
    def comparable(self) -> bool:
        """Whether a difference in accuracy says anything: they were to take equally long, and they did."""
        return self.in_band and equal_latency(self.latency_ratio)


class VerifiedNetwork(Record):
    """A network's figures on the test set and on the device. Accuracies in percent, time in ms."""

    name: str
    role: Role
    net: NetConfig
    origin: Origin
    pretrained: PretrainedFrom = None
    counts: bool | None = Field(
        default=None,
        description="whether the found network is compared with it for the speed-up at equal accuracy; None "
        "for networks that are no reference, and in documents of before it was kept",
    )
    images_seen: int
    validation_accuracy_percent: float
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    balanced_accuracy_percent: float | None = Field(
        default=None, description="mean of the classes' accuracies; None: an earlier version"
    )
    balanced_accuracy_interval_95: tuple[float, float] | None = None
    correct_by_class: tuple[int, ...] = Field(
        default=(), description="test images of each class that it classifies correctly"
    )
    confusion: tuple[tuple[int, int, int], ...] | None = Field(
        default=None,
        description="of the found network and the reference: (class, answered class, images), without zeros",
    )
    predicted_ms: float | None
    measurement: LatencyMeasurement
    parameters: int
    macs: int
    against_found: AgainstFound | None = Field(default=None, description="None for the found network")
    model: Blob
    correct: Blob = Field(description="one bit per test image, in order, most significant bit first")
    answers: Blob | None = Field(
        default=None,
        description="index of the class that it answers for each test image, uint16, little endian",
    )


class SureAnswer(Record):
    """What the found network answers for one test image, of which it is very sure.

    ``image``: its place among the test images, from 0; ``label`` and ``answer``: indices of classes.
    """

    image: int = Field(ge=0)
    label: int = Field(ge=0)
    answer: int = Field(ge=0)
    probability: float = Field(ge=0, le=1, description="which it gives its answer")


class VerifiedFile(Record):
    """The found network's file in one precision, on all test images and on the device.

    ``accuracy_points`` is its accuracy minus the float32 file's in percentage points, on the same images;
    ``latency_ratio`` its latency over that file's, in the same rounds. Both None for the float32 file.
    """

    precision: Precision
    input_type: ElementType
    model: Blob
    fine_tuned: bool
    operators: int
    delegate_partitions: int
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    accuracy_points: float | None
    accuracy_points_interval_95: tuple[float, float] | None
    calibration_error_percent: float = Field(
        description="expected calibration error of its probabilities in 15 bins"
    )
    measurement: LatencyMeasurement
    latency_ratio: float | None
    latency_ratio_interval_95: tuple[float, float] | None
    correct: Blob | None = Field(
        default=None, description="one bit per test image, as a network's; None: an earlier version"
    )


class Verification(Document):
    """Output of ``verify``. ``ratio`` is the found network's latency over the reference's."""

    schema_version: int = 7
    device: DeviceInfo
    runtime: RuntimeOptions
    test_images: int
    majority_percent: float | None = Field(
        default=None, description="accuracy of always answering the most frequent class of the test images"
    )
    labels: Blob | None = Field(
        default=None, description="index of each test image's class, uint16, little endian, in order"
    )
    images: ImagesReport | None = Field(default=None, description="None: an earlier version")
    equal_points: float | None = Field(
        default=None,
        description="accuracies are called equal where the found network's is less by so many points at "
        "most; "
        "None: an earlier version",
    )
    networks: tuple[VerifiedNetwork, ...]
    precisions: tuple[VerifiedFile, ...] = Field(
        default=(), description="the found network's files; the first is float32"
    )
    reference: str
    reference_reason: str
    ratio: float
    ratio_interval_95: tuple[float, float]
    equal_accuracy_speedup: float
    equal_accuracy_speedup_interval_95: tuple[float, float]
    against_random: AgainstRandom | None = Field(default=None, description="None without random networks")
    anchor: ReferenceLatency | None = Field(default=None, description="timed between them; None: not then")
    found_latency: FoundLatency | None = Field(
        default=None, description="None where it was not compared (by an earlier version)"
    )
    surest_right: tuple[SureAnswer, ...] = Field(
        default=(), description="the found network's right answers of which it is surest, one of a class"
    )
    surest_wrong: tuple[SureAnswer, ...] = Field(
        default=(), description="its wrong answers of which it is surest"
    )
    conditions: tuple[Conditions, ...] = Field(
        default=(), description="the device's state beside the timings, in order of time"
    )
    max_ratio: float | None
    verdict: Verdict
    rounds: int = Field(description="that all figures are of: those that count")
    rounds_dropped: int = Field(
        default=0, description="that were disturbed, or were measured before the device was seen to be slow"
    )
    disturbed: bool = Field(
        default=False, description="too few rounds counted: the figures are of all, and decide nothing"
    )
    interval_error: float = Field(
        default=0.05,
        description="with what probability an interval of latencies may miss the truth; those of all looks "
        "add up to 5 %",
    )
    seconds: float
