"""What can go wrong with a phone, switched on and off while it runs.

A :class:`FaultPlan` says what is wrong; :class:`Faults` holds the present plan and counts bytes. A fault
that breaks the connection does so once: afterwards it is out of the plan, and a client that connects
anew goes on.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from android_bench.virtual_phone.protocol import Disconnected
from nasflow.base.errors import UsageError

Direction = Literal["received", "sent"]


class FaultPlan(BaseModel):
    """The faults in force. Without arguments: a phone that is well. Bytes count from when it is set."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    drop_after_received_bytes: int | None = Field(default=None, ge=0, description="break the connection")
    drop_after_sent_bytes: int | None = Field(default=None, ge=0)
    freeze_after_received_bytes: int | None = Field(default=None, ge=0, description="send nothing, stay open")
    freeze_after_sent_bytes: int | None = Field(default=None, ge=0)
    short_read_bytes: int | None = Field(default=None, ge=1, description="read at most this much at a time")
    segment_bytes: int | None = Field(
        default=None, ge=1, description="send pieces of this size: 1448 on WLAN"
    )
    push_failure: str = Field(default="", max_length=200, description="the FAIL message sent for every push")
    free_bytes: int | None = Field(default=None, ge=0, description="free storage: 0 is a full phone")
    slowdown: float = Field(default=1.0, ge=1, le=1000, description="throttled: factor of every time")
    drift_per_minute: float = Field(default=0.0, ge=-0.5, le=100, description="growth of times in a minute")
    sustained_share: float = Field(
        default=1.0, gt=0, le=1, description="under load, clocks fall to this share of their peak"
    )
    sustained_after_s: float = Field(
        default=1.5, ge=0, le=600, description="after this much load, by the tool's clock"
    )
    sustained_back_s: float = Field(
        default=1.0, ge=0, le=600, description="the clocks recover this long after the load"
    )
    fixed_performance_share: float = Field(
        default=1.0, gt=0, le=1, description="in fixed-performance mode, clocks are this share of their peak"
    )
    fixed_performance_after_s: float = Field(
        default=0.3, ge=0, le=600, description="delay from the command to that"
    )
    thermal_status: int = Field(
        default=0, ge=0, le=6, description="Android's: 0 none, 2 moderate, 6 shutdown"
    )
    skin_celsius: float | None = Field(default=None, ge=-40, le=150)
    thermal_override: bool = Field(default=False, description="IsStatusOverride: true")
    battery_percent: int | None = Field(default=None, ge=0, le=100)
    battery_updates_stopped: bool = False
    no_battery: bool = Field(default=False, description="a TV or a board: present: false, level: 0")
    unplugged: bool = Field(default=False, description="on battery: the stay-awake setting has no effect")
    asleep: bool = Field(default=False, description="falls asleep now; a key wakes it")
    stays_asleep: bool = Field(default=False, description="no key and no command wakes it")
    sleeps_after_s: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="falls asleep this long after it was woken, unless plugged in and set to stay awake; "
        "screen_off_timeout replaces it once it is set",
    )
    lock_screen: bool = Field(
        default=False, description="the lock screen uses sleeps_after_s and ignores screen_off_timeout"
    )
    sleep_slowdown: float = Field(
        default=1.0, ge=1, le=1000, description="while asleep: factor of every time"
    )
    refuse_settings: bool = Field(default=False, description="settings can be read, but not written")
    refuse_input: bool = Field(default=False, description="the shell cannot send key events")
    refuse_fixed_performance: bool = Field(default=False, description="the phone does not have that mode")
    missing_services: tuple[str, ...] = Field(
        default=(), max_length=20, description="services that dumpsys and cmd do not find"
    )
    clock_offset_s: int = Field(
        default=0,
        ge=-(10**9),
        le=10**9,
        description="the phone's clock is set ahead by this much, immediately",
    )
    abi: str = Field(
        default="", max_length=40, description="an ABI other than the described one: wrong for the runner"
    )
    tool_signal: int | None = Field(
        default=None, ge=1, le=64, description="the number of the signal that ends benchmark_model"
    )
    tool_signal_at: Literal["start", "run"] = Field(
        default="run", description="before its first output, or when the model is loaded"
    )
    tool_signal_times: int | None = Field(default=None, ge=0, description="how often; empty: always")
    tool_link_error: str = Field(
        default="", max_length=300, description="the linker's error message for benchmark_model"
    )
    tool_forbidden: bool = Field(default=False, description="no program is allowed to run")
    authorisation: Literal["", "accept", "refuse", "ignore"] = Field(
        default="",
        description="the owner's answer to every key, known or not; empty: as set at the start",
    )
    offline: bool = Field(default=False, description="accept connections and never answer")


