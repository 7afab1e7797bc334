from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow.base.errors import DatasetMissingError, UsageError
from stages.data.listing import Listing, list_images
from stages.data.names import label_of, name_bytes, shown


def tree(root: Path, *names: str) -> Path:
    """Files of these names below ``root``; a name that ends in ``/`` is an empty folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"content of " + os.fsencode(name))
    return root


def of(listing: Listing) -> list[tuple[str, str, str | None]]:
    return [(image.path, image.label, image.part) for image in listing.images]


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        list_images(path)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value


def test_a_folder_per_class_gives_its_classes_by_code_point(tmp_path: Path) -> None:
    listing = list_images(tree(tmp_path, "b/2.jpg", "b/1.PNG", "a/x.webp", "B/1.gif"))
    assert listing.class_names == ("B", "a", "b")
    assert of(listing) == [
        ("B/1.gif", "B", None), ("a/x.webp", "a", None), ("b/1.PNG", "b", None), ("b/2.jpg", "b", None)
    ]  # fmt: skip
    assert listing.layout == "a folder per class"
    assert listing.counts() == {"B": 1, "a": 1, "b": 2}


def test_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    listing = list_images(tree(tmp_path, "a/1.jpg", "a/monday/2.jpg", "a/monday/late/3.jpg", "b/4.jpg"))
    assert [image.label for image in listing.images] == ["a", "a", "a", "b"]


@pytest.mark.parametrize("word", ["val", "valid", "validation", "Validation", "VAL", "dev", "eval"])
def test_parts_above_the_classes_are_read_in_any_case(tmp_path: Path, word: str) -> None:
    names = [
        f"{part}/{label}/{i}.jpg" for part in ("Train", word, "TEST") for label in "ab" for i in range(2)
    ]
    listing = list_images(tree(tmp_path, *names))
    assert {image.part for image in listing.images} == {"train", "validation", "test"}
    assert listing.class_names == ("a", "b")
    assert "with a folder per class" in listing.layout


@pytest.mark.parametrize(
    "names",
    [
        ("train/1.jpg", "car/1.jpg", "bus/1.jpg", "bus/2.jpg"),
        ("test/1.jpg", "exam/1.jpg", "exam/2.jpg"),
        ("train/steam/1.jpg", "train/diesel/2.jpg", "car/1.jpg", "bus/1.jpg"),
    ],
)
def test_a_class_may_be_called_test_or_train(tmp_path: Path, names: tuple[str, ...]) -> None:
    listing = list_images(tree(tmp_path, *names))
    assert {image.part for image in listing.images} == {None}
    assert listing.class_names == tuple(sorted({name.split("/")[0] for name in names}))
    assert "counts as a class" in listing.layout


@pytest.mark.parametrize("word", ["dev", "eval", "valid"])
def test_a_part_for_choices_alone_beside_train_is_read(tmp_path: Path, word: str) -> None:
    listing = list_images(tree(tmp_path, *(f"{p}/{c}/{i}.jpg" for p in ("train", word) for c in ("cat", "dog")
                                           for i in range(2))))  # fmt: skip
    assert listing.class_names == ("cat", "dog")
    assert {image.part for image in listing.images} == {"train", "validation"}


@pytest.mark.parametrize(
    ("beside", "why"),
    [
        (("unlabelled/1.jpg", "unlabelled/2.jpg"), "unlabelled/ stands beside it"),
        (("holdout/cat/1.jpg", "holdout/dog/1.jpg"), "folders of the same names (cat, dog)"),
        (("holdout/cat/1.jpg", "extra/1.jpg"), "holdout/ beside it has folders of the same names (cat)"),
        (("test/1.jpg", "sample/2.jpg"), "test/ stands beside it"),
    ],
)
def test_a_part_whose_fellows_are_not_known_is_no_class_of_its_own(
    tmp_path: Path, beside: tuple[str, ...], why: str
) -> None:
    error = refused(tree(tmp_path, "train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.jpg", *beside))
    assert "is train/ the part train, or a class? It holds folders (cat, dog)" in error.message
    assert why in error.message
    assert "name the others test" in error.hint
    assert "images directly into train/" in error.hint


def test_a_folder_beside_train_and_test_is_left_out_and_said(tmp_path: Path) -> None:
    names = [f"{part}/{label}/{i}.jpg" for part in ("train", "test") for label in "ab" for i in range(2)]
    listing = list_images(tree(tmp_path, *names, "unsorted/1.jpg"))
    assert listing.class_names == ("a", "b")
    assert "unsorted/ beside them left out" in listing.layout
    assert listing.ignored == ("unsorted/",)


def test_what_systems_and_programs_leave_is_ignored_and_counted(tmp_path: Path) -> None:
    junk = [
        ".DS_Store", "a/.DS_Store", "a/Thumbs.db", "a/._1.jpg", "a/.hidden.jpg", ".git/x.jpg",
        "__MACOSX/a/1.jpg",         "a/notes.txt", "a/jpg", "readme.md",
    ]  # fmt: skip
    listing = list_images(tree(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg", *junk))
    assert len(listing.images) == 3
    assert listing.ignored == tuple(sorted([name for name in junk if "/x" not in name and "/a/1" not in name]
                                           + [".git/", "__MACOSX/"]))  # fmt: skip


def test_images_in_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    listing = list_images(tree(tmp_path, "a/1.jpg", "a/2.HEIC", "b/1.jpg", "b/2.jpg", "b/3.avif"))
    assert listing.to_convert == ("a/2.HEIC", "b/3.avif")
    error = refused(tree(tmp_path / "phone", "a/1.heic", "b/2.heic"))
    assert "2 in other formats: a/1.heic, b/2.heic" in error.message
    assert "Convert" in error.hint
    assert "Convert" in refused(tree(tmp_path / "half", "a/1.heic", "b/2.jpg", "c/3.jpg")).hint


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
class TestLinks:
    def test_linked_files_are_read_from_inside_and_outside(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "data", "a/1.jpg", "b/1.jpg", "b/2.jpg")
        outside = tree(tmp_path / "elsewhere", "x.jpg") / "x.jpg"
        (root / "a/in.jpg").symlink_to(root / "b/1.jpg")
        (root / "a/out.jpg").symlink_to(outside)
        (root / "a/gone.jpg").symlink_to(tmp_path / "gone")
        paths = [image.path for image in list_images(root).images]
        assert paths == ["a/1.jpg", "a/gone.jpg", "a/in.jpg", "a/out.jpg", "b/1.jpg", "b/2.jpg"]

    def test_loops_of_folders_end(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "data", "a/1.jpg", "a/deep/2.jpg", "b/1.jpg")
        (root / "a/deep/self").symlink_to(root / "a")
        (root / "a/root").symlink_to(root)
        (root / "b/itself").symlink_to(root / "b/itself")
        (root / "b/above").symlink_to(tmp_path)
        (root / "b/twice").symlink_to(root / "b")
        assert [image.path for image in list_images(root).images] == ["a/1.jpg", "a/deep/2.jpg", "b/1.jpg"]

    def test_a_linked_class_folder_is_read(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "data", "a/1.jpg")
        (root / "b").symlink_to(tree(tmp_path / "elsewhere", "2.jpg", "3.jpg"))
        assert [image.path for image in list_images(root).images] == ["a/1.jpg", "b/2.jpg", "b/3.jpg"]

    def test_pipes_are_no_images(self, tmp_path: Path) -> None:
        root = tree(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg")
        os.mkfifo(root / "a/pipe.jpg")
        assert list_images(root).ignored == ("a/pipe.jpg",)


def test_names_of_every_script_are_kept_and_shown_as_nfc(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "Äpfel")
    names = [f"{nfd}/1.jpg", "猫/ 写真 1.jpg", "کتاب‌ها/1.jpg", "a b/x\ny.jpg", "🐈‍⬛/1.jpg", "🐈‍⬛/2.jpg"]
    listing = list_images(tree(tmp_path, *names))
    assert set(listing.class_names) == {"Äpfel", "猫", "کتاب‌ها", "a b", "🐈‍⬛"}
    assert all((tmp_path / image.path).is_file() for image in listing.images)


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="the disk takes UTF-8 only")
def test_names_that_are_not_utf8_open_their_files(tmp_path: Path) -> None:
    name = os.fsdecode("Café".encode("latin-1"))
    listing = list_images(tree(tmp_path, f"{name}/{name}.jpg", "b/1.jpg", "b/2.jpg"))
    assert listing.class_names == ("Caf\\xe9", "b")
    assert (tmp_path / listing.images[0].path).is_file()
    assert "Caf\\xe9" in refused(tree(tmp_path / name, "a/")).message


def test_a_path_that_does_not_exist_is_a_missing_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError) as caught:
        list_images(tmp_path / "gone")
    assert caught.value.exit_code == 8


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        ((), "holds no images", "flowers/daisy/1.jpg"),
        (("notes.txt",), "1 other files were left out (notes.txt)", "flowers/daisy/1.jpg"),
        (("1.jpg", "2.jpg"), "2 images lie directly in", "flowers/tulip/3.jpg"),
        (("1.jpg", "labels.csv"), "1 image lies directly in", "labels.csv"),
        (("train/1.jpg", "test/1.jpg"), "1 image lies directly in", "flowers/daisy/1.jpg"),
        (("a/1.jpg", "a/2.jpg"), "one class only: a", "Give each class a folder"),
        (("all/a/1.jpg", "all/b/2.jpg"), "one class only: all", "name that folder: "),
        (("a/1.jpg", "b/2.jpg", "c/"), "The class folder c of", "Put images into it"),
        (("a/1.jpg", "b/2.jpg", "c/x.txt", "d/"), "2 class folders c, d of", "Put images into it"),
        (("a/1.jpg", "b/2.jpg"), "2 training images in 2 classes", "several images"),
        (("test/a/1.jpg", "test/b/1.jpg"), "none for train", "Add a part train"),
    ],
)  # fmt: skip
def test_folders_that_nothing_can_be_learned_from_are_refused(
    tmp_path: Path, names: tuple[str, ...], message: str, hint: str
) -> None:
    error = refused(tree(tmp_path, *names))
    assert message in error.message
    assert hint in error.hint


def test_classes_that_differ_between_parts_are_named_from_both_sides(tmp_path: Path) -> None:
    names = [f"train/{label}/1.jpg" for label in "abcdefg"] + ["test/a/1.jpg", "test/A/1.jpg"]
    message = refused(tree(tmp_path, *names)).message
    assert "only train has b, c, d and 3 more; only test has A" in message


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert "neither a folder" in refused(tree(tmp_path, "photo.jpg") / "photo.jpg").message


# Tables


ROWS = [
    {"file_name": "x/1.jpg", "label": "cat", "split": "train", "group": "g1"},
    {"file_name": "2, b.jpg", "label": "cat", "split": "Valid", "group": ""},
    {"file_name": "3.jpg", "label": "dog", "split": "train", "group": "g1"},
    {"file_name": "ä/4.jpg", "label": "dog", "split": "val", "group": "g2"},
    {"file_name": "5.jpg", "label": "dog", "split": "train", "group": "g3"},
]


def csv_of(rows: list[dict[str, str]], separator: str) -> str:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in line] for line in lines]
    return "\r\n".join(separator.join(line) for line in quoted) + "\r\n"


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["t,.csv", "t;.csv", "t\t.csv", "t\t.tsv", "t.jsonl"])
@pytest.mark.parametrize("from_folder", [True, False])
def test_tables_are_read_in_each_form(tmp_path: Path, bom: str, name: str, from_folder: bool) -> None:
    tree(tmp_path, *(row["file_name"] for row in ROWS), "extra.jpg")
    suffix = name.rpartition(".")[2]
    text = "\n".join(map(json.dumps, ROWS)) if suffix == "jsonl" else csv_of(ROWS, name[1])
    if from_folder and suffix == "tsv":
        name = "t\t.csv"
        suffix = "csv"
    table = tmp_path / (f"metadata.{suffix}" if from_folder else name.replace("\t", "tab"))
    table.write_text(bom + text, encoding="utf-8", newline="")
    listing = list_images(tmp_path if from_folder else table)
    assert of(listing) == [
        ("2, b.jpg", "cat", "validation"), ("3.jpg", "dog", "train"), ("5.jpg", "dog", "train"),
        ("x/1.jpg", "cat", "train"), ("ä/4.jpg", "dog", "validation"),
    ]  # fmt: skip
    assert [image.group for image in listing.images] == [None, "g1", "g3", "g1", "g2"]
    assert ("extra.jpg" in listing.ignored) == from_folder


def table(tmp_path: Path, *lines: str, name: str = "t.csv") -> Path:
    tree(tmp_path, "1.jpg", "2.jpg", "3.jpg", "sub/4.jpg")
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


GOOD = ("file_name,label", "1.jpg,a", "2.jpg,b", "3.jpg,b")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("file_name,class", "1.jpg,a"), "has no column label; it has file_name, class"),
        (("image;name", "1.jpg;a"), "has no column file_name and label; it has image, name"),
        (("file_name,label",), "has no rows"),
        ((), "has no rows"),
        ((*GOOD, "7.jpg,a", "8.jpg,a", "9.jpg,a", "10.jpg,a"),
         "4 files that do not exist: 7.jpg (line 5), 8.jpg (line 6), 9.jpg (line 7) and 1 more"),
        ((*GOOD, "./1.jpg,a"), "more than once: ./1.jpg (lines 2 and 5)"),
        ((*GOOD, "sub/4.jpg, "), "line 5: the label of sub/4.jpg is empty"),
        ((*GOOD, ",a"), "line 5: file_name is empty"),
        ((*GOOD, "../x.jpg,a"), "line 5: ../x.jpg does not lie in the table's folder"),
        ((*GOOD, "/etc/x.jpg,a"), "line 5: /etc/x.jpg does not lie in the table's folder"),
        ((*GOOD, "a, b.jpg,a"), "line 5: 3 cells, but 2 columns"),
        ((*GOOD, 'a"b.jpg,"a'), "is not valid CSV"),
        (("file_name,label,split", "1.jpg,a,train", "2.jpg,b,holdout"), "line 3: the split 'holdout' is not"),
        (("file_name,label,split", "1.jpg,a,train", "2.jpg,b,"), "a split to 1 rows and none to 1: 2.jpg"),
        (("file_name,label,label", "1.jpg,a,b"), "several columns named label"),
        (("file_name,label", "1.jpg,x1", "2.jpg,x2", "3.jpg,x3"), "3 training images in 3 classes"),
        (("file_name,label,split", "1.jpg,a,train", "2.jpg,b,train", "3.jpg,a,test"), "only train has b"),
    ],
)  # fmt: skip
def test_tables_with_a_mistake_are_refused_with_the_line(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    assert message in refused(table(tmp_path, *lines)).message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('{"file_name": "1.jpg", "label": ["a", "b"]}',), "line 1: label is list"),
        (('{"file_name": "1.jpg", "label": "a"}', "[1]"), "line 2, is no JSON object"),
        (('{"file_name": "1.jpg"',), "line 1, is not valid JSON"),
        (('{"file_name": "1.jpg", "text": "a"}',), "has no column label"),
        (("[" * 100_000,), "line 1, is not valid JSON"),
        (('{"file_name": "\\u0000", "label": 1}',), "that does not exist"),
        (('{"file_name": "\\ud800", "label": 1}',), "that does not exist"),
    ],
)
def test_jsonl_with_a_mistake_is_refused_with_the_line(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    assert message in refused(table(tmp_path, *lines, name="t.jsonl")).message


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, *GOOD)
    path.write_bytes(path.read_bytes() + "é.jpg,a".encode("latin-1"))
    assert "not encoded as UTF-8 (line 5)" in refused(path).message
    path.write_bytes("file_name,label".encode("utf-16"))
    assert "CSV UTF-8" in refused(path).hint


def test_absolute_paths_inside_the_folder_and_foreign_forms_of_names_are_found(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "ärger")
    tree(tmp_path, f"{nfd}/{nfd}.jpg")
    path = table(
        tmp_path, "file_name,label", f"{tmp_path}/1.jpg,a", "sub\\4.jpg,b",
        unicodedata.normalize("NFC", f"{nfd}/{nfd}.jpg,b"),
    )  # fmt: skip
    assert [image.path for image in list_images(path).images] == ["1.jpg", f"{nfd}/{nfd}.jpg", "sub/4.jpg"]


def test_each_part_may_have_its_table(tmp_path: Path) -> None:
    for part in ("train", "test"):
        table_of_part = table(tmp_path / part, *GOOD, name="metadata.csv")
        assert table_of_part.is_file()
    listing = list_images(tmp_path)
    assert of(listing)[:2] == [("test/1.jpg", "a", "test"), ("test/2.jpg", "b", "test")]
    assert "train/metadata.csv" in listing.layout
    (tmp_path / "test/metadata.csv").unlink()
    assert "but test has none" in refused(tmp_path).message


def test_the_folders_of_a_table_without_splits_give_the_parts(tmp_path: Path) -> None:
    tree(tmp_path, "train/1.jpg", "train/2.jpg", "train/3.jpg", "test/1.jpg", "test/2.jpg")
    rows = ["train/1.jpg,a", "train/2.jpg,b", "train/3.jpg,b", "test/1.jpg,a", "test/2.jpg,b"]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *rows]), encoding="utf-8")
    assert [image.part for image in list_images(tmp_path).images] == ["test"] * 2 + ["train"] * 3


def test_a_table_of_another_name_beside_one_folder_of_images_is_pointed_at(tmp_path: Path) -> None:
    error = refused(tree(tmp_path, "images/1.jpg", "images/2.jpg", "labels.csv"))
    assert "one class only: images" in error.message
    assert str(tmp_path / "labels.csv") in error.hint


def test_two_tables_in_a_folder_are_refused(tmp_path: Path) -> None:
    table(tmp_path, *GOOD, name="metadata.csv")
    table(tmp_path, *GOOD, name="metadata.jsonl")
    assert "metadata.csv and metadata.jsonl" in refused(tmp_path).message


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_bytes_as_a_table_give_a_listing_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    for start in (b"", b"file_name,label\n", b'{"file_name": '):
        path.write_bytes(start + content)
        with pytest.raises(UsageError):
            list_images(path)


@given(st.text(st.characters(codec=None)))
def test_every_name_is_shown_on_one_printable_line(name: str) -> None:
    for text in (label_of(name), shown(name)):
        text.encode("utf-8")
        assert len(text.splitlines()) <= 1
    assert label_of(label_of(name)) == label_of(name)
    name_bytes(name)
