"""Every trained network as a `.tflite` file, with the proof that it computes the same.

PyTorch -> ONNX -> TensorFlow -> TFLite float32, with a softmax at the end unless logits are wanted. A model
that differs from its network, that pads or transposes, or that XNNPACK does not take over as a whole, stops
the run with exit code 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from pipeline.artifact import canonical_json, sha256_hex
from pipeline.stage import TOOL, Context, Stage
from stages.conversion.config import ConvertConfig, converter_versions
from stages.conversion.ways import split_indices
from stages.data.config import DataConfig, open_dataset
from stages.documents import (
    ConversionCheck,
    ConvertedNetwork,
    ConvertedNetworks,
    LatencyModel,
    ModelFile,
    TrainedNetwork,
    TrainedNetworks,
)
from stages.space.block_spec import Implementation

if TYPE_CHECKING:
    from stages.conversion.chain import Limits


@dataclass(frozen=True)
class Convert(Stage):
    """Convert found, random and baseline networks alike, and check each against PyTorch."""

    name: ClassVar[str] = "convert"
    version: ClassVar[int] = 5
    inputs: ClassVar[Mapping[str, str]] = {
        "finetuned": "finetune",
        "baselines": "baseline",
        "latency": "latency",
    }
    output: ClassVar[type[ConvertedNetworks]] = ConvertedNetworks

    config: ConvertConfig
    data: DataConfig
    networks: int = field(default=6, metadata=TOOL)
    """How many are expected, for the estimate."""

    def environment(self) -> Mapping[str, str]:
        """The images, and the packages that convert."""
        return {**open_dataset(self.data).identity(), **converter_versions()}

    def check_files(self) -> None:
        """Raises DatasetMissingError where the images' folder does not hold what is read."""
        open_dataset(self.data).check_folder("choice")

    def estimate_seconds(self) -> float:
        """TensorFlow's start, and the networks."""
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
        done = _done_before(context, plans)
        if any(plan.key not in done for plan in plans):
            self._convert(context, plans, done)
        return ConvertedNetworks(
            networks=tuple(self._converted(context, plan.network, *done[plan.key]) for plan in plans)
        )

    def _convert(
        self,
        context: Context,
        plans: Sequence[Plan],
        done: dict[str, tuple[bytes, ConversionCheck]],
    ) -> None:
        from android_bench.local.device import LocalDevice
        from stages.conversion.converter import TensorflowConverter

        images = open_dataset(self.data).load("choice")
        with ExitStack() as stack:
            # First, so that TensorFlow loads while PyTorch loads and exports the first network.
            converter = stack.enter_context(TensorflowConverter())
            here = stack.enter_context(LocalDevice())
            from stages.conversion.chain import convert_network, finish_network
            from stages.nn.network import load_network

            for index, plan in enumerate(plans):
                network = plan.network
                context.progress(index, len(plans), "networks", network.name)
                if plan.key in done:
                    continue
                module = load_network(network.net, context.store.read_bytes(network.weights))
                steps = convert_network(module, converter, plan.implementations, name=network.name)
                finished = finish_network(steps, images, converter, here, self._limits(), name=network.name)
                context.scratch.save(f"{plan.key}.tflite", finished.model)
                context.scratch.save(f"{plan.key}.json", finished.check.model_dump_json().encode())
                done[plan.key] = finished.model, finished.check
        context.progress(len(plans), len(plans), "networks")

    def _converted(
        self, context: Context, network: TrainedNetwork, model: bytes, check: ConversionCheck
    ) -> ConvertedNetwork:
        return ConvertedNetwork(
            name=network.name,
            role=network.role,
            net=network.net,
            origin=network.origin,
            pretrained=network.pretrained,
            images_seen=network.images_seen,
            validation_accuracy_percent=network.validation_accuracy_percent,
            weights=network.weights,
            files=(
                ModelFile(
                    precision="float32",
                    output=self.config.output,
                    blob=context.store.put_bytes(model, ".tflite"),
                    check=check,
                ),
            ),
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


def _done_before(context: Context, plans: Sequence[Plan]) -> dict[str, tuple[bytes, ConversionCheck]]:
    """Models that an interrupted run has converted and checked."""
    done = {}
    for key in {plan.key for plan in plans}:
        model, check = context.scratch.load(f"{key}.tflite"), context.scratch.load(f"{key}.json")
        if model is not None and check is not None:
            try:
                done[key] = model, ConversionCheck.model_validate_json(check)
            except ValidationError:  # written by another version of nasflow: convert again
                continue
    return done