def read_plan(file: Path) -> FaultPlan:
    """The plan in a control file: a JSON object of FaultPlan's fields. Raises UsageError."""
    try:
        return FaultPlan.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"The fault file {file} cannot be used: {reason}.",
            hint='It must contain one JSON object, such as {"drop_after_sent_bytes": 1000}.',
        ) from error


class Faults:
    """The present plan, safe to change from any thread."""

    def __init__(self, plan: FaultPlan | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._condition = threading.Condition()
        self._clock = clock
        self._plan = plan or FaultPlan()
        self._counted: dict[Direction, int] = {"received": 0, "sent": 0}
        self._frozen = False
        self._closed = False
        self._since = clock()
        self.on_change: Callable[[], None] = lambda: None
        self.fired = 0

    @property
    def plan(self) -> FaultPlan:
        """What is wrong now."""
        with self._condition:
            return self._plan

    @property
    def is_silent(self) -> bool:
        """Whether it keeps its connections and says nothing: frozen, offline, or its owner is away."""
        with self._condition:
            return self._frozen or self._plan.offline or self._plan.authorisation == "ignore"

    @property
    def since(self) -> float:
        """The clock's reading when the plan was set; drift counts from it."""
        with self._condition:
            return self._since

    def set(self, plan: FaultPlan) -> None:
        """Put another plan in force. Thaws what is frozen and counts bytes from 0."""
        with self._condition:
            self._plan = plan
            self._counted = {"received": 0, "sent": 0}
            self._frozen = False
            self._since = self._clock()
            self._condition.notify_all()
        self.on_change()

    def clear(self) -> None:
        """Make the phone well again."""
        self.set(FaultPlan())

    def close(self) -> None:
        """Let everything that is frozen end."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def allow(self, direction: Direction, wanted: int) -> int:
        """How many of ``wanted`` bytes may pass now, at least 1. Waits while frozen; raises Disconnected."""
        with self._condition:
            self._wait_while_frozen()
            counted, plan = self._counted[direction], self._plan
            drop: int | None = getattr(plan, f"drop_after_{direction}_bytes")
            freeze: int | None = getattr(plan, f"freeze_after_{direction}_bytes")
            if drop is not None and counted >= drop:
                self._plan = plan.model_copy(update={f"drop_after_{direction}_bytes": None})
                self.fired += 1
                raise Disconnected(f"fault: dropped after {counted} bytes {direction}")
            if freeze is not None and counted >= freeze:
                self._plan = plan.model_copy(update={f"freeze_after_{direction}_bytes": None})
                self.fired += 1
                self._frozen = True
                self._wait_while_frozen()
                return 1
            piece = plan.short_read_bytes if direction == "received" else plan.segment_bytes
            limits = [limit - counted for limit in (drop, freeze) if limit is not None]
            return min(wanted, piece or wanted, *limits)

    def count(self, direction: Direction, size: int) -> None:
        """Tell that so many bytes passed."""
        with self._condition:
            self._counted[direction] += size

    def _wait_while_frozen(self) -> None:
        while self._frozen and not self._closed:
            self._condition.wait()
        if self._closed:
            raise Disconnected("the phone was switched off")
