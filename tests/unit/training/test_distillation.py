"""Learning from a trained network, in the final training and within a supernet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support.memory_context import memory_context
from support.toy_search import DATA, SPACE, latency_model
from torch import nn

from nasflow.assemble import build_stages, open_device
from nasflow.base.errors import IntegrityError, UsageError
from nasflow.config import PipelineConfig
from stages.data.config import open_dataset
from stages.nas.config import SearchConfig
from stages.nas.sandwich import extreme_paths, sandwich_loss
from stages.nas.search_loop import run_search
from stages.nn.network import Network, save_weights
from stages.nn.supernet import Supernet
from stages.training.distillation import ARCHITECTURE, WEIGHTS, Distillation, TeacherConfig
from stages.training.loop import Trained
from stages.training.recipe import Recipe
from stages.training.task import Course, Task, course_as_json, course_of_json
from stages.training.teacher_check import check_teacher, doubtful_teacher
from stages.training.together import train_together

NET = SPACE.network((0, 1, 1, 1))


def kept_teacher(folder: Path, bias: float = 0.0) -> TeacherConfig:
    torch.manual_seed(7)
    network = Network(NET)
    nn.init.normal_(network.blocks[-1].dense.weight, 0.0, 1.0)  # type: ignore[union-attr,arg-type]
    nn.init.constant_(network.blocks[-1].dense.bias, bias)  # type: ignore[union-attr,arg-type]
    (folder / ARCHITECTURE).write_text(NET.model_dump_json())
    (folder / WEIGHTS).write_bytes(save_weights(network))
    return TeacherConfig(network=str(folder), weight=1.0, temperature=2.0)


def test_the_loss_is_that_of_the_paper(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = kept_teacher(tmp_path).model_copy(update={"weight": 0.3})
    teacher, x_NCHW, logits = config.load(), torch.randn(6, 3, 32, 32), torch.randn(6, 10)
    assert teacher is not None and TeacherConfig().load() is None
    found = Distillation(teacher, config).loss(x_NCHW, logits, torch.tensor(2.0))
    soft, own = (teacher(x_NCHW) / 2).softmax(1), (logits / 2).log_softmax(1)
    assert float(found) == pytest.approx(float(0.7 * 2 + 0.3 * 4 * -(soft * own).sum(1).mean()), rel=1e-5)
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training


def test_a_student_comes_to_answer_as_its_teacher(tmp_path: Path) -> None:
    config = kept_teacher(tmp_path)
    outcomes: list[Trained] = []
    recipe = Recipe(epochs=6, batch_size=25, warmup_epochs=0.0, learning_rate=0.05, teacher=config)
    task = Task("student", SPACE.network((0, 0, 0, 0)))
    train_together([task], Course(recipe, DATA, 0), memory_context("x"), lambda _i, o: outcomes.append(o))
    losses = [point.train_loss for point in outcomes[0].curve]
    assert losses[-1] < losses[0] - 0.05


def test_what_the_files_hold_is_in_the_fingerprint_and_not_where_they_lie(tmp_path: Path) -> None:
    fingerprints = []
    for name, bias in (("one", 0.0), ("two", 0.0), ("other", 1.0)):
        (tmp_path / name).mkdir()
        kept_teacher(tmp_path / name, bias)
        config = PipelineConfig.model_validate({"training": {"teacher": {"network": name}}})
        stages = build_stages(config, tmp_path, open_device(config, tmp_path))
        fingerprints.append([s.fingerprint({}) for s in stages if s.name in ("finetune", "baseline")])
    assert fingerprints[0] == fingerprints[1]
    assert all(a != b for a, b in zip(fingerprints[0], fingerprints[2], strict=True))


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"network\.json does not exist"):
        TeacherConfig(network=str(tmp_path)).identity()


def test_a_teacher_of_other_classes_or_inputs_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    recipe = Recipe(teacher=kept_teacher(tmp_path))
    clothes = open_dataset(DATA)
    check_teacher(recipe, SPACE, clothes)
    for changes, message in (
        ({"classes": 7}, "has 10 classes, the networks of space .* have 7"),
        ({"input_channels": 1}, "has 3 input channels, the networks of space .* have 1"),
    ):
        with pytest.raises(UsageError, match=message):
            check_teacher(recipe, SPACE.model_copy(update=changes), clothes)
    for nothing in ("{}", "[]", "no JSON", '{"images": {"classes": 5}}', '{"images": {"classes": ["ape"]}}'):
        (tmp_path / "result.json").write_text(nothing)
        check_teacher(recipe, SPACE, clothes)
    write_result(tmp_path, names=clothes.class_names)
    check_teacher(recipe, SPACE, clothes)
    write_result(tmp_path, names=clothes.class_names[::-1])
    with pytest.raises(
        UsageError, match="learned other classes: 'Ankle boot' where the images have 'T-shirt"
    ):
        check_teacher(recipe, SPACE, clothes)


@pytest.mark.parametrize("content", ["", "[]", '{"resolution": 32}', '{"resolution": 0, "classes": 2}'])
def test_a_damaged_description_of_a_teacher_is_named(tmp_path: Path, content: str) -> None:
    recipe = Recipe(teacher=kept_teacher(tmp_path))
    (tmp_path / ARCHITECTURE).write_text(content)
    with pytest.raises(IntegrityError, match=r"network\.json describes no network"):
        check_teacher(recipe, SPACE, open_dataset(DATA))


def test_a_teacher_that_may_know_the_test_images_is_warned_of(tmp_path: Path) -> None:
    recipe, clothes = Recipe(teacher=kept_teacher(tmp_path)), open_dataset(DATA)
    assert doubtful_teacher(recipe, DATA, clothes) is None, "nothing is known of its run"
    write_result(tmp_path, names=clothes.class_names)
    assert doubtful_teacher(recipe, DATA, clothes) is None
    write_result(tmp_path, names=clothes.class_names, split_seed=3)
    warning = doubtful_teacher(recipe, DATA, clothes)
    assert warning is not None and "data.split_seed 3, here 0" in warning
    other_test = doubtful_teacher(recipe, DATA.model_copy(update={"folds": 5}), clothes)
    assert other_test is not None and "one teacher for 5 test parts" in other_test


def write_result(folder: Path, *, names: Sequence[str], split_seed: int = 0) -> None:
    """What of a run's result says which images its network has learned from."""
    images = {
        "source": "fashion_mnist",
        "split_seed": split_seed,
        "test_images": 10_000,
        "classes": [{"name": name} for name in names],
    }
    (folder / "result.json").write_text(json.dumps({"images": images}))


