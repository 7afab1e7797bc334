"""A network's files in other precisions than float32, each held against the float32 file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasflow.base.errors import ConversionError
from stages.conversion.calibrate import calibrated_ranges, calibration_indices
from stages.conversion.config import ConvertConfig
from stages.conversion.edge_images import edge_images
from stages.conversion.flatbuffer import Implementations
from stages.conversion.inspection import ModelStructure, check_signature, inspect_model
from stages.conversion.lint import check_graph, lint_graph
from stages.conversion.lossy_block import Remaking, first_lossy_block
from stages.conversion.parity import compare
from stages.conversion.quantize import in_precision
from stages.data.model_input import model_input
from stages.documents import ConversionCheck, EdgeCheck, ElementType, Precision, Quantization

if TYPE_CHECKING:
    from android_bench.device import Device
    from stages.data.dataset import Dataset, Images
    from stages.space.search_space import NetConfig

_CHUNK = 256
_NEAR = 4.0


@dataclass(frozen=True)
class MadeFile:
    """A file and what was found about it. ``quantization`` lacks the fine-tuned weights' blob.

    ``same_percent``: share of images of the float32 file's class, or of one that it holds for as good
    (:func:`same_but_for_noise`). ``making``: of what it was made, and how.
    """

    model: bytes
    precision: Precision
    check: ConversionCheck
    quantization: Quantization
    same_percent: float
    making: Remaking

    @property
    def input_type(self) -> ElementType:
        """What it takes."""
        return self.making.input_type

    @property
    def few(self) -> EdgeCheck:
        """How its answers for a few real and extreme images differ from the float32 file's."""
        (edge,) = self.check.edges
        return edge


