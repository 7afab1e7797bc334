"""Where ``benchmark_model`` comes from: Google's versioned download, a cache, or a path of your own.

``auto`` takes the version of the installed ai-edge-litert, so that phone and computer run the same
runtime. What is downloaded is held by its SHA-256 in a lock file next to ``pipeline.yaml``: the first use
records it, every later one must get the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from android_bench.runner.abi import check_abi
from nasflow.base.errors import IntegrityError, MachineError, NoUsableDeviceError, UsageError
from nasflow.base.files import cache_folder, disk_faults, expand_home, write_atomic

BASE_URL = "https://storage.googleapis.com/litert/binaries"
LOCK_NAME = "benchmark_model.lock.json"
MAX_RUNNER_BYTES = 256 * 2**20
"""Far more than any benchmark_model."""

_DOWNLOAD_S = 600.0
_CHUNK_BYTES = 2**18
_TARGETS = {"arm64-v8a": "android_arm64"}
_VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){1,3}(?:(?:a|b|rc|\.dev|\.post)[0-9]{1,10})?")
# Configurations of TensorFlow's .bazelrc, for who has to build it.
_BUILD_CONFIGS = {"armeabi-v7a": "android_arm", "x86_64": "android_x86_64", "x86": "android_x86"}
_OWN = "Or set android.runner to the path of a benchmark_model that you have."


@dataclass(frozen=True)
class Runner:
    """A benchmark_model and where it comes from. ``news`` is what a person should be told, or empty."""

    content: bytes
    sha256: str
    name: str
    news: str = ""


def obtain(
    setting: str,
    *,
    abis: Sequence[str],
    project: Path,
    offline: bool = False,
    cache: Path | None = None,
    base_url: str = BASE_URL,
    version: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Runner:
    """The program that ``android.runner`` names, checked against the phone's ABIs, the best one first.

    ``project`` is the folder of ``pipeline.yaml``: relative paths start there, and the lock file lies there.
    ``offline`` never downloads. Raises UsageError, NoUsableDeviceError (another ABI), IntegrityError (not
    what the lock file says), MachineError (network, disk).
    """
    if setting != "auto":
        return _of_path(setting, abis, project)
    target = next((_TARGETS[abi] for abi in abis if abi in _TARGETS), None)
    if target is None:
        raise NoUsableDeviceError(
            f"there is no benchmark_model to download for a phone of ABI {', '.join(abis) or 'unknown'}, "
            f"only for {', '.join(_TARGETS)}.",
            hint=_build_hint(abis),
        )
    version = version or _litert_version()
    key = f"{version}/{target}"
    url = f"{base_url}/{key}/benchmark_model"
    lock = project / LOCK_NAME
    locked = _read_lock(lock)
    cached = (cache or cache_folder()) / "runner" / version / target / "benchmark_model"
    content = _read_or_none(cached)
    if content is None:
        if offline:
            raise MachineError(
                f"benchmark_model {key} is not in {cached}, and it is not downloaded when offline.",
                hint=f"Run once without --offline (key offline). {_OWN}",
            )
        content = _download(url, clock)
        origin, fresh = url, True
    else:
        origin, fresh = str(cached), False
    sha256 = hashlib.sha256(content).hexdigest()
    expected = locked.get(key)
    if expected not in (None, sha256):
        raise IntegrityError(
            f"benchmark_model {key} from {origin} has SHA-256 {sha256}, but {lock} says {expected}.",
            hint="If Google has replaced the file and you trust that, delete its line from the lock file."
            if fresh
            else f"Delete {cached}; it is then downloaded again.",
        )
    check_abi(content, abis, name=origin)
    news = _kept(cached, content) if fresh else ""
    if expected is None:
        _write_lock(lock, {**locked, key: sha256})
        recorded = f"benchmark_model {key} (SHA-256 {sha256}) is recorded in {lock.name}"
        news = f"{recorded}; keep that file with your project. {news}".strip()
    return Runner(content, sha256, f"benchmark_model {key}", news)


def _build_hint(abis: Sequence[str]) -> str:
    config = next((_BUILD_CONFIGS[abi] for abi in abis if abi in _BUILD_CONFIGS), None)
    how = (
        f": in TensorFlow's sources, bazel build -c opt --config={config} "
        "//tensorflow/lite/tools/benchmark:benchmark_model"
    )
    return f"Build one and set android.runner to its path{how if config else '.'}"


def _kept(cached: Path, content: bytes) -> str:
    """Put a download into the cache; where that cannot be written, what a person should know."""
    try:
        write_atomic(cached, content)
    except MachineError as error:
        return f"{error.message} It is downloaded again next time. Set XDG_CACHE_HOME to a writable folder."
    return ""


def _of_path(setting: str, abis: Sequence[str], project: Path) -> Runner:
    path = project / expand_home(setting)
    content = _read_or_none(path)
    if content is None:
        raise UsageError(
            f"android.runner names {path}, which does not exist.",
            hint="Set it to auto, or to the path of a benchmark_model.",
        )
    check_abi(content, abis, name=str(path))
    return Runner(content, hashlib.sha256(content).hexdigest(), path.name)


def _litert_version() -> str:
    try:
        found = installed_version("ai-edge-litert")
    except PackageNotFoundError as error:
        raise MachineError(
            "android.runner is auto, which needs the version of ai-edge-litert, but that is not installed.",
            hint=f"Install it: pip install ai-edge-litert. {_OWN}",
        ) from error
    if not _VERSION.fullmatch(found):
        raise MachineError(
            "there is no benchmark_model to download for the installed ai-edge-litert, version "
            f"{found[:80]!r}.",
            hint=_OWN,
        )
    return found


def _read_or_none(path: Path) -> bytes | None:
    with disk_faults(path, "read"):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_RUNNER_BYTES + 1)
        except FileNotFoundError:
            return None
    if len(content) > MAX_RUNNER_BYTES:
        raise UsageError(
            f"{path} has more than {MAX_RUNNER_BYTES} bytes: it is not a benchmark_model.", hint=_OWN
        )
    return content


def _read_lock(lock: Path) -> dict[str, str]:
    """SHA-256 by ``version/target``. Raises IntegrityError where the file is not as it was written."""
    content = _read_or_none(lock)
    if content is None:
        return {}
    try:
        document = json.loads(content)
    except ValueError as error:
        document = error
    runners = document.get("sha256") if isinstance(document, dict) else None
    if not isinstance(runners, dict) or not all(
        isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) for value in runners.values()
    ):
        raise IntegrityError(
            f"{lock} is not a valid lock file: {str(document)[:120]}.",
            hint="Restore it from your version control. Delete it only if you trust the next download.",
        )
    return runners


def _write_lock(lock: Path, runners: dict[str, str]) -> None:
    text = json.dumps({"schema_version": 1, "sha256": dict(sorted(runners.items()))}, indent=2) + "\n"
    write_atomic(lock, text.encode())


def _is_safe(url: str, *, base: str) -> bool:
    """https; or, where the base itself is this computer's loopback, plain http to loopback."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    return all(
        part.scheme == "http" and part.hostname in ("127.0.0.1", "::1", "localhost")
        for part in (parts, urlsplit(base))
    )


