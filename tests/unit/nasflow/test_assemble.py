"""The wiring: the configuration that is shipped, the stages made of it, devices."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from support.scripted_device import ScriptedDevice

from android_bench.local.device import LocalDevice
from nasflow.assemble import PipelineConfig, build_pipeline, build_stages, open_device, resolve_data
from nasflow.base.errors import NoUsableDeviceError
from nasflow.cli.request import STAGE_NAMES
from nasflow.commands.init import template
from pipeline.config.loader import load_config
from pipeline.events import Event
from pipeline.stage import Stage
from stages.data.config import DataConfig


@pytest.fixture
def shipped(tmp_path: Path) -> PipelineConfig:
    file = tmp_path / "pipeline.yaml"
    file.write_text(template(), encoding="utf-8")
    return load_config(PipelineConfig, file)


def _leaves(model: type[BaseModel], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _leaves(inner, (*parents, name))
        else:
            yield (*parents, name)


def test_every_stage_is_a_sub_command_and_a_section(tmp_path: Path) -> None:
    stages = build_stages(PipelineConfig(), tmp_path, LocalDevice())
    assert tuple(stage.name for stage in stages) == STAGE_NAMES
    assert set(STAGE_NAMES) <= PipelineConfig.model_fields.keys()


def test_the_template_explains_every_key_in_its_section(shipped: PipelineConfig) -> None:
    text = template()
    for section, *rest in _leaves(PipelineConfig):
        if not rest:
            assert re.search(rf"^{section}: ", text, re.MULTILINE), section
            continue
        lines = re.search(rf"^{section}:.*\n((?:  .*\n|\n)+)", text, re.MULTILINE)
        assert lines, section
        assert re.search(rf"^  (?:# )?{rest[0]}:", lines[1], re.MULTILINE), (section, rest)


def test_the_templates_lines_fit_a_screen_and_are_explained() -> None:
    lines = template().splitlines()
    assert max(map(len, lines)) <= 120
    assert "\t" not in template()
    before = ""
    for line in lines:
        key = re.match(r" *(?:# )?([a-z0-9_]+):(?! \|)", line)
        is_repeated = key and key[1] in before
        assert (
            not key or "#" in line or is_repeated or key[1] in {"data", "space", "runtime", "relative_to"}
        ), line
        before += line


def test_values_in_a_comment_are_valid_too(tmp_path: Path) -> None:
    assert "(one of these three)" in template()
    keys = ("target_ms", "targets", "max_ratio", "train_images", "width_multiplier", "resolution", "folder")
    commented = list(re.finditer(rf"^  # ((?:{'|'.join(keys)}): )", template(), flags=re.MULTILINE))
    assert {match[1].rstrip(": ") for match in commented} == set(keys)
    for number, match in enumerate(commented):
        text = template()[: match.start()] + f"  {match[1]}" + template()[match.end() :]
        if match[1].startswith("target"):
            text = re.sub(r"^  target:.*\n(    .*\n)+", "", text, flags=re.MULTILINE)
        file = tmp_path / f"{number}.yaml"
        file.write_text(text, encoding="utf-8")
        load_config(PipelineConfig, file)


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
    data = resolve_data(DataConfig(folder="my-data"), tmp_path)
    assert data.folder == str(tmp_path / "my-data")
    assert resolve_data(DataConfig(folder=str(tmp_path)), Path("/elsewhere")).folder == str(tmp_path)
    assert resolve_data(DataConfig(), tmp_path).folder is None


def estimates(folder: Path, settings: dict[str, object]) -> dict[str, float]:
    config = PipelineConfig.model_validate(settings)
    return {stage.name: stage.estimate_seconds() for stage in stages_of(config, folder)}


def stages_of(config: PipelineConfig, folder: Path) -> tuple[Stage, ...]:
    return build_stages(config, folder, ScriptedDevice({}))


def test_every_further_network_counts_in_the_estimates(tmp_path: Path) -> None:
    alone = estimates(tmp_path, {})
    front = estimates(tmp_path, {"prune": {"front": 4}})
    listed = estimates(tmp_path, {"search": {"targets": [{"ratio": 0.1 * n} for n in range(1, 6)]}})
    assert front == listed
    assert {name for name in alone if front[name] > alone[name]} == {"prune", "finetune", "convert", "verify"}
    assert front["finetune"] == pytest.approx(3 * alone["finetune"]), "6 networks in place of 2"
    assert 1.4 * alone["verify"] < front["verify"] < 10 / 6 * alone["verify"], "10 in place of 6"
    widths = estimates(tmp_path, {"baseline": {"widths": [0.5], "published_widths": []}})
    assert {name for name in alone if widths[name] < alone[name]} == {"baseline", "convert", "verify"}


def test_how_many_networks_are_expected_is_in_no_fingerprint_but_prunes(tmp_path: Path) -> None:
    alone, front = (
        {stage.name: stage.settings() for stage in stages_of(PipelineConfig.model_validate(given), tmp_path)}
        for given in ({}, {"prune": {"front": 4}})
    )
    assert [name for name in alone if alone[name] != front[name]] == ["prune"]
