"""What commands find inside the sandbox, and what they cannot reach; reached by our own transport."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.phone.conditions import clock_set, read_conditions, rebooted
from android_bench.phone.text import parse_properties, parse_wakefulness
from android_bench.transport import Completed
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import VirtualPhone, running_phone
from nasflow.base.errors import DeviceLostError, MachineError, UsageError

pytestmark = pytest.mark.needs("bubblewrap")

TIMEOUT_S = 20
ROOT = Path(__file__).resolve().parents[3]
Shell = Callable[[str], Completed]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "adbkey"


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with running_phone() as phone:
        yield phone


@pytest.fixture
def transport(phone: VirtualPhone, key: Path) -> Iterator[DirectTransport]:
    with closing(DirectTransport(phone.address, key=key)) as transport:
        yield transport
    phone.faults.clear()


@pytest.fixture
def shell(transport: DirectTransport) -> Shell:
    return lambda command: transport.run(["sh", "-c", command], timeout_s=TIMEOUT_S)


def test_the_tools_that_are_needed_are_there(shell: Shell) -> None:
    names = "sha256sum mv chmod rm mkdir df ps kill setsid nohup taskset sleep cat ls stat getprop dumpsys"
    done = shell(f"for name in {names}; do command -v $name >/dev/null || echo $name; done")
    assert (done.stdout, done.exit_code) == (b"", 0)


def test_a_command_is_nobody_on_the_host_and_has_no_network(shell: Shell) -> None:
    assert shell("/usr/bin/id -u").stdout == b"2000\n"
    interfaces = shell("tail -n +3 /proc/net/dev | cut -d: -f1").stdout.split()
    assert set(interfaces) <= {b"lo"}


def test_files_of_the_host_are_not_there(shell: Shell, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    packages = sysconfig.get_path("purelib")
    for path in (secret, Path.home() / ".android", Path(__file__), packages, "/etc/passwd", "/var"):
        assert shell(f"ls {shlex.quote(str(path))}").exit_code != 0


def test_of_the_host_programs_are_there_and_nothing_else(shell: Shell) -> None:
    programs = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}
    phone = {"data", "dev", "etc", "proc", "sdcard", "storage", "sys", "system"}
    assert set(shell("ls -A /").stdout.decode().split()) <= {"usr", *programs, *phone}
    assert set(shell("ls -A /usr").stdout.decode().split()) <= programs
    assert set(shell("ls -A /system/lib").stdout.decode().split()) == {"nasflow", "python"}
    packages = shell("ls -A /system/lib/nasflow").stdout.decode().split()
    assert {name.removesuffix(".libs") for name in packages} == {"android_bench", "numpy", "ai_edge_litert"}
    assert shell("ls -A /system/lib/python/lib*/python3.*/site-packages").stdout == b""


IN_AN_ENVIRONMENT = """
import sys
from pathlib import Path
from android_bench.virtual_phone.phone import running_phone

with running_phone(Path(sys.argv[1])) as phone:
    shell = phone._machine.start_shell(sys.argv[2], merged=True)
    while said := shell.output.recv(1000):
        sys.stdout.buffer.write(said)
