"""Do several independent trainings: in this process one after another, or in processes side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.events import Event, Progress
from pipeline.stage import Context
from stages.data.config import open_dataset
from stages.training.loop import Trained
from stages.training.processes import TrainingProcesses
from stages.training.runtime import start_runtime
from stages.training.schedule import compute_threads, longest_first, schedule
from stages.training.task import Course, Task, course_as_json, perform, task_as_json

Finished = Callable[[int, Trained], None]


def train_together(tasks: Sequence[Task], course: Course, context: Context, finished: Finished) -> None:
    """Do all tasks; ``finished`` is called with each index and what was trained, at once.

    All start from equal random states and see the same images in the same order. Each keeps a checkpoint of
    its own in the context's scratch and goes on from there. Side by side or not, the numbers are the same.
    Raises TrainingDivergedError, and MachineError where a process was killed.
    """
    if not tasks:
        return
    order = longest_first(tasks)
    plan = schedule(tasks, open_dataset(course.data).counts["train"], course)
    progress = _Progress(context, len(tasks))
    if min(plan.slots, len(tasks)) > 1:
        with TrainingProcesses(course, plan, context) as processes:
            processes.perform(tasks, order, progress.of, finished)
        return
    with compute_threads(plan.threads):
        runtime = start_runtime(
            course.seed,
            precision=course.recipe.precision,
            checkpoint_seconds=course.checkpoint_seconds,
            together=True,
        )
        images = course.images(runtime)
        for index, task in enumerate(tasks):
            runtime.tell("train", course=course_as_json(course), task=task_as_json(task))
            if runtime.group is not None and course.recipe.teacher.network is not None:
                for file in course.recipe.teacher.files():  # its folder may be on this computer alone
                    runtime.of_first(file)
            if task.weights is not None:
                runtime.of_first(task.weights)
            finished(index, perform(task, course, images, progress.of(index), runtime))


class _Progress:
    """Counts what all tasks have done together."""

    def __init__(self, context: Context, tasks: int) -> None:
        self._context, self._done = context, [0.0] * tasks

    def of(self, index: int) -> Context:
        """A context for one task, whose progress is added to that of the others."""
        context = self._context

        def emit(event: Event) -> None:
            if isinstance(event, Progress):
                self._done[index] = event.done / event.total
                done = event.total * sum(self._done)
                event = Progress(
                    event.stage, round(done, 6), len(self._done) * event.total, event.unit, event.note
                )
            context.emit(event)

        return Context(context.stage, context.fingerprint, context.store, context.scratch, emit)
