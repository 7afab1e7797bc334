"""Names and versions of packages: what Maven, Gradle, Android and a file system take alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasflow.base.errors import UsageError
from stages.packaging.coordinates import Coordinates, proposed_name


@pytest.mark.parametrize("name", ["a", "fashion", "My_Photos", "flowers-v2", "a.b", "0"])
@pytest.mark.parametrize("version", ["1", "1.0.0", "2026.11.30", "1.0-rc1", "0.1_b"])
def test_ordinary_names_and_versions_are_taken(name: str, version: str) -> None:
    coordinates = Coordinates(name, version)
    assert coordinates.folder == f"{name}-{version}"
    assert coordinates.gradle == f"nasflow:{name}:{version}"


@pytest.mark.parametrize(
    "wrong",
    ["", " ", ".", "..", "../up", "a/b", "a\\b", "a..b", "/etc", "a b", "a\n", "é", "名", "-a", "a-", ".a",
     "a.", "a:b", "a+b", "[1,2)", "$HOME", "a;b", "a%2e", "\u202e1", "１", "a" * 101],
)  # fmt: skip
def test_what_is_no_coordinate_is_refused_and_another_one_proposed(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"name '.*' cannot be a Maven coordinate") as name:
        Coordinates(wrong, "1.0.0")
    with pytest.raises(UsageError, match=r"version '.*' cannot be a Maven coordinate") as version:
        Coordinates("fashion", wrong)
    assert len(name.value.message.splitlines()) == len(version.value.message.splitlines()) == 1
    proposed = name.value.hint.rpartition("--name ")[2]
    assert Coordinates(proposed, "1.0.0").name == proposed


@pytest.mark.parametrize("version", ["1.0-SNAPSHOT", "1-snapshot", "LATEST", "release"])
def test_versions_that_maven_reads_otherwise_are_refused(version: str) -> None:
    with pytest.raises(UsageError, match="reserved"):
        Coordinates("fashion", version)


@given(st.text())
def test_a_proposed_name_is_always_valid(text: str) -> None:
    proposed = proposed_name(text)
    assert Coordinates(proposed, "1").name == proposed


@given(st.text(), st.text())
def test_no_coordinates_lead_out_of_a_folder(name: str, version: str) -> None:
    try:
        coordinates = Coordinates(name, version)
    except UsageError:
        return
    assert re.fullmatch(r"[A-Za-z0-9._-]+", coordinates.folder, re.ASCII)
    assert ".." not in coordinates.folder


def test_different_names_have_different_android_packages() -> None:
    names = ["a-b", "a_b", "a.b", "A-b", "ab", "1a"]
    packages = {Coordinates(name, "1").android_package for name in names}
    assert len(packages) == len(names)
    assert all(re.fullmatch(r"[a-z]\w*(\.[a-z]\w*)+", package, re.ASCII) for package in packages)
