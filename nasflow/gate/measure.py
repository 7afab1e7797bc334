"""Measure two models on a device until their gate decides; what is measured is kept until then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from android_bench.device import BenchmarkRequest, Device, RuntimeOptions
from nasflow.gate.answers import Answers
from nasflow.gate.subjects import Subject
from pipeline.artifact import canonical_json, sha256_hex
from pipeline.events import Emit, Message, Progress
from pipeline.store.scratch import FolderScratch
from stages.documents.gate import AccuracyCompared, GatePlan, GateResult
from stages.verification.gate import joined_verdict, looks_of, verdict_of, with_drops
from stages.verification.gate_blocks import GateBlocks, Timed

SOURCE = "verify"
WARMUP_MS, MIN_MS = 20.0, 60.0


@dataclass(frozen=True)
class Gate:
    """Two models, a plan, and how they run."""

    candidate: Subject
    baseline: Subject
    anchor: Subject
    plan: GatePlan
    runtime: RuntimeOptions

    def requests(self) -> Mapping[Timed, BenchmarkRequest]:
        """The three models of a block."""
        contents: dict[Timed, bytes] = {
            "candidate": self.candidate.content,
            "baseline": self.baseline.content,
            "anchor": self.anchor.content,
        }
        return {
            name: BenchmarkRequest(
                name=name, model=content, options=self.runtime, warmup_ms=WARMUP_MS, min_ms=MIN_MS
            )
            for name, content in contents.items()
        }

    def scratch(self, device: Device, emit: Emit) -> FolderScratch:
        """Where blocks are kept until the verdict: of these models, this plan and this very device."""
        info = device.info()
        decided_by = [
            self.candidate.model.sha256,
            self.baseline.model.sha256,
            self.plan.model_dump(mode="json"),
            self.runtime.model_dump(mode="json"),
            {**info.identity(), "serial": info.serial},
        ]
        folder: Path = user_cache_path("nasflow") / "gates" / sha256_hex(canonical_json(decided_by))[:24]
        return FolderScratch(folder, SOURCE, emit)

    def measure(
        self,
        device: Device,
        emit: Emit,
        answers: Answers | None = None,
        accuracy: AccuracyCompared | None = None,
    ) -> GateResult:
        """Go on until the gate decides. Raises DeviceError; what was measured by then is kept.

        ``answers`` and ``accuracy``: what was found of the models' answers before. It is not kept with the
        blocks: a gate that goes on finds it again.
        """
        scratch = self.scratch(device, emit)
        measured = GateBlocks(scratch, device, self.requests(), self.plan.seed)
        if measured.blocks:
            emit(Message(SOURCE, f"going on after {len(measured.blocks)} blocks of an interrupted gate."))
        while (verdict := verdict_of(self.plan, measured.blocks)) is None:
            block = measured.measure()
            ratio = block.median_ms("candidate") / block.median_ms("baseline")
            most = self.plan.max_blocks
            emit(Progress(SOURCE, min(len(measured.blocks), most), most, "blocks", f"ratio {ratio:.3f}"))
        result = GateResult(
            plan=self.plan,
            candidate=self.candidate.model,
            baseline=self.baseline.model,
            device=device.info(),
            runtime=self.runtime,
            blocks=with_drops(measured.blocks),
            looks=looks_of(self.plan, measured.blocks),
            outputs=None if answers is None else answers.candidate,
            baseline_outputs=None if answers is None else answers.baseline,
            accuracy=accuracy,
            verdict=joined_verdict(verdict, accuracy),
            seconds=sum(block.seconds for block in measured.blocks),
        )
        scratch.clear()
        return result
