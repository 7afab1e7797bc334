"""``nasflow devices``: what is connected, in which state, and what to do about it."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from android_bench.adb import wire as adb_wire
from android_bench.adb.listing import Listed
from android_bench.found_phone import FoundPhone
from android_bench.transport import STATE_ADVICE
from android_bench.virtual_phone.phone import running_phone
from nasflow.cli.app import main
from nasflow.cli.request import Selection
from nasflow.commands import devices
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config

PIXEL = FoundPhone("R5CT1", "usb", "device", "Pixel 8 Pro", "Tensor G3", "15")
LOCKED = FoundPhone("HT7", "server", "unauthorized")
UNNAMED = FoundPhone("", "usb", "no permissions")


SERVICE = "adb-35121JEHN28132-jr888A (2)._adb-tls-connect._tcp"


@pytest.fixture(autouse=True)
def nothing_connected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No phone on USB, no adb server, keys of this test's own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(probe.getsockname()[1]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.setattr(adb_wire, "_usb_interfaces", lambda: iter(()))


def found(monkeypatch: pytest.MonkeyPatch, *phones: FoundPhone) -> list[Sequence[str]]:
    """Let these be connected; the addresses that are asked for come into the list."""
    asked: list[Sequence[str]] = []

    def find(*, addresses: Sequence[str], offers: bool) -> tuple[FoundPhone, ...]:
        assert offers
        asked.append(addresses)
        return phones

    monkeypatch.setattr(devices, "find_phones", find)
    return asked


def test_each_phone_has_a_line_and_what_to_do_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found(monkeypatch, PIXEL, LOCKED, UNNAMED)
    assert main(["devices"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "R5CT1        USB         ready           Pixel 8 Pro, Tensor G3, Android 15",
        "HT7          adb server  unauthorized",
        f"  -> {STATE_ADVICE['unauthorized']}",
        "(no serial)  USB         no permissions",
        f"  -> {STATE_ADVICE['no permissions']}",
        "",
        "Next: nasflow doctor --device android:R5CT1",
    ]


def test_what_a_phone_offers_to_compute_with_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    full = replace(PIXEL, cores="4 x 1.70 GHz, 1 x 2.91 GHz", gpu="Mali-G715 (ARM)", npu="")
    found(monkeypatch, full)
    assert main(["devices"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1] == "  offers cores 4 x 1.70 GHz, 1 x 2.91 GHz; GPU Mali-G715 (ARM)"
    assert main(["devices", "--json"]) == 0
    (phone,) = json.loads(capfd.readouterr().out)["phones"]
    assert (phone["gpu"], phone["npu"]) == ("Mali-G715 (ARM)", "")


def test_the_other_ways_to_a_phone_stand_below_it_and_in_the_document(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wireless = FoundPhone(SERVICE, "server", "offline", connection=Listed(SERVICE, "offline", "", "", 7))
    found(monkeypatch, replace(PIXEL, others=(wireless,)))
    assert main(["devices"]) == 0
    assert capfd.readouterr().out.splitlines()[:2] == [
        "R5CT1  USB  ready  Pixel 8 Pro, Tensor G3, Android 15",
        f"  also as {SERVICE} (adb server, offline)",
    ]
    assert main(["devices", "--json"]) == 0
    (phone,) = json.loads(capfd.readouterr().out)["phones"]
    assert phone["other_ways"] == [
        {"serial": SERVICE, "way": "server", "state": "offline", "transport_id": 7}
    ]


def test_names_with_blanks_and_names_of_several_are_typed_as_they_stand(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found(monkeypatch, FoundPhone(SERVICE, "server", "device"), LOCKED)
    assert main(["devices"]) == 0
    assert capfd.readouterr().out.endswith(f"Next: nasflow doctor --device 'android:{SERVICE}'\n")
    cheap = [
        FoundPhone(
            "0123456789ABCDEF", "server", "device", connection=Listed("0123456789ABCDEF", "device", "", "", n)
        )
        for n in (3, 4)
    ]
    found(monkeypatch, *cheap)
    assert main(["devices"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("0123456789ABCDEF (transport_id:3)")
    assert lines[-1] == "Next: nasflow doctor --device android:transport_id:3"


def test_the_json_document_has_every_field(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found(monkeypatch, PIXEL, LOCKED)
    assert main(["devices", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["usable"] == 1
    assert document["advice"] == []
    assert document["phones"][0] == {
        "serial": "R5CT1",
        "way": "usb",
        "state": "device",
        "model": "Pixel 8 Pro",
        "soc": "Tensor G3",
        "android": "15",
        "cores": "",
        "gpu": "",
        "npu": "",
        "usable": True,
        "advice": "",
        "device": "android:R5CT1",
        "transport_id": None,
        "other_ways": [],
    }
    assert document["phones"][1]["device"] == ""
    assert document["phones"][1]["advice"] == STATE_ADVICE["unauthorized"]


def test_none_connected_is_an_outcome_with_what_to_check(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    told = capfd.readouterr().out
    assert all(word in told for word in ("No phone", "cable", "USB debugging", "udev", "--address"))
    assert main(["devices", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["phones"], document["usable"]) == ([], 0)
    assert len(document["advice"]) == 5


def test_words_of_a_phone_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b]0;title\x07Pixel\x1b[2J\r\nR5 ready" + "x" * 500
    found(monkeypatch, FoundPhone("S\x1b[31m1\n2", "server", "device", hostile, hostile, hostile))
    assert main(["devices"]) == 0
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 3
    assert len(out) < 300


def test_a_phone_that_calls_itself_by_an_unknown_state_gets_advice(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found(monkeypatch, FoundPhone("A", "server", "detached"))
    assert main(["devices"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "A  adb server  detached",
        f"  -> {STATE_ADVICE['offline']}",
    ]


def test_every_address_is_asked_and_the_one_in_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = found(monkeypatch)
    monkeypatch.setenv("ANDROID_SERIAL", "10.0.0.3:5555")
    assert main(["devices", "--address", "10.0.0.1:5555", "--address", "[::1]:6555"]) == 0
    monkeypatch.setenv("ANDROID_SERIAL", "R5CT1")  # a serial number is found without being asked for
    assert main(["devices"]) == 0
    assert asked == [["10.0.0.1:5555", "[::1]:6555", "10.0.0.3:5555"], []]


@pytest.mark.parametrize("address", ["R5CT1", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:99999", ""])
def test_an_address_that_is_none_is_a_usage_error(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--address", address]) == 2
    error, hint = capfd.readouterr().err.splitlines()
    assert error == f"error: --address {address!r} is not of the form HOST:PORT."
    assert "192.168.1.20:5555" in hint


@pytest.mark.needs("bubblewrap")
def test_a_phone_that_answers_at_an_address_is_ready(capfd: pytest.CaptureFixture[str]) -> None:
    with running_phone() as phone:
        assert main(["devices", "--address", phone.address, "--json"]) == 0
        (shown,) = json.loads(capfd.readouterr().out)["phones"]
        told = phone.folder.description
    assert (shown["serial"], shown["way"], shown["usable"]) == (phone.address, "tcp", True)
    assert shown["model"] == told.model


def test_an_address_where_nothing_answers_is_missing_and_no_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    assert main(["devices", "--address", address]) == 0
    line, advice = capfd.readouterr().out.splitlines()
    assert line.split() == [address, "network", "missing"]
    assert advice.startswith("  -> Check the address")


@pytest.mark.parametrize(
    "name", [SERVICE, "a #b", "it's", 'x"y', "{x: 1}", "[fe80::1]:5555", "R5CT1", "x: y"]
)
def test_any_name_of_a_phone_reaches_the_configuration_as_it_was_typed(name: str) -> None:
    chosen = Selection(device=f"android:{name}")
    assert load_config(PipelineConfig, None, chosen.overrides).device == f"android:{name}"
