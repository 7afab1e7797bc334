"""Every trained network as a `.tflite` file, with the proof that it computes the same.

PyTorch -> ONNX -> TensorFlow -> TFLite float32, with a softmax at the end unless logits are wanted. A model
that differs from its network, that pads or transposes, or that XNNPACK (or the GPU, where the device computes
on one) does not take over as a whole, stops the run with exit code 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import ValidationError

from pipeline.artifact import Record, canonical_json, sha256_hex
from pipeline.stage import TOOL, Context, Stage
from stages.conversion.config import ConvertConfig, converter_versions
from stages.conversion.suitable import blocks_in_pieces, why_not_made
from stages.conversion.ways import split_indices
from stages.data.config import DataConfig, open_dataset
from stages.documents import (
    ConversionCheck,
    ConvertedNetwork,
    ConvertedNetworks,
    ElementType,
    LatencyModel,
    LeftOut,
    ModelFile,
    Precision,
    Quantization,
    Role,
    TrainedNetwork,
    TrainedNetworks,
)
from stages.seeds import TrainingStream, derived_seed
from stages.space.block_spec import Implementation, ModelOutput
from stages.training.recipe import TrainingConfig

if TYPE_CHECKING:
    from stages.conversion.chain import Limits
    from stages.conversion.converter import TensorflowConverter
    from stages.conversion.precision_files import PrecisionFiles
    from stages.nn.network import Network

SHIPPED: tuple[Role, ...] = ("found", "front")
"""Networks that are made in ``convert.precisions``: those that may go into an app."""
FileKey: TypeAlias = tuple[str, Precision]
"""Which network, by :attr:`Plan.key`, and in which precision."""


@dataclass(frozen=True)
class Convert(Stage):
    """Convert found, random and baseline networks alike, and check each against PyTorch."""

    name: ClassVar[str] = "convert"
    version: ClassVar[int] = 9
    inputs: ClassVar[Mapping[str, str]] = {
        "finetuned": "finetune",
        "baselines": "baseline",
        "latency": "latency",
    }
    output: ClassVar[type[ConvertedNetworks]] = ConvertedNetworks

    config: ConvertConfig
    data: DataConfig
    recipe: TrainingConfig = field(default=TrainingConfig(), metadata={"section": "training"})
    """Of the fine-tuning that int8 may need."""
    precision: Precision = field(default="float32", metadata={"section": "runtime.precision"})
    """In which every network is verified; the found one is made in ``config.precisions``, too."""
    delegate: Literal["cpu", "gpu", "npu"] = field(default="cpu", metadata={"section": "runtime.delegate"})
    """What runs the files on the device."""
    seed: int = 0
    networks: int = field(default=6, metadata=TOOL)
    """How many are expected, for the estimate."""

    def environment(self) -> Mapping[str, str]:
        """The images, and the packages that convert."""
        return {**open_dataset(self.data).identity(), **converter_versions()}

    def check_files(self) -> None:
        """Raises DatasetMissingError where the images' folder does not hold what is read."""
        open_dataset(self.data).check_folder("choice")

    def estimate_seconds(self) -> float:
        """TensorFlow's start, and the networks.

        Not fine-tuning for int8: whether a network needs it shows when it is converted.
        """
        return 10.0 + self.networks * 4.0

    def run(self, context: Context, **inputs: Any) -> ConvertedNetworks:
        """Convert what an earlier, interrupted run has not converted yet.

        Raises ConversionError, and IntegrityError where weights do not fit their network.
        """
        finetuned: TrainedNetworks = inputs["finetuned"]
        baselines: TrainedNetworks = inputs["baselines"]
        latency: LatencyModel = inputs["latency"]
        plans = [
            Plan(network, latency.implementations) for network in (*finetuned.networks, *baselines.networks)
        ]
        if "dynamic_range" in self.config.precisions:
            context.warn(
                "convert.precisions: networks of depthwise convolutions are slower in dynamic_range than in "
                "float32 (about twice on a CPU with XNNPACK); int8 is as small, and faster."
            )
        for plan in plans:
            for left_out in self._left_out(plan):
                context.warn(f"{plan.network.name}: no {left_out.precision} file is made: {left_out.reason}.")
        done = _done_before(context, self._wanted(plans))
        if done.keys() != set(self._wanted(plans)):
            self._convert(context, plans, done)
        return ConvertedNetworks(networks=tuple(self._converted(context, plan, done) for plan in plans))

    def _wanted(self, plans: Sequence[Plan]) -> list[FileKey]:
        """Which files there are to be: float32, of which others are made, first."""
        return [(plan.key, precision) for plan in plans for precision in self._precisions(plan)]

    def _precisions(self, plan: Plan) -> list[Precision]:
        left_out = [file.precision for file in self._left_out(plan)]
        beside = [p for p in self._beside(plan) if p not in left_out]
        return [p for p in get_args(Precision) if p in ("float32", self.precision, *beside)]

    def _beside(self, plan: Plan) -> Sequence[Precision]:
        """Precisions that are made beside the one that is compared."""
        wanted = self.config.precisions if plan.network.role in SHIPPED else ()
        return [precision for precision in wanted if precision not in ("float32", self.precision)]

    def _left_out(self, plan: Plan) -> tuple[LeftOut, ...]:
        """Of those, the ones that would fall into pieces, where that is refused."""
        if not self.config.require_one_partition:
            return ()
        found = {
            precision: blocks_in_pieces(plan.network.net.blocks, precision, self.delegate)
            for precision in self._beside(plan)
        }
        return tuple(LeftOut(precision=p, reason=why_not_made(keys)) for p, keys in found.items() if keys)

    def _convert(self, context: Context, plans: Sequence[Plan], done: dict[FileKey, Done]) -> None:
        from android_bench.local.device import LocalDevice
        from stages.conversion.converter import TensorflowConverter
        from stages.conversion.precision_files import PrecisionFiles

        dataset = open_dataset(self.data)
        images = dataset.load("choice")
        with ExitStack() as stack:
            # First, so that TensorFlow loads while PyTorch loads and exports the first network.
            converter = stack.enter_context(TensorflowConverter())
            here = stack.enter_context(LocalDevice())
            from stages.conversion.chain import convert_network, finish_network
            from stages.conversion.onnx_output import with_onnx_output

            others = PrecisionFiles(self.config, dataset, images, here, self.seed, self.delegate)
            for index, plan in enumerate(plans):
                network = plan.network
                context.progress(index, len(plans), "networks", network.name)
                for precision in self._precisions(plan):
                    if (plan.key, precision) in done:
                        continue
                    if precision == "float32":
                        steps = convert_network(
                            plan.module(context), converter, plan.implementations, name=network.name
                        )
                        finished = finish_network(
                            steps, images, converter, here, self._limits(), name=network.name
                        )
                        exported = with_onnx_output(steps.onnx, self.config.output)
                        file = Done(finished.model, KeptFile(check=finished.check), onnx=exported)
                    else:
                        float32_model = done[plan.key, "float32"].model
                        file = self._in_precision(context, plan, precision, float32_model, others, converter)
                    file.save(context, (plan.key, precision))
                    done[plan.key, precision] = file
        context.progress(len(plans), len(plans), "networks")

    def _in_precision(
        self,
        context: Context,
        plan: Plan,
        precision: Precision,
        float32_model: bytes,
        others: PrecisionFiles,
        converter: TensorflowConverter,
    ) -> Done:
        """A file of a network; int8 that costs too much beside one with fine-tuned weights."""
        from stages.conversion.chain import convert_network, finish_network
        from stages.conversion.precision_files import better_of

        network, weights = plan.network, b""
        made = others.make(float32_model, precision, network.net, name=network.name)
        lost = made.quantization.points_lost
        if precision == "int8" and lost > self.config.max_int8_drop and self.config.int8_epochs:
            context.say(
                f"{network.name}: int8 costs {lost:.2f} points of validation accuracy, and "
                f"{self.config.max_int8_drop:g} are allowed (convert.max_int8_drop): fine-tuning in the "
                f"steps of int8, {self.config.int8_epochs} epochs."
            )
            tuned, name = self._fine_tuned(context, plan, others), f"{network.name}, fine-tuned for int8"
            steps = convert_network(tuned, converter, plan.implementations, name=name)
            finished = finish_network(steps, others.choice, converter, others.here, self._limits(), name=name)
            again = others.make(finished.model, precision, network.net, name=name)
            made, better = better_of(made, again, finished.check)
            if better:
                from stages.nn.network import save_weights

                weights = save_weights(tuned)
        lost = made.quantization.points_lost
        if precision == "int8" and lost > self.config.max_int8_drop:
            tried = ", after fine-tuning, too" if self.config.int8_epochs else ""
            context.warn(
                f"{network.name}: int8 costs {lost:.2f} points of validation accuracy{tried} "
                f"(convert.max_int8_drop {self.config.max_int8_drop:g}). Raise convert.int8_epochs, or let "
                "apps take the float16 file."
            )
        others.check_kept(made, network.net, plan.implementations, name=network.name)
        kept = KeptFile(input_type=made.input_type, check=made.check, quantization=made.quantization)
        return Done(made.model, kept, weights)

    def _fine_tuned(self, context: Context, plan: Plan, others: PrecisionFiles) -> Network:
        from stages.training.quantization import fine_tune_for_int8
        from stages.training.runtime import start_runtime

        runtime = start_runtime(self.seed)
        return fine_tune_for_int8(
            plan.module(context),
            runtime.batches(others.train, self.recipe.batch_size),
            self.recipe,
            epochs=self.config.int8_epochs,
            seed=derived_seed(self.seed, TrainingStream.INT8),
            name=plan.network.name,
            key=f"{plan.key}.int8",
            context=context,
            runtime=runtime,
        )

    def _converted(self, context: Context, plan: Plan, done: Mapping[FileKey, Done]) -> ConvertedNetwork:
        network = plan.network
        return ConvertedNetwork(
            name=network.name,
            role=network.role,
            net=network.net,
            origin=network.origin,
            pretrained=network.pretrained,
            images_seen=network.images_seen,
            validation_accuracy_percent=network.validation_accuracy_percent,
            weights=network.weights,
            files=tuple(
                done[plan.key, precision].stored(context, precision, self.config.output)
                for precision in self._precisions(plan)
            ),
            left_out=self._left_out(plan),
            onnx=context.store.put_bytes(done[plan.key, "float32"].onnx, ".onnx"),
        )

    def _limits(self) -> Limits:
        from stages.conversion.chain import Limits
        from stages.conversion.parity import Tolerance

        return Limits(
            images=self.config.images,
            tolerance=Tolerance(
                max_relative_diff=self.config.max_relative_diff,
                min_top1_agreement_percent=self.config.min_top1_agreement_percent,
                min_snr_db=self.config.min_snr_db,
            ),
            one_partition=self.config.require_one_partition,
            output=self.config.output,
            delegate=self.delegate,
        )


