"""What may compute a model on a phone: a table of delegates.

A row says by what flags each of the two tools is asked for a delegate, whether its words confirm that this
one computed, and how one of its failures is told from others. The tools fall back to the CPU and exit with 0:
what is not confirmed is not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from android_bench.runner.identity import HINT_RUNNER
from android_bench.runner.output import Delegation
from nasflow.base.errors import BadMeasurementError, UsageError

_CPU_NAMES = ("xnnpack", "cpu")


@dataclass(frozen=True)
class Delegate:
    """One row.

    ``flags``: by the kind of the tool (``classic``, ``litert``); a kind that is missing cannot be asked for
    it. ``refusal``: why what the tool said does not confirm it, and what to do; None where it does.
    ``accelerator``: whose failures its failures are (``GPU``), empty for the CPU's. ``library_flags``: those
    that name the folder of its libraries on the phone.
    """

    name: str
    flags: Mapping[str, Mapping[str, str]]
    refusal: Callable[[str, Sequence[Delegation]], tuple[str, str] | None]
    accelerator: str = ""
    library_flags: tuple[str, ...] = ()

    def asked(self, kind: str, libraries: str = "") -> dict[str, str]:
        """The flags by which a tool of that ``kind`` is asked for it. Raises UsageError where it has none.

        ``libraries``: the folder on the phone that holds what this delegate loads; empty: the tool's own way.
        """
        if kind not in self.flags:
            raise UsageError(
                f"the {kind} benchmark_model cannot run models on the phone's {self.accelerator}.",
                hint="Use LiteRT's benchmark_model (android.runner: auto), or set runtime.delegate to cpu.",
            )
        named = dict.fromkeys(self.library_flags, libraries) if libraries else {}
        return {**self.flags[kind], **named}

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


def _not_all_of_it(accelerator: str, kind: str, delegations: Sequence[Delegation]) -> tuple[str, str] | None:
    """An accelerator must be seen to have computed all of the graph."""
    seen = [d.extent for d in delegations if not _on_cpu(d.delegate)]
    helped = any(_on_cpu(d.delegate) and d.extent != "none" for d in delegations)
    if seen and set(seen) == {"all"} and not helped:
        return None
    hint = _ADVICE[accelerator]
    if "all" in seen or "part" in seen:
        reason = "it ran only a part of the model"
    elif seen or helped:
        reason = "the tool fell back to the CPU"
    else:
        reason = f"the {kind} runner does not report that it was used"
        if (kind, accelerator) == ("litert", _GPU):  # the other tool runs models there, too, and tells more
            hint = (
                "Set android.runner to a classic benchmark_model, which reports what runs the model, or "
                "runtime.delegate to cpu."
            )
    return f"the {accelerator} was requested, but {reason}.", hint


_GPU, _NPU = "GPU", "NPU"
_ADVICE = {
    _GPU: "Set runtime.delegate to cpu: this phone's GPU does not compute the whole model.",
    _NPU: "android.npu_libraries must name the folder with LiteRT's dispatch library and compiler plugin for "
    "this phone's chip, and the NPU must compute runtime.precision (most compute int8). Or set "
    "runtime.delegate to gpu or cpu.",
}
"""What to do where it has not computed all of the model."""
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
            partial(_not_all_of_it, _GPU),
            accelerator=_GPU,
        ),
        # As LiteRT's own test asks for it (litert/tools/benchmark_litert_model_qualcomm_test.cc).
        Delegate(
            "npu",
            {
                "litert": {
                    "use_npu": "true",
                    "use_gpu": "false",
                    "use_cpu": "false",
                    "require_full_delegation": "true",
                }
            },
            partial(_not_all_of_it, _NPU),
            accelerator=_NPU,
            library_flags=("dispatch_library_path", "compiler_plugin_library_path"),
        ),
    )
}
"""By ``runtime.delegate``."""
