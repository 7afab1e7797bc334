"""``nasflow data check`` and ``nasflow data split``."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.photo_folder import contents, mosaic, photo_folder

from nasflow.base.errors import DatasetMissingError, UsageError
from nasflow.cli.app import main
from stages.data import listed
from stages.data.config import DataConfig, open_dataset
from stages.data.dataset import PARTS
from stages.data.hub import HubImages
from stages.data.image_folder import ImageFolder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a present folder of their own, without a project."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """What people have: copies, a copy in the wrong class, a broken file, one of a phone's format."""
    root = photo_folder(tmp_path / "photos", {"ape": 60, "bee": 60, "cat": 10})
    shutil.copy(root / "ape" / "000.png", root / "ape" / "again.png")
    shutil.copy(root / "ape" / "001.png", root / "bee" / "wrong.png")
    mosaic(63).resize((200, 150), Image.Resampling.NEAREST).save(root / "bee" / "larger.png")  # of bee/002
    whole = (root / "ape" / "003.png").read_bytes()
    (root / "ape" / "torn <b>.png").write_bytes(whole[: len(whole) // 2])
    (root / "bee" / "IMG_1.heic").write_bytes(b"ftypheic")
    (root / ".DS_Store").write_bytes(b"\0")
    return root


def checked(capfd: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert main(["data", "check", *words, "--json"]) == code
    document: dict[str, Any] = json.loads(capfd.readouterr().out)
    return document


def test_everything_is_counted(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = checked(capfd, str(photos))
    assert found["images"] == 134
    assert {of["name"]: of["images"] for of in found["classes"]} == {"ape": 62, "bee": 62, "cat": 10}
    assert [broken["path"] for broken in found["broken"]] == ["ape/torn <b>.png"]
    assert found["broken"][0]["reason"] in ("truncated", "corrupt")
    assert found["exact_copies"] == [["ape/000.png", "ape/again.png"], ["ape/001.png", "bee/wrong.png"]]
    assert [(pair["first"], pair["second"]) for pair in found["near_copies"]] == [
        ("bee/002.png", "bee/larger.png")
    ]
    assert [conflict["kind"] for conflict in found["conflicts"]] == ["exact"]
    assert {image["class"] for image in found["conflicts"][0]["images"]} == {"ape", "bee"}
    assert found["to_convert"] == ["bee/IMG_1.heic"]
    assert ".DS_Store" in found["ignored"]
    assert found["left_out"] == {"conflicting-labels": 2, "exact-copy": 1}
    assert found["formats"] == {"PNG": 133}
    assert found["shared_choice"] is True
    assert sum(of["train"] for of in found["classes"]) == found["parts"]["train"]
    assert found["imbalance"] > 5
    assert found["decoded_per_second"] > 0
    assert found["test_images"]["difference_points"] > 5
    assert found["problem"] is None


def test_the_screen_says_it_in_words(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(photos)]) == 0
    said = capfd.readouterr().out
    for words in (
        "134 images in 3 classes",
        "arch.+choice",
        "ape/torn <b>.png",
        "bee/IMG_1.heic",
        "different classes",
        "data.balance: weights",
        "images/s on one core",
        "cannot be shown",
        "data.folds: 5",
    ):
        assert words in " ".join(said.split()), words
    assert len(said.splitlines()) < 45
    assert max(map(len, said.splitlines())) < 140


def test_a_full_disk_is_said(
    photos: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(photos)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert main(["data", "check", str(photos)]) == 0
    assert "and the cache's disk has 10.0 MB free" in " ".join(capfd.readouterr().out.split())


def test_ignored_files_are_looked_at_a_few_times_each(
    photos: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        (photos / "ape" / f"{number}.txt").write_text("notes")
    looked: list[str] = []
    real = listed.suffix_of

    def counting(name: str) -> str:
        looked.append(name)
        return real(name)

    monkeypatch.setattr(listed, "suffix_of", counting)
    assert main(["data", "check", str(photos)]) == 0
    assert "201 (no images)" in " ".join(capfd.readouterr().out.split())
    assert len(looked) < 10 * 202


def test_images_to_be_looked_at_are_named_on_the_screen(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mosaic(7000).resize((5, 5)).save(photos / "cat" / "icon.png")
    mosaic(7001).resize((700, 80)).save(photos / "cat" / "panorama.png")
    assert main(["data", "check", str(photos)]) == 0
    said = " ".join(capfd.readouterr().out.split())
    for words in (
        "ape/000.png = ape/again.png",
        "bee/002.png = bee/larger.png",
        "in different classes (ape and bee 1), all left out: ape/001.png = bee/wrong.png",
        "1 image with a shorter side below",
        "cat/icon.png (5 x 5)",
        "cat/panorama.png (700 x 80)",
    ):
        assert words in said, words
    found = checked(capfd, str(photos))
    assert (found["small"], found["long"]) == (["cat/icon.png"], ["cat/panorama.png"])


def test_folds_are_not_proposed_where_the_images_have_a_test_part(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = photo_folder(tmp_path / "all", {"ape": 24, "bee": 24})
    for name in ("ape", "bee"):
        for number in range(24):
            target = tmp_path / "parts" / ("test" if number < 6 else "train") / name / f"{number:03d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name / f"{number:03d}.png", target)
    assert main(["data", "check", str(tmp_path / "parts")]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "Without parts of their own, data.folds: 5 would test on every image" in said
    assert main(["init", "--data", str(tmp_path / "parts"), str(tmp_path / "project")]) == 0
    assert "data.folds 5 (not set)" not in capfd.readouterr().out


def test_the_sheet_is_one_file_with_pictures_and_escapes_names(
    photos: Path, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = contents(photos)
    sheet = own_cache / "images.html"
    checked(capfd, str(photos), "--html", str(sheet))
    page = sheet.read_text(encoding="utf-8")
    assert "ape/torn &lt;b&gt;.png" in page
    assert "<b>.png" not in page
    assert not re.search(r"https?://|<script", page)
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert page.count("<img") == len(uris) == 2 + 2 + 4 + 3 * 2 * 7  # conflict, near, two exact sets, samples
    for uri in uris:
        assert Image.open(io.BytesIO(base64.b64decode(uri))).format == "JPEG"
    assert contents(photos) == before


def test_nothing_is_written_into_the_folder_of_the_images(
    photos: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(photos)
    monkeypatch.chdir(photos)
    assert main(["data", "check", ".", "--html", "sheet.html"]) == 2
    assert "nothing is written there" in capfd.readouterr().err
    assert main(["data", "split", ".", "--out", "ape/split.jsonl"]) == 2
    assert "nothing is written there" in capfd.readouterr().err
    assert main(["init", "--data", "."]) == 2
    assert "nothing is written there" in capfd.readouterr().err
    assert contents(photos) == before


def test_a_class_folder_that_is_a_link_is_kept_clean_too(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    elsewhere = photo_folder(tmp_path / "elsewhere", {"dog": 12})
    (photos / "dog").symlink_to(elsewhere / "dog")
    assert main(["data", "check", str(photos), "--html", str(elsewhere / "dog" / "x.html")]) == 2
    assert "nothing is written there" in capfd.readouterr().err
    assert not (elsewhere / "dog" / "x.html").exists()


def test_too_many_broken_files_are_all_listed_and_the_exit_code_is_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = photo_folder(tmp_path / "many", {"ape": 20, "bee": 20})
    for number in range(10):
        (root / "ape" / f"{number:03d}.png").write_bytes(b"")
    found = checked(capfd, str(root), code=2)
    assert [broken["reason"] for broken in found["broken"]] == ["empty"] * 10
    assert "max_broken" in found["problem"]["message"]
    assert main(["data", "check", str(root)]) == 2
    assert "error: 10 of 40 images cannot be read" in capfd.readouterr().out


def test_images_that_cannot_be_split_are_shown_all_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = photo_folder(tmp_path / "few", {"ape": 20, "bee": 2})
    found = checked(capfd, str(root), code=2)
    assert found["parts"] is None
    assert "bee has 2" in found["problem"]["message"]
    assert main(["data", "check", str(root)]) == 2
    assert "bee has 2" in capfd.readouterr().out


def test_where_no_image_can_be_read_that_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = photo_folder(tmp_path / "none", {"ape": 3, "bee": 3})
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    found = checked(capfd, str(root), code=2)
    assert len(found["broken"]) == 6
    assert "None of the images" in found["problem"]["message"]
    assert main(["data", "check", str(root)]) == 2


def test_one_class_is_refused_with_what_to_do(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo_folder(tmp_path / "one", {"ape": 5})
    assert main(["data", "check", str(tmp_path / "one")]) == 2
    assert "one class only" in capfd.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 8
    assert "nowhere" in capfd.readouterr().err


def test_without_a_folder_the_projects_images_and_settings_count(
    photos: Path, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = (
        "data: {source: folder, path: ../photos, copies: ignore}\nspace: {name: lite0, resolution: 64}\n"
    )
    (own_cache / "pipeline.yaml").write_text(settings, encoding="utf-8")
    for words in ((), (str(photos),)):
        found = checked(capfd, *words)
        assert (found["exact_copies"], found["resolution"]) == ([], 64)
    other = photo_folder(photos.parent / "other", {"ape": 20, "bee": 20})
    assert checked(capfd, str(other))["near_copies_searched"] is True


def test_fashion_mnist_is_not_checked(own_cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (own_cache / "pipeline.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert main(["data", "check"]) == 2
    assert "nasflow data check DIR" in capfd.readouterr().err


def _parts(root: Path, **settings: object) -> dict[str, tuple[str, ...]]:
    data = DataConfig.model_validate({"source": "folder", "path": str(root), **settings})
    dataset = open_dataset(data)
    assert isinstance(dataset, ImageFolder)
    return {part: dataset.catalogue.splitting.keys(part) for part in PARTS}


def test_a_split_that_was_written_is_given_back(
    photos: Path, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = own_cache / "split.jsonl"
    assert main(["data", "split", str(photos), "--out", str(out), "--set", "data.split_seed=3"]) == 0
    assert "split_file:" in capfd.readouterr().out
    assert _parts(photos, split_file=str(out)) == _parts(photos, split_seed=3)
    assert _parts(photos) != _parts(photos, split_seed=3)
    kept = out.read_bytes()
    assert main(["data", "split", str(photos), "--out", str(out)]) == 2
    assert "--force" in capfd.readouterr().err
    assert out.read_bytes() == kept
    assert main(["data", "split", str(photos), "--out", str(out), "--force"]) == 0
    assert out.read_bytes() != kept


def test_a_split_file_names_an_image_that_was_added_or_changed(photos: Path, own_cache: Path) -> None:
    out = own_cache / "split.jsonl"
    assert main(["data", "split", str(photos), "--out", str(out)]) == 0
    mosaic(900).save(photos / "cat" / "new.png")
    with pytest.raises(UsageError, match=r"unknown to it|cat/new\.png") as added:
        _parts(photos, split_file=str(out), split_seed=1)
    assert "cat/new.png" in added.value.message
    (photos / "cat" / "new.png").unlink()
    mosaic(901).save(photos / "cat" / "004.png")
    with pytest.raises(UsageError) as changed:
        _parts(photos, split_file=str(out), split_seed=2)
    assert "cat/004.png" in changed.value.message
    assert "changed" in changed.value.message


def test_images_in_no_class_are_no_files_without_images(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mosaic(500).save(photos / "alone.png")
    assert main(["data", "check", str(photos)]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "1 image outside the class folders, or not in the table: alone.png" in shown
    assert "1 (no images): .DS_Store" in shown


def test_a_folder_takes_nothing_from_a_configuration_of_the_hub_but_its_settings(
    photos: Path, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = "data: {source: hub, name: nobody/nothing, revision: abc, test_images: 0.3}\n"
    (own_cache / "hub.yaml").write_text(settings, encoding="utf-8")
    found = checked(capfd, str(photos), "--config", "hub.yaml")
    assert found["images"] == 134


def test_offline_nothing_is_asked_of_the_hub(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: HubImages) -> None:
        raise DatasetMissingError(f"The data set {self.config.name} is not in the cache.")

    monkeypatch.setattr(HubImages, "check_at_hand", missing)
    monkeypatch.setattr("stages.data.hub.open_hub", lambda _config: pytest.fail("opened all the same"))
    settings = "data: {source: hub, name: nobody/nothing}\noffline: true\n"
    (own_cache / "pipeline.yaml").write_text(settings, encoding="utf-8")
    assert main(["data", "check"]) == main(["data", "split", "--out", "x.jsonl"]) == 8


def test_the_split_file_is_given_back_as_paths_of_the_configuration_are_meant(
    photos: Path, own_cache: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_cache / "sub").mkdir()
    settings = f"data: {{source: folder, path: '{photos}', folds: 3}}\n"
    (own_cache / "pipeline.yaml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(own_cache / "sub")
    assert main(["data", "split", "--config", "../pipeline.yaml", "--out", "split.jsonl"]) == 0
    said = capfd.readouterr().out
    assert "section data: split_file: sub/split.jsonl" in said
    assert "Unset data.folds" in said


def test_a_data_set_of_parquet_files_is_checked_as_a_folder_is(
    own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    (own_cache / "animals").mkdir()
    pictures = []
    for seed in range(60):
        file = io.BytesIO()
        mosaic(seed).save(file, "PNG")
        pictures.append({"bytes": file.getvalue(), "path": None})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1] * 30}, features=features)
    table.to_parquet(own_cache / "animals" / "train-00000-of-00001.parquet")
    settings = "data: {source: hub, name: animals}\nspace: {name: lite0, resolution: 64}\n"
    (own_cache / "pipeline.yaml").write_text(settings, encoding="utf-8")
    before = contents(own_cache / "animals")
    found = checked(capfd, "--html", "images.html")
    assert (found["images"], found["formats"]) == (60, {"PNG": 60})
    assert "train/" in (own_cache / "images.html").read_text(encoding="utf-8")
    assert main(["data", "split", "--out", "split.jsonl"]) == 0
    assert main(["data", "check", "--set", "data.split_file=split.jsonl"]) == 0
    assert "from " in capfd.readouterr().out
    assert main(["data", "check", "--html", "animals/images.html"]) == 2
    assert contents(own_cache / "animals") == before


def test_names_that_are_no_text_are_shown_escaped(
    tmp_path: Path, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"photos \xe9")
    root = photo_folder(tmp_path / odd, {"ape": 20, "bee": 20})
    for number in range(5):
        (root / "ape" / f"{number:03d}.png").rename(root / "ape" / os.fsdecode(b"\xff%d.png" % number))
    (root / "ape" / os.fsdecode(b"\xfe.png")).write_bytes(b"")
    found = checked(capfd, str(root), "--html", "images.html", "--set", "data.max_broken=0", code=2)
    assert found["broken"][0]["path"] == "ape/\\xfe.png"
    assert "\\xfe.png" in found["problem"]["message"]
    (root / "ape" / os.fsdecode(b"\xfe.png")).unlink()
    assert main(["data", "check", str(root)]) == 0
    assert main(["data", "split", str(root), "--out", "split.jsonl"]) == 0
    assert main(["init", "--data", str(root), "project"]) == 2
    assert "photos \\xe9: bytes in it are no UTF-8" in capfd.readouterr().err
    (tmp_path / "link").symlink_to(root)
    assert main(["data", "check", "../link"]) == 0
