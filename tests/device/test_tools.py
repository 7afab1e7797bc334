"""Both ``benchmark_model`` tools on the phone, and the whole of nasflow with it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device.conftest import FOLDER, Line, Phone

from android_bench.device import DEFAULT_OPTIONS
from android_bench.local.device import LocalDevice
from android_bench.phone.tool import VIRTUAL_TOOL
from android_bench.runner.identity import QUESTION, identify
from android_bench.runner.output import parse_output
from android_bench.runner.outputs import check_outputs_run, outputs_command, writes_outputs
from android_bench.runner.result import cross_check, parse_result
from nasflow.base.errors import NasflowError
from nasflow.base.text import plain_text
from stages.conversion.flatbuffer import empty_model, network_model
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.verification.same_answers import compare_answers

pytestmark = pytest.mark.phone

TINY = Path(__file__).parents[1] / "integration" / "tiny"
RUN_TIMEOUT_S = 600


@pytest.fixture(scope="module")
def tools(
    request: pytest.FixtureRequest, phone: Phone, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Paths on the phone: those that were named, and the one that nasflow downloads."""
    if phone.virtual:
        return [VIRTUAL_TOOL]
    contents = {Path(path).name: Path(path).read_bytes() for path in request.config.getoption("--runner")}
    from android_bench.runner.download import obtain

    folder = tmp_path_factory.mktemp("runner")
    try:
        runner = obtain("auto", abis=phone.abis, project=folder)
        contents[f"downloaded-{runner.sha256[:8]}"] = runner.content
    except NasflowError:
        if not contents:
            raise
    paths = []
    for name, content in contents.items():
        paths.append(f"{FOLDER}/{name}")
        phone.transport.push(content, paths[-1], mode=0o755, timeout_s=300)
    return paths


@pytest.mark.verifies("Both `benchmark_model` tools on arm64 Android")
def test_tools(phone: Phone, line: Line, tools: list[str]) -> None:
    model = network_model(mobilenet_v2(resolution=96, classes=10, width=0.35))
    phone.transport.push(model, f"{FOLDER}/model.tflite", timeout_s=60)
    for tool in tools:
        result = f"{FOLDER}/result.pb"
        done = phone.run(
            tool,
            f"--graph={FOLDER}/model.tflite",
            "--num_threads=1",
            "--warmup_runs=1",
            "--warmup_min_secs=0.2",
            "--num_runs=20",
            "--min_secs=1",
            f"--result_file_path={result}",
            timeout_s=120,
        )
        assert done.exit_code == 0, plain_text(done.stderr or done.stdout)
        output = parse_output(done.stdout, done.stderr)
        found = parse_result(phone.transport.pull(result, timeout_s=60))
        cross_check(found, output)
        line.found(
            f"{tool.rpartition('/')[2]} on {phone.abi}: MobileNetV2 0.35 at 96 pixels, median "
            f"{found.median_ms:.3f} ms of {found.runs} runs, text and result file agree"
        )
    if len(tools) < 2 and not phone.virtual:
        line.found("only one of the two tools: name the other by --runner PATH")


@pytest.mark.verifies("What the classic `benchmark_model` writes with `--output_filepath` on a phone")
def test_outputs(phone: Phone, line: Line, tools: list[str]) -> None:
    model = network_model(mobilenet_v2(resolution=96, classes=10, width=0.35))
    image = np.random.default_rng(0).uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)
    paths = [f"{FOLDER}/{name}" for name in ("outputs.tflite", "outputs.in", "outputs.out")]
    for content, path in zip((model, image.tobytes()), paths, strict=False):
        phone.transport.push(content, path, timeout_s=60)
    with LocalDevice() as here:
        expected = here.outputs(model, [(image,)], plain=True)
    for tool in tools:
        name, kind = tool.rpartition("/")[2], identify(phone.run(tool, QUESTION))
        if not writes_outputs(kind, (image,)):
            line.found(f"{name}: the {kind.kind} tool writes no outputs")
            continue
        words = outputs_command(
            kind,
            DEFAULT_OPTIONS,
            binary=tool,
            model=paths[0],
            example=(image,),
            files=paths[1:2],
            output=paths[2],
        )
        check_outputs_run(kind, phone.run(*words, timeout_s=120), DEFAULT_OPTIONS, name)
        found = phone.transport.pull(paths[2], timeout_s=60)
        compared = compare_answers(name, expected, [found], DEFAULT_OPTIONS, given=False)
        line.found(f"{name}: outputs differ by {compared.largest_share:.2g} of the largest value")


@pytest.mark.verifies("`benchmark_model` leaves zeros out of its result file")
def test_zeros_of_the_result_file(phone: Phone, line: Line, tools: list[str]) -> None:
    phone.transport.push(empty_model(), f"{FOLDER}/empty.tflite", timeout_s=60)
    result = f"{FOLDER}/empty.pb"
    for tool in tools:
        name = tool.rpartition("/")[2]
        done = phone.run(
            tool,
            f"--graph={FOLDER}/empty.tflite",
            "--num_runs=50",
            "--min_secs=0.1",
            f"--result_file_path={result}",
            timeout_s=120,
        )
        assert done.exit_code == 0, plain_text(done.stderr or done.stdout)
        content = phone.transport.pull(result, timeout_s=60)
        found = parse_result(content)
        printed = parse_output(done.stdout, done.stderr).inference.min_us
        if found.min_ms != 0 and printed != 0:
            line.found(f"{name}: no time was 0 (the shortest: {found.min_ms} ms)")
            continue
        # A float's key, of fields 1 to 8, and four bytes of 0.
        written = len(re.findall(rb"[\x0d\x15\x1d\x25\x2d\x35\x3d\x45]\0{4}", content))
        line.found(f"{name}: the shortest time was 0, and the file has {written} fields of 0")


@pytest.mark.verifies("What the tools answer to a flag that cannot be read")
def test_a_bad_flag_lists_the_flags(phone: Phone, line: Line, tools: list[str]) -> None:
    for tool in tools:
        done = phone.run(tool, "--num_runs=none")
        text = plain_text(done.stdout + b"\n" + done.stderr, limit=200_000)
        flags = set(re.findall(r"^\s*--([a-z0-9_]{1,60})=", text, re.MULTILINE))
        asked = phone.run(tool, "--help")
        first = plain_text(asked.stdout or asked.stderr, limit=80).split("\n")[0]
        line.found(
            f"{tool.rpartition('/')[2]}: exit code {done.exit_code}, {len(flags)} flags; --help: exit code "
            f"{asked.exit_code}, {first!r}"
        )
        assert {"graph", "num_runs", "min_secs"} <= flags


@pytest.mark.verifies("A real Android phone at all")
def test_the_whole_of_it(phone: Phone, line: Line, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(TINY, folder)
    on_it = ("--device", f"android:{phone.name}", "--set", "data.path=null", "--json")
    doctor = _nasflow(folder, "doctor", "--device", f"android:{phone.name}", "--json")
    checks = {check["name"]: check for check in doctor["checks"] if check["name"].startswith("phone")}
    line.found(", ".join(f"{name}: {check['state']}" for name, check in checks.items()))
    assert {check["state"] for check in checks.values()} <= {"ok", "warning"}, checks
    profile = _nasflow(folder, "profile", *on_it)
    assert profile.get("error") is None, profile
    assert [(stage["name"], stage["action"]) for stage in profile["stages"]] == [("profile", "run")]
    line.found("every block of the tiny space was profiled")


def _nasflow(folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "nasflow", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.stdout, done.stderr[-2000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document
