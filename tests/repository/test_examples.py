"""Every configuration in ``examples/`` is one that a run would take."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from PIL import Image

from android_bench.local.device import LocalDevice
from nasflow.assemble import build_stages
from nasflow.base.errors import InconclusiveError
from nasflow.cli.app import main
from nasflow.commands import verify
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config
from stages.baseline import Baseline
from stages.nas.estimators.priced import BETAS
from stages.nas.schedule import weights_rate, weights_recipe
from stages.nas.targets import RelativeTarget
from stages.space import load_space
from stages.training.optimisation import sgd
from stages.training.recipe import resolved_start

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIGURATIONS = sorted(EXAMPLES.glob("*/pipeline.yaml"))
WORKFLOW, GATE = EXAMPLES / "ci" / "nasflow.yml", EXAMPLES / "ci" / "gate.yml"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twenty pictures each."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(40):
        file = folder / ("cats", "dogs")[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        tiles = np.random.default_rng(number).integers(0, 256, (7, 7, 3), np.uint8)  # no two look alike
        Image.fromarray(tiles).resize((70, 70), Image.Resampling.NEAREST).save(file)
    return folder


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_an_example_is_valid_and_its_stages_can_be_made(path: Path, images: Path) -> None:
    config = load_config(PipelineConfig, path)
    assert config != PipelineConfig()
    if (
        config.data.source == "folder"
    ):  # ours, in place of the person's; ImageNet's parts are too large for it
        few = {"path": str(images), "architecture_images": None, "choice_images": None}
        config = config.model_copy(update={"data": config.data.model_copy(update=few)})
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
    path = EXAMPLES / "imagenet_proxyless" / "pipeline.yaml"
    config = load_config(PipelineConfig, path)
    space, search = load_space(config.space, path.parent), config.search
    assert (space.name, space.resolution, space.classes) == ("proxyless_mobile", 224, 1000)
    assert space.size == 6**6 * 7**15
    assert (search.warmup_epochs, search.epochs) == (40, 120)
    assert (search.batch_size, search.learning_rate, search.label_smoothing) == (256, 0.025, 0.1)
    assert (search.momentum, search.weight_decay) == (0.9, 4e-5)
    assert (search.estimator, search.architecture_every) == ("two_path", 5)
    assert (search.architecture_learning_rate, BETAS) == (1e-3, (0.0, 0.999))
    training = config.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (300, 256, 0.05)
    assert training.start == "fresh"
    assert (config.data.architecture_images, config.data.choice_images) == (25_000, 25_000)
    optimizer = sgd(torch.nn.Linear(2, 2), weights_recipe(search))
    assert optimizer.defaults["nesterov"] is True
    steps = 1_231_167 // search.batch_size  # ImageNet's training images less 50,000 for validation
    rates = [weights_rate(search, epoch * steps, steps) for epoch in (0, 40, 100, 160)]
    assert rates == pytest.approx([0.05, 0.025, 0.0125, 0.0])


@pytest.mark.parametrize("name", ["few_photos", "own_folder"])
def test_examples_for_ones_own_images_start_from_published_weights(name: str) -> None:
    path = EXAMPLES / name / "pipeline.yaml"
    config = load_config(PipelineConfig, path)
    space = load_space(config.space, path.parent)
    assert resolved_start(config.training.start, space) == "pretrained"
    assert config.target.first == RelativeTarget(relative_to="full", ratio=0.6)
    assert config.baseline.full
    assert (path.parent / "README.md").is_file()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_figures_in_a_readme_are_those_of_its_configuration(path: Path) -> None:
    text, configuration = path.read_text(encoding="utf-8"), path.with_name("pipeline.yaml")
    written = yaml.safe_load(configuration.read_text(encoding="utf-8")) if configuration.is_file() else {}
    for section, key, value in re.findall(r"`(\w+)\.(\w+): ([^`]+)`", text):
        assert written[section][key] == yaml.safe_load(value), f"{section}.{key}"
    bare = re.findall(r"`\w+\.\w+`[^.`]*\d", text)
    assert bare == [], "a key's value stands with the key, where it is compared: `verify.max_ratio: 0.65`"


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    imagenet = load_config(PipelineConfig, EXAMPLES / "imagenet_proxyless" / "pipeline.yaml")
    epochs = f"{imagenet.search.warmup_epochs} + {imagenet.search.epochs} epochs of search"
    assert f"{epochs} and {imagenet.training.epochs} of training" in listed
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == set(
        re.findall(r"^\| \[(\w+)\]", listed, re.MULTILINE)
    )


def _steps(workflow: Path = WORKFLOW) -> list[dict[str, Any]]:
    (job,) = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
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


@pytest.mark.parametrize(
    ("schema", "path"),
    [("workflows", WORKFLOW), ("workflows", GATE), ("actions", EXAMPLES.parent / "action.yml")],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_what_github_runs_keeps_its_published_schema(schema: str, path: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.github-{schema}"]
    done = subprocess.run([*words, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / path.name
    broken.write_text(path.read_text(encoding="utf-8").replace("runs", "walks"), encoding="utf-8")
    assert subprocess.run([*words, str(broken)], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("path", [WORKFLOW, GATE], ids=lambda path: path.name)
def test_a_workflow_installs_the_version_that_it_was_written_for(path: Path) -> None:
    project = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text(encoding="utf-8"))
    environment = yaml.safe_load(path.read_text(encoding="utf-8"))["env"]
    assert environment["NASFLOW_REF"] == f"v{project['project']['version']}"


NOT_IN_THE_ACTION = {
    "--result": "the action names its file",
    "--junit": "the action names its file",
    "--summary": "that of the step",
    "--recompute": "for a person who has a result file",
    "--self-test": "for a person, before a gate is believed",
    "--seed": "a key of the input 'set', as in seed=3",
    "--json": "the result file has all of it",
    **dict.fromkeys(
        ("--from", "--force", "--dry-run", "--front", "--full-length"), "they belong to the stage"
    ),
}


def test_the_action_has_every_option_of_the_gate_or_it_is_said_why_not() -> None:
    action = yaml.safe_load((EXAMPLES.parent / "action.yml").read_text(encoding="utf-8"))
    (step,) = (step for step in action["runs"]["steps"] if step.get("id") == "gate")
    given = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", step["run"]))
    program = typer.Typer()
    program.command()(verify.command)
    options = typer.main.get_command(program).params
    offered = {word for option in options for word in option.opts if word.startswith("--")}
    offered -= {"--install-completion", "--show-completion"}
    assert given | NOT_IN_THE_ACTION.keys() == offered
    own = {"--result", "--junit", "--summary"}
    assert given & NOT_IN_THE_ACTION.keys() == own
    used = set(re.findall(r"\$\{\{ inputs\.([a-z-]+) \}\}", yaml.safe_dump(action["runs"])))
    assert used == action["inputs"].keys(), "every input is used"


def test_the_workflow_knows_the_gates_exit_codes() -> None:
    (script,) = (step["run"] for step in _steps() if "nasflow run" in step.get("run", ""))
    assert re.findall(r"^ *(\d+)\)", script, re.MULTILINE) == ["0", "1", str(InconclusiveError.exit_code)]
    assert load_config(PipelineConfig, EXAMPLES / "ci" / "pipeline.yaml").verify.max_ratio is not None
