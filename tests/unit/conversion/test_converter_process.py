"""What becomes of a conversion when the child misbehaves: a stand-in for the child, a real pipe."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nasflow.base.errors import ConversionError, MachineError
from stages.conversion.converter import TensorflowConverter

ANSWER = "import json, pathlib, sys\nrequest = json.loads(sys.stdin.readline())\n"


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> TensorflowConverter:
    (tmp_path / "stand_in_worker.py").write_text(source)
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{path}" if path else str(tmp_path))
    return TensorflowConverter(worker="stand_in_worker", timeout_s=20)


def failure(converter: TensorflowConverter) -> ConversionError:
    with converter, pytest.raises(ConversionError) as caught:
        converter.convert(b"a model", name="found")
    return caught.value


def test_a_killed_child_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        f"{ANSWER}import os\nprint('allocating', file=sys.stderr, flush=True)\n"
        f"os.kill(os.getpid(), {signal.SIGKILL.value})\n"
    )

    error = failure(stand_in(tmp_path, monkeypatch, source))

    assert "was killed by SIGKILL while it converted network found: allocating" in error.message
    assert "memory" in error.hint
    assert error.raw == "allocating"
    assert error.exit_code == 6


def test_an_exception_in_the_child_is_an_error_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = failure(stand_in(tmp_path, monkeypatch, f"{ANSWER}raise KeyError('conv')\n"))

    assert "ended with exit code 1 while it converted network found: KeyError: 'conv'" in error.message
    assert "Traceback" in error.raw


def test_a_child_that_cannot_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = failure(stand_in(tmp_path, monkeypatch, "import no_such_package\n"))

    assert "No module named 'no_such_package'" in error.message


def test_a_child_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "import signal\nsignal.pause()\n")

    error = failure(TensorflowConverter(worker="stand_in_worker", timeout_s=0.2))

    assert "gave no answer within 0.2 s" in error.message


def test_a_child_that_talks_nonsense_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = failure(stand_in(tmp_path, monkeypatch, f"{ANSWER}print('hello')\n"))

    assert "answered 'hello', which is not JSON" in error.message


def test_a_dead_child_is_replaced_by_the_next_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        f"{ANSWER}once = pathlib.Path({str(tmp_path / 'once')!r})\n"
        "if not once.exists():\n    once.touch()\n    sys.exit(3)\n"
        "source, target = (pathlib.Path(request[key]) for key in ('onnx', 'tflite'))\n"
        "target.write_bytes(b'made of ' + source.read_bytes())\n"
        "print('{}', flush=True)\n"
    )

    with stand_in(tmp_path, monkeypatch, source) as converter:
        with pytest.raises(ConversionError, match="exit code 3"):
            converter.convert(b"one", name="found")
        assert converter.convert(b"two", name="found") == b"made of two"


def test_a_full_disk_in_the_child_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        f"{ANSWER}error = {{'kind': 'MachineError', 'message': 'Cannot write X: full.', 'hint': ''}}\n"
        "print(json.dumps({'error': error}), flush=True)\n"
    )

    with stand_in(tmp_path, monkeypatch, source) as converter, pytest.raises(MachineError) as caught:
        converter.convert(b"one", name="found")

    assert caught.value.message == "network found: Cannot write X: full."


def test_leaving_stops_the_child_and_removes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = (
        f"import os, pathlib\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n{ANSWER}"
    )
    source += "print('{\"error\": 1', flush=True)\nsys.stdin.read()\n"

    failure(stand_in(tmp_path, monkeypatch, source))

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not list(tmp_path.glob("nasflow-convert-*"))


def test_the_working_directory_is_not_where_the_child_imports_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stand_in_worker.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path)

    error = failure(TensorflowConverter(worker="stand_in_worker", timeout_s=20))

    assert "No module named stand_in_worker" in error.message
