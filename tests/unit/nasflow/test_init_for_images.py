"""``nasflow init --data``: settings that fit the images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.photo_folder import contents, photo_folder

from android_bench.local.device import LocalDevice
from nasflow.assemble import build_stages
from nasflow.cli.app import main
from nasflow.config import PipelineConfig
from nasflow.own_images.first_settings import FEW, PRETRAINED_UP_TO, Seen, first_settings
from nasflow.reference import pipeline_yaml
from pipeline.config.loader import load_config
from stages.nas.config import SearchConfig, check_architecture_steps
from stages.search import Search
from stages.training.recipe import Recipe

SEEN = Seen(
    images=1200,
    classes=9,
    shorter_side=480,
    train_images=720,
    choice_images=120,
    test_images=240,
    imbalance=1.0,
    cores=2,
    pretrained=True,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _config(seen: Seen) -> PipelineConfig:
    values = dict(first_settings(seen).values)
    values["data"] = {**values["data"], "source": "folder", "path": "photos"}
    return PipelineConfig.model_validate(values)


def _reasons(seen: Seen) -> str:
    return "\n".join(f"{setting}: {reason}" for setting, reason in first_settings(seen).reasons)


@settings(max_examples=40)
@given(
    st.builds(
        Seen,
        images=st.integers(6, 2_000_000),
        classes=st.integers(2, 2000),
        shorter_side=st.integers(1, 6000),
        train_images=st.integers(2, 1_500_000),
        choice_images=st.integers(1, 100_000),
        test_images=st.integers(1, 100_000),
        imbalance=st.floats(1, 1000),
        cores=st.integers(1, 256),
        pretrained=st.booleans(),
    )
)
def test_whatever_the_images_are_the_settings_are_valid_and_an_epoch_has_architecture_steps(
    seen: Seen,
) -> None:
    config = _config(seen)
    batch = min(config.search.batch_size, seen.train_images)
    check_architecture_steps(config.search, seen.train_images // batch)
    assert config.space.resolution in {32, 64, 96, 128, 160, 192, 224}
    assert isinstance(config.space.resolution, int)
    assert config.space.resolution <= max(32, seen.shorter_side)


def test_few_images_start_from_pretrained_weights() -> None:
    config = _config(SEEN)
    assert (config.space.name, config.space.pretrained) == ("lite0", "auto")
    assert config.data.augmentation.preset == "light"
    assert config.training.pretrained_rate < 0.01
    assert "ImageNet" in _reasons(SEEN)


def test_without_the_package_few_images_start_from_random_weights_in_narrower_networks() -> None:
    seen = replace(SEEN, pretrained=False)
    config = _config(seen)
    assert config.space.pretrained == "none"
    assert config.space.width_multiplier is not None
    assert config.space.width_multiplier < 1
    assert config.data.augmentation.preset == "strong"
    assert "pip install 'nasflow[pretrained]'" in _reasons(seen)
    assert config.training.epochs > _config(SEEN).training.epochs


def test_many_images_are_learned_from_scratch_in_a_large_space() -> None:
    many = replace(SEEN, images=PRETRAINED_UP_TO + 1, train_images=60_000, cores=64)
    for seen in (many, replace(many, images=FEW, train_images=3000, pretrained=False)):
        config = _config(seen)
        assert config.space.name == "proxyless_mobile"
        assert config.data.augmentation.preset == "light"
        assert config.training.epochs >= 50
        named = "pip install 'nasflow[pretrained]'" in _reasons(seen)
        assert named == (not seen.pretrained), "where the weights would help and are missing"


@pytest.mark.parametrize(("images", "hours"), [(FEW - 1, 1), (6000, 1), (20_000, 4), (PRETRAINED_UP_TO, 20)])
def test_pretrained_weights_are_used_for_thousands_of_images_too(images: int, hours: int) -> None:
    seen = replace(SEEN, images=images, train_images=images * 6 // 10, test_images=images // 5)
    config = _config(seen)
    assert (config.space.name, config.space.pretrained) == ("lite0", "auto")
    assert (config.target.relative_to, config.data.augmentation.preset) == ("full", "light")
    assert 6 <= config.training.epochs <= 12
    assert first_settings(seen).seconds < 1.5 * 3600 * hours
    assert "start from ImageNet weights" in _reasons(seen)


def test_a_faster_computer_takes_larger_images_and_small_images_stay_small() -> None:
    slow, fast = _config(SEEN), _config(replace(SEEN, cores=64))
    assert isinstance(slow.space.resolution, int)
    assert isinstance(fast.space.resolution, int)
    assert slow.space.resolution < fast.space.resolution == 224
    assert _config(replace(SEEN, shorter_side=100)).space.resolution == 96


def test_more_images_take_fewer_epochs_and_the_time_is_stated() -> None:
    many = replace(SEEN, images=4500, train_images=2700)
    assert _config(many).training.epochs < _config(SEEN).training.epochs
    assert first_settings(SEEN).seconds < 3600
    assert "of this computer, as a rough estimate" in _reasons(SEEN)


@pytest.mark.parametrize("train_images", [40, 300, 1500, 100_000])
def test_few_images_are_few_steps_of_which_each_evaluates_more_networks(train_images: int) -> None:
    seen = replace(SEEN, images=2 * train_images, train_images=train_images)
    search = _config(seen).search
    steps = search.epochs * (train_images // search.batch_size // search.architecture_every)
    usual = SearchConfig()
    assert usual.paths_per_step <= search.paths_per_step <= 20
    assert steps * search.paths_per_step >= 400 or search.paths_per_step == 20
    if train_images == 100_000:
        assert search.paths_per_step == usual.paths_per_step
        assert search.architecture_every == usual.architecture_every
    if train_images == 40:
        assert search.architecture_every == 1
        assert search.paths_per_step > 2 * usual.paths_per_step
    assert f"evaluates {search.paths_per_step} networks (search.paths_per_step)" in _reasons(seen)


def test_shared_weights_learn_at_a_quarter_of_a_trainings_rate() -> None:
    config = _config(SEEN)
    assert config.search.learning_rate == pytest.approx(config.training.learning_rate / 4)
    assert SearchConfig().learning_rate == pytest.approx(Recipe().learning_rate / 4)


def test_unequal_classes_get_weights_and_few_test_images_the_hint_of_folds() -> None:
    assert _config(SEEN).data.balance == "none"
    unequal = replace(SEEN, imbalance=5.1, test_images=149)
    assert _config(unequal).data.balance == "weights"
    assert "data.folds 5 (not set)" in _reasons(unequal)
    assert _config(unequal).data.folds is None
    assert "data.folds" not in _reasons(SEEN)


def test_the_file_is_valid_explains_itself_and_its_stages_can_be_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = photo_folder(tmp_path / "my photos", {"ape": 30, "bee": 30}, width=200, height=150)
    before = contents(root)
    assert main(["init", "--data", str(root), str(tmp_path / "project"), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    file = tmp_path / "project" / "pipeline.yaml"
    assert said["written"] == str(file)
    assert said["seen"]["images"] == 60
    config = load_config(PipelineConfig, file)
    assert (config.data.source, config.data.path) == ("folder", "../my photos")
    assert config.space.resolution == 128
    assert config.baseline.published_widths == ()
    assert dict(config) == dict(PipelineConfig.model_validate(said["values"]))
    text = file.read_text(encoding="utf-8")
    assert "# 60 images in 2 classes" in text
    assert all(f"# {reason['setting']}: " in text for reason in said["reasons"])
    stages = build_stages(config, file.parent, LocalDevice())
    (search,) = (stage for stage in stages if isinstance(stage, Search))
    search.check()
    assert contents(root) == before
    assert pipeline_yaml() != text


def test_it_says_what_it_saw_and_the_next_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_folder(tmp_path / "photos", {"ape": 20, "bee": 20})
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--data", "photos"]) == 0
    said = capfd.readouterr().out
    assert "40 images in 2 classes (a folder per class)" in said
    assert said.endswith("Next: nasflow run\n")
    assert load_config(PipelineConfig, tmp_path / "pipeline.yaml").data.path == "photos"
    assert main(["init", "--data", "photos"]) == 2
    assert "--force" in capfd.readouterr().err


def test_a_path_that_yaml_would_misread_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = 'a: b # "c" ' + "é" * 40
    photo_folder(tmp_path / name, {"ape": 20, "bee": 20})
    assert main(["init", "--data", name]) == 0
    assert load_config(PipelineConfig, tmp_path / "pipeline.yaml").data.path == name


def test_images_elsewhere_are_named_by_their_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photo_folder(tmp_path / "a" / "photos", {"ape": 20, "bee": 20})
    here = tmp_path / "b" / "c"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert main(["init", "--data", str(root)]) == 0
    assert load_config(PipelineConfig, here / "pipeline.yaml").data.path == str(root)


def test_images_that_cannot_be_learned_from_leave_no_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo_folder(tmp_path / "photos", {"ape": 20, "bee": 1})
    assert main(["init", "--data", str(tmp_path / "photos"), str(tmp_path / "p")]) == 2
    assert "bee has 1" in capfd.readouterr().err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("words", [["init", "--data", "gone", "p"], ["data", "split", "gone", "--out", "s"]])
def test_images_that_are_not_there_are_said_to_be_missing(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 8
    assert f"There is no folder or table {tmp_path / 'gone'}" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
