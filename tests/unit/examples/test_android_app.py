"""The example app as far as it can be checked without Android's SDK: resources, manifest, names, versions."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pytest
from support.finished_run import finish
from support.requirements import FRAMEWORK
from support.small_classifiers import small_classifier

from nasflow.commands.ship import ShipRequest, find_run, ship
from stages.packaging.aar import LABELS_ASSET, MIN_SDK, MODEL_ASSET, asset_path
from stages.packaging.coordinates import Coordinates
from stages.packaging.texts import LITERT_ANDROID

ROOT = Path(__file__).resolve().parents[3]
APP = ROOT / "examples" / "android_app"
MAIN = APP / "app" / "src" / "main"
ANDROID = "{http://schemas.android.com/apk/res/android}"

KOTLIN = sorted((MAIN / "kotlin").rglob("*.kt"))
GRADLE = {path.relative_to(APP).as_posix(): path.read_text() for path in APP.rglob("*.kts")}
PROPERTIES = (APP / "gradle.properties").read_text()


def only(pattern: str, text: str) -> str:
    """What the pattern's group holds, which occurs once."""
    (found,) = re.findall(pattern, text)
    return str(found)


@pytest.mark.parametrize("path", sorted(MAIN.rglob("*.xml")), ids=lambda path: path.name)
def test_resources_and_manifest_are_well_formed(path: Path) -> None:
    ElementTree.parse(path)


def declared() -> set[str]:
    """Names of resources as Kotlin says them: ``R.string.answer``."""
    names = set()
    for path in (MAIN / "res" / "values").glob("*.xml"):
        names |= {
            f"R.{element.tag}.{element.attrib['name']}" for element in ElementTree.parse(path).getroot()
        }
    for path in (MAIN / "res" / "layout").glob("*.xml"):
        names.add(f"R.layout.{path.stem}")
        names |= {f"R.id.{name}" for name in re.findall(r"@\+id/(\w+)", path.read_text())}
    made = re.findall(r'resValue\("(\w+)", "(\w+)"', GRADLE["app/build.gradle.kts"])
    return names | {f"R.{kind}.{name}" for kind, name in made}


def test_every_resource_that_kotlin_names_exists_and_none_is_left_over() -> None:
    named = {name for path in KOTLIN for name in re.findall(r"\bR\.\w+\.\w+", path.read_text())}
    xml = "".join(path.read_text() for path in MAIN.rglob("*.xml"))
    named |= {f"R.{kind}.{name}" for kind, name in re.findall(r"@(string|integer|bool)/(\w+)", xml)}
    assert named == declared()


def test_views_are_found_by_the_types_that_the_layout_gives_them() -> None:
    layout = ElementTree.parse(MAIN / "res" / "layout" / "main.xml").getroot()
    types = {element.attrib[f"{ANDROID}id"].removeprefix("@+id/"): element.tag for element in layout}
    text = (MAIN / "kotlin/nasflow/example/MainActivity.kt").read_text()
    found = re.findall(r"findViewById<(\w+)>\(R\.id\.(\w+)\)", text)
    assert {name: kind for kind, name in found} == types


def test_texts_are_filled_with_the_arguments_that_they_ask_for() -> None:
    strings = ElementTree.parse(MAIN / "res" / "values" / "strings.xml").getroot()
    text = "".join(path.read_text() for path in KOTLIN)
    for element in strings:
        asked = len(set(re.findall(r"%(\d)\$", element.text or "")))
        for call in re.findall(rf"getString\(R\.string\.{element.attrib['name']}((?:, [\w. *]+)*)\)", text):
            assert call.count(",") == asked, element.attrib["name"]


def test_the_app_asks_for_no_permission_and_starts_with_its_activity() -> None:
    manifest = ElementTree.parse(MAIN / "AndroidManifest.xml").getroot()
    assert {element.tag for element in manifest} == {"application"}
    (activity,) = manifest.findall("application/activity")
    assert activity.attrib[f"{ANDROID}exported"] == "true"
    name = activity.attrib[f"{ANDROID}name"].removeprefix(".")
    namespace = only(r'namespace = "([\w.]+)"', GRADLE["app/build.gradle.kts"])
    source = MAIN / "kotlin" / Path(*namespace.split(".")) / f"{name}.kt"
    assert f"package {namespace}\n" in source.read_text()
    assert f"class {name} : Activity()" in source.read_text()


