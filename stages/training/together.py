"""Do several independent trainings: in this process one after another, or in processes side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.events import Event, Progress
from pipeline.stage import Context
from stages.data.config import open_dataset
from stages.training.processes import TrainingProcesses
from stages.training.runtime import start_runtime
from stages.training.schedule import compute_threads, longest_first, schedule
from stages.training.task import Course, Outcome, Task, course_as_json, perform, task_as_json

Finished = Callable[[int, Outcome], None]


def train_together(tasks: Sequence[Task], course: Course, context: Context, finished: Finished) -> None:
    """Do all tasks that are not done; ``finished`` is called with each index and outcome at once.

    All start from equal random states and see the same images in the same order. Each keeps a checkpoint of
    its own in the context's scratch and goes on from there. Side by side or not, the numbers are the same.
    Raises TrainingDivergedError, and MachineError where a process was killed.
    """
    left = [index for index in longest_first(tasks) if not tasks[index].done]
    if not left:
        return
    plan = schedule(tasks, open_dataset(course.data).counts["train"], course)
    progress = _Progress(context, [task.done for task in tasks])
    if min(plan.slots, len(left)) > 1:
        with TrainingProcesses(course, plan, context) as processes:
            processes.perform(tasks, left, progress.of, finished)
        return
    with compute_threads(plan.threads):
        runtime = start_runtime(
            course.seed,
            precision=course.recipe.precision,
            checkpoint_seconds=course.checkpoint_seconds,
            together=True,
        )
        images = course.images(runtime)
        for index in sorted(left):
            task = tasks[index]
            runtime.tell("train", course=course_as_json(course), task=task_as_json(task))
            if task.weights is not None:
                runtime.of_first(task.weights)
            finished(index, perform(task, course, images, progress.of(index), runtime))


class _Progress:
    """Counts what all tasks have done together."""

    def __init__(self, context: Context, done: Sequence[bool]) -> None:
        self._context, self._done = context, [float(whole) for whole in done]

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
