"""Every configuration in ``examples/`` is one that a run would take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.memory_context import memory_context

from android_bench.local.device import LocalDevice
from nasflow.assemble import build_stages
from nasflow.base.errors import InconclusiveError, UsageError
from nasflow.cli.app import main
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config
from stages.baseline import Baseline
from stages.nas.schedule import weights_rate, weights_recipe
from stages.nas.search_loop import ARCHITECTURE_BETAS
from stages.space import load_space
from stages.training.optimisation import sgd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIGURATIONS = sorted(EXAMPLES.glob("*/pipeline.yaml"))
WORKFLOW = EXAMPLES / "ci" / "nasflow.yml"


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_an_example_is_valid_and_its_stages_can_be_made(path: Path) -> None:
    config = load_config(PipelineConfig, path)
    assert config != PipelineConfig()
    stages = build_stages(config, path.parent, LocalDevice())
    (baseline,) = (stage for stage in stages if isinstance(stage, Baseline))
    assert len(baseline.networks()) == len(config.baseline.widths) + len(config.baseline.published_widths)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_an_example_says_only_what_differs_from_the_defaults(path: Path) -> None:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    defaults = PipelineConfig().model_dump(mode="json")
    same = [
        f"{section}.{key}"
        for section, keys in written.items()
        for key, value in keys.items()
        if defaults[section].get(key) == value
    ]
    assert same == []


def test_the_imagenet_example_has_the_papers_numbers() -> None:
    path = EXAMPLES / "imagenet" / "pipeline.yaml"
    config = load_config(PipelineConfig, path)
    space, search = load_space(config.space, path.parent), config.search
    assert (space.name, space.resolution, space.classes) == ("proxyless_mobile", 224, 1000)
    assert space.size == 6**6 * 7**15
    assert (search.warmup_epochs, search.epochs) == (40, 120)
    assert (search.batch_size, search.learning_rate, search.label_smoothing) == (256, 0.025, 0.1)
    assert (search.momentum, search.weight_decay) == (0.9, 4e-5)
    assert (search.gradient, search.architecture_every) == ("two_path", 5)
    assert (search.architecture_learning_rate, ARCHITECTURE_BETAS) == (1e-3, (0.0, 0.999))
    optimizer = sgd(torch.nn.Linear(2, 2), weights_recipe(search))
    assert optimizer.defaults["nesterov"] is True
    steps = 1_231_167 // search.batch_size  # ImageNet's training images less 50,000 for validation
    rates = [weights_rate(search, epoch * steps, steps) for epoch in (0, 40, 100, 160)]
    assert rates == pytest.approx([0.05, 0.025, 0.0125, 0.0])


def test_the_imagenet_example_says_that_its_images_cannot_be_loaded() -> None:
    path = EXAMPLES / "imagenet" / "pipeline.yaml"
    told = path.read_text(encoding="utf-8")
    assert "nasflow can load one data set, Fashion-MNIST" in told
    config = load_config(PipelineConfig, path)
    stages = {stage.name: stage for stage in build_stages(config, path.parent, LocalDevice())}
    with pytest.raises(UsageError, match="1000 classes; fashion_mnist has 32 pixels") as caught:
        stages["search"].run(memory_context("search"), latency=None)
    assert caught.value.exit_code == 2
    assert "can be profiled, but not searched" in caught.value.hint
    assert stages["profile"].estimate_seconds() > 0


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == set(
        re.findall(r"^\| \[(\w+)\]", listed, re.MULTILINE)
    )


def _steps() -> list[dict[str, Any]]:
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    steps: list[dict[str, Any]] = job["steps"]
    return steps


def test_the_workflow_speaks_of_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for step in _steps() for line in step.get("run", "").splitlines()]
    commands = [re.split(r" > | \|\| ", line.strip())[0] for line in lines if "nasflow " in line]
    called = [shlex.split(command)[1:] for command in commands if command.startswith("nasflow ")]
    assert [words[0] for words in called] == ["doctor", "run", "clean"]
    for words in called:
        assert main([words[0], "--help"]) == 0
        helped = capsys.readouterr().out
        assert all(word in helped for word in words[1:])


def test_the_workflow_knows_the_gates_exit_codes() -> None:
    (script,) = (step["run"] for step in _steps() if "nasflow run" in step.get("run", ""))
    assert re.findall(r"^ *(\d+)\)", script, re.MULTILINE) == ["0", "1", str(InconclusiveError.exit_code)]
    assert load_config(PipelineConfig, EXAMPLES / "ci" / "pipeline.yaml").verify.max_ratio is not None