@dataclass(frozen=True)
class Plan:
    """A network to be converted, and how its blocks are computed that can be computed in several ways."""

    network: TrainedNetwork
    implementations: Mapping[str, Implementation] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Equal key, equal model: the same weights serve networks of other strides or resolutions."""
        network = self.network
        parts = [
            network.weights.sha256,
            network.net.model_dump(mode="json"),
            list(split_indices(network.net, self.implementations)),
        ]
        return sha256_hex(canonical_json(parts))[:32]

    def module(self, context: Context) -> Network:
        """The network in PyTorch, with its trained weights. Raises IntegrityError."""
        from stages.nn.network import load_network

        return load_network(self.network.net, context.store.read_bytes(self.network.weights))


class KeptFile(Record):
    """What is known of a file, beside its content."""

    input_type: ElementType = "float32"
    check: ConversionCheck
    quantization: Quantization | None = None


@dataclass(frozen=True)
class Done:
    """A file that is made and checked.

    ``weights`` are the fine-tuned ones, ``onnx`` the ONNX model that a float32 file was made of; each is
    empty where there is none.
    """

    model: bytes
    kept: KeptFile
    weights: bytes = b""
    onnx: bytes = b""

    def save(self, context: Context, key: FileKey) -> None:
        """For a run that is interrupted later; what is read first is written last."""
        name = ".".join(key)
        if self.weights:
            context.scratch.save(f"{name}.weights", self.weights)
        if self.onnx:
            context.scratch.save(f"{name}.onnx", self.onnx)
        context.scratch.save(f"{name}.tflite", self.model)
        context.scratch.save(f"{name}.json", self.kept.model_dump_json().encode())

    def stored(self, context: Context, precision: Precision, output: ModelOutput) -> ModelFile:
        """The document's part, with its files in the store."""
        found = self.kept.quantization
        if found is not None and self.weights:
            blob = context.store.put_bytes(self.weights, ".safetensors")
            found = found.model_copy(update={"weights": blob})
        return ModelFile(
            precision=precision,
            input_type=self.kept.input_type,
            output=output,
            blob=context.store.put_bytes(self.model, ".tflite"),
            check=self.kept.check,
            quantization=found,
        )


def _done_before(context: Context, wanted: Sequence[FileKey]) -> dict[FileKey, Done]:
    """Files that an interrupted run has made and checked."""
    done = {}
    for key in wanted:
        name = ".".join(key)
        kept, model = context.scratch.load(f"{name}.json"), context.scratch.load(f"{name}.tflite")
        if kept is not None and model is not None:
            weights, onnx = (context.scratch.load(f"{name}.{part}") or b"" for part in ("weights", "onnx"))
            try:
                done[key] = Done(model, KeptFile.model_validate_json(kept), weights, onnx)
            except ValidationError:  # written by another version of nasflow: convert again
                continue
    return done
