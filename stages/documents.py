"""What flows from stage to stage. Every document is described field by field in artifacts/README.md."""

from __future__ import annotations

import operator
from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from android_bench.device import DeviceInfo, LatencyMeasurement, RuntimeOptions
from nasflow.base.errors import UsageError
from pipeline.artifact import Blob, Document, Record
from stages.space.block_spec import BlockSpec, Implementation
from stages.space.equal_latency import equal_latency
from stages.space.search_space import NetConfig, SearchSpace
from stages.space.weights_origin import WeightsOrigin

Precision = Literal["float32"]
Role = Literal["found", "random", "front", "full", "baseline", "baseline_published"]
"""``front``: found for another target. ``full``: the whole network that a pretrained space was cut from.
``baseline``: MobileNetV2 with the space's stride plan; ``baseline_published``: with its own."""
Origin = Literal["inherited", "fresh", "pretrained"]
"""Where weights started: from those of the search's supernet, from random numbers, from published ones."""


PretrainedFrom = Annotated[
    WeightsOrigin | None,
    Field(
        exclude_if=operator.not_,
        description="what the weights descend from, inherited ones too; None: from random numbers",
    ),
]


class MadeBy(Record):
    """What trained something. Where one of the first five differs, so do the numbers that come out."""

    torch: str = Field(description="version")
    processor: str
    instructions: str = Field(description="the processor's widest instructions that torch uses, as AVX512")
    threads: int = Field(ge=1, description="that torch computes with")
    accelerator: str = Field(description="the GPU's name; empty without one")
    cores: int = Field(ge=1, description="logical cores that the process might use")
    omp_num_threads: str = Field(description="the environment's OMP_NUM_THREADS; empty where it was unset")
    precision: Literal["32", "bf16"] = Field(
        default="32",
        exclude_if=lambda precision: precision == "32",
        description="of the arithmetic; bf16: mixed with float32",
    )


MadeByAll = Annotated[
    tuple[MadeBy, ...],
    Field(
        exclude_if=operator.not_,
        description="several, in order, where an interrupted run went on elsewhere; empty: not recorded",
    ),
]


class ComputeCost(Record):
    """What computing took, interrupted runs included; the measured device has no part in it."""

    seconds: float = Field(ge=0, description="wall clock")
    processor_seconds: float = Field(ge=0, description="user and system time, all cores added up")
    accelerator_seconds: float = Field(ge=0, description="for how long a GPU was held; 0 without one")


# --- profile ---------------------------------------------------------------------------------------


class Timing(Record):
    """One timing as it was taken, and what was found about the device's speed at that moment.

    ``slowdown``: how much slower than at its reference level the device was; latencies are divided by it.
    ``disturbed``: the timing fell into a spell or beside a step of the speed and does not count.
    """

    round: int = Field(ge=0)
    name: str
    measurement: LatencyMeasurement
    slowdown: float = Field(gt=0)
    disturbed: bool


class TableRow(Record):
    """One block's latency, computed in one way.

    ``measurement`` is the time of a model of so many ``copies`` of the block, the invocation included:
    more than one where the device's clock is too coarse for one. ``resolved`` is false where even so the
    clock's step alone leaves the block's own time a wider interval than was wanted. Both are written only
    where they are not the default, so that what an exact clock has measured is stored as ever.
    """

    block: BlockSpec
    implementation: Implementation = "native"
    copies: int = Field(default=1, ge=1, exclude_if=lambda copies: copies == 1)
    measurement: LatencyMeasurement
    resolved: bool = Field(default=True, exclude_if=bool)

    def block_ms(self, invoke_ms: float) -> float:
        """The block's own time, which by the clock's step may come out as 0 or below."""
        return (self.measurement.median_ms - invoke_ms) / self.copies


class ReferenceLatency(Record):
    """A whole network measured beside the others: the anchor, and what a relative target refers to."""

    name: str
    net: NetConfig
    measurement: LatencyMeasurement


