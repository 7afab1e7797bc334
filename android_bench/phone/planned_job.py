"""Which job a list of requests becomes, and whether one that was left on the phone still counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from android_bench.device import BenchmarkRequest
from android_bench.phone.conditions import read_conditions, rebooted
from android_bench.phone.job import MAX_TIMINGS, PhoneJob, stretches_of
from android_bench.phone.outputs import MODEL_SUFFIX
from android_bench.phone.remote_files import remote_path
from android_bench.phone.tool import PhoneTool
from android_bench.runner.tool import command
from android_bench.transport import Transport

_STRETCH_S = 15.0
_STRETCH_TIMINGS = 25
_LOAD_S = 0.3  # a process, a model and its tensors: a guess that only cuts the stretches
_WARM_UP_MS = 50.0
"""Each timing's warm-up at least, on cores that the stretch's load has made fast: Linux weighs the load of a
core with a half-life of 32 ms (PELT), and between two timings a process has to be started."""
_OLDEST_S = 86_400.0
_RESULT = "result.pb"


def commands_of(
    tool: PhoneTool,
    requests: Sequence[BenchmarkRequest],
    masks: Sequence[int | None],
    libraries: str,
) -> list[tuple[str, ...]]:
    """The command line of each request, on the cores of its mask (None: all)."""
    return [
        command(
            tool.tool,
            _warmed(request),
            binary=tool.path,
            model=_model_path(request.model),
            result=_RESULT,
            mask=mask,
            libraries=libraries,
        )
        for request, mask in zip(requests, masks, strict=True)
    ]


def _warmed(request: BenchmarkRequest) -> BenchmarkRequest:
    """With the warm-up that a process on a phone needs."""
    return request.model_copy(update={"warmup_ms": max(request.warmup_ms, _WARM_UP_MS)})


def is_fresh(transport: Transport, job: PhoneJob) -> bool:
    """Whether a job was begun within the last day, and the phone has not restarted since.

    By its uptime: its clock may be set by hours at any time, and what ran before a restart has no age.
    """
    begun, now = job.begun(transport), read_conditions(transport)
    if begun is None or begun.uptime_s is None or now.uptime_s is None or rebooted(begun, now):
        return False
    return 0 <= now.uptime_s - begun.uptime_s <= _OLDEST_S


def job_of(
    commands: Sequence[tuple[str, ...]], keys: Sequence[str], requests: Sequence[BenchmarkRequest]
) -> PhoneJob:
    """A job of as many of these timings as one may have."""
    some = slice(MAX_TIMINGS)
    seconds = [
        _LOAD_S + (request.warmup_ms + request.min_ms) / 1000 for request in map(_warmed, requests[some])
    ]
    stretches = stretches_of(seconds, longest_s=_STRETCH_S, most=_STRETCH_TIMINGS)
    return PhoneJob.of(commands[some], stretches, keys=keys[some])


def _model_path(model: bytes) -> str:
    return remote_path(hashlib.sha256(model).hexdigest() + MODEL_SUFFIX)