@dataclass
class PrecisionFiles:
    """Makes files of float32 files, and asks them on validation images, of which ``choice`` are all."""

    config: ConvertConfig
    dataset: Dataset
    choice: Images
    here: Device
    seed: int
    _train: list[Images] = field(default_factory=list)

    @property
    def train(self) -> Images:
        """The training images, loaded once."""
        if not self._train:
            self._train.append(self.dataset.load("train"))
        return self._train[0]

    def make(self, float32_model: bytes, precision: Precision, net: NetConfig, *, name: str) -> MadeFile:
        """The file of a network in one precision. Raises ConversionError, UsageError."""
        ranges, calibrated, io = None, 0, "float32"
        if precision == "int8":
            io = "uint8" if self.config.input_type == "auto" else self.config.input_type
            indices = calibration_indices(
                self.train.labels, self.config.calibration_images, self.dataset.class_names, self.seed
            )
            calibrated = len(indices)
            ranges = calibrated_ranges(float32_model, self.train, indices, name=name)
        element: ElementType = "uint8" if io == "uint8" else "float32"
        remake = partial(in_precision, precision=precision, ranges=ranges, io=element)
        model = remake(float32_model)
        structure = self._structure(model, precision, element, net, name)
        models = ("the float32 model", f"the {precision} model")
        few_NHWC = edge_images(self.choice)
        few = compare(
            self._answers_to(few_NHWC, float32_model, "float32"),
            self._answers_to(few_NHWC, model, element),
            name=name,
            models=models,
        )
        reference_NK = self._answers(float32_model, "float32")
        seen_NK = self._answers(model, element)
        parity = compare(reference_NK, seen_NK, name=name, models=models)
        labels = self.choice.labels
        return MadeFile(
            model,
            precision,
            ConversionCheck(
                images=parity.images,
                max_abs_diff=parity.max_abs_diff,
                max_relative_diff=parity.max_relative_diff,
                top1_agreement_percent=parity.top1_agreement_percent,
                snr_db=parity.snr_db,
                edges=(
                    EdgeCheck(
                        edge="tflite_precision",
                        images=few.images,
                        max_relative_diff=few.max_relative_diff,
                        top1_agreement_percent=few.top1_agreement_percent,
                        snr_db=few.snr_db,
                    ),
                ),
                operators=structure.operators,
                operator_counts=dict(structure.operator_counts),
                delegate_partitions=structure.delegate_partitions,
            ),
            Quantization(
                calibration_images=calibrated,
                images=len(labels),
                accuracy_percent=_percent(seen_NK.argmax(1) == labels),
                float32_accuracy_percent=_percent(reference_NK.argmax(1) == labels),
                fine_tuned=False,
            ),
            _percent(same_but_for_noise(reference_NK, seen_NK)),
            Remaking(float32_model, self.config.output, remake, element),
        )

    def check_kept(
        self, made: MadeFile, net: NetConfig, implementations: Implementations, *, name: str
    ) -> None:
        """Refuse a file whose answers are too far from the float32 file's.

        On a few real and extreme images, too: of those the class may change, since nothing is to be seen on
        them. Raises ConversionError, which names the first block whose output is too far.
        """
        config, precision = self.config, made.precision
        half = precision == "float16"
        least_db = config.min_float16_snr_db if half else config.min_int8_snr_db
        least_percent = config.min_float16_top1_percent if half else config.min_int8_top1_percent
        snr_db, few_db, same = made.check.snr_db, made.few.snr_db, made.same_percent
        if snr_db >= least_db and few_db >= least_db and same >= least_percent:
            return
        few_NHWC = edge_images(self.choice)
        block = first_lossy_block(made.making, net, implementations, few_NHWC, self.here, least_db)
        where = ""
        if block is not None and block.snr_db < least_db:
            where = f" The first block whose output is below that is {block}."
        elif block is not None:
            where = f" No block's output is below that; the lowest is {block}."
        kind = "float16" if half else "int8"
        raise ConversionError(
            f"network {name} in {precision} does not answer what it does in float32: signal-to-noise ratio "
            f"{snr_db:.1f} dB on {made.check.images} validation images and {few_db:.1f} dB on "
            f"{made.few.images} real and extreme images (needed {least_db:g}), same class for {same:.2f} % "
            f"of the validation images (needed {least_percent:g} %).{where}",
            hint=f"Take {precision} out of convert.precisions, train longer, or lower "
            f"convert.min_{kind}_snr_db and convert.min_{kind}_top1_percent.",
        )

    def _structure(
        self, model: bytes, precision: Precision, element: ElementType, net: NetConfig, name: str
    ) -> ModelStructure:
        structure = inspect_model(model, name=f"the {precision} model of network {name}")
        check_signature(
            structure,
            name=f"{name} in {precision}",
            input_shape_NHWC=(1, net.resolution, net.resolution, net.input_channels),
            classes=net.classes,
            input_type=element,
        )
        if precision == "dynamic_range":  # falls into pieces, as its warning says
            return structure
        lint = lint_graph(model, structure, precision=precision)
        check_graph(lint, name=name, one_partition=self.config.require_one_partition)
        return structure

    def _answers(self, model: bytes, element: ElementType) -> NDArray[np.float32]:
        """Answers (N, classes) for all validation images."""
        parts = []
        for start in range(0, len(self.choice), _CHUNK):
            images_NHWC = self.choice.batch_NHWC(slice(start, start + _CHUNK))
            parts.append(self._answers_to(images_NHWC, model, element))
        return np.concatenate(parts)

    def _answers_to(
        self, images_NHWC: NDArray[np.float32], model: bytes, element: ElementType
    ) -> NDArray[np.float32]:
        return self.here.run_model(model, model_input(images_NHWC, element)).reshape(len(images_NHWC), -1)


def better_of(kept: MadeFile, tuned: MadeFile) -> tuple[MadeFile, bool]:
    """Of a file and one with fine-tuned weights the more accurate, and whether that is the second."""
    first, second = kept.quantization, tuned.quantization
    if second.accuracy_percent > first.accuracy_percent:
        update: Mapping[str, object] = {
            "fine_tuned": True,
            "other_accuracy_percent": first.accuracy_percent,
            # Its own float32 file has other weights: what is lost is lost against the network as trained.
            "float32_accuracy_percent": first.float32_accuracy_percent,
        }
        found = second.model_copy(update=update)
        return replace(tuned, quantization=found), True
    found = first.model_copy(update={"other_accuracy_percent": second.accuracy_percent})
    return replace(kept, quantization=found), False


def same_but_for_noise(reference_NK: NDArray[np.float32], other_NK: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which images are put into the same class, (N,), or into one that the noise of the answers reaches.

    A network that has hardly learned holds several classes for about as likely; then any change of precision
    changes the class, and says nothing. Near is a class whose answer is below the largest by no more than
    four times the noise (root mean square of the differences). Where noise is large itself, its ratio to the
    answers shows it.
    """
    noise = float(np.sqrt(np.square(np.subtract(other_NK, reference_NK, dtype=np.float64)).mean()))
    answered_N = np.take_along_axis(reference_NK, other_NK.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.asarray(reference_NK.max(axis=1) - answered_N <= _NEAR * noise)


def _percent(right: NDArray[np.bool_]) -> float:
    return 100.0 * float(right.mean())
