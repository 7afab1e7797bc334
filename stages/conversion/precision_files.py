"""A network's files in other precisions than float32, each held against the float32 file.

Logits are compared, by both files without their softmax; the one that ships is held against the softmax of
its own logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nasflow.base.errors import ConversionError
from stages.conversion.calibrate import calibrated_ranges, calibration_indices
from stages.conversion.config import ConvertConfig
from stages.conversion.edge_images import edge_images
from stages.conversion.flatbuffer import Implementations
from stages.conversion.graph_check import sound_graph
from stages.conversion.lint import GraphDelegate
from stages.conversion.lossy_block import Remaking, first_lossy_block
from stages.conversion.parity import compare
from stages.conversion.quantize import in_precision
from stages.conversion.softmax import check_probabilities, probabilities_of, without_softmax
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
    """Makes files of float32 files, and asks them on validation images, of which ``choice`` are all.

    ``delegate``: what will run them.
    """

    config: ConvertConfig
    dataset: Dataset
    choice: Images
    here: Device
    seed: int
    delegate: GraphDelegate = "cpu"
    _train: list[Images] = field(default_factory=list)

    @property
    def train(self) -> Images:
        """The training images, loaded once."""
        if not self._train:
            self._train.append(self.dataset.load("train"))
        return self._train[0]

    def make(self, float32_model: bytes, precision: Precision, net: NetConfig, *, name: str) -> MadeFile:
        """The file of a network in one precision. Raises ConversionError, UsageError, DeviceError."""
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
        graph = sound_graph(
            model,
            net,
            name=name,
            precision=precision,
            input_type=element,
            delegate=self.delegate,
            one_partition=self.config.require_one_partition,
        )
        plain = without_softmax(float32_model)
        logits_model = model if plain is float32_model else remake(plain)
        models = ("the float32 model", f"the {precision} model")
        reference_NK = self._answers(plain, "float32")
        seen_NK = self._answers(logits_model, element)
        parity = compare(reference_NK, seen_NK, name=name, models=models)
        few_NHWC = edge_images(self.choice)
        few_NK = self._answers_to(few_NHWC, logits_model, element)
        reach = None if ranges is None else (float(reference_NK.min()), float(reference_NK.max()))
        few = compare(
            within(reach, self._answers_to(few_NHWC, plain, "float32")),
            within(reach, few_NK),
            name=name,
            models=models,
        )
        if logits_model is not model:
            taken_NHWC, named = model_input(few_NHWC, element), f"{name} in {precision}"
            check_probabilities(model, taken_NHWC, few_NK, self.here, name=named)
        labels = self.choice.labels
        return MadeFile(
            model,
            precision,
            graph.proof(parity, (few.at_edge("tflite_precision"),)),
            Quantization(
                calibration_images=calibrated,
                images=len(labels),
                accuracy_percent=_percent(seen_NK.argmax(1) == labels),
                float32_accuracy_percent=_percent(reference_NK.argmax(1) == labels),
                fine_tuned=False,
            ),
            _percent(same_but_for_noise(probabilities_of(reference_NK), probabilities_of(seen_NK))),
            Remaking(plain, remake, element),
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
            hint=f"Take {precision} out of convert.precisions (or runtime.precision), train longer, or lower "
            f"convert.min_{kind}_snr_db and convert.min_{kind}_top1_percent.",
        )

    def _answers(self, model: bytes, element: ElementType) -> NDArray[np.float32]:
        """Answers (N, classes) to all validation images."""
        parts = []
        for start in range(0, len(self.choice), _CHUNK):
            images_NHWC = self.choice.batch_NHWC(slice(start, start + _CHUNK))
            parts.append(self._answers_to(images_NHWC, model, element))
        return np.concatenate(parts)

    def _answers_to(
        self, images_NHWC: NDArray[np.float32], model: bytes, element: ElementType
    ) -> NDArray[np.float32]:
        return self.here.run_model(model, model_input(images_NHWC, element)).reshape(len(images_NHWC), -1)


def better_of(kept: MadeFile, tuned: MadeFile, tuned_check: ConversionCheck) -> tuple[MadeFile, bool]:
    """Of a file and one with fine-tuned weights the more accurate, and whether that is the second.

    ``tuned_check``: the proof of the float32 file that the second was made of.
    """
    first, second = kept.quantization, tuned.quantization
    if second.accuracy_percent > first.accuracy_percent:
        update: Mapping[str, object] = {
            "fine_tuned": True,
            "tuned_check": tuned_check,
            "other_accuracy_percent": first.accuracy_percent,
            # Its own float32 file has other weights: what is lost is lost against the network as trained.
            "float32_accuracy_percent": first.float32_accuracy_percent,
        }
        found = second.model_copy(update=update)
        return replace(tuned, quantization=found), True
    found = first.model_copy(update={"other_accuracy_percent": second.accuracy_percent})
    return replace(kept, quantization=found), False


def within(reach: tuple[float, float] | None, logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits up to those that validation images reach; None: all.

    int8 holds what calibration images reach, and cuts what lies beyond: black, white or noise may lie far
    beyond, and that it is cut is no fault.
    """
    return logits_NK if reach is None else np.clip(logits_NK, *reach)


def same_but_for_noise(reference_NK: NDArray[Any], other_NK: NDArray[Any]) -> NDArray[np.bool_]:
    """Which images (N,) are put into the same class, or into one that the noise of probabilities reaches.

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
