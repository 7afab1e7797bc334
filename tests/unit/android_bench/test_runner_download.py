"""Fetching benchmark_model: locked by its hash, only from where it may come from, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from android_bench.runner import download as runner_download
from android_bench.runner.download import LOCK_NAME, obtain
from nasflow.base.errors import IntegrityError, MachineError, NasflowError, NoUsableDeviceError, UsageError

ARM64 = "arm64-v8a"


def program(machine: int = 183, padding: bytes = b"") -> bytes:
    """A file that begins as a program for 64-bit ARM does."""
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9) + struct.pack("<HHI", 3, machine, 1)
    return header.ljust(64, b"\0") + padding


class Server:
    """An HTTP server on loopback whose answers a test sets."""

    def __init__(self) -> None:
        self.body = program()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.told: int | None = None
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.send_response(outer.status)
                for key, value in outer.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(outer.body) if outer.told is None else outer.told))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/litert"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    yield running
    running.stop()


Fetch = Callable[..., runner_download.Runner]


@pytest.fixture
def fetch(server: Server, tmp_path: Path) -> Fetch:
    def run(setting: str = "auto", **options: object) -> runner_download.Runner:
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        known: dict[str, object] = {
            "abis": [ARM64],
            "project": project,
            "cache": tmp_path / "cache",
            "base_url": server.url,
            "version": "2.3.0",
        }
        return obtain(setting, **{**known, **options})  # type: ignore[arg-type]

    return run


def test_the_first_use_records_the_hash_and_says_so(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    got = fetch()
    digest = hashlib.sha256(server.body).hexdigest()
    assert (got.content, got.sha256) == (server.body, digest)
    assert digest in got.news and LOCK_NAME in got.news
    lock = json.loads((tmp_path / "project" / LOCK_NAME).read_text())
    assert lock == {"schema_version": 1, "sha256": {"2.3.0/android_arm64": digest}}
    assert server.asked == ["/litert/2.3.0/android_arm64/benchmark_model"]


def test_the_second_use_comes_from_the_cache_without_a_word(fetch: Fetch, server: Server) -> None:
    fetch()
    assert fetch(offline=True).news == ""
    assert len(server.asked) == 1


def test_a_project_without_a_lock_records_the_cached_program(
    fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    first = fetch()
    (tmp_path / "project" / LOCK_NAME).unlink()
    again = fetch(offline=True)
    assert again.sha256 == first.sha256 and again.news


def test_a_cache_that_cannot_be_written_is_told_and_the_program_used(
    fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "cache").symlink_to(tmp_path / "a-disk-that-is-not-there")
    for _ in range(2):
        got = fetch()
        assert got.content == server.body
        assert "XDG_CACHE_HOME" in got.news and str(tmp_path / "cache") in got.news
    assert len(server.asked) == 2


def test_other_bytes_than_the_locked_ones_are_refused_and_not_kept(
    fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    fetch()
    cached = tmp_path / "cache/runner/2.3.0/android_arm64/benchmark_model"
    cached.unlink()
    lock = (tmp_path / "project" / LOCK_NAME).read_bytes()
    server.body = program(padding=b"other")
    with pytest.raises(IntegrityError, match="lock file") as caught:
        fetch()
    assert caught.value.exit_code == 7
    assert not cached.exists()
    assert (tmp_path / "project" / LOCK_NAME).read_bytes() == lock


def test_a_damaged_cache_is_named(fetch: Fetch, tmp_path: Path) -> None:
    fetch()
    cached = tmp_path / "cache/runner/2.3.0/android_arm64/benchmark_model"
    cached.write_bytes(program(padding=b"x"))
    with pytest.raises(IntegrityError, match=r"Delete .*benchmark_model"):
        fetch(offline=True)


def test_versions_have_places_of_their_own(fetch: Fetch, server: Server) -> None:
    first = fetch()
    server.body = program(padding=b"newer")
    second = fetch(version="2.4.0")
    assert first.sha256 != second.sha256
    assert fetch(offline=True).sha256 == first.sha256


def test_offline_never_downloads(fetch: Fetch, server: Server) -> None:
    with pytest.raises(MachineError, match="--offline"):
        fetch(offline=True)
    assert server.asked == []


def test_a_missing_version_says_what_else_can_be_done(fetch: Fetch, server: Server) -> None:
    server.status = 404
    with pytest.raises(MachineError, match=r"404.*android\.runner"):
        fetch()


def test_a_portal_page_in_place_of_the_program_is_neither_kept_nor_locked(
    fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    server.body = b"<html>Please log in</html>".ljust(100)
    with pytest.raises(UsageError, match="not a Linux or Android program"):
        fetch()
    assert not (tmp_path / "project" / LOCK_NAME).exists()
    assert not (tmp_path / "cache").exists()


def test_a_transfer_that_breaks_off_is_noticed(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    server.told = len(server.body) + 10
    with pytest.raises(MachineError, match=r"ended early|cannot be downloaded"):
        fetch()
    assert not (tmp_path / "cache").exists()


def test_too_much_is_not_read_to_its_end(
    fetch: Fetch, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_download, "MAX_RUNNER_BYTES", 50)
    with pytest.raises(MachineError, match="more than 50 bytes"):
        fetch()


def test_a_transfer_that_never_ends_is_given_up(fetch: Fetch) -> None:
    ticks = iter(range(0, 10**6, 1000))
    with pytest.raises(MachineError, match="within 600 s"):
        fetch(clock=lambda: float(next(ticks)))


@pytest.mark.parametrize("aim", ["http://example.invalid/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_away_from_https_is_refused(fetch: Fetch, server: Server, aim: str) -> None:
    server.status, server.headers = 302, {"Location": aim}
    with pytest.raises(NasflowError, match=r"not https|cannot be downloaded|not allowed"):
        fetch()


def test_a_redirect_on_loopback_is_followed(fetch: Fetch, server: Server) -> None:
    other = Server()
    try:
        server.status, server.headers = 302, {"Location": f"{other.url}/elsewhere"}
        assert fetch().content == other.body
    finally:
        other.stop()


@pytest.mark.parametrize("url", ["http://example.invalid/l", "file:///tmp/l", "ftp://127.0.0.1/l"])
def test_nothing_but_https_is_asked(fetch: Fetch, url: str) -> None:
    with pytest.raises(MachineError, match="not https"):
        fetch(base_url=url)


def test_https_may_not_lead_to_plain_http_on_loopback() -> None:
    assert not runner_download._is_safe("http://127.0.0.1/x", base="https://storage.googleapis.com/x")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sha256": {"a": "b"}}', '{"sha256": 3}', "null", "\x00"])
def test_a_lock_file_that_does_not_read_is_refused(fetch: Fetch, tmp_path: Path, text: str) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / LOCK_NAME).write_text(text)
    with pytest.raises(IntegrityError, match="lock file"):
        fetch()


def test_a_path_is_used_as_it_is_and_locks_nothing(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    own = tmp_path / "project" / "tools" / "mine"
    own.parent.mkdir(parents=True)
    own.write_bytes(program(padding=b"mine"))
    for setting in ("tools/mine", str(own)):
        assert fetch(setting, offline=True).content == own.read_bytes()
    assert server.asked == [] and not (tmp_path / "project" / LOCK_NAME).exists()


def test_a_path_that_is_not_there_is_a_usage_error(fetch: Fetch) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        fetch("nowhere")


def test_a_program_for_another_processor_is_refused(fetch: Fetch, server: Server) -> None:
    server.body = program(machine=62)
    with pytest.raises(NoUsableDeviceError, match=r"x86_64.*arm64-v8a"):
        fetch()


@pytest.mark.parametrize("abi", ["x86_64", "armeabi-v7a", "", "../.."])
def test_there_is_no_download_for_other_abis(fetch: Fetch, server: Server, abi: str) -> None:
    with pytest.raises(NoUsableDeviceError, match="no benchmark_model to download"):
        fetch(abis=[abi] if abi else [])
    assert server.asked == []


def test_the_version_is_that_of_the_installed_runtime(
    fetch: Fetch, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_download, "installed_version", lambda name: {"ai-edge-litert": "2.9.1"}[name])
    fetch(version=None)
    assert server.asked == ["/litert/2.9.1/android_arm64/benchmark_model"]


@pytest.mark.parametrize("found", ["../../x", "2", "2.3.0+local", "2.3.0/..", ""])
def test_a_version_that_is_none_is_no_path(
    fetch: Fetch, server: Server, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    monkeypatch.setattr(runner_download, "installed_version", lambda _name: found)
    with pytest.raises(MachineError, match="no benchmark_model to download"):
        fetch(version=None)
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_an_environment_fault(
    fetch: Fetch, tmp_path: Path, server: Server
) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(MachineError, match=r"Cannot (read|write)"):
        fetch()


def test_a_phone_that_runs_64_bit_programs_gets_one_whatever_it_names_first(fetch: Fetch) -> None:
    assert fetch(abis=["armeabi-v7a", ARM64]).name == "benchmark_model 2.3.0/android_arm64"


def test_a_32_bit_phone_is_told_how_its_program_is_built(fetch: Fetch) -> None:
    with pytest.raises(
        NoUsableDeviceError, match="of ABI armeabi-v7a, armeabi, only for arm64-v8a"
    ) as caught:
        fetch(abis=["armeabi-v7a", "armeabi"])
    assert "--config=android_arm //tensorflow/lite/tools/benchmark" in caught.value.hint
    assert "set android.runner to its path" in caught.value.hint


def test_a_program_of_ones_own_may_be_of_any_abi_that_the_phone_runs(fetch: Fetch, tmp_path: Path) -> None:
    own = tmp_path / "benchmark_model"
    own.write_bytes(b"\x7fELF" + bytes([1, 1, 1]) + bytes(9) + struct.pack("<HHI", 3, 40, 1) + bytes(40))
    assert fetch(str(own), abis=[ARM64, "armeabi-v7a"]).content == own.read_bytes()
    with pytest.raises(NoUsableDeviceError, match="built for armeabi-v7a, but the phone's ABI is arm64-v8a"):
        fetch(str(own), abis=[ARM64])