def test_versions_are_pinned_and_the_readme_says_the_same() -> None:
    wrapper = (APP / "gradle" / "wrapper" / "gradle-wrapper.properties").read_text()
    build = GRADLE["build.gradle.kts"]
    pinned = {
        "Android Gradle plugin": only(r'id\("com.android.application"\) version "(.*)"', build),
        "Gradle": only(r"distributions/gradle-(.*)-bin.zip", wrapper),
        "Kotlin": only(r'kotlin-gradle-plugin:(.*)"', build),
        "LiteRT": only(r'"com.google.ai.edge.litert:litert:(.*)"', GRADLE["app/build.gradle.kts"]),
    }  # fmt: skip
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned.values()), pinned
    assert pinned["LiteRT"] == LITERT_ANDROID  # as in the README of every shipped package
    readme = (APP / "README.md").read_text()
    assert dict(re.findall(r"^\| ([\w ]+) \| ([\d.]+) \|", readme, re.MULTILINE)) == pinned
    for text in (*GRADLE.values(), PROPERTIES):
        assert not re.search(r":[^:/\"]*(\+|latest|SNAPSHOT)", text)


def test_the_shipped_package_is_a_dependency_and_its_model_stays_uncompressed() -> None:
    assert only(r"(?m)^nasflow\.model=nasflow:([\w.-]+):[\w.-]+$", PROPERTIES)
    repository = only(r"(?m)^nasflow\.repository=(.+)$", PROPERTIES)
    assert repository.endswith("artifacts/shipped/maven")
    assert "maven { url = uri(rootDir.resolve(shipped)) }" in GRADLE["settings.gradle.kts"]
    build = GRADLE["app/build.gradle.kts"]
    assert "implementation(shippedModel)" in build
    assert 'noCompress += "tflite"' in build
    classifier = (MAIN / "kotlin/nasflow/example/Classifier.kt").read_text()
    assert f'"$folder/{MODEL_ASSET}"' in classifier
    assert f'"$folder/{LABELS_ASSET}"' in classifier
    assert int(only(r"minSdk = (\d+)", build)) >= MIN_SDK
    assert asset_path(Coordinates("clothes", "1.0.0"), MODEL_ASSET) == f"clothes/{MODEL_ASSET}"


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
def test_the_app_reads_answers_as_the_readme_of_a_shipped_network_does(
    input_type: Literal["float32", "uint8"], tmp_path: Path
) -> None:
    """int8 networks take uint8 and answer float32."""
    folder = finish(tmp_path / "clothes", model=small_classifier(10, input_type=input_type))
    outcome = ship(find_run(folder), ShipRequest("1.0.0"))
    readme = Path(outcome.document["files"]["README.md"]).read_text(encoding="utf-8")
    classifier = (MAIN / "kotlin/nasflow/example/Classifier.kt").read_text()
    call = r"outputs\[0\]\.(read\w+)\(\)"
    assert re.findall(call, classifier) == re.findall(call, readme)
    written = only(r"inputs\[0\]\.(write\w+)\(", readme)
    branch = "if" if input_type == "uint8" else "else"
    assert re.search(rf"\b{branch}\b.{{0,14}} inputs\[0\]\.{written}\(", classifier)


@pytest.mark.needs("aapt and android-framework-res")
def test_android_links_the_resources_and_the_manifest(tmp_path: Path) -> None:
    build = GRADLE["app/build.gradle.kts"]
    values = tmp_path / "res" / "values"
    values.mkdir(parents=True)
    made = re.findall(r'resValue\("(\w+)", "(\w+)"', build)
    (values / "made.xml").write_text(
        "<resources>" + "".join(f'<{kind} name="{name}">x</{kind}>' for kind, name in made) + "</resources>"
    )
    manifest = (MAIN / "AndroidManifest.xml").read_text()
    namespace = only(r'namespace = "([\w.]+)"', build)
    # What the Android Gradle plugin adds to the manifest.
    (tmp_path / "AndroidManifest.xml").write_text(
        manifest.replace("<manifest ", f'<manifest package="{namespace}" ', 1)
    )
    for index, folder in enumerate((MAIN / "res", tmp_path / "res")):
        subprocess.run(
            ["aapt2", "compile", "--dir", str(folder), "-o", str(tmp_path / f"{index}.zip")], check=True
        )
    done = subprocess.run(
        [
            "aapt2", "link", "-I", str(FRAMEWORK), "--manifest", str(tmp_path / "AndroidManifest.xml"),
            "--min-sdk-version", only(r"minSdk = (\d+)", build), "--target-sdk-version", "29",
            "--java", str(tmp_path / "java"), "-o", str(tmp_path / "app.apk"),
            str(tmp_path / "0.zip"), str(tmp_path / "1.zip"),
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
    written = (tmp_path / "java" / Path(*namespace.split(".")) / "R.java").read_text()
    classes = re.findall(r"static final class (\w+) \{(.*?)\n  \}", written, re.DOTALL)
    linked = {f"R.{kind}.{name}" for kind, body in classes for name in re.findall(r"int (\w+)=", body)}
    assert linked == declared()
