"""Whether two models of one network compute the same, by their logits for the same images."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nasflow.base.errors import ConversionError
from stages.documents.conversion import Edge, EdgeCheck, FileEdge

_BATCH = 128
ROUNDINGS = 4.0
"""A converted model may differ by so many times what float32 itself does to the network.

It and PyTorch add in different orders: each rounds on its own, and hundreds of layers amplify either.
"""
MOST_ROUNDED = 0.05
"""But by no more than this share of the largest output: a network that float32 cannot compute is refused."""
MOST_DB = 200.0
"""The signal-to-noise ratio of equal answers, which has no bound."""
_RMS_DB = 20.0
"""By how much the ratio may lie below that of the largest logit to the largest difference."""


class Unlabelled(Protocol):
    """Images alone, as a network takes them; :class:`stages.data.dataset.Images` are such."""

    def __len__(self) -> int: ...

    def batch_NHWC(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """Chosen images (n, H, W, channels), -1 to 1."""


@dataclass(frozen=True)
class Tolerance:
    """What two models of one network may differ by (see :class:`stages.conversion.config.ConvertConfig`)."""

    max_relative_diff: float
    min_top1_agreement_percent: float
    min_snr_db: float


@dataclass(frozen=True)
class Parity:
    """How two models' logits differ.

    ``max_abs_diff`` is the largest difference of one logit, ``logit_scale`` the largest absolute logit of the
    reference, ``snr_db`` the signal-to-noise ratio (the mean square of the reference's logits over that of
    the differences), ``worst`` the place of the image with the largest difference. ``rounding`` is the
    largest difference of a logit of the reference in float32 and in float64; 0 where that was not looked at.
    """

    images: int
    max_abs_diff: float
    logit_scale: float
    top1_agreement_percent: float
    snr_db: float
    worst: int
    rounding: float = 0.0

    @property
    def max_relative_diff(self) -> float:
        """The largest difference as a share of the largest logit; 0 where all logits are 0."""
        return self.max_abs_diff / self.logit_scale if self.logit_scale > 0 else 0.0

    def at_edge(self, edge: Edge | FileEdge) -> EdgeCheck:
        """The document's part about a step of the conversion."""
        return EdgeCheck(
            edge=edge,
            images=self.images,
            max_relative_diff=self.max_relative_diff,
            top1_agreement_percent=self.top1_agreement_percent,
            snr_db=self.snr_db,
        )


def evenly_spaced(available: int, wanted: int) -> NDArray[np.int64]:
    """Indices of at most ``wanted`` of ``available`` images, spread over all of them, the same every time."""
    return np.linspace(0, available - 1, min(available, wanted)).round().astype(np.int64)


def allowed_share(max_relative_diff: float, rounding: float) -> float:
    """By which share of the largest output a model may differ; ``rounding`` is float32's own share of it."""
    return max(max_relative_diff, min(ROUNDINGS * rounding, MOST_ROUNDED))


