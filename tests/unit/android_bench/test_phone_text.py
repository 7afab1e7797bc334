"""What phones print: live values only, sentinels unknown, whatever the vendor's spelling."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.device import CpuPolicy
from android_bench.phone.text import (
    Battery,
    PhoneProperties,
    Temperature,
    parse_battery,
    parse_boot_id,
    parse_cpufreq,
    parse_getprop,
    parse_properties,
    parse_thermal,
    parse_uptime,
    parse_wakefulness,
    parse_wall_clock,
)
from benchmarks.parser_fuzz import invented

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "phone"


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


# Temperatures


def test_only_the_hal_is_live_and_the_cache_is_not_read() -> None:
    got = parse_thermal(fixture("thermalservice_samsung_android12.txt"))
    assert (got.status, got.overridden) == (0, False)
    assert got.temperatures == (Temperature("AP", 0, 25.6, 0), Temperature("BAT", 2, 23.8, 0))
    assert got.skin_celsius is None, "this phone has no skin sensor, and none is guessed"


def test_a_throttling_phone_is_read() -> None:
    got = parse_thermal(fixture("thermalservice_throttling.txt"))
    assert (got.status, got.skin_celsius) == (2, 44.637)
    assert len(got.temperatures) == 1, "cooling devices and thresholds are no temperatures"


def live(*sensors: str) -> str:
    return "Current temperatures from HAL:\n" + "".join(f"\t{sensor}\n" for sensor in sensors)


def sensor(value: str, kind: int, name: str) -> str:
    return f"Temperature{{mValue={value}, mType={kind}, mName={name}, mStatus=0}}"


@pytest.mark.parametrize(
    "value", ["0.0", "-99.9", "NaN", "nan", "0", "-0.0", "999.0", "-274", "Infinity", "", "1e1"]
)
def test_sentinels_and_nonsense_are_unknown(value: str) -> None:
    got = parse_thermal(live(sensor(value, 3, "skin")))
    assert got.temperatures[0].celsius is None and got.skin_celsius is None


@pytest.mark.parametrize("name", ["skin", "SKIN", "Skin", "TYPE_SKIN", "quiet_skin_therm"])
def test_a_skin_sensor_is_found_in_any_spelling(name: str) -> None:
    assert parse_thermal(live(sensor("31.5", 9, name), sensor("60.0", 0, "CPU0"))).skin_celsius == 31.5


def test_a_vendor_that_numbers_otherwise_is_read_by_name() -> None:
    text = live(sensor("24.4", 3, "TYPE_BATTERY"), sensor("25.3", 4, "TYPE_SKIN"))
    assert parse_thermal(text).skin_celsius == 25.3
    assert parse_thermal(live(sensor("24.4", 3, "TYPE_BATTERY"))).skin_celsius is None


def test_a_skin_sensor_without_a_name_is_read_by_its_number() -> None:
    assert parse_thermal(live(sensor("33.3", 3, "VIRTUAL-BACK"))).skin_celsius == 33.3


def test_the_hottest_skin_sensor_counts_and_unknown_ones_do_not() -> None:
    text = live(sensor("31.0", 3, "skin"), sensor("33.0", 3, "SKIN2"), sensor("NaN", 3, "skin3"))
    assert parse_thermal(text).skin_celsius == 33.0


def test_headings_may_be_spelled_otherwise() -> None:
    text = "isstatusoverride: TRUE\nTHERMAL STATUS: 3\n CURRENT TEMPERATURES FROM HAL: \n" + sensor(
        "40.0", 3, "x"
    )
    got = parse_thermal(text)
    assert (got.status, got.overridden, got.skin_celsius) == (3, True, 40.0)


@pytest.mark.parametrize("status", ["7", "-1", "none", "", "2.0", "99999999999999"])
def test_a_status_that_android_does_not_have_is_unknown(status: str) -> None:
    assert parse_thermal(f"Thermal Status: {status}\n").status is None


def test_a_service_that_is_not_there_is_unknown() -> None:
    got = parse_thermal("Can't find service: thermalservice\n")
    assert (got.status, got.overridden, got.temperatures) == (None, None, ())


# Battery


def test_a_battery_is_read() -> None:
    got = parse_battery(fixture("battery.txt"))
    assert got == Battery(94, 100, 280, powered=True, updates_stopped=False, present=True)
    assert (got.percent, got.celsius) == (94.0, 28.0)


def test_another_scale_is_turned_into_percent() -> None:
    assert parse_battery("level: 50\nscale: 200\n").percent == 25


@pytest.mark.parametrize(
    "text",
    [
        "level: 50\n",
        "level: 120\nscale: 100\n",
        "level: -1\nscale: 100\n",
        "level: 0\nscale: 0\n",
        "",
        "level: x",
    ],
)
def test_a_charge_that_cannot_be_is_unknown(text: str) -> None:
    assert parse_battery(text).percent is None


@pytest.mark.parametrize("tenths", ["0", "-999", "32000", "x"])
def test_a_battery_temperature_that_cannot_be_is_unknown(tenths: str) -> None:
    assert parse_battery(f"  temperature: {tenths}\n").celsius is None


def test_values_set_by_hand_are_seen() -> None:
    assert parse_battery("  (UPDATES STOPPED -- use 'reset' to restart)\n  level: 5\n").updates_stopped


@pytest.mark.parametrize(
    ("text", "powered"),
    [
        ("AC powered: false\nUSB powered: true\n", True),
        ("AC powered: false\nUSB powered: false\n", False),
        ("Dock powered: TRUE\n", True),
        ("AC powered: maybe\n", None),
        ("", None),
    ],
)
def test_a_charger_is_seen_or_unknown(text: str, powered: bool | None) -> None:
    assert parse_battery(text).powered is powered


def test_sections_that_vendors_append_do_not_change_what_was_read() -> None:
    text = fixture("battery.txt") + "  level: 3\n  SEC temperature: 999\n  temperature: 999\n"
    assert parse_battery(text) == parse_battery(fixture("battery.txt"))


# Properties


def test_a_phone_is_named() -> None:
    assert parse_properties(fixture("getprop_pixel8pro.txt")) == PhoneProperties(
        model="Pixel 8 Pro",
        soc="Google Tensor G3",
        abi="arm64-v8a",
        abis=("arm64-v8a",),
        sdk=34,
        android_version=None,
        os_build=None,
    )


def test_the_soc_of_an_older_phone_has_another_property() -> None:
    base = "[ro.board.platform]: [msm8998]\n[ro.hardware]: [qcom]\n"
    assert parse_properties(base).soc == "msm8998"
    assert parse_properties("[ro.hardware.chipname]: [exynos9820]\n" + base).soc == "exynos9820"
    assert parse_properties("[ro.soc.model]: [SM8650]\n[ro.soc.manufacturer]: [unknown]\n").soc == "SM8650"
    assert parse_properties("").soc is None


@pytest.mark.parametrize(
    ("listed", "abi", "abis"),
    [
        ("arm64-v8a,armeabi-v7a,armeabi", "arm64-v8a", ("arm64-v8a", "armeabi-v7a", "armeabi")),
        ("armeabi-v7a, armeabi", "armeabi-v7a", ("armeabi-v7a", "armeabi")),
        ("", "armeabi-v7a", ("armeabi-v7a",)),
        (",,", "", ()),
    ],
)
def test_the_abis_that_a_phone_runs_are_told_the_best_one_first(
    listed: str, abi: str, abis: tuple[str, ...]
) -> None:
    text = f"[ro.product.cpu.abilist]: [{listed}]\n[ro.product.cpu.abi]: [{abi}]\n"
    assert parse_properties(text).abis == abis


def test_values_of_several_lines_and_of_none_are_kept_apart() -> None:
    got = parse_getprop("[a]: []\n[b]: [one\ntwo]\n[c]: [x] y]\n[a]: [again]\nrubbish\n[d]: [z]")
    assert dict(got) == {"a": "", "b": "one\ntwo", "c": "x] y", "d": "z"}


# Clusters


def test_clusters_are_read_in_order() -> None:
    text = (
        "policy4/related_cpus=4 5 6 7\npolicy4/scaling_cur_freq=2367000\npolicy4/scaling_max_freq=2000000\n"
        "policy4/cpuinfo_max_freq=2367000\npolicy0/related_cpus=0 1 2 3\npolicy0/scaling_cur_freq=\n"
    )
    assert parse_cpufreq(text) == (
        CpuPolicy(0, (0, 1, 2, 3), None, None, None),
        CpuPolicy(4, (4, 5, 6, 7), 2_367_000, 2_000_000, 2_367_000),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sh: cd: /sys/devices/system/cpu/cpufreq: Permission denied",
        "policy*/related_cpus=",
        "policy0/related_cpus=",
        "policy0/related_cpus=0 0",
        "policy0/related_cpus=0 64",
        "policy0/related_cpus=0 9999",
        "policy0/scaling_cur_freq=1000000",
    ],
)
def test_clusters_that_are_not_told_are_left_out(text: str) -> None:
    assert parse_cpufreq(text) == ()


def test_a_core_belongs_to_one_cluster() -> None:
    assert len(parse_cpufreq("policy0/related_cpus=0 1\npolicy1/related_cpus=1 2\n")) == 1


@pytest.mark.parametrize("khz", ["0", "5", "99999999999", ""])
def test_a_clock_rate_that_cannot_be_is_unknown(khz: str) -> None:
    (got,) = parse_cpufreq(f"policy0/related_cpus=0\npolicy0/scaling_cur_freq={khz}\n")
    assert got.current_khz is None


# Uptime and boot


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12345.67 98765.43\n", 12345.67),
        ("0.50 0.10", 0.5),
        ("12345", None),
        ("", None),
        ("-1.0 2.0", None),
        ("a.b c.d", None),
    ],
)
def test_uptime(text: str, seconds: float | None) -> None:
    assert parse_uptime(text) == seconds


@pytest.mark.parametrize(
    ("text", "boot_id"),
    [
        ("0F7A2B1C-1111-2222-3333-444455556666\n", "0f7a2b1c-1111-2222-3333-444455556666"),
        ("0f7a2b1c-1111-2222-3333-44445555666", None),
        ("cat: Permission denied", None),
        ("", None),
    ],
)
def test_boot_id(text: str, boot_id: str | None) -> None:
    assert parse_boot_id(text) == boot_id


# Any text


@pytest.mark.parametrize(
    "piece",
    [
        "Temperature{mValue=",
        "mValue=1, mType=",
        "[a]: [",
        "[a]: [\n",
        "policy0/a=",
        " ",
        "level:",
        "[",
        "policy",
        "1",
    ],
)
def test_a_hostile_text_is_read_in_time_in_proportion_to_its_size(piece: str) -> None:
    text = "Current temperatures from HAL:\n" + piece * (300_000 // len(piece))
    assert (parse_thermal(text).skin_celsius, parse_battery(text).percent) == (None, None)
    assert (parse_properties(text).sdk, parse_cpufreq(text)) == (None, ())
    assert (parse_uptime(text), parse_boot_id(text)) == (None, None)


PIECES = st.sampled_from(
    [
        *(
            "Thermal Status: ",
            "IsStatusOverride: true",
            "Current temperatures from HAL:",
            "Temperature{mValue=",
        ),
        *(
            ", mType=3",
            ", mName=skin",
            ", mStatus=0}",
            "level: ",
            "scale: 100",
            "temperature: ",
            "AC powered: true",
        ),
        *("[ro.build.version.sdk]: [", "]", "[ro.soc.model]: [", "policy0/related_cpus=0 1", "policy"),
        *("/scaling_cur_freq=", "/related_cpus=", "\n", "\t", " ", "NaN", "-", ".", ":"),
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=6), st.integers(-1000, 10**7).map(str)), max_size=40).map(
    "".join
)
PARSERS = [parse_thermal, parse_battery, parse_properties, parse_cpufreq, parse_uptime, parse_boot_id]


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@settings(max_examples=1_000)
@given(text=TEXTS)
def test_any_text_gives_numbers_that_stand_in_it(parse: object, text: str) -> None:
    assert callable(parse)
    assert invented(parse(text), text) == []


@settings(max_examples=1_000)
@given(TEXTS)
def test_any_text_gives_properties_that_stand_in_it(text: str) -> None:
    assert all(key in text and value in text for key, value in parse_getprop(text).items())


@settings(max_examples=1_000)
@given(TEXTS)
def test_derived_values_are_plausible_or_unknown(text: str) -> None:
    battery, thermal = parse_battery(text), parse_thermal(text)
    assert battery.percent is None or 0 <= battery.percent <= 100
    assert battery.celsius is None or -40 <= battery.celsius <= 150
    assert thermal.skin_celsius is None or -40 <= thermal.skin_celsius <= 150


@settings(max_examples=1_000)
@given(st.floats(-39, 149).map(lambda value: round(value, 3)), st.integers(0, 6))
def test_what_android_prints_is_read_back(celsius: float, status: int) -> None:
    got = parse_thermal(f"Thermal Status: {status}\n" + live(sensor(f"{celsius:.3f}", 3, "skin")))
    assert got.status == status
    assert got.skin_celsius == (None if celsius == 0 else celsius)


# Wakefulness and clock


@pytest.mark.parametrize("state", ["Awake", "Asleep", "Dozing", "Dreaming"])
def test_wakefulness_is_the_power_managers_own_word(state: str) -> None:
    text = (
        "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mDirty=0x0\n"
        f"  mWakefulness={state}\n  mWakefulnessChanging=false\n"
        "Wake Locks: size=1\n  PARTIAL_WAKE_LOCK 'mWakefulness=Asleep' ACQ=-1s\n  mWakefulness=Dozing\n"
    )
    assert parse_wakefulness(text) == state


@pytest.mark.parametrize(
    "text",
    ["", "mWakefulness=", "mWakefulness=1", "mWakefulness=Awake?", "mWakefulnessChanging=true", "awake"],
)
def test_another_word_is_no_wakefulness(text: str) -> None:
    assert parse_wakefulness(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000.250000000\n", 1_700_000_000.25),
        ("1700000000", 1_700_000_000.0),
        ("1700000000.%N\n", 1_700_000_000.0),
        ("1700000000.N\n", 1_700_000_000.0),
        ("0.5", 0.5),
        ("-5", None),
        ("", None),
        ("date: bad format", None),
        ("Tue Nov 14 22:13:20 GMT 2023", None),
    ],
)
def test_the_phones_clock_is_read_with_and_without_fractions(text: str, seconds: float | None) -> None:
    assert parse_wall_clock(text) == seconds


@settings(max_examples=1_000)
@given(
    st.text(max_size=200)
    | st.from_regex(r"[ \t]*mWakefulness=[A-Za-z]{0,9}\n?|[0-9.%N]{0,30}", fullmatch=True)
)
def test_any_text_is_a_word_or_a_time_or_nothing(text: str) -> None:
    assert parse_wakefulness(text) in (None, "Awake", "Asleep", "Dozing", "Dreaming")
    seconds = parse_wall_clock(text)
    assert seconds is None or 0 <= seconds < 1e11


@pytest.mark.parametrize(("present", "percent"), [("true", 0.0), ("false", None), ("maybe", 0.0)])
def test_a_battery_that_is_not_present_has_no_charge(present: str, percent: float | None) -> None:
    assert parse_battery(f"  present: {present}\n  level: 0\n  scale: 100\n").percent == percent
