"""What is connected, and which phone is taken."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from android_bench.adb import wire as adb_wire
from android_bench.discover import choose, find_phones, wanted_name
from android_bench.found_phone import FoundPhone
from android_bench.transport import STATE_ADVICE, PhoneNotReadyError
from nasflow.base.errors import NoUsableDeviceError, UsageError
from tests.support.adb_peer import AdbPeer, HungUp, Line, Phone

PIXEL = FoundPhone("R5CT1", "usb", "device", "Pixel 8 Pro", "Tensor G3", "15")
LOCKED = FoundPhone("HT7", "server", "unauthorized")


@pytest.fixture
def no_server() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def getprop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A getprop for the peer's shell."""
    tool = tmp_path / "bin" / "getprop"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "ro.product.model) printf 'Pixel\\033[31m 8\\nPro\\n';;\n"
        "ro.board.platform) echo zuma;;\n"
        "ro.build.version.release) echo 15;;\n"
        "*) echo;;\nesac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    yield


@pytest.fixture(autouse=True)
def empty_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_wire, "_usb_interfaces", lambda: iter(()))


@pytest.mark.usefixtures("getprop")
def test_a_phone_at_an_address_tells_what_it_is(tmp_path: Path, no_server: int) -> None:
    with AdbPeer(Phone(tmp_path / "phone")) as peer:
        found = find_phones(addresses=[peer.name], key=tmp_path / "adbkey", server=no_server)
    assert found == (FoundPhone(peer.name, "tcp", "device", "Pixel 8 Pro", "zuma", "15"),)
    assert found[0].describe() == f"{peer.name} (Pixel 8 Pro, zuma, Android 15)"
    assert found[0].usable
    assert found[0].advice == ""


def test_phones_that_cannot_be_used_are_listed_with_their_state(tmp_path: Path, no_server: int) -> None:
    def hang_up(line: Line) -> None:
        line.receive()

    with AdbPeer(hang_up) as peer:
        missing = f"127.0.0.1:{no_server}"
        found = find_phones(
            addresses=[peer.name, missing, peer.name],
            key=tmp_path / "adbkey",
            server=no_server,
            timeout_s=60.0,
        )
    assert [(phone.serial, phone.state) for phone in found] == [(peer.name, "offline"), (missing, "missing")]
    assert all(phone.advice for phone in found)
    assert not any(phone.usable for phone in found)


def test_a_silent_phone_is_waited_for_no_longer_than_wanted(tmp_path: Path, no_server: int) -> None:
    def silent(line: Line) -> None:
        line.receive()
        line.receive()

    with AdbPeer(silent) as peer:
        found = find_phones(addresses=[peer.name], key=tmp_path / "adbkey", server=no_server, timeout_s=0.3)
    assert [(phone.serial, phone.state) for phone in found] == [(peer.name, "offline")]


@pytest.mark.usefixtures("getprop")
def test_a_phone_that_talks_nonsense_does_not_hide_the_others(tmp_path: Path, no_server: int) -> None:
    def nonsense(line: Line) -> None:
        line.greet()
        line.accept()
        line.say(b"\x07\x01\x00\x00\x00!")
        line.receive()

    with AdbPeer(nonsense) as other, AdbPeer(Phone(tmp_path / "phone")) as peer:
        found = find_phones(addresses=[other.name, peer.name], key=tmp_path / "adbkey", server=no_server)
    assert [(phone.serial, phone.state) for phone in found] == [
        (other.name, "offline"),
        (peer.name, "device"),
    ]


@pytest.mark.usefixtures("getprop")
def test_a_phone_whose_first_greeting_is_lost_is_found(tmp_path: Path, no_server: int) -> None:
    phone = Phone(tmp_path / "phone")

    def script(line: Line) -> None:
        if len(peer.lines) == 1:
            raise HungUp
        phone(line)

    with AdbPeer(script) as peer:
        found = find_phones(addresses=[peer.name], key=tmp_path / "adbkey", server=no_server)
    assert [(one.state, one.model) for one in found] == [("device", "Pixel 8 Pro")]


def test_nothing_connected_is_no_phone(no_server: int) -> None:
    assert find_phones(server=no_server) == ()
    with pytest.raises(NoUsableDeviceError, match=r"no phone is connected.*USB debugging") as caught:
        choose("", ())
    assert caught.value.exit_code == 4


def test_usb_phones_that_may_not_be_opened_are_listed(
    monkeypatch: pytest.MonkeyPatch, no_server: int
) -> None:
    monkeypatch.setattr(adb_wire, "usb_devices", lambda: [("", "no permissions"), ("", "no permissions")])
    found = find_phones(server=no_server)
    assert [phone.state for phone in found] == ["no permissions"] * 2
    with pytest.raises(NoUsableDeviceError, match="udev"):
        choose("", found)


def test_the_only_usable_phone_is_taken() -> None:
    assert choose("", [LOCKED, PIXEL]) is PIXEL


def test_a_named_phone_is_taken() -> None:
    other = replace(PIXEL, serial="127.0.0.1:6555", way="tcp")
    assert choose("127.0.0.1:6555", [PIXEL, other]) is other


def test_several_phones_and_none_named_are_listed() -> None:
    with pytest.raises(NoUsableDeviceError, match="2 phones are connected") as caught:
        choose("", [PIXEL, LOCKED, replace(PIXEL, serial="ABC")])
    text = str(caught.value)
    assert "R5CT1 (Pixel 8 Pro, Tensor G3, Android 15); ABC (" in text
    assert "--device android:R5CT1" in text
    assert "HT7" not in text


def test_a_name_that_nobody_has_is_answered_with_what_is_there() -> None:
    with pytest.raises(NoUsableDeviceError, match=r"no phone is called NOPE\. Connected: R5CT1 \(Pixel"):
        choose("NOPE", [PIXEL, LOCKED])
    with pytest.raises(NoUsableDeviceError, match=r"no phone answers at 10\.0\.0\.1:5555\."):
        choose("10.0.0.1:5555", [])


@pytest.mark.parametrize("name", ["", "HT7"])
def test_the_only_phone_locked_says_what_to_do(name: str) -> None:
    with pytest.raises(PhoneNotReadyError, match="accept the prompt") as caught:
        choose(name, [LOCKED])
    assert caught.value.state == "unauthorized"


def test_an_address_where_nothing_answers_is_told_so() -> None:
    with pytest.raises(PhoneNotReadyError, match=r"no phone answers at 10\.0\.0\.1:5555") as caught:
        choose("10.0.0.1:5555", [FoundPhone("10.0.0.1:5555", "tcp", "missing")])
    assert "Check the address" in caught.value.hint


def test_several_unusable_phones_are_each_told_about() -> None:
    with pytest.raises(NoUsableDeviceError, match="none of the connected phones") as caught:
        choose("", [LOCKED, replace(LOCKED, serial="X", state="offline")])
    assert STATE_ADVICE["unauthorized"] in caught.value.hint
    assert STATE_ADVICE["offline"] in caught.value.hint


def test_a_state_that_nobody_foresaw_has_advice_too() -> None:
    assert replace(LOCKED, state="sleepwalking").advice


def test_the_name_comes_before_the_environment() -> None:
    environment = {"ANDROID_SERIAL": " ENV "}
    assert wanted_name("NAMED", environment) == "NAMED"
    assert wanted_name("", environment) == "ENV"
    assert wanted_name("", {}) == ""


def test_a_wrong_server_port_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "x")
    with pytest.raises(UsageError):
        find_phones()
