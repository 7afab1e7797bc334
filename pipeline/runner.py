"""The pipeline: which stages are stale, and running just those."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from nasflow.base.errors import MachineError, NasflowError
from nasflow.base.text import human_duration
from pipeline import selection, signals
from pipeline.artifact import Document, document_bytes, sha256_hex
from pipeline.events import (
    Emit,
    Event,
    Message,
    Progress,
    StageFailed,
    StageFinished,
    StageSkipped,
    StageStarted,
)
from pipeline.freshness import Assessment, StageStatus, assess, unknown, waiting
from pipeline.stage import Context, Stage
from pipeline.store.records import RecordDraft
from pipeline.store.scratch import FolderScratch
from pipeline.store.store import Store
from pipeline.store.sweeping import Freed

__all__ = ["Pipeline", "StageStatus"]


_FORCED = "forced to run again"
_FORCED_ANEW = "forced to run from its start: the work of an unfinished run will be discarded"


def _own_environment(stage: Stage) -> Mapping[str, str]:
    return stage.environment()


class Pipeline:
    """Stages in an order in which every stage comes after its inputs."""

    def __init__(
        self,
        stages: Sequence[Stage],
        store: Store,
        emit: Emit,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        selection.validate(stages)
        self.stages = tuple(stages)
        self.store = store
        self.still_forced: tuple[str, ...] = ()
        """Stages that the last :meth:`run` was to force and has not begun.

        They must be named again. The one that was at work goes on in any next run.
        """
        self.kept: dict[str, float] = {}
        """Stages whose output the last :meth:`run` had at its end, by name: the seconds that went into it."""
        self._emit = emit
        self._clock = clock

    def status(
        self,
        until: str | None = None,
        from_stage: str | None = None,
        force: Collection[str] = (),
        *,
        environment: Callable[[Stage], Mapping[str, str]] = _own_environment,
    ) -> tuple[StageStatus, ...]:
        """Each stage, fresh or stale and why, as :meth:`run` with the same arguments would find it.

        ``environment`` answers in place of the stages, for one who does not want them to look yet. Changes
        nothing on the disk. Raises UsageError for a name that is no stage's, MachineError.
        """
        selected = selection.needed_for(self.stages, until)
        forced = selection.forced(self.stages, selected, from_stage, force)
        statuses: dict[str, StageStatus] = {}
        for stage in selected:
            status = self._status(stage, statuses, environment)
            if status.fresh and stage.name in forced:
                status = replace(status, fresh=False, why=_FORCED)
            elif status.partly_done and stage.name in force:
                status = replace(status, partly_done=False, why=_FORCED_ANEW)
            statuses[stage.name] = status
        return tuple(statuses.values())

    def check(self, until: str | None = None) -> None:
        """Raises UsageError where a stage that ``until`` needs cannot work with its settings."""
        for stage in selection.needed_for(self.stages, until):
            stage.check()

    def run(
        self, until: str | None = None, from_stage: str | None = None, force: Collection[str] = ()
    ) -> dict[str, Document]:
        """Run what is stale and return every stage's document by the stage's name.

        ``until``: only this stage and those that it needs. ``from_stage``: this stage and all that depend
        on it run even if they are fresh. ``force``: just these run even if they are fresh; what depends
        on them runs only if their output comes out different. A stage that was interrupted goes on where
        it was, also one that was forced: that one counts as stale until it is done. What a stage named in
        ``force`` has kept of unfinished work is discarded: it begins anew.

        Raises UsageError, StoreLockedError, MachineError, and whatever a stage raises.
        """
        selected = selection.needed_for(self.stages, until)
        forced = selection.forced(self.stages, selected, from_stage, force)
        self.still_forced = forced
        self.kept = {}
        documents: dict[str, Document] = {}
        digests: dict[str, str] = {}
        with self.store.lock():
            for stage in selected:
                signals.check()
                inputs = {parameter: digests[name] for parameter, name in stage.inputs.items()}
                assessment = assess(stage, self.store, inputs, dict(stage.environment()))
                if stage.name in force and self._discard(stage, assessment):
                    assessment = assess(stage, self.store, inputs, assessment.environment)
                record, document = assessment.status.record, assessment.document
                if document is None or record is None or stage.name in forced:
                    received = {parameter: documents[name] for parameter, name in stage.inputs.items()}
                    document, digest = self._work(stage, assessment, inputs, received)
                else:
                    digest = record.output.sha256
                    self.kept[stage.name] = record.seconds
                    # Left over where a run was killed just behind its record.
                    self.store.scratch(stage.name, assessment.fingerprint).clear()
                    self._emit(StageSkipped(stage.name))
                documents[stage.name], digests[stage.name] = document, digest
        return documents

    def adopt(self, made: Mapping[str, Document]) -> None:
        """Take documents that were made elsewhere for the output of these stages, by name, as they are now.

        All that a stage needs must be among them. The last stage is committed first: killed in between, a
        stage whose input is not there yet does not count. Raises StoreLockedError, MachineError,
        IntegrityError.
        """
        digests = {name: sha256_hex(document_bytes(document)) for name, document in made.items()}
        with self.store.lock():
            for stage in reversed(selection.needed_for(self.stages, list(made)[-1])):
                inputs = {parameter: digests[name] for parameter, name in stage.inputs.items()}
                environment = dict(stage.environment())
                draft = RecordDraft(
                    stage=stage.name,
                    version=stage.version,
                    fingerprint=stage.fingerprint(inputs, environment),
                    settings=stage.settings(),
                    environment=environment,
                    inputs=inputs,
                    seconds=0.0,  # no time of this pipeline's went into it
                    estimated_seconds=stage.estimate_seconds(),
                )
                self.store.commit(draft, made[stage.name])
                self.store.scratch(stage.name, draft.fingerprint).clear()

    def sweep(self, *, dry_run: bool = False, beside: Sequence[Pipeline] = ()) -> Freed:
        """Delete what no stage of the present configuration refers to.

        Kept for a fresh stage: its output. For a stale one: its latest output, which may prove to be
        fresh once its inputs have run, and its unfinished work. ``beside``: pipelines whose results belong
        to the same configuration (the other folds'). Raises StoreLockedError, MachineError.
        """
        with contextlib.nullcontext() if dry_run else self.store.lock():
            keep: set[str] = set()
            keep_scratch: set[str] = set()
            statuses = [status for pipeline in (self, *beside) for status in pipeline.status()]
            blind = any(status.problem for status in statuses)
            for status in statuses:
                if status.record:
                    keep.add(status.record.fingerprint)
                if status.fingerprint:
                    keep.add(status.fingerprint)
                    continue
                # Without its device or data set nobody can say which output is meant: all of them stay.
                folders = self.store.scratch_folders(status.name)
                keep_scratch.update(path.name for path in (folders if blind else folders[-1:]))
                if blind:
                    keep.update(record.fingerprint for record in self.store.records(status.name))
            return self.store.sweep(keep, keep_scratch=keep_scratch, dry_run=dry_run)

    # --- running one stage -----------------------------------------------------------------------------

    def _discard(self, stage: Stage, assessment: Assessment) -> bool:
        """Delete what an interrupted run of a stage has kept; whether there was anything."""
        scratch = self.store.scratch(stage.name, assessment.fingerprint)
        if not scratch.holds_work():
            return False
        spent = human_duration(scratch.spent_seconds())
        scratch.clear()
        self._emit(Message(stage.name, f"discarded the work of an unfinished run (about {spent})."))
        return True

    def _work(
        self,
        stage: Stage,
        assessment: Assessment,
        inputs: Mapping[str, str],
        received: Mapping[str, Document],
    ) -> tuple[Document, str]:
        """Run one stage and keep its output; return the document and its SHA-256."""
        if assessment.damage is not None:
            text = f"{assessment.damage.message} Stage {stage.name} runs again and replaces it."
            self._emit(Message(stage.name, text, level="warning"))
        scratch = self.store.scratch(stage.name, assessment.fingerprint)
        scratch.begin(assessment.basis)
        # From here on it counts as stale until it is done.
        self.still_forced = tuple(name for name in self.still_forced if name != stage.name)
        self._emit(StageStarted(stage.name, assessment.status.why or _FORCED))
        stopwatch = _Stopwatch(self._clock, scratch)
        with self._telling_failure(stage, stopwatch):
            context = Context(
                stage.name, assessment.fingerprint, self.store, scratch, self._emit_while_running
            )
            made = stage.run(context, **received)
            if not isinstance(made, stage.output):
                raise TypeError(
                    f"stage {stage.name} returned {type(made).__name__}, not {stage.output.__name__}"
                )
            signals.check()
        draft = RecordDraft(
            stage=stage.name,
            version=stage.version,
            fingerprint=assessment.fingerprint,
            settings=stage.settings(),
            environment=assessment.environment,
            inputs=inputs,
            seconds=stopwatch.total(),
            estimated_seconds=stage.estimate_seconds(),
        )
        with signals.deferred():
            with self._telling_failure(stage, stopwatch):
                record = self.store.commit(draft, made)
            self.kept[stage.name] = draft.seconds
            scratch.clear()
            self._emit(StageFinished(stage.name, draft.seconds))
        return self.store.document(record, stage.output), record.output.sha256

    @contextlib.contextmanager
    def _telling_failure(self, stage: Stage, stopwatch: _Stopwatch) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(MachineError):  # the error at hand is the one to tell
                stopwatch.keep()
            reason = error.message if isinstance(error, NasflowError) else f"{type(error).__name__}: {error}"
            self._emit(StageFailed(stage.name, stopwatch.elapsed(), reason))
            raise

    def _emit_while_running(self, event: Event) -> None:
        self._emit(event)
        if isinstance(event, Progress):  # some libraries swallow what a signal handler raises
            signals.check()

    def _status(
        self,
        stage: Stage,
        earlier: Mapping[str, StageStatus],
        environment: Callable[[Stage], Mapping[str, str]],
    ) -> StageStatus:
        stale = [name for name in stage.inputs.values() if not earlier[name].fresh]
        if stale:
            return waiting(stage, self.store, stale)
        inputs: dict[str, str] = {}
        for parameter, name in stage.inputs.items():
            record = earlier[name].record
            assert record is not None, "a stage that is up to date has a record"
            inputs[parameter] = record.output.sha256
        try:
            found = dict(environment(stage))
        except NasflowError as error:
            return unknown(stage, self.store, error)
        return assess(stage, self.store, inputs, found).status


class _Stopwatch:
    """The time of one stage, that of interrupted runs included."""

    def __init__(self, clock: Callable[[], float], scratch: FolderScratch) -> None:
        self._clock = clock
        self._scratch = scratch
        self._before = scratch.spent_seconds()
        self._started = clock()

    def elapsed(self) -> float:
        return self._clock() - self._started

    def total(self) -> float:
        return self._before + self.elapsed()

    def keep(self) -> None:
        self._scratch.keep_spent(self.total())
