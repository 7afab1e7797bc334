"""What a bundle does not tell, and what it must still tell."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from android_bench.bundle import privacy
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


def test_another_computers_name_is_replaced_wherever_its_run_is_described() -> None:
    owner = Owner("0123456789abcdef", 4711, 99, "annas-laptop.fritz.box")
    scrubber = Scrubber()
    scrubber.learn_from(("sh", "-c", "cat owner"), f"seen\n{owner.line()}\n")
    told = scrubber.text(f"measured by another run: {owner.describe()}, last active 3 s ago. annas-laptop")
    assert "annas" not in told
    assert "4711" not in told
    assert scrubber.found_in("on ANNAS-LAPTOP") == ("annas-laptop",)
    assert "pc" not in scrubbed("is being measured by process 4711 on pc, last heard").split()


@pytest.mark.parametrize(
    "text", ["serial35121JEHN28132x", "x35121jehn28132", "35121JEHN28132_2", "adb-35121JEHN28132-jr888A (2)"]
)
def test_a_serial_number_is_replaced_inside_of_other_words_too(text: str) -> None:
    scrubber = Scrubber(["35121JEHN28132"])
    assert scrubber.found_in(text) == ("35121JEHN28132",), "the check does not rely on what is replaced"
    assert scrubber.found_in(scrubber.text(text)) == ()
    assert b"35121" not in scrubber.binary(text.encode())


def test_a_short_serial_number_is_replaced_where_it_stands_by_itself() -> None:
    scrubber = Scrubber(["R5C"])
    assert "r5c" not in scrubber.text("R5C, r5c and (R5C)").lower()
    assert scrubber.text("R5Cx 1R5C") == "R5Cx 1R5C"
    assert scrubber.found_in("R5C") == ("R5C",)
    assert scrubber.found_in("R5Cx") == ()


def test_an_mdns_name_tells_the_serial_number_in_it() -> None:
    scrubber = Scrubber(["adb-35121JEHN28132-jr888A (2)._adb-tls-connect._tcp"])
    told = scrubber.text("35121JEHN28132 by adb-35121JEHN28132-jr888A")
    assert "35121" not in told
    assert "jr888A" not in told


@pytest.mark.parametrize(
    "path",
    [
        "/srv/anna.schmidt/models/benchmark_model",
        "/opt/anna.schmidt",
        "/data/anna.schmidt/models",
        "/mnt/anna.schmidt/x",
        "/home/anna.schmidt/x",
        "/Users/anna.schmidt/x",
        r"C:\Users\anna.schmidt\models\x.tflite",
        r"D:\of anna.schmidt\x.tflite",
    ],
)
def test_folders_of_this_computer_are_replaced(path: str) -> None:
    told = scrubbed(f"cannot read '{path}': no such file ({path})")
    assert "anna" not in told
    assert told == "cannot read '/path-left-out': no such file (/path-left-out)"


@pytest.mark.parametrize(
    "path",
    [
        "/data/local/tmp/nasflow/lock",
        "/sys/devices/system/cpu/cpu0",
        "/system/bin/sh: /vendor/bin/x",
        "https://issues.example.invalid/a/b",
        "google/lynx/lynx:15/AP4A.250205.002",
        "/mnt/vendor/persist/x",
        "/proc/4711/stat",
    ],
)
def test_folders_of_a_phone_stay(path: str) -> None:
    assert scrubbed(path) == path


COMMANDS = (
    "sh -c dumpsys power | grep mWakefulness= /data/local/tmp/nasflow/lock",
    "dumpsys battery",
    "settings get global stay_on_while_plugged_in",
)


@pytest.mark.parametrize(
    "user", ["data", "local", "sh", "tmp", "nasflow", "dumpsys", "battery", "power", "google", "classic"]
)
def test_a_person_called_like_a_word_of_a_command_is_replaced_only_as_a_person(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "_user", lambda: user)
    scrubber = Scrubber()
    for command in COMMANDS:
        scrubber.learn_from(("sh", "-c", command), "google/husky classic")
        assert scrubber.command(command) == scrubber.text(command) == command
    assert scrubber.text("google/husky classic") == "google/husky classic"
    told = scrubber.text(f"USER={user} {user}@host /home/{user} C:\\Users\\{user}")
    assert user not in told.replace("/path-left-out", "")
    assert scrubber.found_in(f"USER={user}") == (user,)
    assert scrubber.found_in(" ".join(COMMANDS)) == ()


def test_a_person_whose_name_is_in_what_a_phone_is_called_leaves_the_phone_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(privacy, "_user", lambda: "husky")
    scrubber = Scrubber()
    scrubber.learn_from(("getprop",), "[ro.product.device]: [husky]\n")
    assert scrubber.text("[ro.product.device]: [husky]\n") == "[ro.product.device]: [husky]\n"


def test_who_built_android_is_replaced_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "_user", lambda: "annas")
    line = "[ro.build.version.incremental]: [eng.annas.20260101]\n"
    scrubber = Scrubber()
    scrubber.learn_from(("getprop",), line)
    assert "annas" not in scrubber.text(line)


def test_values_under_telling_keys_that_tell_nothing_stay() -> None:
    scrubber = Scrubber()
    printed = (
        "[vendor.state.serial]: [offline]\n[vendor.camera.sensor.serial]: [0123]\n[gsm.serial]: [1]\n"
        "[x.serial]: [18000]\n[ro.ril.sn]: [husky]\n[ro.product.device]: [husky]\n[ro.serialno]: [AB12]\n"
        "[y.serial]: [abcd1234]\n[net.hostname]: [annas-pixel]\n"
    )
    scrubber.learn_from(("getprop",), printed)
    assert set(scrubber.secrets) >= {"AB12", "abcd1234", "annas-pixel"}
    plain = "offline 0123 1 husky 1800000"
    assert scrubber.text(plain) == plain


def test_letters_that_only_unicode_takes_for_the_same_do_no_harm() -> None:
    scrubber = Scrubber(["SERIAL-KK"])
    assert scrubber.text("\u017ferial-\u212a\u212a serial-kk").endswith(" serial1xx")


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
@example(b"00000000-0000-0000-0000-000000000000")
def test_any_bytes_come_through_and_a_second_time_changes_nothing(content: bytes) -> None:
    scrubber = Scrubber(["R5CT10ABC"])
    once = scrubber.output(content + b" R5CT10ABC ")
    assert b"R5CT10ABC" not in once
    assert scrubber.output(once) == once


@given(st.text(alphabet="ab1:.@-+ _/'\"=\n", max_size=20_000))
@settings(max_examples=30, deadline=60_000)  # in proportion it takes milliseconds, else hours
def test_no_text_takes_more_than_time_in_proportion_to_its_size(text: str) -> None:
    scrubbed(text * 3)
