"""``pytest -m phone --phone NAME``, the script for a real phone, on the virtual one: it must not rot."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.test_phone_commands import phone  # noqa: F401 - a fixture

from android_bench.virtual_phone.phone import VirtualPhone

ROOT = Path(__file__).parents[2]
LEFT_OUT = "not test_the_whole_of_it"
"""The first is what the other tests of this folder do; the virtual phone's screen is not simulated yet."""


@pytest.fixture
def virtual(phone: VirtualPhone) -> Iterator[VirtualPhone]:  # noqa: F811
    yield phone


def script(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "phone",
            *words,
            "tests/device",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_prints_the_new_lines_and_says_that_a_virtual_phone_proves_nothing(virtual: VirtualPhone) -> None:
    done = script("--phone", virtual.address, "-k", LEFT_OUT)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "do not paste them" in done.stdout
    rows = re.findall(
        r"^\(virtual\) \| (.+?) \| the virtual phone \(.+\) \| "
        r"`pytest -m phone --phone [\w.:]+ -k (\w+)`: .+ \|$",
        done.stdout,
        re.MULTILINE,
    )
    assert len(rows) >= 13
    assert {"Pushing over a real wireless network", "Both `benchmark_model` tools on arm64 Android"} <= {
        what for what, _ in rows
    }
    not_tried = re.findall(r"^\(virtual\) not tried: (.+?): .+$", done.stdout, re.MULTILINE)
    assert "USB" in not_tried
    assert "A phone that is paired by wireless debugging" in not_tried
    (counted,) = re.findall(r"^\{.*\}$", done.stdout, re.MULTILINE)
    assert json.loads(counted) == {"verified": len(rows), "left": len(not_tried), "virtual": True}
    assert not virtual.storage("/data/local/tmp/nasflow-verify").exists(), "nothing stays on the phone"


def test_without_a_phone_it_says_how_to_name_one() -> None:
    done = script("-k", "test_usb")
    assert done.returncode == 1
    assert "this test needs a phone: pytest -m phone --phone NAME" in done.stdout


def test_a_phone_that_is_not_there_is_said_so(virtual: VirtualPhone) -> None:
    virtual.kill_daemon()
    done = script("--phone", virtual.address, "-k", "test_usb")
    assert done.returncode == 1
    assert f"no phone answers at {virtual.address}" in done.stdout


def test_every_line_that_waits_for_a_phone_has_its_test() -> None:
    """Of the table 'Not verified'."""
    by_hand = {  # what takes an Android toolchain or Play, which no connected phone is
        "The README's Kotlin class in an app",
        "The Kotlin of a package's README, MediaPipe's and LiteRT's",
        "ML Kit reads a shipped file",
        "A Gradle build takes the AAR, and its APK holds the model uncompressed",
        "An AI pack in an app bundle, and which phone gets which network",
        "The example app",
        # Of a command's own refusal, to be read.
        "A phone's GPU (`runtime.delegate: gpu`)",
        "A phone's NPU (`runtime.delegate: npu`)",
        # It takes several phones.
        "Phones that are measured side by side do not disturb each other",
        # Held against what is known of the phones at hand.
        "What `nasflow devices` tells of a phone's GPU and NPU",
        "Which operators a phone's GPU takes over (the table in `stages/conversion/lint.py`)",
    }
    waiting = (ROOT / "docs" / "verified.md").read_text(encoding="utf-8").partition("## Not verified")[2]
    rows = [row.strip("| ").split(" | ") for row in waiting.split("\n") if row.startswith("| ")][1:]
    telling = {row[0]: " ".join(row).replace("not phone and not gpu", "") for row in rows}
    titles = {title for title, row in telling.items() if re.search(r"\b(adb|phone|phones|Android)\b", row)}
    claimed = {
        str(decorator.args[0].value)
        for path in (ROOT / "tests" / "device").glob("test_*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call)
        and ast.unparse(decorator.func) == "pytest.mark.verifies"
        and isinstance(decorator.args[0], ast.Constant)
    }
    assert titles
    assert titles - by_hand - claimed == set(), "each needs a test in tests/device, or a reason in by_hand"
