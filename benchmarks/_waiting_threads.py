"""Training speed on this CPU, alone and beside a busy program, by how OpenMP's threads wait.

``ours`` is what nasflow sets (a short spin), ``default`` GNU OpenMP's own choice (a long one), ``passive``
none. All are measured in turn, several times, each in a process of its own; figures are medians of images/s.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from benchmarks._report import Bar, at_least, say

WAYS = {
    "ours": {},
    "default": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
BUSY = "while True: pass"
STEPS = """
import sys, stages.training, time, torch
from stages.nn.blocks import to_channels_last
from stages.nn.network import Network
from stages.space import SpaceConfig, load_space

torch.manual_seed(0)
space = load_space(SpaceConfig())
network = Network(space.network([3 % len(layer.blocks) for layer in space.layers()]))
to_channels_last(network)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
x_NCHW = torch.randn(64, 3, 32, 32).contiguous(memory_format=torch.channels_last)
labels_N = torch.randint(0, 10, (64,))


def step():
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(x_NCHW), labels_N).backward()
    optimizer.step()


for _ in range(3):
    step()
started, images = time.monotonic(), 0
while time.monotonic() - started < float(sys.argv[1]):
    step()
    images += 64
print(images / (time.monotonic() - started))
"""


def images_per_second(way: str, seconds: float) -> float:
    """Speed of training one network of the quick start's space, batch 64, in a fresh process."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(seconds)],
        env=inherited | WAYS[way],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def waiting_threads(full: bool) -> tuple[dict[str, float], list[Bar]]:
    """Figures and bars: all ways in turn, without and with a busy process beside them."""
    rounds, seconds = (5, 6.0) if full else (2, 3.0)
    figures: dict[str, float] = {}
    for index in ("alone", "beside_a_busy_process"):
        neighbour = subprocess.Popen([sys.executable, "-c", BUSY]) if index != "alone" else None
        try:
            seen: dict[str, list[float]] = {way: [] for way in WAYS}
            for number in range(rounds):
                for way in WAYS:
                    seen[way].append(images_per_second(way, seconds))
                say(f"{index}: round {number + 1} of {rounds}")
        finally:
            if neighbour is not None:
                neighbour.kill()
                neighbour.wait()
        figures |= {f"{index}_{way}_images_per_second": median(values) for way, values in seen.items()}
    alone, busy = (
        figures[f"{index}_ours_images_per_second"] / figures[f"{index}_default_images_per_second"]
        for index in ("alone", "beside_a_busy_process")
    )
    return figures | {"alone_ours_over_default": alone, "busy_ours_over_default": busy}, [
        at_least("alone_ours_over_default", alone, 0.7),
        at_least("busy_ours_over_default", busy, 1.0),
    ]
