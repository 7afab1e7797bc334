"""How the phone is reached, and what its shell does: each ``docs/verified.md`` line by name."""

from __future__ import annotations

import hashlib
import random
import re
import secrets
import time
from pathlib import Path

import pytest
from device.conftest import FOLDER, Line, Phone

from android_bench.adb.wire import usb_devices
from android_bench.transport import is_mdns_name
from nasflow.base.errors import NasflowError
from nasflow.base.text import plain_text

pytestmark = pytest.mark.phone

PUSHED_BYTES = 10_000_000


@pytest.mark.verifies("USB")
def test_usb(phone: Phone, line: Line) -> None:
    if not phone.found.on_usb:
        line.not_tried("the phone is not on a cable: plug it in and name it by its serial number")
    answer = phone.run("echo", "cable")
    assert (answer.stdout, answer.exit_code) == (b"cable\n", 0)
    line.found(f"by way of {'the adb server' if phone.found.way == 'server' else 'libusb'}")


@pytest.mark.verifies("The udev rule that the advice names")
def test_udev_rule(phone: Phone, line: Line) -> None:
    if phone.found.way != "usb":
        line.not_tried("needs a cable and no adb server: adb kill-server, then name the serial number")
    states = [state for _, state in usb_devices()]
    assert "device" in states
    line.found(f"USB devices may be opened: {states}")


@pytest.mark.verifies("A phone that is paired by wireless debugging")
def test_wireless_debugging(phone: Phone, line: Line) -> None:
    services = [way for way in phone.found.ways() if is_mdns_name(way.serial)]
    if not services:
        line.not_tried("not paired: adb pair HOST:PORT, adb connect HOST:PORT, then this again")
    assert any(way.usable for way in services), [way.state for way in services]
    line.found(f"listed by way of the adb server, {len(list(phone.found.ways()))} ways to one phone")


@pytest.mark.verifies("Pushing over a real wireless network")
def test_pushing(phone: Phone, line: Line) -> None:
    content = random.Random(1).randbytes(PUSHED_BYTES)
    remote = f"{FOLDER}/pushed"
    begin = time.monotonic()
    phone.transport.push(content, remote, timeout_s=300)
    push_s = time.monotonic() - begin
    told = phone.run("sha256sum", remote).stdout.split()[0].decode()
    assert told == hashlib.sha256(content).hexdigest()
    begin = time.monotonic()
    assert phone.transport.pull(remote, timeout_s=300) == content
    pull_s = time.monotonic() - begin
    way = "a cable" if phone.found.on_usb else "the network"
    line.found(f"10 MB over {way}: pushed at {10 / push_s:.1f}, pulled at {10 / pull_s:.1f} MB/s, intact")


@pytest.mark.verifies("That a phone lets its shell make, rename and delete the folder that is the lock")
def test_lock_folder(phone: Phone, line: Line) -> None:
    lock = f"{FOLDER}/lock.{secrets.token_hex(4)}"
    script = (
        'mkdir "$1" && ! mkdir "$1" 2>/dev/null && mv "$1" "$1.1" && [ ! -e "$1" ] '
        '&& echo x >"$1.1/seen.part" && mv -f "$1.1/seen.part" "$1.1/seen" '
        '&& rm -rf "$1.1" && [ ! -e "$1.1" ]'
    )
    done = phone.shell(script, lock)
    assert (done.exit_code, done.stdout) == (0, b""), done
    date, uptime = phone.run("date", "+%s"), phone.run("cat", "/proc/uptime")
    assert re.fullmatch(rb"[0-9]{9,11}\s*", date.stdout), date
    assert re.fullmatch(rb"[0-9]+\.[0-9]+ [0-9]+\.[0-9]+\s*", uptime.stdout), uptime
    line.found(f"mkdir, mv and rm as expected; date and /proc/uptime ({uptime.stdout.split()[0].decode()} s)")


@pytest.mark.verifies("The phone's shell tells by which signal a program died")
def test_exit_codes_of_signals(phone: Phone, line: Line) -> None:
    codes = {number: phone.shell(f"sh -c 'kill -{number} $$'").exit_code for number in (4, 6, 7, 9, 11)}
    assert codes == {number: 128 + number for number in codes}
    line.found(f"exit codes {codes}")


@pytest.mark.verifies("What the phone's shell says of a program that it cannot run")
def test_programs_that_cannot_run(phone: Phone, line: Line) -> None:
    foreign = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xf3\x00\x01" + bytes(43)  # RISC-V, and no more
    for name, content, mode in (
        ("foreign", foreign, 0o755),
        ("forbidden", b"#!/system/bin/sh\n", 0o644),
        ("text", b"x\n", 0o755),
    ):
        phone.transport.push(content, f"{FOLDER}/{name}", mode=mode, timeout_s=60)
        done = phone.run(f"{FOLDER}/{name}")
        assert done.exit_code != 0, name
        words = plain_text(done.stderr or done.stdout, limit=200).replace(FOLDER, "")
        line.found(f"{name}: exit code {done.exit_code}, {words!r}")
    missing = phone.run(f"{FOLDER}/missing")
    assert missing.exit_code == 127
    line.found(f"missing: exit code 127, {plain_text(missing.stderr or missing.stdout, limit=120)!r}")


@pytest.mark.verifies("The commands that nasflow's scripts use are on the phone")
def test_commands_are_there(phone: Phone, line: Line) -> None:
    names = (
        "sh setsid nohup tr sha256sum taskset df head cat mv rm mkdir date dumpsys settings cmd getprop grep "
        "input cp ls sleep chmod"
    )
    done = phone.shell('for name in $1; do command -v "$name" >/dev/null || echo "$name"; done', names)
    missing = done.stdout.decode().split()
    line.found(f"missing: {', '.join(missing) or 'none'}")
    assert not missing


@pytest.mark.verifies("The address of `benchmark_model`'s download")
def test_download(phone: Phone, line: Line, tmp_path: Path) -> None:
    from android_bench.runner.download import obtain

    if phone.virtual:
        line.not_tried("the virtual phone brings its own tool")
    try:
        runner = obtain("auto", abis=phone.abis, project=tmp_path, cache=tmp_path / "cache")
    except NasflowError as error:
        line.found(f"{error.message} {error.raw[:200]}")
        raise
    line.found(f"{runner.name} for {phone.abi}, {len(runner.content):,} bytes, {runner.sha256[:12]}")
