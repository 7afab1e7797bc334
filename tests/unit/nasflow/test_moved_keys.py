"""A file of an earlier version is read, and each of its old keys is named with its new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.scripted_device import ScriptedDevice

from nasflow import api
from nasflow.assemble import build_stages
from nasflow.base.errors import ConfigError, UsageError
from nasflow.cli.app import main
from nasflow.config import PipelineConfig
from nasflow.reference import QUICK_START, configuration_md
from pipeline.config.loader import load_config
from pipeline.events import Event
from stages.data.config import DataConfig

OLD_TEMPLATE = Path(__file__).with_name("pipeline_0_1.yaml")
OLD_FILE = """\
search:
  target:
    relative_to: mobilenet_v2
    ratio: 0.2
  price_rate: 0.01
  draws_per_step: 7
prune:
  front: 3
  use_at_least: 0.5
  judge_by: accuracy
finetune:
  epochs: 4
  start: fresh
"""


def read(folder: Path, text: str, *overrides: str) -> tuple[PipelineConfig, list[str]]:
    file = folder / "pipeline.yaml"
    file.write_text(text, encoding="utf-8")
    told: list[str] = []
    return load_config(PipelineConfig, file, overrides, tell=told.append), told


def test_an_old_file_means_what_it_meant(tmp_path: Path) -> None:
    config, told = read(tmp_path, OLD_FILE)
    assert config == PipelineConfig.model_validate(
        {
            "target": {"ratio": 0.2, "front": 3, "minimum_share": 0.5},
            "search": {"multiplier_rate": 0.01, "paths_per_step": 7},
            "training": {"epochs": 4, "start": "fresh"},
        }
    )
    assert len(told) == 7
    assert f"{tmp_path / 'pipeline.yaml'}, line 11: finetune is now called training;" in told[-1]
    assert "line 8: prune.front is now called target.front;" in "\n".join(told)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("search: {target_ms: 0.3}", {"ms": 0.3}),
        ("search: {targets: [0.3, {ratio: 0.2}]}", {"ms": 0.3, "further": [{"ratio": 0.2}]}),
        ("search: {targets: [{ratio: 0.2}, 0.1]}", {"ratio": 0.2, "further": [0.1]}),
        ("prune: {target_ms: 0.3}", {"pick_ms": 0.3}),
    ],
)
def test_every_form_of_the_old_target_is_read(tmp_path: Path, old: str, new: dict[str, Any]) -> None:
    config, told = read(tmp_path, old)
    assert config == PipelineConfig.model_validate({"target": new})
    assert len(told) == 1
    in_vain, said = read(tmp_path, "seed: 0", *([] if "targets" in old else [old_as_option(old)]))
    assert "targets" in old or (in_vain == config and said[0].startswith("--set "))


def test_the_file_that_version_0_1_wrote_is_read(tmp_path: Path) -> None:
    config, told = read(tmp_path, OLD_TEMPLATE.read_text(encoding="utf-8"))
    assert any("prune.generations has no effect any more;" in notice for notice in told)
    # Its 5,000 images for validation are one half for the architecture and one for choices, as today.
    assert config.data == DataConfig(architecture_images=2_500, choice_images=2_500)
    base = tmp_path / "stages"
    # What it says of these is not today's default: the estimator, epochs, the weights' rate, more candidates,
    # a wider limit.
    searched = {"estimator": "two_path", "epochs": 2, "learning_rate": 0.1}
    search = QUICK_START.search.model_copy(update=searched)
    prune = QUICK_START.prune.model_copy(update={"candidates": 5})
    convert = QUICK_START.convert.model_copy(update={"max_relative_diff": 1e-3})
    today = QUICK_START.model_copy(
        update={"data": config.data, "search": search, "prune": prune, "convert": convert}
    )
    theirs, ours = (
        {stage.name: stage.settings() for stage in build_stages(each, base, ScriptedDevice({}))}
        for each in (config, today)
    )
    assert theirs == ours


def test_old_keys_of_images_are_read_and_the_name_of_a_hub_data_set_is_no_old_key(tmp_path: Path) -> None:
    config, told = read(tmp_path, "data: {name: fashion_mnist, folder: x, validation_images: 301}")
    assert config.data == DataConfig(path="x", architecture_images=150, choice_images=151)
    assert len(told) == 3
    today, said = read(tmp_path, "data: {source: hub, name: beans}")
    assert (today.data.source, today.data.name, said) == ("hub", "beans", [])
    same, notices = read(tmp_path, "seed: 0", "data.folder=x", "data.name=fashion_mnist")
    assert same.data == DataConfig(path="x")
    assert len(notices) == 2


def test_keys_of_the_search_before_probabilities_decided_are_read(tmp_path: Path) -> None:
    """What ranked by evaluations after the search has no effect any more, and is said to have none."""
    text = (
        "search: {gradient: reinforce, reinforce: {draws_per_step: 5, baseline_decay: 0.9}}\n"
        "prune: {rank_by: value, evaluations: 600, shortlist: 15, select_by: loss, candidates: 4}\n"
    )
    config, told = read(tmp_path, text)
    assert config == PipelineConfig.model_validate(
        {
            "search": {"estimator": "reinforce", "paths_per_step": 5, "baseline_decay": 0.9},
            "prune": {"candidates": 4},
        }
    )
    said = "\n".join(told)
    assert "search.gradient is now called search.estimator;" in said
    for gone in ("rank_by", "evaluations", "shortlist", "select_by"):
        assert f"prune.{gone} has no effect any more;" in said
    assert len(told) == 7


def old_as_option(old: str) -> str:
    section, rest = old.split(": {", 1)
    key, value = rest[:-1].split(": ", 1)
    return f"{section}.{key}={value}"


def test_an_old_list_of_targets_may_be_an_option(tmp_path: Path) -> None:
    config, told = read(tmp_path, "target: {ratio: 0.4}", "search.targets=[0.3, 0.2]")
    assert (config.target.first, config.target.further) == (0.3, (0.2,))
    assert "search.targets is now called target.ms and target.further" in told[0]


@pytest.mark.parametrize("order", [1, -1])
def test_the_old_way_to_another_target_still_works(tmp_path: Path, order: int) -> None:
    options = ["search.target=null", "search.target_ms=0.12"][::order]
    config, _ = read(tmp_path, OLD_FILE, *options)
    assert (config.target.first, config.target.front) == (0.12, 3)
    alone, _ = read(tmp_path, OLD_FILE, "search.target=null")
    assert (alone.target.ratio, alone.target.front) == (None, 3)


def test_old_keys_within_an_option_are_read(tmp_path: Path) -> None:
    config, told = read(tmp_path, "seed: 1", "search={target_ms: 0.3, epochs: 7}", "prune={generations: 2}")
    assert (config.target.first, config.search.epochs) == (0.3, 7)
    assert len(told) == 2
    assert read(tmp_path, "seed: 1", "prune.generations=2")[0] == PipelineConfig(seed=1)


def test_an_old_section_hides_no_wrong_new_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="training = 5: it should be a section"):
        read(tmp_path, "training: 5\nfinetune: {epochs: 2}\n")


def test_an_old_key_beside_its_new_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"line 2: finetune.epochs = 2: it is the old name of training.epochs"
    ):
        read(tmp_path, "training: {epochs: 3}\nfinetune: {epochs: 2}\n")


def test_a_wrong_value_of_an_old_key_is_found_on_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'line 3: training.epochs = "many": it should be a whole number'):
        read(tmp_path, "seed: 1\nfinetune:\n  epochs: many\n")
    with pytest.raises(ConfigError, match=r"line 1: target\.further = 5: it should be a list"):
        read(tmp_path, "search: {targets: 5}\n")


def test_an_old_section_that_is_empty_is_read(tmp_path: Path) -> None:
    config, told = read(tmp_path, "finetune:\n")
    assert config == PipelineConfig()
    assert len(told) == 1


def test_commands_tell_of_old_keys(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.yaml").write_text("finetune: {epochs: 3}\n", encoding="utf-8")
    assert main(["status", "--config", str(tmp_path / "pipeline.yaml"), "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["stages"]
    assert "note: " in err
    assert "finetune is now called training" in err


def test_the_python_face_prints_nothing_of_old_keys(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.yaml").write_text("finetune: {epochs: 3}\n", encoding="utf-8")
    told: list[Event] = []
    with pytest.raises(UsageError):
        api.run(tmp_path / "pipeline.yaml", ["space.resolution=64"], on_event=told.append)
    assert capfd.readouterr() == ("", "")
    assert any("finetune is now called training" in getattr(event, "text", "") for event in told)


def test_the_reference_lists_every_old_key() -> None:
    text = configuration_md()
    for old in PipelineConfig.MOVED:
        assert f"| `{old}` |" in text
