"""Jobs on the virtual phone through Google's adb server, as the direct way does them, and cables pulled."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from android_bench.adb import wire as adb_wire
from android_bench.adb.direct import DirectTransport
from android_bench.adb.server import ServerTransport, server_devices
from android_bench.android import AndroidDevice
from android_bench.device import LatencyMeasurement
from android_bench.discover import choose, find_phones, open_found
from android_bench.transport import Transport
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from benchmarks._fault_run import DESCRIPTION, left_behind, log_timings, requests, taken_timings
from benchmarks.adb_push import free_port, google_program
from nasflow.base.errors import NoUsableDeviceError, UsageError

pytestmark = pytest.mark.needs("bubblewrap")


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with running_phone(description=DESCRIPTION) as phone:
        log_timings(phone)
        yield phone


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of Google's adb server, with keys of its own; it looks for no phones by itself."""
    home = tmp_path_factory.mktemp("home")
    (home / ".android").mkdir()
    port = free_port()
    ready, told = os.pipe()
    server = subprocess.Popen(
        [google_program(), "-P", str(port), "--reply-fd", str(told), "nodaemon", "server"],
        env={
            "HOME": str(home),
            "TMPDIR": str(home),
            "PATH": os.defpath,
            "ADB_MDNS_OPENSCREEN": "0",
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",
            "ADB_USB": "0",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[told],
    )
    os.close(told)
    try:
        with os.fdopen(ready, "rb") as reply:
            assert reply.read(3) == b"OK\n"
        yield port
    finally:
        server.terminate()
        server.wait(20)


def measured(
    transport: Transport, told: list[str], on_sleep: Callable[[], None] = lambda: None
) -> list[tuple[int, float, int]]:
    """The table without its moments."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        on_sleep()
        threading.Event().wait(min(seconds / 8, 0.1))

    device = AndroidDevice(
        transport, runner=no_runner, clock=lambda: now[0], sleep=sleep, tell=told.append, patience_s=60
    )
    with closing(device):
        assert device.info().virtual
        return [row(index, found) for index, found in device.benchmark_many(requests())]


def no_runner(abi: str) -> object:
    raise UsageError(f"one for {abi} was asked for")


def row(index: int, found: LatencyMeasurement) -> tuple[int, float, int]:
    return index, found.median_ms, found.runs


def test_a_job_through_the_server_gives_what_the_direct_way_gives(
    phone: VirtualPhone, port: int, tmp_path: Path
) -> None:
    told: list[str] = []
    through = measured(ServerTransport(phone.address, server=port), told)
    assert [index for index, _, _ in through] == [0, 1, 2, 3]
    assert told == []
    assert left_behind(phone) == []
    direct = measured(DirectTransport(phone.address, key=tmp_path / "adbkey"), told)
    assert through == direct
    assert taken_timings(phone) == 8


@pytest.mark.parametrize("spoiled", [0, 2], ids=["cable", "restart"])
def test_a_phone_that_comes_back_is_connected_to_anew_by_the_server(
    phone: VirtualPhone, port: int, spoiled: int
) -> None:
    """Google's server alone leaves such a phone offline."""
    strikes = iter([phone.reboot if spoiled else phone.disconnect])
    told: list[str] = []
    found = measured(ServerTransport(phone.address, server=port), told, lambda: next(strikes, lambda: None)())
    assert [index for index, _, _ in found] == [0, 1, 2, 3]
    assert any("is connected again" in line for line in told)
    assert 4 <= taken_timings(phone) <= 4 + spoiled
    assert left_behind(phone) == []


def test_a_key_that_the_phone_has_never_seen_is_waited_for(port: int) -> None:
    with running_phone() as fresh, closing(ServerTransport(fresh.address, server=port)) as way:
        assert way.run(["echo", "approved"], timeout_s=20).stdout == b"approved\n"


def test_an_address_where_nobody_answers_stays_missing(port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = f"127.0.0.1:{probe.getsockname()[1]}"
    way = ServerTransport(nobody, server=port)
    assert way.state() == "missing"
    with pytest.raises(Exception, match="missing"):
        way.run(["echo"], timeout_s=20)
    assert all(found.serial != nobody for found in server_devices(port) or ())


def test_one_phone_that_the_server_knows_by_three_names_is_one_phone(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb_wire, "_usb_interfaces", lambda: iter(()))
    with running_phone(services=2) as one, running_phone() as other:
        names = [*one.addresses, f"localhost:{one.port}", other.address]
        for name in names:
            with ServerTransport(name, server=port) as way:
                way.run(["echo"], timeout_s=20)
        found = [phone for phone in find_phones("server", server=port) if phone.serial in names]
        assert sorted(len(phone.others) for phone in found) == [0, 2]
        (joined,) = [phone for phone in found if phone.others]
        assert {way.serial for way in joined.ways()} == set(names) - {other.address}
        for name in names:
            chosen = choose(name, found)
            assert chosen.serial == name
            with closing(open_found(chosen, server=port)) as way:
                assert way.run(["getprop", "ro.product.model"], timeout_s=20).stdout == b"Pixel 8 Pro\n"
        with pytest.raises(NoUsableDeviceError, match="2 phones are connected"):
            choose("", found)
