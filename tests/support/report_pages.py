"""Reports of sample runs, as a browser would open them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.cross_tables import PHONE, sample_cross_table, shared_with
from support.sample_documents import DEVICE, sample_documents
from support.sample_variants import of_few_photos, sample_folds, searched_by_pairs, with_random_networks

from android_bench.device import Conditions, DeviceInfo
from pipeline.artifact import Document
from stages.documents import (
    ConvertedNetworks,
    LatencyTable,
    PrunedNetworks,
    SureAnswer,
    TrainedNetworks,
    Verification,
)
from stages.reporting.comparison import ComparedRun, compare_runs
from stages.reporting.comparison_page import render_comparison
from stages.reporting.cross_page import render_cross_table
from stages.reporting.html import render_report
from stages.reporting.result import RunFacts
from stages.reporting.run_result import build_result
from stages.reporting.thumbnails import Thumbnails, thumbnails
from stages.verification.folds import cross_validation

FACTS = RunFacts(
    seed=17,
    dataset="fashion_mnist",
    nasflow_version="0.1.0",
    python_version="3.11.2",
    packages={"torch": "2.13.0"},
)
STAGE_SECONDS = {
    "profile": 191.0,
    "latency": 68.2,
    "precheck": 12.1,
    "search": 4211.0,
    "prune": 44.0,
    "finetune": 1260.0,
    "baseline": 2520.0,
    "convert": 71.0,
    "verify": 64.3,
}


class DrawnImages:
    """Images of so many pixels, each another pattern: what is used of :class:`stages.data.dataset.Images`."""

    def __init__(self, side: int, channels: int) -> None:
        self.side, self.channels = side, channels

    def batch_NHWC(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        y, x = np.mgrid[-1 : 1 : self.side * 1j, -1 : 1 : self.side * 1j]  # type: ignore[misc]
        bands = [np.sin((3 + i % 5) * x + (2 + i % 3) * y)[..., None] for i in which.tolist()]
        return np.stack([np.repeat(band, self.channels, -1) for band in bands]).astype(np.float32)


def phone_states(count: int, began: datetime) -> tuple[Conditions, ...]:
    """A phone that grows warm: its clock falls, its battery, too; its screen is off for a while."""
    return tuple(
        Conditions(
            at=began + timedelta(seconds=20 * i + (9000 if i > count // 2 else 0)),
            core_mhz=2800.0 if i < 0.7 * count else 2200.0,
            cores=(7,),
            skin_celsius=31 + 5 * (1 - math.exp(-i / 10)),
            thermal_status=int(i > 0.7 * count),
            battery_percent=80.0 - i // 8,
            awake=not count // 4 < i < count // 3,
        )
        for i in range(count)
    )


def on_a_warm_phone(documents: dict[str, Document]) -> dict[str, Document]:
    """The run with a phone's states beside its timings."""
    profile, verify = documents["profile"], documents["verify"]
    assert isinstance(profile, LatencyTable)
    assert isinstance(verify, Verification)
    states = phone_states(len(profile.timings), datetime(2026, 3, 4, 4, 0, tzinfo=UTC))
    timings = tuple(
        timing.model_copy(update={"measurement": timing.measurement.model_copy(update={"conditions": state})})
        for timing, state in zip(profile.timings, states, strict=True)
    )
    later = phone_states(500, datetime(2026, 3, 4, 5, 0, tzinfo=UTC))
    return {
        **documents,
        "profile": profile.model_copy(update={"timings": timings}),
        "verify": verify.model_copy(update={"conditions": later}),
    }


def with_sure_answers(documents: dict[str, Document], classes: int) -> dict[str, Document]:
    """The run with the test images on which the found network is surest."""
    right = tuple(
        SureAnswer(image=7 * i, label=i, answer=i, probability=0.999 - i / 100) for i in range(classes)
    )
    wrong = tuple(
        SureAnswer(image=5 * i + 1, label=i % classes, answer=(i + 1) % classes, probability=0.98 - i / 50)
        for i in range(12)
    )
    changed = {"surest_right": right, "surest_wrong": wrong}
    return {**documents, "verify": documents["verify"].model_copy(update=changed)}


def copies(documents: Mapping[str, Document], side: int, channels: int) -> Thumbnails:
    """Copies of those images."""
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    assert verify.images is not None
    images: Any = DrawnImages(side, channels)
    return thumbnails(verify, images, [one.name for one in verify.images.classes])


