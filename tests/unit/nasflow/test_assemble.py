"""The wiring: the configuration that is shipped, the stages made of it, devices."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from support.photo_folder import photo_folder
from support.scripted_device import ScriptedDevice

from android_bench.local.device import LocalDevice
from nasflow.assemble import build_pipeline, build_stages, open_device, resolve_data, space_and_images
from nasflow.base.errors import NoUsableDeviceError, UsageError
from nasflow.cli.request import STAGE_NAMES
from nasflow.config import PipelineConfig
from nasflow.reference import configuration_md, pipeline_yaml
from pipeline.config.loader import load_config
from pipeline.events import Event
from pipeline.stage import Stage
from stages.data.config import DataConfig
from stages.measurement.config import MeasurementConfig
from stages.space import FOLDER
from stages.verify import Verify

OVERRIDES = ("profile", "latency", "prune", "precheck")


@pytest.fixture
def shipped(tmp_path: Path) -> PipelineConfig:
    file = tmp_path / "pipeline.yaml"
    file.write_text(pipeline_yaml(), encoding="utf-8")
    return load_config(PipelineConfig, file)


def _leaves(model: type[BaseModel], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _leaves(inner, (*parents, name))
        else:
            yield (*parents, name)


def test_every_stage_is_a_sub_command(tmp_path: Path) -> None:
    stages = build_stages(PipelineConfig(), tmp_path, LocalDevice())
    assert tuple(stage.name for stage in stages) == STAGE_NAMES


def test_the_file_and_the_reference_explain_every_key(shipped: PipelineConfig) -> None:
    text, reference = pipeline_yaml(), configuration_md()
    for *sections, name in _leaves(PipelineConfig):
        if sections and sections[0] in OVERRIDES and name in MeasurementConfig.model_fields:
            continue  # explained in the section ``measurement``
        assert f"| `{'.'.join((*sections, name))}` |" in reference
        block = text
        for depth, section in enumerate(sections):
            indent = "  " * depth
            found = re.search(rf"^{indent}{section}:\n((?:{indent}  .*\n)+)", block, re.MULTILINE)
            assert found, (sections, name)
            block = found[1]
        assert re.search(rf"^ *(?:# )?{name}: .* # \S", block, re.MULTILINE), name


def test_the_files_lines_fit_a_screen() -> None:
    lines = pipeline_yaml().splitlines()
    assert max(map(len, lines)) <= 120
    assert not [line for line in lines if "\t" in line or line != line.rstrip()]


def test_values_in_a_comment_are_valid_too(tmp_path: Path) -> None:
    text = pipeline_yaml()
    commented = list(re.finditer(r"^( {2,6})# ([a-z_]+): (?! )", text, flags=re.MULTILINE))
    names = [match[2] for match in commented]
    assert {"ms", "further", "pick_ms", "max_ratio", "train_images", "resolution", "path"} <= set(names)
    for number, match in enumerate(commented):
        changed = f"{text[: match.start()]}{match[1]}{match[2]}: {text[match.end() :]}"
        if match[2] == "ms":
            changed = re.sub(r"^  ratio: ", "  # ratio: ", changed, flags=re.MULTILINE)
        if match[2] in ("name", "revision", "test_images", "split_file", "folds"):  # not of Fashion-MNIST
            hub = "hub" if match[2] == "name" else "hub\n  name: beans"
            changed = changed.replace("source: fashion_mnist", f"source: {hub}")
        file = tmp_path / f"{number}.yaml"
        file.write_text(changed, encoding="utf-8")
        load_config(PipelineConfig, file)


def test_a_stage_takes_shared_timing_unless_it_has_its_own(tmp_path: Path) -> None:
    settings = {"measurement": {"rounds": 30, "min_ms": 7.0}, "latency": {"rounds": 4}}
    config = PipelineConfig.model_validate(settings)
    stages = {stage.name: stage.settings()["config"] for stage in stages_of(config, tmp_path)}
    rounds = {name: stages[name]["rounds"] for name in (*OVERRIDES, "verify")}
    assert rounds == {"profile": 30, "latency": 4, "prune": 30, "precheck": 6, "verify": 12}
    min_ms = {name: stages[name]["min_ms"] for name in (*OVERRIDES, "verify")}
    assert min_ms == dict.fromkeys(OVERRIDES, 7.0) | {"verify": 60.0}


def test_fingerprints_do_not_depend_on_where_the_project_lies(tmp_path: Path) -> None:
    def fingerprints(folder: Path) -> list[str | None]:
        events: list[Event] = []
        pipeline = build_pipeline(PipelineConfig(), folder, events.append)
        return [status.fingerprint for status in pipeline.status()]

    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b")


def test_a_phone_is_looked_for_only_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.getsockname()[1]))
        monkeypatch.setenv("HOME", str(tmp_path))
        device = open_device(PipelineConfig(device="android:no-such-serial"), tmp_path)
        device.close()
        device.renew()
        with pytest.raises(NoUsableDeviceError, match="no-such-serial"):
            device.info()


@pytest.mark.parametrize("name", ["android:", "androidx", "local:1", ""])
def test_a_device_that_is_none_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ValidationError, match="'android:SERIAL' or 'android:HOST:PORT'"):
        PipelineConfig(device=name)


def test_a_relative_data_folder_is_relative_to_the_configuration(tmp_path: Path) -> None:
    data = resolve_data(DataConfig(path="my-data"), tmp_path)
    assert data.path == str(tmp_path / "my-data")
    assert resolve_data(DataConfig(path=str(tmp_path)), Path("/elsewhere")).path == str(tmp_path)
    assert resolve_data(DataConfig(), tmp_path).path is None


def estimates(folder: Path, settings: dict[str, object]) -> dict[str, float]:
    config = PipelineConfig.model_validate(settings)
    return {stage.name: stage.estimate_seconds() for stage in stages_of(config, folder)}


def stages_of(config: PipelineConfig, folder: Path) -> tuple[Stage, ...]:
    return build_stages(config, folder, ScriptedDevice({}))


def test_every_further_network_counts_in_the_estimates(tmp_path: Path) -> None:
    alone = estimates(tmp_path, {})
    front = estimates(tmp_path, {"target": {"front": 4}})
    listed = estimates(tmp_path, {"target": {"further": [{"ratio": 0.1 * n} for n in range(2, 6)]}})
    assert front == listed
    assert {name for name in alone if front[name] > alone[name]} == {"prune", "finetune", "convert", "verify"}
    assert front["finetune"] == pytest.approx(3 * alone["finetune"]), "6 networks in place of 2"
    widths = estimates(tmp_path, {"baseline": {"widths": [0.5], "published_widths": []}})
    assert {name for name in alone if widths[name] < alone[name]} == {"baseline", "convert", "verify"}


def test_each_further_network_is_timed_once_in_every_round_of_verify_and_answers_once(tmp_path: Path) -> None:
    alone, front = (
        next(
            stage
            for stage in stages_of(PipelineConfig.model_validate(given), tmp_path)
            if stage.name == "verify"
        )
        for given in ({}, {"target": {"front": 4}})
    )
    assert isinstance(alone, Verify)
    assert isinstance(front, Verify)
    assert (alone.networks, front.networks) == (6, 10)
    config, overhead = alone.config, ScriptedDevice({}).overhead
    timing_s = (config.warmup_ms + config.min_ms + overhead.timing_ms) / 1000
    for rounds, least, most in zip(
        (config.rounds, config.max_rounds), alone.device_seconds(), front.device_seconds(), strict=True
    ):
        starting_s = (overhead.list_ms + overhead.process_ms) / 1000
        assert least == pytest.approx(rounds * ((6 + 2) * timing_s + starting_s)), "2 of the anchor"
        assert most - least == pytest.approx(rounds * 4 * timing_s)
    answers_s = [stage.estimate_seconds() - stage.device_seconds()[0] for stage in (alone, front)]
    assert answers_s[1] == pytest.approx(10 / 6 * answers_s[0])


def test_how_many_networks_are_expected_concerns_search_and_prune_alone(tmp_path: Path) -> None:
    alone, front = (
        {stage.name: stage.settings() for stage in stages_of(PipelineConfig.model_validate(given), tmp_path)}
        for given in ({}, {"target": {"front": 4}})
    )
    assert [name for name in alone if alone[name] != front[name]] == ["search", "prune"]


def test_own_images_have_as_many_channels_as_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photo_folder(tmp_path / "photos", {"ape": 20, "bee": 20})
    plain = (FOLDER / "fashion.yaml").read_text(encoding="utf-8")
    config = PipelineConfig.model_validate(
        {"data": {"source": "folder", "path": "photos"}, "space": {"name": "grey.yaml"}}
    )
    for channels in (1, 3):
        (tmp_path / "grey.yaml").write_text(f"{plain}\ninput_channels: {channels}\n", encoding="utf-8")
        space, data = space_and_images(config, tmp_path)
        assert (space.input_channels, data.channels, space.classes) == (channels, channels, 2)
    (tmp_path / "grey.yaml").write_text(f"{plain}\ninput_channels: 4\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"input_channels 4; images are read as grey \(1\)"):
        space_and_images(config, tmp_path)
