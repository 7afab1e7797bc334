"""Whether a converted model computes what the PyTorch network computes, on real images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from nasflow.errors import ConversionError

if TYPE_CHECKING:
    from stages.training.data import ImageSet

_BATCH = 128


@dataclass(frozen=True)
class Parity:
    """How two models' logits differ.

    ``max_abs_diff`` is the largest difference of one logit, ``logit_scale`` the largest absolute logit of the
    reference, ``worst`` the place of the image with the largest difference.
    """

    images: int
    max_abs_diff: float
    logit_scale: float
    top1_agreement_percent: float
    worst: int


def evenly_spaced(available: int, wanted: int) -> NDArray[np.int64]:
    """Indices of at most ``wanted`` of ``available`` images, spread over all of them, the same every time."""
    return np.linspace(0, available - 1, min(available, wanted)).round().astype(np.int64)


def torch_logits(
    network: torch.nn.Module, images: ImageSet, indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Logits (n, classes) of a PyTorch network in inference mode for chosen images."""
    logits = []
    with torch.inference_mode():
        for start in range(0, len(indices), _BATCH):
            batch_NHWC = images.batch_NHWC(indices[start : start + _BATCH])
            x_NCHW = torch.from_numpy(batch_NHWC).permute(0, 3, 1, 2)
            logits.append(network(x_NCHW).numpy())
    return np.concatenate(logits)


def compare(reference_NK: NDArray[np.float32], converted_NK: NDArray[np.float32], *, name: str) -> Parity:
    """Compare logits (N, classes) of the same images.

    Raises ConversionError where a logit is not a number or the shapes differ; ``name`` is the network's.
    """
    if reference_NK.shape != converted_NK.shape:
        raise ConversionError(
            f"network {name}: the TFLite model answers with {list(converted_NK.shape)} numbers, PyTorch with "
            f"{list(reference_NK.shape)}.",
            hint="The layout went wrong in the conversion; please report this network.",
        )
    for what, logits in (("the PyTorch network", reference_NK), ("the TFLite model", converted_NK)):
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if bad.size:
            raise ConversionError(
                f"network {name}: {what} answers with NaN or infinity for {bad.size} of {len(logits)} images "
                f"(first: number {bad[0]}).",
                hint="Train it again: nasflow run --from finetune.",
            )
    difference = np.abs(reference_NK.astype(np.float64) - converted_NK).max(axis=1)
    same = reference_NK.argmax(axis=1) == converted_NK.argmax(axis=1)
    return Parity(
        images=len(reference_NK),
        max_abs_diff=float(difference.max()),
        logit_scale=float(np.abs(reference_NK).max()),
        top1_agreement_percent=100.0 * float(same.mean()),
        worst=int(difference.argmax()),
    )


def check_parity(
    parity: Parity,
    indices: NDArray[np.int64],
    *,
    name: str,
    max_relative_diff: float,
    min_top1_agreement_percent: float,
) -> None:
    """Refuse a model that computes something else; ``indices`` say which images were compared.

    Raises ConversionError with the figures and the worst image.
    """
    allowed = max_relative_diff * parity.logit_scale
    agrees = parity.top1_agreement_percent >= min_top1_agreement_percent
    if parity.max_abs_diff <= allowed and agrees:
        return
    raise ConversionError(
        f"network {name}: the TFLite model does not compute what the PyTorch network computes. Largest "
        f"difference of a logit {parity.max_abs_diff:.3g} (allowed {allowed:.3g}: {max_relative_diff:g} of "
        f"the largest logit {parity.logit_scale:.3g}), same class for {parity.top1_agreement_percent:.2f} % "
        f"of {parity.images} images (needed {min_top1_agreement_percent:g} %), worst on validation image "
        f"{indices[parity.worst]}.",
        hint="Convert again (nasflow run --force convert); if it stays so, please report this network.",
    )
