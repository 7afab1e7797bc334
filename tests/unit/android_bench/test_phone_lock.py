"""One run at a time on one phone: the lock itself, and devices that meet."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import BenchmarkRequest
from android_bench.phone.lock import LOCK, STALE_S, Owner, PhoneLock, _age_s
from android_bench.transport import Completed
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.base.errors import DeviceError, NoUsableDeviceError
from stages.conversion.flatbuffer import empty_model

pytestmark = pytest.mark.needs("bubblewrap")

FOLDER = "/data/local/tmp/nasflow"
ELSEWHERE = Owner("0123456789abcdef", 4711, 99, "far-away")
ANOTHER = replace(ELSEWHERE, pid=4712)


@pytest.fixture(scope="module")
def shared_phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


@pytest.fixture
def phone(shared_phone: VirtualPhone) -> Iterator[VirtualPhone]:
    yield shared_phone
    shared_phone.faults.clear()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "adbkey"


@pytest.fixture
def transport(phone: VirtualPhone, key: Path) -> Iterator[DirectTransport]:
    with DirectTransport(phone.address, key=key) as transport:
        transport.run(["rm", "-rf", FOLDER], timeout_s=20)
        yield transport
        transport.run(["rm", "-rf", FOLDER], timeout_s=20)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def lock(owner: Owner, clock: Clock | None = None) -> PhoneLock:
    clock = clock or Clock()
    return PhoneLock(owner=owner, clock=clock, sleep=clock.sleep)


def ended_process() -> Owner:
    """A process of this computer that is no more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return replace(Owner.of_this_process(), pid=done.pid, started=1)


def set_age(phone: VirtualPhone, seconds: int) -> None:
    """Make the lock one that was renewed so long ago."""
    seen = phone.storage(LOCK) / "seen"
    boot, uptime, beat = seen.read_text().split()
    seen.write_text(f"{boot} {int(uptime) - seconds} {beat}\n")


def renewed_at(phone: VirtualPhone) -> int:
    """The uptime when the lock was renewed last."""
    return int((phone.storage(LOCK) / "seen").read_text().split()[1])


def test_the_second_is_refused_and_told_by_whom_and_gets_it_afterwards(transport: DirectTransport) -> None:
    first, second = lock(ELSEWHERE), lock(ANOTHER)
    assert first.take(transport) is True
    with pytest.raises(
        NoUsableDeviceError, match=r"another run: process 4711 on far-away, last active \d+ s"
    ) as e:
        second.take(transport)
    assert e.value.exit_code == 4
    assert "Wait until that run has ended" in e.value.hint
    assert (first.held, second.held) == (True, False)
    assert first.take(transport) is False
    first.release(transport)
    assert second.take(transport) is True


def test_what_a_killed_process_of_this_computer_left_is_taken_over_at_once(
    transport: DirectTransport,
) -> None:
    lock(ended_process()).take(transport)
    assert lock(Owner.of_this_process()).take(transport) is True


def test_a_process_number_that_belongs_to_another_by_now_is_no_owner() -> None:
    me = Owner.of_this_process()
    assert not me.has_ended()
    assert replace(me, started=me.started - 1).has_ended()
    assert not replace(ELSEWHERE, pid=2**31 - 1).has_ended(), "of another computer nobody can tell"


