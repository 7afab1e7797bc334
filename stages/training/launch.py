"""How this process was started: alone, or with others that train with it. Loads nothing."""

from __future__ import annotations

from collections.abc import Mapping


def launched_by(environment: Mapping[str, str]) -> tuple[int, int]:
    """This process's rank, and how many there are: (0, 1) where a shell started it."""
    # SLURM_NTASKS is set in a batch script as well, which is one process: srun alone sets the step's number.
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in environment and size in environment:
            return int(environment[rank]), int(environment[size])
    return 0, 1