class LatencyTable(Document):
    """Output of ``profile``: every distinct block of the space, measured alone.

    A block that can be computed in several ways has a row for each. ``foreign`` says in what the device
    that measured differs from the one that the table is used for.
    """

    schema_version: int = 2
    device: DeviceInfo
    runtime: RuntimeOptions
    precision: Precision = "float32"
    rows: tuple[TableRow, ...]
    invoke: LatencyMeasurement | None = Field(
        default=None, description="a model that does next to nothing: what every invocation costs"
    )
    anchor: ReferenceLatency
    timings: tuple[Timing, ...] = Field(description="in order of time, the anchor's among them")
    foreign: tuple[str, ...] = ()
    seconds: float


# --- latency ---------------------------------------------------------------------------------------


class PredictionPoint(Record):
    """A whole network, predicted and measured."""

    choices: tuple[int, ...]
    predicted_ms: float
    measurement: LatencyMeasurement


class HeldOutError(Record):
    """How far predictions are off on networks that calibration has not seen. Shares are 0..1."""

    networks: int
    share_within_5_percent: float
    share_within_10_percent: float
    share_within_interval: float
    mape_percent: float
    spearman: float


class Prediction(Record):
    """A network's predicted latency and its 95 % interval, in milliseconds."""

    ms: float
    low_ms: float
    high_ms: float


class TableCheck(Record):
    """What some of the table's blocks say that were timed again beside the networks.

    ``change_percent``: how much longer each kind of block takes there than in the table, against all kinds
    together. ``corrected``: whether kinds differ by more than chance, so that the table is corrected.
    ``disagreement_percent``: standard deviation of what is left between blocks, chance taken out.
    """

    change_percent: dict[str, Annotated[float, Field(gt=-100)]] = Field(default={})
    corrected: bool = False
    disagreement_percent: float = Field(default=0.0, ge=0)

    def factor(self, kind: str) -> float:
        """What a table's time of a block of this kind is multiplied by."""
        return 1 + self.change_percent.get(kind, 0.0) / 100 if self.corrected else 1.0


class LatencyModel(Document):
    """Output of ``latency``: what a network takes, from what its blocks take.

    predicted_ms = ``scale`` * sum of ``block_ms`` + ``overhead_ms``, and a residual term where it pays:
    + ``ms_per_weight_megabyte`` * weights + ``ms_per_activation_megabyte`` * activations.
    ``block_ms`` is the table's median less ``invoke_ms``, which a block measured alone pays and a block
    amid a network does not, divided by the copies that were measured; of a block with several
    ``implementations``, that of the one named there.
    """

    schema_version: int = 2
    device: DeviceInfo
    runtime: RuntimeOptions
    precision: Precision = "float32"
    block_ms: dict[str, float]
    implementations: dict[str, Implementation] = Field(
        default={}, description="how each block is computed that can be computed in several ways"
    )
    invoke_ms: float = Field(default=0.0, ge=0, description="what every invocation costs")
    scale: float = Field(gt=0)
    overhead_ms: float
    ms_per_weight_megabyte: float = 0.0
    ms_per_activation_megabyte: float = 0.0
    interval_percent: float = Field(ge=0, description="half-width of a prediction's 95 % interval")
    table_check: TableCheck | None = Field(default=None, exclude_if=operator.not_)
    shift_percent: float = Field(
        default=0.0,
        ge=0,
        exclude_if=operator.not_,
        description="how far the anchor failed to speak for the networks (deviation from sitting to sitting)",
    )
    calibration: tuple[PredictionPoint, ...]
    held_out: tuple[PredictionPoint, ...]
    held_out_error: HeldOutError
    reference: ReferenceLatency
    feasible_ms: tuple[float, float] = Field(description="fastest and slowest network of the space")
    timings: tuple[Timing, ...] = Field(description="in order of time, the anchor's among them")
    foreign: tuple[str, ...] = ()
    seconds: float = Field(description="device time of profile and latency together")

    def block_latency_ms(self, block: BlockSpec) -> float:
        """What one block adds to a network's latency. Raises UsageError where it was not measured."""
        try:
            alone_ms = self.block_ms[block.key]
        except KeyError:
            raise UsageError(
                f"block {block.key} is not in the latency table ({len(self.block_ms)} blocks of "
                f"{self.device.model}).",
                hint="Profile the space that holds it: nasflow profile.",
            ) from None
        return (
            self.scale * alone_ms
            + self.ms_per_weight_megabyte * block.weight_megabytes
            + self.ms_per_activation_megabyte * block.activation_megabytes
        )

    def predict_ms(self, net: NetConfig) -> float:
        """Latency of a whole network in milliseconds."""
        return self.overhead_ms + sum(self.block_latency_ms(block) for block in net.blocks)

    def predict(self, net: NetConfig) -> Prediction:
        """Latency of a whole network with its 95 % interval."""
        ms, share = self.predict_ms(net), self.interval_percent / 100
        return Prediction(ms=ms, low_ms=max(0.0, ms * (1 - share)), high_ms=ms * (1 + share))


