"""Two meters for the highest point of memory during a step of training, and one for a GPU.

Bytes throughout. :func:`traced_peak` is exact for all that PyTorch's CPU allocator gives out,
:func:`resident_peak` is what the operating system sees, :func:`cuda_peak` PyTorch's own count on a GPU.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler announces each start and stop
_CPU = 0  # c10::DeviceType
PROMPT_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
}
"""Environment under which glibc hands freed memory back at once, so that :func:`resident_peak` can follow."""


def learned_tensors(
    modules: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer]
) -> list[Tensor]:
    """Weights, buffers, gradients and optimizer state: what is not activation."""
    found = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    found += [p.grad for module in modules for p in module.parameters() if p.grad is not None]
    states = (value for o in optimizers for state in o.state.values() for value in state.values())
    return found + [value for value in states if isinstance(value, Tensor)]


def traced_peak(step: Callable[[], object], learned: Callable[[], Iterable[Tensor]] = tuple) -> int:
    """The most memory that was in use at once, of what the step itself took from PyTorch's CPU allocator.

    The tensors that ``learned`` gives after the step do not count, from their first moment on: gradients
    and optimizer state are told from activations, whenever the step makes them. What was there before the
    step does not count either. Temporary memory inside an operator does (a convolution's reordered
    weights, say).
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    owned = {tensor.untyped_storage().data_ptr() for tensor in learned()}
    events = list(_memory_events(profiler))
    live: dict[int, int] = {}  # address: number of the event that took it
    frees: dict[int, int] = {}  # number of the event that gave back: number of the one that took
    for number, (address, size) in enumerate(events):
        if size > 0:
            live[address] = number
        elif address in live:
            frees[number] = live.pop(address)
    excluded = {number for address, number in live.items() if address in owned}
    now = peak = 0
    for number, (_, size) in enumerate(events):
        if (size > 0 and number not in excluded) or number in frees:
            now += size
            peak = max(peak, now)
    return peak


def _memory_events(profiler: profile) -> Iterator[tuple[int, int]]:
    """(address, bytes) in order; bytes are negative where memory was given back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        trace = json.loads(path.read_text(encoding="utf-8"))
    seen: list[dict[str, Any]] = [e["args"] for e in trace["traceEvents"] if e.get("name") == "[memory]"]
    for event in sorted(seen, key=lambda args: int(args["Ev Idx"])):
        if event["Device Type"] == _CPU:
            yield event["Addr"], event["Bytes"]


def resident_peak(step: Callable[[], object]) -> int | None:
    """By how much resident memory grew at its highest point during the step; None where Linux does not tell.

    Everything counts: gradients, libraries' own buffers, code that is used for the first time. Of use in a
    process with :data:`PROMPT_MALLOC`, after a first step that is not measured.
    """
    growth = resident_growth(step, [None])
    return None if growth is None else growth[0]


def resident_growth(step: Callable[[], object], processes: Iterable[int | None]) -> list[int] | None:
    """:func:`resident_peak` of several processes at once; None among them is this one."""
    owners = ["self" if process is None else str(process) for process in processes]
    try:
        for owner in owners:
            Path(f"/proc/{owner}/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew: proc(5)
    except OSError:
        return None
    before = [_status_bytes("VmRSS", owner) for owner in owners]
    step()
    return [_status_bytes("VmHWM", owner) - least for owner, least in zip(owners, before, strict=True)]


def _status_bytes(name: str, owner: str = "self") -> int:
    lines = Path(f"/proc/{owner}/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def cuda_peak(step: Callable[[], object], device: torch.device) -> int:
    """``torch.cuda.max_memory_allocated`` during the step, minus what is still allocated after it.

    What stays is weights, gradients and optimizer state; what the step leaves of its own is its loss.
    """
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