def _download(url: str, clock: Callable[[], float]) -> bytes:
    """The file at ``url``, of the size that the server has told. Raises MachineError."""
    import http.client
    import urllib.request

    class OnlySafe(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
        ) -> urllib.request.Request | None:
            if not _is_safe(newurl, base=url):
                raise MachineError(f"{url} redirects to {newurl[:200]}, which is not https.", hint=_OWN)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    if not _is_safe(url, base=url):
        raise MachineError(f"{url} is not https.", hint=_OWN)
    until = clock() + _DOWNLOAD_S
    content = bytearray()
    try:
        with urllib.request.build_opener(OnlySafe).open(url, timeout=60) as response:
            announced = response.headers.get("Content-Length", "")
            while chunk := response.read(_CHUNK_BYTES):
                content += chunk
                if len(content) > MAX_RUNNER_BYTES:
                    raise MachineError(f"{url} sends more than {MAX_RUNNER_BYTES} bytes.", hint=_OWN)
                if clock() > until:
                    raise MachineError(
                        f"{url} was not downloaded within {_DOWNLOAD_S:.0f} s "
                        f"({len(content)} of {announced or 'unknown'} bytes).",
                        hint=f"Try again with a faster connection. {_OWN}",
                    )
    except (OSError, http.client.HTTPException) as error:
        raise MachineError(
            f"{url} cannot be downloaded: {error}.",
            hint=f"Check the network and try again. {_OWN}",
            raw=str(error),
        ) from error
    if announced.isdecimal() and int(announced) != len(content):
        raise MachineError(
            f"the download of {url} ended early: {len(content)} of {announced} bytes were received.",
            hint="Run the same command again.",
        )
    return bytes(content)
