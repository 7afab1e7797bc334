"""What a gate leaves that an error ended: the error, and every block that was measured by then."""

from __future__ import annotations

from pathlib import Path

from android_bench.device import RuntimeOptions
from nasflow.base.errors import NasflowError
from nasflow.base.files import write_atomic
from nasflow.cli.console import exit_code_of
from nasflow.gate.measure import SoFar
from stages.documents.gate import GateFault, GatePlan, UnfinishedGate
from stages.verification.gate import with_drops


def fault_of(error: NasflowError) -> GateFault:
    """An error as a document holds it."""
    return GateFault(
        reference=error.reference, message=error.message, hint=error.hint, exit_code=exit_code_of(error)
    )


def write_unfinished(
    path: Path,
    error: NasflowError,
    candidate: str,
    against: str | None,
    plan: GatePlan | None = None,
    runtime: RuntimeOptions | None = None,
    so_far: SoFar | None = None,
) -> None:
    """Write it where the result would have been. Raises MachineError."""
    so_far = so_far or SoFar()
    document = UnfinishedGate(
        error=fault_of(error),
        candidate=candidate,
        against=against,
        plan=plan,
        device=so_far.device,
        runtime=runtime,
        blocks=() if plan is None else with_drops(plan, so_far.blocks),
    )
    write_atomic(path, document.model_dump_json(indent=1).encode() + b"\n")