def test_a_living_process_of_this_computer_keeps_its_phone_however_long_it_was_away(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    """Its cable is out, or the computer slept: it goes on measuring when it is back."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        fields = Path(f"/proc/{living.pid}/stat").read_text().rpartition(")")[2].split()
        owner = replace(Owner.of_this_process(), pid=living.pid, started=int(fields[19]))
        assert owner.is_alive() and not replace(owner, started=owner.started - 1).is_alive()
        assert not replace(owner, computer=ELSEWHERE.computer).is_alive(), "of another nobody can tell"
        first = lock(owner)
        first.take(transport)
        set_age(phone, 2 * STALE_S)
        with pytest.raises(NoUsableDeviceError, match="on this computer, last active") as caught:
            lock(Owner.of_this_process()).take(transport)
        assert f"kill {living.pid}" in caught.value.hint
        (phone.storage(LOCK) / "seen").unlink()
        with pytest.raises(NoUsableDeviceError, match=f"process {living.pid} on this computer"):
            lock(Owner.of_this_process()).take(transport)
        assert first.take(transport) is False
        living.kill()
        while Path(f"/proc/{living.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            threading.Event().wait(0.01)
        assert owner.has_ended(), "though nobody has asked yet how it ended"
        assert lock(Owner.of_this_process()).take(transport) is True


def test_a_lock_of_another_computer_holds_until_it_has_not_been_renewed_for_long(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    lock(ELSEWHERE).take(transport)
    set_age(phone, STALE_S - 20)
    with pytest.raises(NoUsableDeviceError):
        lock(ANOTHER).take(transport)
    set_age(phone, 30)
    assert lock(ANOTHER).take(transport) is True
    assert [path.name for path in phone.storage(FOLDER).iterdir()] == ["lock"]


def test_a_phone_that_runs_for_less_long_than_its_lock_says_is_not_reserved_for_ever(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    lock(ELSEWHERE).take(transport)
    set_age(phone, -86_400)
    assert lock(ANOTHER).take(transport) is True


def test_no_clock_that_the_network_sets_frees_or_keeps_a_phone(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    lock(ELSEWHERE).take(transport)
    for offset_s in (8 * 3600, -8 * 3600, 0):
        phone.faults.set(FaultPlan(clock_offset_s=offset_s))
        with pytest.raises(NoUsableDeviceError, match=r"last active \d s ago"):
            lock(ANOTHER).take(transport)
    set_age(phone, STALE_S + 1)
    phone.faults.set(FaultPlan(clock_offset_s=-8 * 3600))
    assert lock(ANOTHER).take(transport) is True


def set_boot(phone: VirtualPhone, boot: str, uptime_s: int) -> None:
    """Make the lock one of another start of the phone."""
    (phone.storage(LOCK) / "seen").write_text(f"{boot} {uptime_s} 1\n")


OTHER_BOOT = "0f7a2b1c-1111-2222-3333-444455556666"


@pytest.mark.parametrize("uptime_s", [5, 3600, 10**7])
def test_a_lock_of_before_a_restart_is_stale_once_the_phone_runs_for_long(
    phone: VirtualPhone, transport: DirectTransport, uptime_s: int
) -> None:
    lock(ELSEWHERE).take(transport)
    set_boot(phone, OTHER_BOOT, uptime_s)  # the phone runs for an hour
    assert lock(ANOTHER).take(transport) is True


@pytest.mark.parametrize(
    ("now", "seen", "age_s"),
    [
        ("a 500 1", "a 400 2", 100),
        ("a 500 1", "b 400 2", 440),
        ("a 30 1", "b 90000 2", -30),  # the phone has just started: who was here before is on the way back
        ("a 179 1", "b 90000 2", STALE_S - 1),
        ("unknown 500 1", "unknown 400 2", 100),
        ("unknown 100 1", "unknown 400 2", 40),  # it has started anew, though it does not tell
        ("a unknown 1", "a unknown 2", None),
        ("a 500 1", "1700000000", None),  # an earlier version's
        ("a 500 1", "", None),
    ],
)
def test_ages_are_by_uptime_and_from_another_start_by_what_has_passed_since(
    now: str, seen: str, age_s: int | None
) -> None:
    boots = {"a": OTHER_BOOT, "b": OTHER_BOOT.replace("0f7a", "1f7a")}

    def line(text: str) -> str:
        boot, _, rest = text.partition(" ")
        return f"{boots.get(boot, boot)} {rest}".strip()

    assert _age_s(line(now), line(seen)) == age_s


def test_a_living_run_keeps_its_phone_through_a_restart(tmp_path: Path, key: Path) -> None:
    with running_phone() as own, DirectTransport(own.address, key=key) as transport:
        first = lock(ELSEWHERE)
        first.take(transport)
        own.reboot()
        transport.reconnect(timeout_s=20)
        with pytest.raises(NoUsableDeviceError, match="process 4711"):
            lock(ANOTHER).take(transport)
        assert first.take(transport) is False, "it is the first one's still"


class HidesTime:
    """A transport to a phone that shows neither uptime nor when a process was started."""

    def __init__(self, inner: DirectTransport, *hidden: str) -> None:
        self._inner, self._hidden, self.serial = inner, hidden, inner.serial

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        words = list(argv)
        for path in self._hidden:
            words = [word.replace(path, "/nowhere") for word in words]
        return self._inner.run(words, timeout_s=timeout_s)


def test_a_phone_that_hides_its_uptime_tells_when_a_process_was_started(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    hidden = HidesTime(transport, "/proc/uptime")
    lock(ELSEWHERE).take(hidden)  # type: ignore[arg-type]
    with pytest.raises(NoUsableDeviceError, match=r"last active \d s ago"):
        lock(ANOTHER).take(hidden)  # type: ignore[arg-type]
    set_age(phone, STALE_S + 20)
    assert lock(ANOTHER).take(hidden) is True  # type: ignore[arg-type]


def test_where_no_time_is_told_a_lock_is_free_that_nobody_renews(transport: DirectTransport) -> None:
    hidden = HidesTime(transport, "/proc/uptime", "/proc/$$/stat", "/proc/sys/kernel/random/boot_id")
    first, clock = lock(ELSEWHERE), Clock()
    first.take(hidden)  # type: ignore[arg-type]

    def renewed_meanwhile(seconds: float) -> None:
        clock.sleep(seconds)
        first.take(hidden)  # type: ignore[arg-type]

    living = PhoneLock(owner=ANOTHER, clock=clock, sleep=renewed_meanwhile)
    with pytest.raises(NoUsableDeviceError, match="process 4711 on far-away"):
        living.take(hidden)  # type: ignore[arg-type]
    assert clock.now == STALE_S
    assert lock(ANOTHER).take(hidden) is True  # type: ignore[arg-type]


def test_a_lock_that_an_earlier_version_renews_is_respected(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    lock(ELSEWHERE).take(transport)
    seen = phone.storage(LOCK) / "seen"
    seen.write_text("1700000000\n")
    clock = Clock()

    def renewed(seconds: float) -> None:
        clock.sleep(seconds)
        seen.write_text("1700000015\n")

    with pytest.raises(NoUsableDeviceError, match="process 4711"):
        PhoneLock(owner=ANOTHER, clock=clock, sleep=renewed).take(transport)
    assert lock(ANOTHER).take(transport) is True


@pytest.mark.parametrize("owner", [None, "", "who?\n", "run \x1b[31m 1 2 x\n", "run 0 0 0 ../..\n"])
def test_a_lock_that_cannot_be_read_is_looked_at_twice_and_replaced(
    phone: VirtualPhone, transport: DirectTransport, owner: str | None
) -> None:
    lock(ELSEWHERE).take(transport)
    file = phone.storage(LOCK) / "owner"
    file.unlink() if owner is None else file.write_text(owner)
    clock = Clock()
    assert lock(ANOTHER, clock).take(transport) is True
    assert clock.now == 3.0


def test_a_lock_that_is_just_being_made_is_respected(phone: VirtualPhone, transport: DirectTransport) -> None:
    lock(ELSEWHERE).take(transport)
    file = phone.storage(LOCK) / "owner"
    file.unlink()
    clock = Clock()

    def finished_meanwhile(seconds: float) -> None:
        clock.sleep(seconds)
        file.write_text(f"{ELSEWHERE.line()}\n")

    with pytest.raises(NoUsableDeviceError, match="process 4711"):
        PhoneLock(owner=ANOTHER, clock=clock, sleep=finished_meanwhile).take(transport)


def test_of_many_who_want_a_stale_lock_exactly_one_gets_it(
    phone: VirtualPhone, transport: DirectTransport, key: Path
) -> None:
    for _ in range(3):
        lock(ELSEWHERE).take(transport)
        set_age(phone, 2 * STALE_S)
        gate = threading.Barrier(5)
        winners: list[int] = []

        def want(pid: int, gate: threading.Barrier = gate, winners: list[int] = winners) -> None:
            mine = PhoneLock(owner=replace(ELSEWHERE, pid=pid), sleep=lambda s: threading.Event().wait(s))
            with DirectTransport(phone.address, key=key) as own:
                own.run(["true"], timeout_s=20)
                gate.wait(20)
                try:
                    mine.take(own)
                except NoUsableDeviceError:
                    return
            winners.append(pid)

        threads = [threading.Thread(target=want, args=(pid,)) for pid in range(1, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1, winners
        assert (phone.storage(LOCK) / "owner").read_text().split()[2] == str(winners[0])
        transport.run(["rm", "-rf", FOLDER], timeout_s=20)


def test_it_is_renewed_now_and_then_and_its_loss_is_noticed(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    clock = Clock()
    mine = lock(ELSEWHERE, clock)
    mine.take(transport)
    set_age(phone, 50)
    mine.renew(transport)
    old = renewed_at(phone)
    clock.now += 16
    mine.renew(transport)
    assert renewed_at(phone) >= old + 50
    set_age(phone, 2 * STALE_S)
    lock(ANOTHER).take(transport)
    clock.now += 16
    with pytest.raises(NoUsableDeviceError, match="process 4712"):
        mine.renew(transport)
    assert not mine.held
    mine.release(transport)
    assert ANOTHER.line() in (phone.storage(LOCK) / "owner").read_text(), "it is the other's, and stays"


def test_a_phone_that_lets_nobody_write_says_so(phone: VirtualPhone, transport: DirectTransport) -> None:
    phone.storage("/data/local/tmp").joinpath("nasflow").write_text("in the way")
    with pytest.raises(DeviceError, match="cannot be created") as caught:
        lock(ELSEWHERE).take(transport)
    assert "can the shell write to it" in caught.value.hint


@settings(max_examples=1000)
@given(st.text() | st.from_regex(r"run [0-9a-f]{16} [0-9]+ [0-9]+ [A-Za-z.]+", fullmatch=True))
def test_any_line_names_an_owner_or_none(line: str) -> None:
    owner = Owner.parse(line)
    if owner is not None:
        assert Owner.parse(owner.line()) == owner
        assert owner.describe()


def test_this_process_has_a_line_that_is_read_back() -> None:
    me = Owner.of_this_process()
    assert Owner.parse(me.line()) == me
    assert me.describe() == f"process {os.getpid()} on this computer"


# --- devices that meet -------------------------------------------------------------------------------


def device(phone: VirtualPhone, key: Path, owner: Owner, clock: Clock, told: list[str]) -> AndroidDevice:
    def no_runner(abi: str) -> object:
        raise AssertionError(f"a virtual phone brings its own tool, and {abi} was asked for")

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        threading.Event().wait(min(seconds / 4, 0.2))

    return AndroidDevice(
        DirectTransport(phone.address, key=key),
        runner=no_runner,  # type: ignore[arg-type]
        clock=clock,
        sleep=sleep,
        tell=told.append,
        patience_s=20,
        owner=owner,
    )


def requests(count: int, min_ms: float = 2) -> list[BenchmarkRequest]:
    return [
        BenchmarkRequest(
            name=f"m{index}", model=empty_model(), warmup_ms=1, min_ms=min_ms, min_runs=3 + index
        )
        for index in range(count)
    ]


def stay_on(transport: DirectTransport) -> str:
    words = ["settings", "get", "global", "stay_on_while_plugged_in"]
    return transport.run(words, timeout_s=20).stdout.decode().strip()


def test_a_second_device_neither_measures_nor_disturbs(
    phone: VirtualPhone, key: Path, transport: DirectTransport
) -> None:
    clock, told = Clock(), list[str]()
    with ExitStack() as stack:
        first = stack.enter_context(closing(device(phone, key, ELSEWHERE, clock, told)))
        second = stack.enter_context(closing(device(phone, key, ANOTHER, clock, told)))
        results = first.benchmark_many(requests(3))
        assert next(results)[0] == 0
        assert second.info().model == "Pixel 8 Pro", "to look at the phone is allowed"
        with pytest.raises(NoUsableDeviceError, match="process 4711 on far-away"):
            list(second.benchmark_many(requests(1)))
        second.close()
        assert stay_on(transport) == "15"
        assert list(phone.storage(FOLDER).glob("*.tflite")), "the first one's models stay"
        assert [index for index, _ in results] == [1, 2]
        first.close()
        assert stay_on(transport) == "null"
        assert len(list(second.benchmark_many(requests(1)))) == 1
    assert not list(phone.storage(FOLDER).iterdir())
    assert told == []


def test_a_device_that_was_away_for_too_long_finds_its_phone_taken_and_leaves_it_alone(
    phone: VirtualPhone, key: Path, transport: DirectTransport
) -> None:
    clock, told = Clock(), list[str]()
    with ExitStack() as stack:
        first = stack.enter_context(closing(device(phone, key, ELSEWHERE, clock, told)))
        second = stack.enter_context(closing(device(phone, key, ANOTHER, clock, told)))
        assert len(list(first.benchmark_many(requests(1)))) == 1
        set_age(phone, 2 * STALE_S)
        results = second.benchmark_many(requests(3))
        assert next(results)[0] == 0
        with pytest.raises(NoUsableDeviceError, match="process 4712"):
            list(first.benchmark_many(requests(2)))
        first.close()
        assert stay_on(transport) == "15"
        assert [index for index, _ in results] == [1, 2]
    assert stay_on(transport) == "null"
    assert not list(phone.storage(FOLDER).iterdir())


def test_a_phone_that_was_lent_to_another_meanwhile_is_made_ready_anew(
    phone: VirtualPhone, key: Path, transport: DirectTransport
) -> None:
    """Between two stages that measure lie hours of training."""
    clock, told = Clock(), list[str]()
    with closing(device(phone, key, ELSEWHERE, clock, told)) as first:
        list(first.benchmark_many(requests(1)))
        set_age(phone, 2 * STALE_S)
        with closing(device(phone, key, ANOTHER, clock, told)) as second:
            list(second.benchmark_many(requests(1)))
        assert stay_on(transport) == "null"
        results = first.benchmark_many(requests(2))
        assert next(results)[0] == 0
        assert stay_on(transport) == "15"
        assert [index for index, _ in results] == [1]
    assert stay_on(transport) == "null"
    assert not list(phone.storage(FOLDER).iterdir())


MEASURE_FOR_LONG = """
import sys
from pathlib import Path
from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.device import BenchmarkRequest
from stages.conversion.flatbuffer import empty_model
device = AndroidDevice(DirectTransport(sys.argv[1], key=Path(sys.argv[2])), runner=None)
request = BenchmarkRequest(name="m", model=empty_model(), warmup_ms=1, min_ms=30_000)
list(device.benchmark_many([request] * 3))
"""


def test_sigkill_keeps_nobody_out_and_its_job_and_settings_are_put_right(
    phone: VirtualPhone, key: Path, transport: DirectTransport
) -> None:
    running = subprocess.Popen([sys.executable, "-c", MEASURE_FOR_LONG, phone.address, str(key)])
    try:
        while not list(phone.storage(FOLDER).glob("job-*/pid")):
            assert running.poll() is None
            threading.Event().wait(0.05)
        assert stay_on(transport) == "15"
        with (
            closing(device(phone, key, Owner.of_this_process(), Clock(), [])) as second,
            pytest.raises(NoUsableDeviceError, match=f"process {running.pid} on this computer"),
        ):
            second.benchmark(requests(1)[0])
    finally:
        running.kill()
        running.wait()
    with closing(device(phone, key, Owner.of_this_process(), Clock(), [])) as third:
        assert third.benchmark(requests(1)[0]).runs >= 3
    assert stay_on(transport) == "null"
    assert not list(phone.storage(FOLDER).iterdir())
