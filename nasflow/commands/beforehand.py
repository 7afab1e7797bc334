"""What is looked at before any stage works: files that it will read, and settings that are hardly meant."""

from __future__ import annotations

from collections.abc import Sequence

from nasflow.assemble import resolve_data
from nasflow.base.processes import usable_cores
from nasflow.commands.project import Project
from nasflow.config import PipelineConfig
from pipeline import signals
from pipeline.events import Emit, Message, Progress
from pipeline.freshness import StageStatus
from pipeline.runner import Pipeline
from pipeline.stage import Stage
from stages.baseline import Baseline
from stages.conversion.suitable import not_made_beside
from stages.convert import Convert
from stages.data.config import open_dataset
from stages.documents import LatencyModel
from stages.finetune import Finetune
from stages.latency_model import FitLatency
from stages.measurement.config import Measures
from stages.prune import Prune
from stages.search import Search
from stages.training.teacher_check import doubtful_teacher
from stages.verification.power import Shown, what_can_be_shown
from stages.verify import Verify

ReadsImages = Search | Prune | Finetune | Baseline | Convert | Verify


def check_images(project: Project, pipeline: Pipeline, stale: Sequence[StageStatus]) -> None:
    """Find out before any work that images are missing that a stale stage reads.

    Raises DatasetMissingError where a folder of one's own lacks them, or where they may not be downloaded.
    """
    stages = _of(pipeline, stale)
    for stage in stages:
        stage.check_files()
    if project.config.offline and any("data" in stage.settings() for stage in stages):
        open_dataset(resolve_data(project.config.data, project.base_dir)).check_at_hand()


def decode_images(pipeline: Pipeline, stale: Sequence[StageStatus], emit: Emit) -> None:
    """Decode images of one's own that a stale stage reads, once for all; nothing where that is done already.

    Otherwise the first training would do it, without a word for minutes. Raises IntegrityError where one
    can no longer be read, MachineError where the cache cannot be written.
    """
    from stages.data.image_folder import ImageFolder

    reading = (stage.data for stage in _of(pipeline, stale) if isinstance(stage, ReadsImages))
    dataset = next((open_dataset(data) for data in reading), None)
    if not isinstance(dataset, ImageFolder):
        return

    def progress(done: int, total: int) -> None:
        if done == 1:
            text = f"Decoding {total:,} images into the cache, once (data.cache_gigabytes)."
            emit(Message("", text))
        if done % max(1, total // 100) == 0 or done == total:
            emit(Progress("", done, total, "images", note="decoding"))
            signals.check()

    dataset.decode(progress, lambda text: emit(Message("", text, level="warning")))


def check_targets(pipeline: Pipeline, stages: Sequence[StageStatus]) -> None:
    """Find out before any work that a stale stage asks for a latency that no network has.

    Where the latency model is stale, too, nothing can be said yet. Raises InfeasibleTargetError.
    """
    by_name = {status.name: status for status in stages}
    latency = by_name.get(FitLatency.name)
    stale = _of(pipeline, [status for status in stages if not status.fresh])
    asking = [stage for stage in stale if isinstance(stage, Search | Prune)]
    if not asking or latency is None or not latency.fresh or latency.record is None:
        return
    model = pipeline.store.document(latency.record, LatencyModel)
    for stage in asking:
        stage.check_targets(model)


def test_images_show(pipeline: Pipeline, stale: Sequence[StageStatus]) -> Shown | None:
    """What the test images will be able to show, where a search is to be done; else None."""
    for stage in _of(pipeline, stale):
        if isinstance(stage, Search):
            return what_can_be_shown(open_dataset(stage.data).counts["test"])
    return None


def doubtful_settings(config: PipelineConfig, pipeline: Pipeline, stale: Sequence[StageStatus]) -> list[str]:
    """What the settings allow and hardly anyone means, of what is to be done."""
    cores, threads = usable_cores(), config.runtime.threads
    stages = _of(pipeline, stale)
    told: list[str | None] = []
    if any(isinstance(stage, Measures) for stage in stages):
        if config.device.partition(":")[0] == "cuda" and config.runtime.batch == 1:
            told.append(
                "runtime.batch is 1: with one image at a time a GPU mostly waits. If a server computes "
                "batches, set runtime.batch to their size (8 in the ProxylessNAS paper), and "
                "runtime.precision to float16."
            )
        if config.device == "local" and threads > cores:
            told.append(
                f"runtime.threads is {threads}, but this computer has only {cores} "
                f"core{'s' if cores > 1 else ''}: models will take many times as long as with {cores}."
            )
    convert = config.convert
    told += [
        not_made_beside(
            stage.space, config.runtime, convert.precisions, one_partition=convert.require_one_partition
        )
        for stage in stages
        if isinstance(stage, Search)
    ]
    told += [
        doubtful_teacher(stage.config, stage.data, open_dataset(stage.data))
        for stage in stages
        if isinstance(stage, Finetune)
    ]
    return [text for text in told if text]


def _of(pipeline: Pipeline, stale: Sequence[StageStatus]) -> list[Stage]:
    names = {status.name for status in stale}
    return [stage for stage in pipeline.stages if stage.name in names]