def with_a_front(documents: dict[str, Document]) -> dict[str, Document]:
    """The run with two networks more, found for other targets: one is faster, one more accurate."""
    documents = with_random_networks(documents, 3)
    factors = {"random_2": ("front_1", 0.7, -1.3), "random_3": ("front_2", 1.5, 0.4)}

    def changed(networks: Any) -> tuple[Any, ...]:
        out = []
        for n in networks:
            if n.name not in factors:
                out.append(n)
                continue
            name, factor, points = factors[n.name]
            update: dict[str, Any] = {"name": name, "role": "front"}
            if hasattr(n, "against_found"):
                medians = [factor * ms for ms in n.measurement.round_medians_ms]
                update["measurement"] = n.measurement.model_copy(
                    update={"median_ms": factor * n.measurement.median_ms, "round_medians_ms": tuple(medians)}
                )
                update["accuracy_percent"] = n.accuracy_percent + points
                update["accuracy_interval_95"] = tuple(a + points for a in n.accuracy_interval_95)
            out.append(n.model_copy(update=update))
        return tuple(out)

    prune = documents["prune"]
    assert isinstance(prune, PrunedNetworks)
    others = changed(prune.randoms)
    result = {
        **documents,
        "prune": prune.model_copy(update={"randoms": others[:1], "front": others[1:]}),
    }
    for stage in ("finetune", "convert", "verify"):
        document = documents[stage]
        assert isinstance(document, TrainedNetworks | ConvertedNetworks | Verification)
        result[stage] = document.model_copy(update={"networks": changed(document.networks)})
    return result


def ten_classes() -> str:
    """Small grey images of ten classes, all MobileNetV2s, a front of networks."""
    documents = with_a_front(with_sure_answers(sample_documents(), 10))
    result = build_result(documents, FACTS, stage_seconds=STAGE_SECONDS)
    return render_report(documents, result, copies(documents, 32, 1))


def few_photos() -> str:
    """Few photos, published weights, folds, a search in which latency has a price, a warm phone."""
    documents = on_a_warm_phone(with_sure_answers(searched_by_pairs(of_few_photos(sample_documents())), 6))
    folds = cross_validation(sample_folds())
    result = build_result(documents, FACTS, folds, STAGE_SECONDS)
    return render_report(documents, result, copies(documents, 128, 3))


def three_runs() -> str:
    """Runs of two seeds and on another device, side by side."""
    phone = DeviceInfo(
        kind="android", model="A Phone", soc="its chip", os_build="o", runtime="r", virtual=True
    )
    return render_comparison(
        compare_runs([compared("fashion", 0), compared("fashion-seed-1", 1), compared("phone", 1, phone)])
    )


def compared(name: str, seed: int, device: DeviceInfo = DEVICE) -> ComparedRun:
    """The sample's run as it is read for a comparison."""
    documents = sample_documents(device=device, found_accuracy=91.84 - 0.2 * seed, slowdown=1 + 0.1 * seed)
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    return ComparedRun(
        name=name,
        result=build_result(documents, FACTS.model_copy(update={"seed": seed})),
        verification=verify,
        correct_N=np.arange(10_000) >= 816 + 20 * seed,
        images={"dataset": "fashion_mnist"},
        settings={"search": {"config": {"epochs": 8}, "seed": seed}},
    )


def of_several_devices() -> str:
    """The run of one of four devices, with the cross table, for which another one's search was used."""
    documents = shared_with(sample_documents())
    return render_report(documents, build_result(documents, FACTS, cross=sample_cross_table(count=3)))


def runs_of_several_devices() -> str:
    """The same, side by side with another run."""
    one, other = compared("fashion-local", 0), compared("fashion-phone", 0, PHONE)
    result = one.result.model_copy(update={"cross_table": sample_cross_table(count=2)})
    return render_comparison(compare_runs([replace(one, result=result), other]))


PAGES: Mapping[str, Callable[[], str]] = {
    "ten_classes": ten_classes,
    "few_photos": few_photos,
    "three_runs": three_runs,
    "cross_table": lambda: render_cross_table(sample_cross_table()),
    "cross_table_untrained": lambda: render_cross_table(sample_cross_table(trained=False, count=2)),
    "of_several_devices": of_several_devices,
    "runs_of_several_devices": runs_of_several_devices,
}