# --- precheck --------------------------------------------------------------------------------------


class PrecheckedNetwork(Record):
    """An untrained network, converted, beside the directly written model of it."""

    choices: tuple[int, ...]
    first_of_kind: tuple[str, ...] = Field(description="keys of the blocks that no earlier one covers")
    operators: int
    delegate_partitions: int
    max_relative_diff: float = Field(description="of an output from PyTorch's, as a share of the largest one")
    predicted_ms: float
    written: LatencyMeasurement
    converted: LatencyMeasurement
    ratio: float = Field(description="converted over written")
    ratio_interval_95: tuple[float, float]


class Precheck(Document):
    """Output of ``precheck``: networks that together hold every kind of block of the space."""

    device: DeviceInfo
    runtime: RuntimeOptions
    networks: tuple[PrecheckedNetwork, ...]
    seconds: float = Field(description="device time")


# --- search ----------------------------------------------------------------------------------------


class SearchEpoch(Record):
    """One epoch of the search, as the report draws it."""

    epoch: int
    phase: Literal["warm-up", "search"]
    train_loss: float
    validation_loss: float
    validation_accuracy_percent: float
    expected_ms: float
    multiplier: float
    entropy: float = Field(description="mean over searched layers, 0 (decided) .. 1 (uniform)")
    probabilities: tuple[tuple[float, ...], ...]
    seconds: float


class SearchResult(Document):
    """Output of ``search``: the trained supernet and what it prefers."""

    schema_version: int = 2
    space: SearchSpace
    target_ms: float
    log_probabilities: tuple[tuple[float, ...], ...] = Field(description="[layer][candidate]")
    expected_ms: float
    supernet: Blob
    history: tuple[SearchEpoch, ...]
    seconds: float
    compute_cost: ComputeCost | None = Field(
        default=None, description="None: a version that kept none has had a part"
    )
    made_by: MadeByAll = ()
    pretrained: PretrainedFrom = None


# --- prune -----------------------------------------------------------------------------------------


class ConsideredNetwork(Record):
    """A well-ranked network that should meet a target, measured whole.

    ``validation_accuracy_percent`` and ``validation_loss`` are those with the supernet's weights; None where
    the device took longer than the target, or enough better-ranked networks met it.
    """

    choices: tuple[int, ...]
    target_ms: float
    score: float = Field(description="what it was ranked by: estimated value, or log-probability")
    log_probability: float
    predicted_ms: float
    measurement: LatencyMeasurement
    validation_accuracy_percent: float | None
    validation_loss: float | None = Field(None, description="mean cross entropy, nats")
    trial_accuracy_percent: float | None = Field(
        None, description="on validation images, after a short training from fresh weights"
    )
    trial_loss: float | None = Field(None, description="mean cross entropy there, nats")