"""


def test_an_interpreter_in_a_folder_with_blanks_runs_inside_and_its_folder_is_not_seen(
    tmp_path: Path,
) -> None:
    place = tmp_path / "näs flow"
    venv.create(place, symlinks=False)  # a copy of the interpreter, not a link out of the folder
    command = f"ls {shlex.quote(str(place))} >/dev/null 2>&1 || echo hidden; benchmark_model --graph=/no_such"
    done = subprocess.run(
        [place / "bin" / "python", "-c", IN_AN_ENVIRONMENT, place / "phone", command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith("hidden\n"), done.stderr
    assert "/no_such" in done.stdout


@pytest.mark.parametrize("path", ["/new", "/usr/new", "/system/bin/new", "/system/etc/phone/new", "/data/x"])
def test_only_storage_can_be_written(shell: Shell, path: str) -> None:
    assert shell(f"echo x >{path}").exit_code != 0


def test_a_link_out_of_the_phone_leads_nowhere(
    shell: Shell, transport: DirectTransport, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("of the host")
    for place, name in ((target, "link"), (tmp_path, "way")):
        assert shell(f"ln -s {shlex.quote(str(place))} /data/local/tmp/{name}").exit_code == 0
    assert b"of the host" not in shell("cat /data/local/tmp/link").stdout
    transport.push(b"pushed", "/data/local/tmp/link", timeout_s=TIMEOUT_S)
    assert target.read_text() == "of the host"
    assert transport.pull("/data/local/tmp/link", timeout_s=TIMEOUT_S) == b"pushed"
    assert list(tmp_path.iterdir()) == [target]


def test_a_detached_job_outlives_the_connection_and_can_be_killed(
    phone: VirtualPhone, transport: DirectTransport, shell: Shell
) -> None:
    begun = shell("setsid nohup sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")
    process = begun.stdout.decode().strip()
    phone.disconnect()
    transport.reconnect(timeout_s=TIMEOUT_S)
    assert shell(f"kill -0 {process}").exit_code == 0
    assert shell(f"kill {process}; sleep 0.2; kill -0 {process}").exit_code != 0


def test_the_phone_is_the_one_that_is_described(shell: Shell) -> None:
    found = parse_properties(shell("getprop").stdout.decode())
    assert (found.model, found.abi, found.sdk) == ("Pixel 8 Pro", "arm64-v8a", 34)
    assert found.soc is not None and "Tensor G3" in found.soc
    assert shell("getprop ro.product.model").stdout == b"Pixel 8 Pro\n"
    assert shell("getprop ro.nasflow.virtual").stdout == b"true\n"
    assert shell("getprop ro.no.such.thing").stdout == b"\n"
    assert shell("getprop ../battery other").stdout == b"\n"
    assert shell("uname -m").stdout == b"aarch64\n"


def test_its_conditions_are_read_as_a_phone_s(transport: DirectTransport) -> None:
    reading = read_conditions(transport)
    assert reading.thermal is not None and reading.battery is not None
    assert (reading.thermal.status, reading.thermal.overridden) == (0, False)
    assert reading.thermal.skin_celsius == pytest.approx(28.4)
    assert (reading.battery.percent, reading.battery.updates_stopped) == (94, False)
    assert [policy.cores for policy in reading.policies] == [(0, 1, 2, 3), (4, 5, 6, 7), (8,)]
    assert [policy.hardware_max_khz for policy in reading.policies] == [1_704_000, 2_367_000, 2_914_000]
    assert reading.uptime_s is not None and reading.uptime_s >= 3600
    assert reading.boot_id is not None


def test_throttling_shows_in_status_temperature_and_clock(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    phone.faults.set(FaultPlan(thermal_status=3, slowdown=2, battery_percent=12))
    reading = read_conditions(transport)
    assert reading.thermal is not None and reading.battery is not None
    assert (reading.thermal.status, reading.thermal.skin_celsius) == (3, 48.0)
    assert reading.battery.percent == 12
    assert [policy.allowed_max_khz for policy in reading.policies] == [852_000, 1_183_500, 1_457_000]


def test_a_state_set_by_hand_is_told(phone: VirtualPhone, transport: DirectTransport) -> None:
    phone.faults.set(FaultPlan(thermal_override=True, battery_updates_stopped=True))
    reading = read_conditions(transport)
    assert reading.thermal is not None and reading.battery is not None
    assert reading.thermal.overridden
    assert reading.battery.updates_stopped


def test_a_reboot_ends_connections_and_jobs_and_keeps_files(
    phone: VirtualPhone, transport: DirectTransport, shell: Shell
) -> None:
    shell("echo kept >/data/local/tmp/kept; setsid nohup sleep 1001 </dev/null >/dev/null 2>&1 &")
    before = read_conditions(transport)
    phone.reboot()
    with pytest.raises(DeviceLostError):
        shell("true")
    transport.reconnect(timeout_s=TIMEOUT_S)
    after = read_conditions(transport)
    assert after.boot_id not in (None, before.boot_id)
    assert after.uptime_s is not None and before.uptime_s is not None and after.uptime_s < before.uptime_s
    assert shell("cat /data/local/tmp/kept").stdout == b"kept\n"
    assert shell("ps -A -o args | grep -c '[s]leep 1001'").stdout == b"0\n"


def test_settings_are_kept_and_given_back(shell: Shell) -> None:
    assert shell("settings get global stay_on_while_plugged_in").stdout == b"null\n"
    shell("svc power stayon usb")
    assert shell("settings get global stay_on_while_plugged_in").stdout == b"2\n"
    shell("settings delete global stay_on_while_plugged_in")
    assert shell("settings get global stay_on_while_plugged_in").stdout == b"null\n"
    assert shell("settings put global ../../local/tmp/x 1").exit_code != 0
    assert shell("cmd power set-fixed-performance-mode-enabled true").exit_code == 0
    assert shell("cmd power set-fixed-performance-mode-enabled maybe").exit_code == 0, "it means false"


def test_settings_and_services_answer_with_the_words_and_codes_of_aosp(shell: Shell) -> None:
    for words, code, errors in (
        ("settings list global", 255, b"Invalid command: list\n"),
        ("settings get nowhere x", 255, b"Invalid namespace 'nowhere'\n"),
        ("settings get global", 255, b"Bad arguments\n"),
        ("settings put global x", 255, b"Bad arguments\n"),
        ("dumpsys nosuch", 0, b"Can't find service: nosuch\n"),
        ("cmd nosuch x", 20, b"cmd: Can't find service: nosuch\n"),
        ("setprop a b", 1, b"setprop: failed to set property 'a' to 'b'\n"),
        ("taskset 0xf0 echo ran", 1, b"taskset: bad mask '0xf0'\n"),
        ("taskset f0", 1, b"taskset: Needs 2 args\n"),
    ):
        done = shell(words)
        assert (done.exit_code, done.stdout, done.stderr) == (code, b"", errors), words
    done = shell("cmd power nosuch")
    assert (done.exit_code, done.stdout) == (255, b"Unknown command: nosuch\n")
    done = shell("svc power nosuch")
    assert (done.exit_code, done.stdout) == (0, b"") and b"usage: svc power stayon" in done.stderr
    assert shell("settings delete global nosuch").stdout == b"Deleted 0 rows\n"


def wakefulness(shell: Shell) -> str | None:
    return parse_wakefulness(shell("dumpsys power").stdout.decode())


def test_a_phone_sleeps_and_is_woken_by_key_or_command(phone: VirtualPhone, shell: Shell) -> None:
    assert wakefulness(shell) == "Awake"
    for way in ("input keyevent KEYCODE_WAKEUP", "input keyevent 224", "cmd power wakeup"):
        phone.faults.set(FaultPlan(asleep=True))
        assert wakefulness(shell) == "Asleep"
        assert shell(way).exit_code == 0
        assert wakefulness(shell) == "Awake", way
    shell("input keyevent KEYCODE_SLEEP")
    assert wakefulness(shell) == "Asleep"
    phone.faults.set(FaultPlan(asleep=True, stays_asleep=True))
    shell("input keyevent KEYCODE_WAKEUP; cmd power wakeup")
    assert wakefulness(shell) == "Asleep"


def test_a_phone_falls_asleep_by_its_time_unless_it_is_plugged_in_and_told_to_stay_on(
    phone: VirtualPhone, shell: Shell
) -> None:
    soon = FaultPlan(sleeps_after_s=0.01)
    phone.faults.set(soon)
    phone.folder.tick()
    shell("sleep 0.1")
    assert wakefulness(shell) == "Asleep"
    shell("settings put global stay_on_while_plugged_in 15; input keyevent KEYCODE_WAKEUP; sleep 0.1")
    assert wakefulness(shell) == "Awake"
    phone.faults.set(soon.model_copy(update={"unplugged": True}))
    shell("sleep 0.1")
    assert wakefulness(shell) == "Asleep", "on battery that setting does not hold"
    shell("settings put system screen_off_timeout 1800000; input keyevent KEYCODE_WAKEUP; sleep 0.1")
    assert wakefulness(shell) == "Awake"
    phone.faults.set(soon.model_copy(update={"unplugged": True, "lock_screen": True}))
    shell("sleep 0.1")
    assert wakefulness(shell) == "Asleep", "a lock screen has its own time"
    shell("settings delete global stay_on_while_plugged_in; settings delete system screen_off_timeout")


def test_a_phone_that_has_started_is_awake_and_in_no_mode(phone: VirtualPhone, key: Path) -> None:
    phone.faults.set(FaultPlan(asleep=True))
    phone.reboot()
    with closing(DirectTransport(phone.address, key=key)) as again:
        assert b"mWakefulness=Awake\n" in again.run(["dumpsys", "power"], timeout_s=TIMEOUT_S).stdout
    assert not phone.storage("/data/system/power/fixed_performance").exists()


def test_what_may_not_be_written_or_pressed_is_refused_with_androids_words(
    phone: VirtualPhone, shell: Shell
) -> None:
    phone.faults.set(FaultPlan(refuse_settings=True, refuse_input=True, refuse_fixed_performance=True))
    done = shell("settings put global stay_on_while_plugged_in 3")
    assert done.exit_code == 255
    assert b"SecurityException: Permission denial: writing to settings requires:android" in done.stderr
    assert shell("settings get global stay_on_while_plugged_in").stdout == b"null\n"
    done = shell("input keyevent KEYCODE_WAKEUP")
    assert done.exit_code == 255 and b"INJECT_EVENTS" in done.stderr
    done = shell("cmd power set-fixed-performance-mode-enabled true")
    assert done.exit_code == 255 and done.stderr.startswith(b"Failed to set FIXED_PERFORMANCE mode\n")


def test_a_service_that_is_not_there_is_told_with_exit_code_0(
    phone: VirtualPhone, transport: DirectTransport, shell: Shell
) -> None:
    phone.faults.set(FaultPlan(missing_services=("thermalservice", "power")))
    done = shell("dumpsys thermalservice")
    assert (done.exit_code, done.stdout) == (0, b"")
    assert shell("cmd power wakeup").exit_code == 20
    reading = read_conditions(transport)
    assert reading.thermal is not None and reading.thermal.status is None
    assert reading.awake is None


def test_a_device_without_a_battery_says_that_none_is_present(
    phone: VirtualPhone, transport: DirectTransport
) -> None:
    phone.faults.set(FaultPlan(no_battery=True))
    reading = read_conditions(transport)
    assert reading.battery is not None
    assert (reading.battery.present, reading.battery.level, reading.battery.percent) == (False, 0, None)


def test_its_clock_is_set_and_its_uptime_goes_on(phone: VirtualPhone, transport: DirectTransport) -> None:
    before = read_conditions(transport)
    assert clock_set(before, read_conditions(transport)) is None
    phone.faults.set(FaultPlan(clock_offset_s=-28_800))
    after = read_conditions(transport)
    assert clock_set(before, after) == "the phone's clock was set back by 28800 s"
    assert not rebooted(before, after)


def test_cores_that_the_phone_lacks_are_refused(shell: Shell) -> None:
    assert shell("taskset 1f0 echo ran").stdout == b"ran\n"
    assert shell("taskset e00 echo ran").exit_code != 0
    assert shell("taskset 0 echo ran").exit_code != 0


def test_a_full_phone_says_so(phone: VirtualPhone, shell: Shell) -> None:
    phone.faults.set(FaultPlan(free_bytes=10_240))
    assert shell("df -k /data/local/tmp | tail -1").stdout.split()[3] == b"10"
    phone.faults.clear()
    assert int(shell("df -k /data/local/tmp | tail -1").stdout.split()[3]) > 10


def test_a_place_on_this_computer_is_told_for_storage_only(phone: VirtualPhone) -> None:
    assert phone.storage("/data/local/tmp/a/b").name == "b"
    with pytest.raises(UsageError):
        phone.storage("/system/bin/sh")


@pytest.mark.parametrize("port", [5555, 5585])
def test_ports_that_adb_servers_scan_are_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(UsageError, match="5555 to 5585"), running_phone(tmp_path, port=port):
        pass


def test_a_port_in_use_is_told(phone: VirtualPhone, tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match=str(phone.port)),
        running_phone(tmp_path, port=phone.port),
    ):
        pass


SERVE = """
import sys, threading
from pathlib import Path
from android_bench.virtual_phone.phone import serve

def ready(phone):
    shell = phone._machine.start_shell("setsid nohup sleep 1002 >/dev/null 2>&1 & echo begun", merged=True)
    shell.output.recv(100)
    print("ready", phone.port, flush=True)

serve(port=0, folder=Path(sys.argv[1]), on_ready=ready)
"""


def test_everything_inside_dies_with_a_killed_daemon(tmp_path: Path) -> None:
    daemon = subprocess.Popen([sys.executable, "-c", SERVE, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert daemon.stdout is not None
    with daemon.stdout:
        assert daemon.stdout.readline().startswith(b"ready")
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        inside = [number for number in numbers if descends(number, daemon.pid)]
        handles = []
        for number in inside:
            with contextlib.suppress(ProcessLookupError):  # the shell that started the job ends about now
                handles.append(os.pidfd_open(number))
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(TIMEOUT_S)
    assert len(handles) >= 4  # two of bubblewrap, the guest, the job
    for handle in handles:
        assert select.select([handle], [], [], TIMEOUT_S)[0], "a process outlived the daemon"
        os.close(handle)


def descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(status.rpartition(")")[2].split()[1])
        if pid == ancestor:
            return True
    return False
