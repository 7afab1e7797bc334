"""One finished run of the whole chain, shared; tests that change something get a copy of its folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.command_line import Answer, ProjectFolder

from nasflow.cli.request import STAGE_NAMES
from stages.data.config import DataConfig, open_dataset
from stages.data.fashion_mnist import FILES, find_file

TINY = Path(__file__).with_name("tiny")


@dataclass(frozen=True)
class Finished:
    """A project after its run.

    While the project's folder of images lacked the test split, ``refused`` is what a whole run said, and
    ``without_test_images`` one until the last stage that needs none; ``with_them`` is what a whole run said
    then, which went on from there.
    """

    project: ProjectFolder
    refused: Answer
    without_test_images: Answer
    with_them: Answer


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(TINY, folder)
    project = ProjectFolder(folder)
    _link_images(folder / "images", "train")
    refused = project.ask("run")
    without = project.ask("run", "--until", STAGE_NAMES[-2])
    _link_images(folder / "images", "t10k")
    return Finished(project, refused, without, project.ask("run"))


@pytest.fixture
def project(finished: Finished, tmp_path: Path) -> ProjectFolder:
    """A copy of the finished project, in another place."""
    assert finished.with_them.exit_code == 0, finished.with_them.document
    copy = tmp_path / "project"
    shutil.copytree(finished.project.path, copy, symlinks=True)
    return ProjectFolder(copy)


def _link_images(folder: Path, part: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in FILES:
        if name.startswith(part):
            source = find_file(name, None)
            if source is None:
                open_dataset(DataConfig()).load("test" if part == "t10k" else "train")  # fetches it
                source = find_file(name, None)
            assert source is not None
            (folder / source.name).symlink_to(source)
