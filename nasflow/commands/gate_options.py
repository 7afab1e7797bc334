"""What ``nasflow verify MODEL`` was asked for: which models, which limits, and where the result goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasflow.base.errors import InconclusiveError, UsageError

if TYPE_CHECKING:
    from nasflow.config import PipelineConfig
    from nasflow.gate.judge import Normalization
    from stages.documents.gate import GatePlan, GateVerdict

RESULT = Path("gate.json")
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": InconclusiveError.exit_code}
_CHOSEN = {"device", "config", "assignments", "seed", "offline", "as_json"}
_OF_A_SELF_TEST = {"self_test", "candidate", "max_blocks", "result", "junit", "summary"} | _CHOSEN
_OF_RECOMPUTE = {"recompute_file", "allow_inconclusive", "as_json"}


_HINTS = {
    "--max-ratio": "A ratio of 0.8 asks for at most 0.8 times the baseline's latency.",
    "--max-ms": "A limit of 12.5 asks for at most 12.5 ms.",
    "--max-accuracy-drop": "A drop of 0.5 allows half a percentage point less.",
    "--max-blocks": "A gate decides by 6 blocks at least, and by 1,000 at most.",
}


@dataclass(frozen=True)
class GateOptions:
    """What is compared, and where the result goes. ``mean`` and ``std``: as they were typed."""

    candidate: Path | None = None
    against: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    result: Path = RESULT
    junit: Path | None = None
    summary: Path | None = None
    history: Path | None = None
    allow_inconclusive: bool = False
    self_test: bool = False
    inputs: Path | None = None
    require_outputs: bool = False
    data: Path | None = None
    mean: str | None = None
    std: str | None = None
    all_phones: bool = False
    side_by_side: bool = False

    @property
    def name(self) -> str:
        """What a CI calls the gate."""
        if self.self_test:
            return "self-test"
        return f"{self.candidate} against {self.against}" if self.against is not None else str(self.candidate)

    def exit_code(self, verdict: GateVerdict | None) -> int:
        """Of the command that came to this; None: a self-test."""
        if verdict is None or (verdict == "inconclusive" and self.allow_inconclusive):
            return 0
        return EXIT_CODES[verdict]

    def plan(self, config: PipelineConfig) -> GatePlan:
        """The limits and the blocks. Raises UsageError for such as make no sense."""
        from pydantic import ValidationError

        from stages.documents.gate import GatePlan

        limits = dict(self.limits)
        most = limits.get("max_blocks")
        if most is not None and most < GatePlan.model_fields["min_blocks"].default:
            limits["min_blocks"] = most  # one look alone
        given = {"seed": config.seed, "max_thermal_status": config.android.max_thermal_status}
        try:
            plan = GatePlan.model_validate(limits | given)
        except ValidationError as error:
            first = next(one for one in error.errors() if one["loc"][:1] != ("min_blocks",))
            name = "--" + str((first["loc"] or ("blocks",))[0]).replace("_", "-")
            raise UsageError(
                f"{name}: {first['msg'].removeprefix('Value error, ')} (given: {first['input']}).",
                hint=_HINTS.get(name, ""),
            ) from error
        self._check(plan)
        return plan

    def _check(self, plan: GatePlan) -> None:
        if (plan.max_accuracy_drop is None) != (self.data is None):
            raise UsageError(
                "--max-accuracy-drop and --data belong together.",
                hint="--max-accuracy-drop 0.5 --data FOLDER: half a percentage point, on the folder's "
                "images.",
            )
        if plan.max_ratio is plan.max_ms is plan.max_accuracy_drop is None and not self.self_test:
            raise UsageError(
                "a gate needs a limit.",
                hint="Give --max-ratio 0.8 (of the baseline's latency), --max-ms 12.5, or both.",
            )
        if self.against is None and (plan.max_ratio is not None or plan.max_accuracy_drop is not None):
            raise UsageError(
                "--max-ratio and --max-accuracy-drop need --against MODEL.",
                hint="What is it to be compared with? A file, a run's folder, or mobilenet_v2.",
            )
        if self.side_by_side and not self.all_phones:
            raise UsageError("--side-by-side needs --all.", hint="Add --all, or leave --side-by-side out.")

    def normalization(self) -> Normalization | None:
        """What --mean and --std say. Raises UsageError where one is missing, or nothing needs them."""
        from nasflow.gate.judge import Normalization

        if self.mean is None and self.std is None:
            return None
        if self.data is None or self.mean is None or self.std is None:
            raise UsageError(
                "--mean and --std belong together, and to --max-accuracy-drop and --data.",
                hint="For a model that takes (pixel - mean) / std: --mean 127.5 --std 127.5.",
            )
        return Normalization(_numbers("--mean", self.mean), _numbers("--std", self.std))


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option}: {text!r} is not a number, or three of them.",
            hint=f"Of pixels from 0 to 255, for all channels or each: {option} 123.675,116.28,103.53",
        ) from error


def ignored_options(given: Sequence[tuple[str, str]], options: GateOptions, *, recompute: bool) -> str:
    """Which of the options that were typed would do nothing; empty: none.

    ``given``: the name of each parameter, and how it is written.
    """
    if not (recompute or options.self_test):
        return ""
    heeded, why = (
        (_OF_RECOMPUTE, "--recompute reaches the verdict of a file again by the plan in it")
        if recompute
        else (_OF_A_SELF_TEST, "--self-test compares a model with itself, without a limit")
    )
    ignored = [written for name, written in given if name not in heeded]
    return f"{why}: {', '.join(ignored)} would do nothing" if ignored else ""
