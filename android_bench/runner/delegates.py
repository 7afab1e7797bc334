"""What may compute a model on a phone: a table of delegates.

A row says by what flags each of the two tools is asked for a delegate, whether its words confirm that this
one computed, and how one of its failures is told from others. The tools fall back to the CPU and exit with 0:
what is not confirmed is not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from android_bench.runner.identity import HINT_RUNNER
from android_bench.runner.output import Delegation
from nasflow.base.errors import BadMeasurementError

_CPU_NAMES = ("xnnpack", "cpu")


@dataclass(frozen=True)
class Delegate:
    """One row.

    ``flags``: by the kind of the tool (``classic``, ``litert``). ``refusal``: why what the tool said does not
    confirm it, and what to do; None where it does. ``on_gpu``: its failures are a GPU's.
    """

    name: str
    flags: Mapping[str, Mapping[str, str]]
    refusal: Callable[[str, Sequence[Delegation]], tuple[str, str] | None]
    on_gpu: bool = False

    def check(self, kind: str, delegations: Sequence[Delegation]) -> None:
        """Raises BadMeasurementError where a tool of that ``kind`` does not say that it was computed so."""
        if refused := self.refusal(kind, delegations):
            message, hint = refused
            raise BadMeasurementError(message, hint=hint)


def _on_cpu(name: str) -> bool:
    return any(word in name.lower() for word in _CPU_NAMES)


def _not_cpu(_kind: str, delegations: Sequence[Delegation]) -> tuple[str, str] | None:
    others = [d.delegate for d in delegations if d.extent != "none" and not _on_cpu(d.delegate)]
    if not others:
        return None
    return f"the CPU was requested, but {others[0][:60]} ran the model.", HINT_RUNNER


def _not_gpu(kind: str, delegations: Sequence[Delegation]) -> tuple[str, str] | None:
    """A GPU must be seen to have computed all of the graph."""
    seen = [d.extent for d in delegations if not _on_cpu(d.delegate)]
    helped = any(_on_cpu(d.delegate) and d.extent != "none" for d in delegations)
    if seen and set(seen) == {"all"} and not helped:
        return None
    if "all" in seen or "part" in seen:
        reason = "it ran only a part of the model"
    elif seen or helped:
        reason = "the tool fell back to the CPU"
    else:
        reason = f"the {kind} runner does not report that it was used"
    return (
        f"the GPU was requested, but {reason}.",
        "Set runtime.delegate to cpu, or use the classic benchmark_model, which reports what runs the model.",
    )


_GPU_FLAGS = {"use_gpu": "true", "require_full_delegation": "true"}

DELEGATES: Mapping[str, Delegate] = {
    row.name: row
    for row in (
        Delegate("cpu", {"classic": {"use_xnnpack": "true"}, "litert": {}}, _not_cpu),
        Delegate(
            "gpu",
            {
                "classic": {**_GPU_FLAGS, "use_xnnpack": "false"},
                # LiteRT's tool aborts where the CPU is allowed and full delegation is required.
                "litert": {**_GPU_FLAGS, "use_cpu": "false"},
            },
            _not_gpu,
            on_gpu=True,
        ),
    )
}
"""By ``runtime.delegate``."""
