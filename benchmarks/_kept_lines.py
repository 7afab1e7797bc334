"""Long work in many jobs, on all cores: a second call goes on where the first was stopped.

A file in the user's cache has a line for each job. It is named after all that decides the results.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from benchmarks._report import say

Job = tuple[int | str, ...]


@dataclass(frozen=True)
class KeptLines:
    """The file of one benchmark; ``decided_by`` is what decides its results, as text."""

    benchmark: str
    decided_by: Sequence[str]

    @property
    def path(self) -> Path:
        """Where the lines are."""
        digest = hashlib.sha256("\n".join(self.decided_by).encode()).hexdigest()[:12]
        return user_cache_path("nasflow") / "benchmarks" / f"{self.benchmark}-{digest}.jsonl"

    def results(
        self, jobs: Sequence[Job], work: Callable[[Job], Any], *, workers: int | None = None
    ) -> Iterator[tuple[Job, Any]]:
        """Each job and what ``work`` gives for it, which JSON can hold; those that are there come first.

        ``work`` is a function of a module: processes of its own call it, ``workers`` at a time (None: one on
        each core).
        """
        kept = {job: result for job, result in self._read() if job in set(jobs)}
        yield from kept.items()
        left = [job for job in jobs if job not in kept]
        if not left:
            return
        # One thread for each process: two that share a core are slower, and sums then have one order.
        os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        fresh = multiprocessing.get_context("spawn")  # such as have not loaded a library before
        with (
            ProcessPoolExecutor(
                max_workers=workers or os.cpu_count(), mp_context=fresh, initializer=_end_with_parent
            ) as pool,
            self.path.open("a", encoding="utf-8") as file,
        ):
            of_result = {pool.submit(work, job): job for job in left}
            for number, done in enumerate(as_completed(of_result), 1):
                job, result = of_result[done], done.result()
                file.write(json.dumps([job, result]) + "\n")
                file.flush()
                say(f"{self.benchmark}: {number} of {len(left)} done ({', '.join(map(str, job))})")
                yield job, result

    def _read(self) -> list[tuple[Job, Any]]:
        """The whole lines; a torn last one is dropped from the file, too."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        self.path.write_text(whole, encoding="utf-8")
        return [(tuple(job), result) for job, result in map(json.loads, whole.splitlines())]

    def finish(self) -> None:
        """Whoever runs the benchmark again wants it anew."""
        self.path.replace(self.path.with_suffix(".done.jsonl"))


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on, and disturb whatever is measured next."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # called in a worker alone
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