def in_double(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of a network that computes in float64: what float32 rounds off shows beside it."""
    return copy.deepcopy(network).double()


def torch_logits(
    network: torch.nn.Module, images: Unlabelled, indices: NDArray[np.int64], *, double: bool = False
) -> NDArray[Any]:
    """Logits (n, classes) of a PyTorch network in inference mode for chosen images.

    ``double``: computed in float64.
    """
    network = in_double(network) if double else network
    logits = []
    with torch.inference_mode():
        for start in range(0, len(indices), _BATCH):
            batch_NHWC = images.batch_NHWC(indices[start : start + _BATCH])
            x_NCHW = torch.from_numpy(batch_NHWC).permute(0, 3, 1, 2)
            logits.append(network(x_NCHW.double() if double else x_NCHW).numpy())
    return np.concatenate(logits)


def compare(
    reference_NK: NDArray[np.float32],
    converted_NK: NDArray[np.float32],
    *,
    name: str,
    exact_NK: NDArray[np.float64] | None = None,
    models: tuple[str, str] = ("the PyTorch network", "the TFLite model"),
) -> Parity:
    """Compare logits (N, classes) of the same images.

    ``exact_NK`` is the reference in float64. With it, two classes count as the same that are closer than
    float32 can tell in this network.

    Raises ConversionError where a logit is not a number or the shapes differ; ``name`` is the network's,
    ``models`` are what the two are called.
    """
    if reference_NK.shape != converted_NK.shape:
        raise ConversionError(
            f"network {name}: {models[1]} answers with {list(converted_NK.shape)} numbers, {models[0]} with "
            f"{list(reference_NK.shape)}.",
            hint="The conversion changed the data layout wrongly; please report this network.",
        )
    for what, logits in zip(models, (reference_NK, converted_NK), strict=True):
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if bad.size:
            raise ConversionError(
                f"network {name}: {what} answers with NaN or infinity for {bad.size} of {len(logits)} images "
                f"(first: number {bad[0]}).",
                hint="Train it again: nasflow run --from finetune.",
            )
    difference_NK = reference_NK.astype(np.float64) - converted_NK
    difference_N = np.abs(difference_NK).max(axis=1)
    same = reference_NK.argmax(axis=1) == converted_NK.argmax(axis=1)
    rounding, scale = 0.0, float(np.abs(reference_NK).max())
    if exact_NK is not None:
        rounding = float(np.abs(reference_NK - exact_NK).max())
        near = 2 * min(ROUNDINGS * rounding, MOST_ROUNDED * scale)
        answered = np.take_along_axis(exact_NK, converted_NK.argmax(axis=1)[:, None], axis=1)[:, 0]
        same |= exact_NK.max(axis=1) - answered <= near
    return Parity(
        images=len(reference_NK),
        max_abs_diff=float(difference_N.max()),
        logit_scale=scale,
        top1_agreement_percent=100.0 * float(same.mean()),
        snr_db=signal_to_noise_db(reference_NK, difference_NK),
        worst=int(difference_N.argmax()),
        rounding=rounding,
    )


def signal_to_noise_db(signal: NDArray[Any], noise: NDArray[Any]) -> float:
    """10 log10 of the mean square of ``signal`` over that of ``noise``, between -200 and 200."""
    powers = [float(np.square(values, dtype=np.float64).mean()) for values in (signal, noise)]
    if powers[1] == 0:
        return MOST_DB
    ratio = powers[0] / powers[1]
    return float(np.clip(10 * math.log10(ratio), -MOST_DB, MOST_DB)) if ratio > 0 else -MOST_DB


def keeps(parity: Parity, tolerance: Tolerance) -> bool:
    """Whether the models differ by no more than is allowed, or than float32 itself makes of the network."""
    return (
        parity.max_abs_diff <= _allowed(parity, tolerance)
        and parity.top1_agreement_percent >= tolerance.min_top1_agreement_percent
        and parity.snr_db >= _needed_db(parity, tolerance)
    )


def _allowed_share(parity: Parity, tolerance: Tolerance) -> float:
    rounding = parity.rounding / parity.logit_scale if parity.logit_scale > 0 else 0.0
    return allowed_share(tolerance.max_relative_diff, rounding)


def _allowed(parity: Parity, tolerance: Tolerance) -> float:
    return _allowed_share(parity, tolerance) * parity.logit_scale


def _needed_db(parity: Parity, tolerance: Tolerance) -> float:
    """What a difference of the allowed size leaves, where that is less than the tolerance asks for."""
    return min(tolerance.min_snr_db, -20 * math.log10(_allowed_share(parity, tolerance)) - _RMS_DB)


def figures(parity: Parity, tolerance: Tolerance) -> str:
    """``Largest difference ..., same class for ..., signal-to-noise ratio ...``, each with what is needed."""
    allowed = _allowed(parity, tolerance)
    why = (
        f"{ROUNDINGS:g} times what PyTorch's own answers in float32 and in float64 differ by, and "
        f"{MOST_ROUNDED:g} of the largest logit at most"
        if allowed > tolerance.max_relative_diff * parity.logit_scale
        else f"{tolerance.max_relative_diff:g} of the largest logit {parity.logit_scale:.3g}"
    )
    return (
        f"Largest difference of a logit {parity.max_abs_diff:.3g} (allowed {allowed:.3g}: {why}), same class "
        f"for {parity.top1_agreement_percent:.2f} % of {parity.images} images (needed "
        f"{tolerance.min_top1_agreement_percent:g} %), signal-to-noise ratio {parity.snr_db:.1f} dB (needed "
        f"{_needed_db(parity, tolerance):.1f} dB)"
    )


def check_parity(parity: Parity, indices: NDArray[np.int64], tolerance: Tolerance, *, name: str) -> None:
    """Refuse a model that computes something else; ``indices`` say which images were compared.

    Raises ConversionError with the figures and the worst image.
    """
    if not keeps(parity, tolerance):
        raise ConversionError(
            f"network {name}: the TFLite model does not compute what the PyTorch network computes. "
            f"{figures(parity, tolerance)}, worst on validation image {indices[parity.worst]}.",
            hint="Convert again (nasflow run --force convert); if it happens again, please report it.",
        )