def test_the_teachers_folder_reaches_another_process(tmp_path: Path) -> None:
    course = Course(Recipe(teacher=kept_teacher(tmp_path)), DATA, 0)
    assert course_of_json(course_as_json(course)).recipe == course.recipe
    assert "network" not in course.recipe.model_dump()["teacher"]


def test_the_largest_and_the_smallest_path_are_those_of_most_and_fewest_operations() -> None:
    largest, smallest = extreme_paths(SPACE)
    macs = [SPACE.network(path).macs for path in (largest, (0, 1, 0, 1), (0, 0, 0, 0), smallest)]
    assert macs == sorted(macs, reverse=True)
    assert (largest, smallest) == ([0, 1, 1, 1], [0, 2, 0, 2])


def test_in_the_sandwich_the_largest_path_learns_from_labels_alone() -> None:
    torch.manual_seed(0)
    supernet = Supernet(SPACE).train()
    x_NCHW, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    largest, _ = extreme_paths(SPACE)
    for path in (largest, [0, 0, 0, 0]):
        supernet.zero_grad(set_to_none=True)
        sandwich_loss(supernet, x_NCHW, labels, path, nn.functional.cross_entropy).backward()
        trained = [
            [any(p.grad is not None for p in candidate.parameters()) for candidate in layer.candidates]
            for layer in supernet.layers
        ]
        assert trained == [
            [True],
            [path == [0, 0, 0, 0], True, False],
            [True, True],
            [path == [0, 0, 0, 0], True, False],
        ]


def test_a_search_with_in_place_distillation_ends() -> None:
    config = SearchConfig(
        warmup_epochs=1,
        epochs=1,
        batch_size=100,
        architecture_every=2,
        architecture_batch_size=50,
        distillation="in_place",
    )
    result = run_search(
        config,
        SPACE,
        DATA,
        1,
        latency=latency_model(),
        targets_ms=[0.08],
        minimum_share=0.5,
        context=memory_context("search"),
    )
    assert len(result.history) == 2
    assert "distillation" not in SearchConfig().model_dump()