class PrunedNetwork(Record):
    """A network cut out of the supernet with the weights it has there, and its accuracy with them."""

    name: str
    role: Role
    choices: tuple[int, ...]
    net: NetConfig
    target_ms: float
    predicted_ms: float
    supernet_accuracy_percent: float = Field(description="on validation images")
    weights: Blob


class PrunedNetworks(Document):
    """Output of ``prune``: the found network, random ones of equal predicted latency, and the front's.

    ``anchor`` was measured between the considered networks.
    """

    schema_version: int = 3
    target_ms: float
    rank_by: Literal["value", "probability"]
    evaluations: int
    considered: tuple[ConsideredNetwork, ...]
    anchor: ReferenceLatency
    found: PrunedNetwork
    randoms: tuple[PrunedNetwork, ...]
    front: tuple[PrunedNetwork, ...] = ()
    seconds: float = Field(description="device time of the considered networks")
    pretrained: PretrainedFrom = None
    compute_cost: ComputeCost | None = Field(
        default=None, description="of the pick, without the device's time"
    )
    made_by: MadeByAll = ()


# --- finetune, baseline ----------------------------------------------------------------------------


class EpochPoint(Record):
    """One epoch of a training curve. Accuracy is that of the averaged weights."""

    epoch: int
    learning_rate: float
    train_loss: float
    validation_accuracy_percent: float
    seconds: float


class TrainedNetwork(Record):
    """A trained network. ``images_seen`` counts image passes after its architecture was fixed."""

    name: str
    role: Role
    net: NetConfig
    weights: Blob
    origin: Origin
    pretrained: PretrainedFrom = None
    images_seen: int
    curve: tuple[EpochPoint, ...]
    best_epoch: int
    validation_accuracy_percent: float
    seconds: float
    compute_cost: ComputeCost | None = Field(
        default=None,
        validation_alias=AliasChoices("compute_cost", "effort"),  # as version 0.1 wrote it
    )
    made_by: MadeByAll = ()


class TrainedNetworks(Document):
    """Output of ``finetune`` and of ``baseline``."""

    networks: tuple[TrainedNetwork, ...]


# --- convert ---------------------------------------------------------------------------------------


class ConversionCheck(Record):
    """The proof that a TFLite model computes what the PyTorch network computes."""

    images: int
    max_abs_diff: float
    top1_agreement_percent: float
    operators: int
    operator_counts: dict[str, int]
    delegate_partitions: int


class ModelFile(Record):
    """A network's `.tflite` file in one precision, and the proof that it computes the same."""

    precision: Precision
    blob: Blob
    check: ConversionCheck


class ConvertedNetwork(Record):
    """A network as `.tflite` files that can ship."""

    name: str
    role: Role
    net: NetConfig
    origin: Origin
    pretrained: PretrainedFrom = None
    images_seen: int
    validation_accuracy_percent: float
    weights: Blob
    files: tuple[ModelFile, ...] = Field(min_length=1)

    def file(self, precision: Precision = "float32") -> ModelFile:
        """Its file in one precision. Raises KeyError where it was not converted to that."""
        return {file.precision: file for file in self.files}[precision]


class ConvertedNetworks(Document):
    """Output of ``convert``."""

    schema_version: int = 2
    networks: tuple[ConvertedNetwork, ...]


# --- images ----------------------------------------------------------------------------------------


class ClassImages(Record):
    """A class, and how many images of it each part of the data has; None: not known."""

    name: str
    train: int | None = None
    architecture: int | None = None
    choice: int | None = None
    test: int | None = None


