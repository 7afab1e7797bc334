"""How OpenMP's threads wait is settled before torch reads it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = (
    "import stages.data.fashion_mnist, sys, os; "
    "print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
)


@pytest.mark.parametrize(
    ("set_by_user", "seen"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_spin_shortly_unless_the_user_says_otherwise(set_by_user: dict[str, str], seen: str) -> None:
    inherited = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=inherited | set_by_user,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", seen]
