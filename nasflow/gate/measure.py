"""Measure two models on a device until their gate decides; what is measured is kept until then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from android_bench.device import DEFAULT_OPTIONS, BenchmarkRequest, Device, DeviceInfo, RuntimeOptions
from nasflow.base.files import cache_folder
from nasflow.gate.answers import Answers
from nasflow.gate.subjects import Subject
from pipeline.artifact import canonical_json, sha256_hex
from pipeline.events import Emit, Message, Progress
from pipeline.store.scratch import FolderScratch
from stages.documents.gate import AccuracyCompared, Block, GatePlan, GateResult
from stages.verification.gate import joined_verdict, looks_of, verdict_of, with_drops
from stages.verification.gate_blocks import GateBlocks, Timed

SOURCE = "verify"
WARMUP_MS, MIN_MS = 20.0, 60.0


def requests_of(
    contents: Mapping[Timed, bytes], options: RuntimeOptions = DEFAULT_OPTIONS
) -> dict[Timed, BenchmarkRequest]:
    """How a gate has each of its models timed."""
    return {
        name: BenchmarkRequest(name=name, model=content, options=options, warmup_ms=WARMUP_MS, min_ms=MIN_MS)
        for name, content in contents.items()
    }


@dataclass
class SoFar:
    """What is known of a gate while it is measured, for whoever tells of the error that ends it."""

    device: DeviceInfo | None = None
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Gate:
    """A model, what it is compared with (None: a limit of milliseconds needs nothing), and how they run."""

    candidate: Subject
    baseline: Subject | None
    anchor: Subject
    plan: GatePlan
    runtime: RuntimeOptions
    self_test: bool = False

    def requests(self) -> Mapping[Timed, BenchmarkRequest]:
        """The models of a block."""
        contents: dict[Timed, bytes] = {"candidate": self.candidate.content, "anchor": self.anchor.content}
        if self.baseline is not None:
            contents["baseline"] = self.baseline.content
        return requests_of(contents, self.runtime)

    def scratch(self, device: Device, emit: Emit, connection: str = "") -> FolderScratch:
        """Where blocks are kept until the verdict: of these models, this plan and this very device.

        ``connection`` tells it from another device of the same name. Raises MachineError without a home.
        """
        info = device.info()
        decided_by = [
            self.candidate.model.sha256,
            None if self.baseline is None else self.baseline.model.sha256,
            self.plan.model_dump(mode="json"),
            self.runtime.model_dump(mode="json"),
            {**info.identity(), "serial": info.serial},
            *([connection] if connection else []),
        ]
        folder = cache_folder() / "gates" / sha256_hex(canonical_json(decided_by))[:24]
        return FolderScratch(folder, SOURCE, emit)

    def measure(
        self,
        device: Device,
        emit: Emit,
        answers: Answers | None = None,
        accuracy: AccuracyCompared | None = None,
        so_far: SoFar | None = None,
        connection: str = "",
    ) -> GateResult:
        """Go on until the gate decides. Raises DeviceError; what was measured by then is kept.

        ``so_far`` is told of every block as it comes. ``answers`` and ``accuracy``: what was found of the
        models' answers before. It is not kept with the blocks: a gate that goes on finds it again.
        ``connection``: see :meth:`scratch`.
        """
        scratch = self.scratch(device, emit, connection)
        measured = GateBlocks(scratch, device, self.requests(), self.plan.seed)
        if so_far is not None:
            so_far.device, so_far.blocks = device.info(), measured.blocks
        if measured.blocks:
            emit(Message(SOURCE, f"going on after {len(measured.blocks)} blocks of an interrupted gate."))
        while (verdict := verdict_of(self.plan, measured.blocks)) is None:
            block, most = measured.measure(), self.plan.max_blocks
            note = f"{block.median_ms('candidate'):.4g} ms"
            if self.baseline is not None:
                note = f"ratio {block.median_ms('candidate') / block.median_ms('baseline'):.3f}"
            emit(Progress(SOURCE, min(len(measured.blocks), most), most, "blocks", note))
        result = GateResult(
            kind="self-test" if self.self_test else "gate",
            plan=self.plan,
            candidate=self.candidate.model,
            baseline=None if self.baseline is None else self.baseline.model,
            device=device.info(),
            runtime=self.runtime,
            blocks=with_drops(self.plan, measured.blocks),
            looks=looks_of(self.plan, measured.blocks),
            outputs=None if answers is None else answers.candidate,
            baseline_outputs=None if answers is None else answers.baseline,
            accuracy=accuracy,
            verdict=None if self.self_test else joined_verdict(verdict, accuracy),
            seconds=sum(block.seconds for block in measured.blocks),
        )
        scratch.clear()
        return result