class ImagesReport(Record):
    """What the networks learned from and were tested on. None: the source does not know.

    ``*_images`` count the parts, copies and broken images left out. ``difference_points``: a true difference
    between two networks below this is more often missed than shown by the test images, if exactly one of the
    two is right on ``assumed_discordance`` (0..1) of them.
    """

    source: str
    name: str = Field(description="as a person would call it")
    resolution: int
    channels: int
    train_images: int
    architecture_images: int
    choice_images: int
    test_images: int
    shared_choice: bool = Field(
        default=False,
        description="whether architecture and choice are the same images, because there are few",
    )
    classes: tuple[ClassImages, ...] = Field(description="in the order of the labels")
    files_found: int | None = Field(default=None, description="images that the source lists")
    exact_copies: int | None = Field(default=None, description="images that are copies of another one")
    near_copies: int | None = Field(default=None, description="that are nearly copies")
    copies: Literal["leave_out", "keep_together", "ignore"] | None = Field(
        default=None, description="what was done with them"
    )
    left_out: int | None = Field(default=None, description="images that were left out as copies")
    label_conflicts: int | None = Field(
        default=None, description="sets of copies that stand in two classes; all of them were left out"
    )
    groups: int | None = Field(default=None, description="groups that were kept in one part each")
    broken: tuple[str, ...] | None = Field(
        default=None, description="files that could not be read and were left out, the first of them"
    )
    broken_images: int | None = Field(default=None, description="how many there are")
    augmentation: str = Field(default="none", description="the preset")
    balance: Literal["none", "weights", "sampling"] = "none"
    folds: int | None = None
    fold: int | None = None
    split_seed: int | None = None
    difference_points: float
    assumed_discordance: float
    accuracy_points: float = Field(description="half the interval of one network's accuracy, at most")


# --- verify ----------------------------------------------------------------------------------------

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


class Verification(Document):
    """Output of ``verify``. ``ratio`` is the found network's latency over the reference's."""

    schema_version: int = 5
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
    max_ratio: float | None
    verdict: Verdict
    rounds: int
    seconds: float


# --- cross-validation ------------------------------------------------------------------------------


class FoldFigures(Record):
    """What the chain found where one fold was the test part. ``accuracy_points``: found less reference."""

    fold: int = Field(ge=0)
    test_images: int
    choices: tuple[int, ...]
    reference: str
    found_accuracy_percent: float
    reference_accuracy_percent: float
    accuracy_points: float
    ratio: float = Field(description="the found network's latency over the reference's")


class PooledNetwork(Record):
    """The networks of one name or role, one of each fold, on all images.

    ``name``: ``found``, ``reference`` (that of each fold), ``random`` (mean of each fold's), or that of a
    network that every fold has. ``accuracy_points`` and ``balanced_points``: its accuracy less the found
    network's.
    """

    name: str
    role: Role
    accuracy_percent: float
    accuracy_interval_95: tuple[float, float]
    balanced_accuracy_percent: float | None
    balanced_accuracy_interval_95: tuple[float, float] | None
    correct_by_class: tuple[int, ...] = Field(description="of all folds; empty for ``random``")
    accuracy_points: float | None = Field(default=None, description="None for the found network")
    accuracy_points_interval_95: tuple[float, float] | None = None
    balanced_points: float | None = None
    balanced_points_interval_95: tuple[float, float] | None = None


class ArchitectureAgreement(Record):
    """How the found architectures of the folds agree, over the layers that have a choice."""

    distinct: int = Field(ge=1, description="different architectures")
    layers: int = Field(ge=0)
    same_in_all: int = Field(ge=0, description="layers with the same candidate in every fold")
    shared_percent: float = Field(description="layers in which two folds agree, mean over pairs of folds")
    chance_percent: float = Field(description="the same of architectures drawn at random")


class CrossValidation(Document):
    """The whole chain, once for each fold: every image was tested once, by networks that had not seen it."""

    folds: tuple[FoldFigures, ...]
    test_images: int
    classes: tuple[ClassImages, ...]
    networks: tuple[PooledNetwork, ...]
    latency_ratio: float = Field(description="geometric mean over the folds, found over reference")
    latency_ratio_interval_95: tuple[float, float]
    architectures: ArchitectureAgreement
    equal_points: float | None = None
