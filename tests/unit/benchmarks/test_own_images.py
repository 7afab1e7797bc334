"""The benchmark on one's own images: its control, its further training, and its intervals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.scripted_device import ScriptedDevice

from benchmarks._ablation import Finished
from benchmarks._fresh_and_shuffled import FinetuneAndFresh, shuffled, with_fresh, with_shuffled_search
from benchmarks._hierarchical import Run, Score, difference, speedup
from benchmarks._pictures import Package
from benchmarks.own_images import RANDOM_NETWORKS, SETS, configuration, order_of_runs
from nasflow.assemble import build_stages
from nasflow.base.errors import DatasetMissingError
from stages.data.catalogue import Catalogue, catalogue_of
from stages.data.dataset import Part

PARTS: tuple[Part, ...] = ("train", "architecture", "choice", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of twenty pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(60):
        file = folder / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        tiles = np.random.default_rng(number).integers(0, 256, (7, 7, 3), np.uint8)  # no two look alike
        Image.fromarray(tiles).resize((56, 56), Image.Resampling.NEAREST).save(file)
    return folder


def _parts(catalogue: Catalogue, part: Part) -> dict[str, str]:
    """Class by the image's hash."""
    images = catalogue.inventory
    return {
        images.images[number].sha256 or "": images.listing.images[number].label
        for number in catalogue.numbers(part)
    }


# --- the order -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("full", "runs", "controls"), [(False, 2, 1), (True, 20, 10)])
def test_every_run_comes_before_its_control_and_one_seed_of_all_splits_before_another(
    full: bool, runs: int, controls: int
) -> None:
    order = order_of_runs(full)
    of_runs = [(name, fold, seed) for name, fold, seed, control in order if not control]
    of_controls = [(name, fold, seed) for name, fold, seed, control in order if control]
    assert (len(set(of_runs)), len(set(of_controls))) == (runs, controls)
    assert [seed for _, _, seed in of_runs] == sorted(seed for _, _, seed in of_runs)
    assert all(order.index((*run, False)) < order.index((*run, True)) for run in of_controls)


# --- the pipelines ---------------------------------------------------------------------------------


def test_shuffled_labels_leave_images_parts_and_sizes_of_classes(folder: Path, tmp_path: Path) -> None:
    before = sorted(folder.rglob("*"))
    data = configuration("photos", folder, 1, 0).data
    own, other = catalogue_of(data), catalogue_of(shuffled(data, tmp_path))
    for part in PARTS:
        true, permuted = _parts(own, part), _parts(other, part)
        assert true.keys() == permuted.keys()
        assert Counter(true.values()) == Counter(permuted.values())
        assert (true == permuted) is (part == "test")
    assert sorted(folder.rglob("*")) == before


def test_the_control_takes_over_all_that_does_not_search(folder: Path, tmp_path: Path) -> None:
    stages = build_stages(configuration("photos", folder, 0, 0), tmp_path, ScriptedDevice({}))
    control = with_shuffled_search(stages, tmp_path / "shuffled")
    changed = {
        own.name
        for own, other in zip(stages, control, strict=True)
        if own.fingerprint({}, own.environment()) != other.fingerprint({}, other.environment())
    }
    assert changed == {"search", "prune"}


def test_the_found_network_from_random_weights_gets_the_passes_of_the_search_too(folder: Path) -> None:
    config = configuration("photos", folder, 0, 0)
    stages = with_fresh(build_stages(config, folder, ScriptedDevice({})), config)
    (finetune,) = (stage for stage in stages if isinstance(stage, FinetuneAndFresh))
    passes = config.search.warmup_epochs + config.search.epochs
    assert finetune.fresh_epochs == config.training.epochs + passes
    assert config.prune.random_networks == RANDOM_NETWORKS


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    package = Package(tmp_path / "missing", "some-pictures", {"a": "a"})
    with pytest.raises(DatasetMissingError, match="some-pictures"):
        package.link(tmp_path / "links")


def test_links_to_pictures_are_a_folder_for_each_class(folder: Path, tmp_path: Path) -> None:
    package = Package(folder, "pictures", {"first": "a", "second": "b"})
    links = package.link(package.link(tmp_path / "links"))  # twice is as once
    assert len(list((links / "first").iterdir())) == len(list((links / "second").iterdir())) == 20
    config = configuration("photos", links, 0, 0)
    assert catalogue_of(config.data).class_names == ("first", "second")
    assert set(SETS) == {"photos", "drawings"}


# --- the intervals ---------------------------------------------------------------------------------


def _run(fold: int, seed: int, correct: dict[str, NDArray[np.bool_]], rounds: dict[str, Any]) -> Run:
    networks = {
        name: SimpleNamespace(measurement=SimpleNamespace(round_medians_ms=ms)) for name, ms in rounds.items()
    }
    finished = SimpleNamespace(
        correct=correct,
        verified=networks.__getitem__,
        named=lambda role: [name for name in correct if name.startswith(role)],
    )
    return Run("photos", fold, seed, cast(Finished, finished), cast(Finished, finished))


def _runs(share: float, *, images: int = 300) -> list[Run]:
    """Two seeds of five splits; the others are right on 60 % of the images, the found one on ``share``."""
    random = np.random.default_rng(3)
    names = {"found": share, "full": 0.6, "random": 0.6, "random_2": 0.6}
    return [
        _run(
            fold,
            seed,
            {name: random.random(images) < part for name, part in names.items()},
            {"found": random.normal(1.0, 0.01, 12), "full": random.normal(2.0, 0.02, 12)},
        )
        for fold in range(5)
        for seed in range(2)
    ]


@pytest.mark.parametrize("others", [("full",), None])
def test_the_interval_of_a_difference_holds_it(others: tuple[str, ...] | None) -> None:
    estimate = difference(_runs(0.7), Score("found", others), replicates=400)
    assert estimate.low < 0.1 < estimate.high
    assert estimate.low > 0


def test_equal_networks_do_not_differ() -> None:
    estimate = difference(_runs(0.7), Score("found", ("found",)), replicates=50)
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_few_images_leave_a_wide_interval() -> None:
    few, many = (
        difference(_runs(0.7, images=images), Score("found", ("full",)), replicates=400)
        for images in (30, 1000)
    )
    assert few.high - few.low > 3 * (many.high - many.low)


def test_the_speed_up_is_that_of_the_rounds() -> None:
    estimate = speedup(_runs(0.7), "full", replicates=200)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.value == pytest.approx(2.0, rel=0.02)
    assert estimate.high - estimate.low < 0.1
