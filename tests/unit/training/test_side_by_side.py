"""Independent trainings in processes of their own: the same numbers, kept and told here, and no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from support.memory_context import MemoryScratch, MemoryStore, Told, memory_context
from support.photo_folder import photo_folder
from support.toy_search import EACH_STEP, SPACE

from nasflow.base.errors import MachineError, RunInterruptedError, TrainingDivergedError
from nasflow.base.processes import process_exists
from pipeline import signals
from pipeline.events import Event, Message, Metric, Progress
from pipeline.stage import Context
from stages.data.config import DataConfig, SizedData
from stages.nn.network import Network, save_weights
from stages.training import schedule as scheduling
from stages.training.checkpoint import unpack
from stages.training.loop import Trained
from stages.training.processes import TrainingProcesses, error_as_json, error_of_json
from stages.training.recipe import Recipe
from stages.training.schedule import Schedule, longest_first, schedule
from stages.training.task import Course, Task, course_as_json, course_of_json
from stages.training.together import train_together

TESTS = Path(__file__).parents[2]
DATA = DataConfig(train_images=1000, architecture_images=100)
RECIPE = Recipe(epochs=1, batch_size=50, side_by_side=2)
TASKS = (
    Task("small", SPACE.network((0, 2, 0, 2))),
    Task("large", SPACE.network((0, 1, 1, 1))),
    Task("middle", SPACE.network((0, 1, 1, 2))),
)
ONE = Schedule(slots=1, threads=1)


def course(**recipe: float | None) -> Course:
    return Course(RECIPE.model_copy(update=recipe), DATA, 0, EACH_STEP)


def trained(
    side_by_side: int, scratch: MemoryScratch | None = None, told: Told | None = None
) -> dict[int, Trained]:
    outcomes: dict[int, Trained] = {}
    context = memory_context("finetune", scratch=scratch, told=told)
    train_together(TASKS, course(side_by_side=side_by_side), context, outcomes.__setitem__)
    return outcomes


def _context(_index: int) -> Context:
    return memory_context("finetune")


def _ignored(_index: int, _trained: Trained) -> None:
    """For those who do not look at outcomes."""


@dataclass
class Interrupted:
    """Does something once so many of the processes have made progress; those that are ahead are held."""

    act: Callable[[], None]
    count: int = 2
    begun: tuple[str, ...] = ()
    """The tasks that the processes begin with, in the order in which these are started."""
    seen: set[str] = field(default_factory=set)

    def __call__(self, event: Event) -> None:
        name = event.note.split()[0] if isinstance(event, Progress) else ""
        if not name or name in self.seen:
            return
        self.seen.add(name)
        held = [dict(zip(self.begun, _children(), strict=False)).get(done) for done in self.seen]
        act = len(self.seen) == self.count
        for process in filter(None, held):
            os.kill(process, signal.SIGCONT if act else signal.SIGSTOP)
        if act:
            self.act()


def test_side_by_side_gives_the_bits_of_one_after_another_and_tells_and_keeps_them_here() -> None:
    scratch, told = MemoryScratch(), Told()
    together, alone = trained(2, scratch, told), trained(1)
    assert together.keys() == alone.keys() == {0, 1, 2}
    for index, outcome in together.items():
        assert outcome.weights == alone[index].weights
        assert outcome.made_by == alone[index].made_by
        cost = outcome.compute_cost
        assert cost is not None and cost.processor_seconds > 0
    assert set(scratch.entries) == {f"{task.name}.checkpoint" for task in TASKS}
    progress = [event for event in told.events if isinstance(event, Progress)]
    assert [(e.done, e.total) for e in progress] == [(n / 1, 3.0) for n in (1, 2, 3)]
    assert sum(isinstance(event, Metric) for event in told.events) == 2 * 3


def test_a_stopped_run_ends_its_processes_which_keep_their_last_step_and_goes_on_from_there() -> None:
    scratch = MemoryScratch()
    processes: list[int] = []

    def interrupt() -> None:
        processes.extend(_children())
        os.kill(os.getpid(), signal.SIGTERM)

    long = Course(RECIPE.model_copy(update={"epochs": 1, "batch_size": 10}), DATA, 0, checkpoint_seconds=1e9)
    told = Interrupted(interrupt, begun=("large", "middle"))
    context = Context("finetune", "0" * 64, MemoryStore(), scratch, told)
    with signals.interruptible(), pytest.raises(RunInterruptedError):
        train_together(TASKS, long, context, lambda _index, _outcome: None)
    assert len(processes) == 2 and not any(map(process_exists, processes))
    assert set(scratch.entries) == {"large.checkpoint", "middle.checkpoint"}
    kept = [unpack(entry)[1]["now"] for entry in scratch.entries.values()]
    assert all(now["epoch"] == 1 or now["step"] >= 20 for now in kept)
    outcomes: dict[int, Trained] = {}
    resumed = Told()
    train_together(
        TASKS, long, memory_context("finetune", scratch=scratch, told=resumed), outcomes.__setitem__
    )
    said = [event.text for event in resumed.events if isinstance(event, Message)]
    assert sorted(text.split(":")[0] for text in said if "resuming" in text) == ["large", "middle"]
    whole: dict[int, Trained] = {}
    one_by_one = Course(long.recipe.model_copy(update={"side_by_side": 1}), DATA, 0)
    train_together(TASKS, one_by_one, memory_context("finetune"), whole.__setitem__)
    assert [outcomes[i].weights for i in range(3)] == [whole[i].weights for i in range(3)]


def test_a_killed_process_is_named_with_its_signal_and_what_to_do() -> None:
    def kill() -> None:
        os.kill(_children()[0], signal.SIGKILL)

    def context(_index: int) -> Context:
        return Context("finetune", "0" * 64, MemoryStore(), MemoryScratch(), Interrupted(kill, count=1))

    with (
        pytest.raises(MachineError, match=r"trained large was killed by SIGKILL .*memory") as raised,
        TrainingProcesses(course(epochs=50), ONE, memory_context("finetune")) as processes,
    ):
        processes.perform(TASKS, [1], context, _ignored)
    assert "training.side_by_side" in raised.value.hint
    assert not _children()


def test_processes_that_read_images_end_with_a_killed_one_even_where_they_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = photo_folder(tmp_path / "photos", {str(label): 24 for label in range(SPACE.classes)})
    photos = SizedData(
        source="folder", path=str(root), resolution=SPACE.resolution, channels=SPACE.input_channels, workers=1
    )
    readers: list[int] = []

    def kill(event: Event) -> None:
        """Amid an epoch: between two of them nobody reads images."""
        if not isinstance(event, Progress) or readers:
            return
        (child,) = _children()
        os.kill(child, signal.SIGSTOP)
        readers.extend(_children_of(child))
        for reader in readers:
            os.kill(reader, signal.SIGSTOP)
        os.kill(child, signal.SIGKILL if readers else signal.SIGCONT)

    def context(_index: int) -> Context:
        return Context("finetune", "0" * 64, MemoryStore(), MemoryScratch(), kill)

    many = Course(RECIPE.model_copy(update={"epochs": 1000, "batch_size": 2}), photos, 0)
    with (
        pytest.raises(MachineError, match="killed by SIGKILL"),
        TrainingProcesses(many, ONE, memory_context("finetune")) as processes,
    ):
        processes.perform(TASKS, [0], context, _ignored)
    assert len(readers) == 1
    assert _gone(readers)


def test_a_training_that_diverges_there_raises_here_with_its_step() -> None:
    network = Network(TASKS[0].net)
    torch.nn.init.constant_(network.blocks[0][0].weight, float("inf"))  # type: ignore[index,arg-type]
    broken = Task("broken", network.net, save_weights(network))
    with (
        pytest.raises(TrainingDivergedError, match="last good checkpoint") as raised,
        TrainingProcesses(course(), ONE, memory_context("finetune")) as processes,
    ):
        processes.perform([broken], [0], _context, _ignored)
    assert raised.value.step == 0 and "learning_rate" in raised.value.hint
    assert not _children()


def test_processes_end_when_the_one_that_started_them_is_killed() -> None:
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "import unit.training.test_side_by_side as here\n"
        "def die():\n"
        "    print(*here._children(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "told = here.Interrupted(die, count=1)\n"
        "context = here.Context('x', '0' * 64, here.MemoryStore(), here.MemoryScratch(), told)\n"
        "with here.TrainingProcesses(here.course(epochs=1000), here.ONE, context) as processes:\n"
        "    processes.perform(here.TASKS, [0], lambda _: context, here._ignored)\n"
    )
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(TESTS)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == -signal.SIGKILL
    children = [int(word) for word in done.stdout.split()]
    assert len(children) == 1
    assert _gone(children)


def test_threads_depend_on_the_trainings_and_the_cores_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(scheduling, "usable_cores", lambda: 8)
    for wanted in (None, 1, 2):
        for count, threads in ((1, 8), (2, 4), (3, 2)):
            plan = schedule(TASKS[:count], 50_000, course(side_by_side=wanted, epochs=1000))
            assert plan.threads == threads
            assert plan.slots == (count if wanted is None else min(count, wanted))
    assert schedule(TASKS * 5, 50_000, course(side_by_side=None, epochs=1000)) == Schedule(8, 1)
    assert schedule(TASKS, 50_000, course(side_by_side=7, epochs=1000)).slots == 3


def test_what_is_done_in_seconds_starts_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "usable_cores", lambda: 8)
    plan = schedule(TASKS, 1000, course(side_by_side=None))
    assert plan.slots == 1
    assert plan.threads == schedule(TASKS, 10**7, course(side_by_side=None)).threads


def test_the_largest_networks_begin() -> None:
    assert [TASKS[index].name for index in longest_first(TASKS)] == ["large", "middle", "small"]


def test_no_key_of_processes_is_in_a_fingerprint() -> None:
    assert "side_by_side" not in RECIPE.model_dump()


def test_what_tasks_share_survives_the_way_to_another_process(tmp_path: Path) -> None:
    data = DataConfig(path=str(tmp_path), workers=3, train_images=100)
    there = course_of_json(course_as_json(Course(RECIPE, data, 7, 5.0)))
    assert there.data == data and there.seed == 7 and there.checkpoint_seconds == 5.0


def test_an_error_survives_the_way_from_another_process() -> None:
    error = TrainingDivergedError("found: the loss is nan.", step=7, hint="Halve it.")
    there = error_of_json(error_as_json(error))
    assert isinstance(there, TrainingDivergedError)
    assert (there.message, there.hint, there.step, str(there)) == (error.message, error.hint, 7, str(error))


def test_a_mistake_there_shows_its_traceback_here() -> None:
    lost = Course(RECIPE, DataConfig(), 0)
    object.__setattr__(lost, "seed", "no number")
    with (
        pytest.raises(RuntimeError, match=r"(?s)trained small ended with status 1.*Traceback"),
        TrainingProcesses(lost, ONE, memory_context("finetune")) as processes,
    ):
        processes.perform(TASKS, [0], _context, _ignored)


def _gone(processes: list[int]) -> bool:
    """Whether they all are; waits up to a minute for whoever adopted them to take note."""
    clock = threading.Event()
    return any(not any(map(_runs, processes)) or clock.wait(0.05) for _ in range(1200))


def _runs(process: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{process}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children_of(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(pid) for children in tasks for pid in children.read_text().split()]


def _children() -> list[int]:
    """Training processes that this one has started and that still run, the first one first."""
    pids = _children_of(os.getpid())
    return sorted(p for p in pids if b"stages.training.worker" in Path(f"/proc/{p}/cmdline").read_bytes())
