"""What a bundle does not tell, and what it must still tell."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.bundle.privacy import Scrubber
from android_bench.phone.lock import Owner
from android_bench.phone.text import parse_battery, parse_cpufreq, parse_properties, parse_thermal
from android_bench.runner.output import parse_output

FIXTURES = Path(__file__).parents[2] / "fixtures"

GETPROP = """\
[ro.product.model]: [Pixel 7a]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.soc.model]: [GS201]
[ro.build.fingerprint]: [google/lynx/lynx:15/AP4A.250205.002/12821496:user/release-keys]
[ro.serialno]: [35121JEHN28132]
[ro.boot.serialno]: [35121JEHN28132]
[persist.adb.wifi.guid]: [adb-35121JEHN28132-jr888A]
[ro.ril.oem.imei]: [356938035643809]
[ro.boot.wifimacaddr]: [AA:BB:CC:DD:EE:0F]
[net.hostname]: [annas-pixel]
[bluetooth.device.default_name]: [Pixel 7a]
[persist.vendor.note]: [two
lines of anna@example.com]
[gsm.operator.alpha]: [Some Carrier]
"""


def scrubbed(text: str, *names: str) -> str:
    return Scrubber(names).text(text)


def test_of_getprop_only_listed_keys_are_kept() -> None:
    scrubber = Scrubber(["35121JEHN28132"])
    scrubber.learn_from(("getprop",), GETPROP)
    told = scrubber.text(GETPROP)
    assert parse_properties(told) == parse_properties(GETPROP)
    assert told.count("[ro.") == 4
    for secret in ("35121JEHN28132", "jr888A", "356938035643809", "annas", "anna@", "Carrier", "lines of"):
        assert secret not in told
    assert scrubber.replaced["properties left out"] == 9
    assert scrubber.kept_properties == {
        "ro.product.model",
        "ro.product.cpu.abi",
        "ro.soc.model",
        "ro.build.fingerprint",
    }


def test_values_that_getprop_calls_a_serial_or_a_name_are_replaced_everywhere() -> None:
    scrubber = Scrubber()
    scrubber.learn_from(("getprop",), GETPROP)
    told = scrubber.text("found adb-35121JEHN28132-jr888A, 35121jehn28132 and annas-pixel; a Pixel 7a")
    assert "35121" not in told.lower()
    assert "annas" not in told
    assert told.endswith("a Pixel 7a"), "a phone's model is no secret, though its Bluetooth has that name"


def test_one_property_that_was_asked_for_is_replaced_too() -> None:
    scrubber = Scrubber()
    scrubber.learn_from(("getprop", "ro.serialno"), "35121JEHN28132\n")
    scrubber.learn_from(("getprop", "ro.product.model"), "Pixel 7a\n")
    assert scrubber.output(b"35121JEHN28132\n") == b"serial1xxxxxxx\n"
    assert scrubber.output(b"Pixel 7a\n") == b"Pixel 7a\n"


def test_the_same_is_replaced_by_the_same_and_another_by_another() -> None:
    scrubber = Scrubber(["SERIAL-A", "SERIAL-B"])
    first, second, third = scrubber.text("SERIAL-A SERIAL-B SERIAL-A").split()
    assert first == third != second
    start = "3b1fdb74-3d0f-4d5c-a4c8-1a2b3c4d5e6f"
    other = start.replace("3", "4")
    first, second, third = scrubber.text(f"{start} {other} {start}").split()
    assert first == third != second
    assert len(first) == 36


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("account anna.b+x@mail.example.org ok", "anna"),
        ("wlan0 aa:bb:cc:0d:ee:ff up", "bb:cc"),
        ("inet 192.168.178.23/24", "192.168"),
        ("inet6 fe80::1234:abcd:1:2", "abcd"),
        ("inet6 2a02:8108:1:2:3:4:5:6", "8108"),
        ("device id 356938035643809.", "356938"),
        ("call +4915112345678", "4915"),
        ('SSID: "Annas Netz", RSSI: -50', "Annas"),
        ("ssid=AnnasNetz", "Annas"),
        ("device name: Annas Pixel", "Annas"),
        ("Bluetooth Name = Annas Buds", "Annas"),
        ("  PARTIAL_WAKE_LOCK              '*sync*/Annas Mail' ACQ=-1s", "Annas"),
        ("foreground com.example.secretapp.Main", "secretapp"),
        (f"{Path.home()}/.android/adbkey.pub" if len(str(Path.home())) > 1 else "~x", str(Path.home()) + "/"),
    ],
)
def test_addresses_and_names_are_replaced(text: str, secret: str) -> None:
    assert secret not in scrubbed(text)


def test_the_host_and_the_phones_address_are_replaced() -> None:
    owner = Owner("0123456789abcdef", 4711, 99, "annas-laptop")
    told = scrubbed(f"{owner.line()}\nrun fedcba9876543210 1 2 other\n{owner.line()}", "10.1.2.3:5555")
    lines = told.split("\n")
    assert Owner.parse(lines[0]) is not None
    assert lines[0] == lines[2] != lines[1]
    assert "annas" not in told
    assert "4711" not in told
    assert "10.1.2.3" not in scrubbed("lost 10.1.2.3: no route", "10.1.2.3:5555")
    node = platform.node()
    if len(node) >= 4:
        assert node not in scrubbed(f"on {node}.")


def test_what_only_looks_alike_stays() -> None:
    plain = (
        "127.0.0.1:6555 0.0.0.0 version 2.21.0 at 12:34:56 0.123456789012345 usage 1234567890123 ns "
        "job-0123456789abcdef0123456789abcdef com.android.settings std::vector 100% user root phone"
    )
    assert scrubbed(plain) == plain


def test_in_a_binary_file_names_are_replaced_by_as_many_bytes() -> None:
    scrubber = Scrubber(["R5CT10ABC"])
    content = b"\x0a\x09R5CT10ABC\x12\x04\0\0\0\0"
    assert scrubber.binary(content) == b"\x0a\x09xxxxxxxxx\x12\x04\0\0\0\0"


@pytest.mark.parametrize("name", ["thermalservice_samsung_android12.txt", "thermalservice_throttling.txt"])
def test_what_nasflow_reads_of_a_phones_state_is_as_before(name: str) -> None:
    text = (FIXTURES / "phone" / name).read_text()
    assert parse_thermal(scrubbed(text)) == parse_thermal(text)


def test_battery_clocks_and_the_tools_output_are_as_before() -> None:
    battery = (FIXTURES / "phone" / "battery.txt").read_text()
    assert parse_battery(scrubbed(battery)) == parse_battery(battery)
    clocks = "policy0/related_cpus=0 1 2 3\npolicy0/scaling_max_freq=1704000\n"
    assert parse_cpufreq(scrubbed(clocks)) == parse_cpufreq(clocks)
    for name in ("mnv2_t1", "litert_dummy", "dummy_prof"):
        out, err = ((FIXTURES / "benchmark_model" / f"{name}.{end}").read_bytes() for end in ("out", "err"))
        scrubber = Scrubber()
        assert parse_output(scrubber.output(out), scrubber.output(err)) == parse_output(out, err)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_come_through_and_a_second_time_changes_nothing(content: bytes) -> None:
    scrubber = Scrubber(["R5CT10ABC"])
    once = scrubber.output(content + b" R5CT10ABC ")
    assert b"R5CT10ABC" not in once
    assert scrubber.output(once) == once


@given(st.text(alphabet="ab1:.@-+ _/'\"=\n", max_size=20_000))
@settings(max_examples=30, deadline=2000)
def test_no_text_takes_more_than_time_in_proportion_to_its_size(text: str) -> None:
    scrubbed(text * 3)
