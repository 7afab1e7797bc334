"""Which cores a model runs on: chosen once for a phone, and recorded with each timing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from android_bench.device import Conditions, CpuPolicy, RuntimeOptions
from android_bench.phone.clocks import with_cores
from android_bench.runner.tool import cpu_mask
from android_bench.transport import Transport

_TIMEOUT_S = 30.0


class Cores:
    """Masks of cores on one phone. ``tell`` hears where the phone does not give those that were chosen."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._given: dict[int, bool] = {}

    def mask(
        self, transport: Transport, options: RuntimeOptions, policies: Sequence[CpuPolicy]
    ) -> int | None:
        """The cores that ``options`` name (see :func:`cpu_mask`); None: all of them.

        So it is also where ``auto`` has chosen some that no process may be bound to: they are offline, or
        kept for others (cpuset). Raises NoUsableDeviceError, UsageError, DeviceLostError.
        """
        mask = cpu_mask(options, policies)
        if mask is None or options.cpu != "auto":
            return mask
        if mask not in self._given:
            done = transport.run(("taskset", f"{mask:x}", "true"), timeout_s=_TIMEOUT_S)
            self._given[mask] = done.exit_code == 0
            if done.exit_code != 0:
                self._tell(
                    f"The phone cannot bind a process to its fastest cores, {mask:#x}: all cores are used."
                )
        return mask if self._given[mask] else None


def cores_of(mask: int | None, policies: Sequence[CpuPolicy]) -> tuple[int, ...] | None:
    """The numbers of the cores of a mask; without one, of all that the phone tells; None: it tells none."""
    if mask is not None:
        return tuple(core for core in range(mask.bit_length()) if mask >> core & 1)
    return tuple(sorted(core for policy in policies for core in policy.cores)) or None


def all_of(used: Sequence[tuple[int, ...] | None]) -> frozenset[int] | None:
    """The cores of several timings together; None where they are not known of one of them."""
    known = [cores for cores in used if cores is not None]
    return frozenset(core for cores in known for core in cores) if len(known) == len(used) else None


def clocked(
    conditions: Conditions,
    policies: Sequence[CpuPolicy],
    cores: tuple[int, ...] | None,
    *,
    range_mhz: tuple[float, float] | None = None,
) -> Conditions:
    """``conditions`` with the cores of a timing, and with the clocks that were read right after it.

    Where these cores are of several clusters, their clock is the fastest cluster's. ``range_mhz``: between
    which clocks they go to and fro while they are timed; None: they hold still.
    """
    own = with_cores(policies, cores)
    return conditions.model_copy(
        update={
            "cores": cores,
            "cpu_mhz": _mhz(policies),
            "core_mhz": _mhz(own),
            "core_range_mhz": range_mhz,
        },
    )


def _mhz(policies: Sequence[CpuPolicy]) -> float | None:
    known = [policy.current_khz for policy in policies if policy.current_khz is not None]
    return max(known) / 1000 if known else None
