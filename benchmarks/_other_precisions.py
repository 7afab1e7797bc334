"""A network's files in other precisions beside its float32 file: how they are made, and how they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from android_bench.local.device import LocalDevice
from benchmarks._report import Bar, at_least
from stages.conversion.calibrate import calibrated_ranges
from stages.conversion.config import ConvertConfig
from stages.conversion.edge_images import edge_images
from stages.conversion.lint import GraphPrecision, check_graph, lint_graph
from stages.conversion.parity import Parity, compare, evenly_spaced
from stages.conversion.quantize import in_precision
from stages.conversion.softmax import without_softmax
from stages.data.model_input import model_input

OTHERS: tuple[GraphPrecision, ...] = ("float16", "int8")
CALIBRATED = 32  # photos
DOT_PRODUCTS = ("vnni", "amx_int8", "asimddp", "i8mm")  # as /proc/cpuinfo names them


@dataclass(frozen=True)
class Photos:
    """Photos as a data set's part offers them."""

    pixels_NHWC: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels_NHWC)

    def batch_NHWC(self, indices: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, H, W, C), -1 to 1."""
        return (self.pixels_NHWC[indices].astype(np.float32) - 127.5) / 127.5


def has_dot_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies and adds several int8 numbers at once; False where Linux does not tell."""
    if not cpuinfo.exists():
        return False
    flags = {
        word
        for line in cpuinfo.read_text(encoding="utf-8").splitlines()
        if line.startswith(("flags", "Features"))
        for word in line.split()
    }
    return any(flag.endswith(name) for flag in flags for name in DOT_PRODUCTS)


def made_in(model: bytes, precision: GraphPrecision, images: Photos) -> bytes:
    """A float32 model in another precision, as ``convert`` makes it."""
    return _maker(model, precision, images)(model)


def _maker(model: bytes, precision: GraphPrecision, images: Photos) -> Callable[[bytes], bytes]:
    """What makes a file of the model, and of parts of it, in another precision."""
    if precision != "int8":
        return partial(in_precision, precision=precision)
    ranges = calibrated_ranges(model, images, evenly_spaced(len(images), CALIBRATED), name="the network")
    return partial(in_precision, precision=precision, ranges=ranges, io="uint8")


def in_other_precisions(
    model: bytes, images: Photos, here: LocalDevice, *, one_partition: bool
) -> dict[str, dict[str, Any]]:
    """How the logits of a float32 model's files in other precisions differ from its own, as in ``convert``.

    For each precision on ``images`` and, under ``few``, on real and extreme ones. Raises ConversionError
    where LiteRT refuses a file or its graph breaks a rule.
    """
    found: dict[str, dict[str, Any]] = {}
    for precision in OTHERS:
        make = _maker(model, precision, images)
        made, plain = make(model), without_softmax(model)
        made_plain = make(plain)
        lint = lint_graph(made, precision=precision)
        check_graph(lint, name=precision, one_partition=one_partition)
        element = "uint8" if precision == "int8" else "float32"
        parities = []
        for images_NHWC in (images.batch_NHWC(slice(0, len(images))), edge_images(images)):
            reference_NK = here.run_model(plain, images_NHWC)
            seen_NK = here.run_model(made_plain, model_input(images_NHWC, element))
            parities.append(compare(reference_NK, seen_NK, name=precision))
        found[precision] = {
            **_parity_figures(parities[0]),
            "few": _parity_figures(parities[1]),
            "size_bytes": len(made),
            "delegate_partitions": lint.delegate_partitions,
            "operator_counts": lint.operator_counts,
        }
    return found


def _parity_figures(parity: Parity) -> dict[str, Any]:
    return {
        "images": parity.images,
        "max_relative_diff": parity.max_relative_diff,
        "top1_agreement_percent": parity.top1_agreement_percent,
        "snr_db": parity.snr_db,
    }


def snr_bars(networks: Sequence[Mapping[str, Any]], prefix: str) -> list[Bar]:
    """The lowest signal-to-noise ratio of each precision, extreme images included, against its limit."""
    config = ConvertConfig()
    limits = {"float16": config.min_float16_snr_db, "int8": config.min_int8_snr_db}
    return [
        at_least(
            f"{prefix}{precision}_least_snr_db",
            min(min(one[precision]["snr_db"], one[precision]["few"]["snr_db"]) for one in networks),
            limits[precision],
        )
        for precision in OTHERS
    ]
