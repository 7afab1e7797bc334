"""Which connections are one phone, which name means which, and names that hold anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from android_bench.adb import wire as adb_wire
from android_bench.adb.listing import NO_SERIAL, Listed, parse_devices
from android_bench.adb.server import ServerTransport, server_devices
from android_bench.discover import choose, find_phones, open_found
from android_bench.found_phone import FoundPhone, Identity, joined, name_of
from android_bench.transport import PhoneNotReadyError, is_mdns_name, serial_in_mdns_name
from android_bench.virtual_phone.phone import running_phone
from nasflow.base.errors import NoUsableDeviceError
from tests.support.adb_server_peer import AdbServerPeer, Connected, phone_answers

pytestmark = pytest.mark.needs("bubblewrap")

SERVICE = "adb-35121JEHN28132-jr888A._adb-tls-connect._tcp"
SECOND = "adb-35121JEHN28132-jr888A (2)._adb-tls-connect._tcp"
CHEAP = "0123456789ABCDEF"
PIXEL = phone_answers("35121JEHN28132", "b1")


@pytest.fixture(autouse=True)
def empty_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_wire, "_usb_interfaces", lambda: iter(()))


# What the server says


def test_a_serial_with_blanks_is_read_with_its_state_and_model() -> None:
    short = f"{SECOND}\tdevice\nR5CT1\tdevice\n"
    long = (
        f"{SECOND} device product:lynx model:Pixel_7a device:lynx transport_id:7\n"
        "R5CT1                  device usb:1-4 product:a model:SM_A525F device:a52 transport_id:2\n"
    )
    assert parse_devices(short, long) == (
        Listed(SECOND, "device", "Pixel 7a", "", 7),
        Listed("R5CT1", "device", "SM A525F", "usb:1-4", 2),
    )


def test_states_of_several_words_and_missing_serials_are_read() -> None:
    short = (
        "0123\tno permissions (user in plugdev group; are your udev rules wrong?); see [http://x]\n"
        "(no serial number)\tdevice\n127.0.0.1:6555\toffline\nHT7\tunauthorized\n\n"
    )
    long = (
        "0123                   no permissions (user in plugdev group; are your udev rules wrong?); see "
        "[http://x] usb:1-1 transport_id:1\n"
        "(no serial number)     device usb:1-2 product:x model:Y device:z transport_id:3\n"
        "127.0.0.1:6555         offline transport_id:9\n"
    )
    assert parse_devices(short, long) == (
        Listed("0123", "no permissions", "", "usb:1-1", 1),
        Listed("", "device", "Y", "usb:1-2", 3),
        Listed("127.0.0.1:6555", "offline", "", "", 9),
        Listed("HT7", "unauthorized"),
    )


def test_two_phones_of_one_serial_keep_their_own_details() -> None:
    line = f"{CHEAP:<22} device usb:1-{{n}} product:p model:M{{n}} device:d transport_id:{{n}}\n"
    found = parse_devices(f"{CHEAP}\tdevice\n" * 2, line.format(n=1) + line.format(n=2))
    assert [(one.model, one.usb_path, one.transport_id) for one in found] == [
        ("M1", "usb:1-1", 1),
        ("M2", "usb:1-2", 2),
    ]


def test_a_product_of_any_name_does_not_pass_for_a_model_or_a_number() -> None:
    line = f"{'A':<22} device product:a transport_id:1 model:X model:Real device:d transport_id:5\n"
    (found,) = parse_devices("A\tdevice\n", line)
    assert (found.transport_id, found.serial) == (5, "A")


@given(st.lists(st.tuples(st.text(min_size=1, max_size=30), st.integers(1, 9)), max_size=5), st.text())
@settings(max_examples=500)
def test_any_names_come_back_with_their_own_numbers(names: list[tuple[str, int]], noise: str) -> None:
    plain = "".join(chr(code) for code in range(0x20, 0x7F))
    clean = [("".join(c for c in name if c in plain) or "x", number) for name, number in names]
    assume(not any(name in NO_SERIAL for name, _ in clean))  # those words stand for a phone without one
    short = "".join(f"{name}\tdevice\n" for name, _ in clean)
    long = "".join(f"{name:<22} device product:p model:m device:d transport_id:{n}\n" for name, n in clean)
    found = parse_devices(short, long)
    assert sorted(one.serial for one in found) == sorted(name for name, _ in clean)
    if len({name for name, _ in clean}) == len(clean):
        assert {one.serial: one.transport_id for one in found} == dict(clean)
    for one in parse_devices(noise, noise):
        assert one.state
        assert "\x1b" not in one.serial


# Through the server


@pytest.fixture
def two_services() -> Iterator[AdbServerPeer]:
    connected = [
        Connected(SERVICE, model="Pixel_7a", number=4, answers=PIXEL),
        Connected(SECOND, model="Pixel_7a", number=7, answers=PIXEL),
    ]
    with AdbServerPeer(connected) as peer:
        yield peer


def test_two_services_of_one_phone_are_one_phone(two_services: AdbServerPeer) -> None:
    (found,) = find_phones(server=two_services.port)
    assert (found.serial, found.usable, found.model) == (SERVICE, True, "Pixel 7a")
    assert [(way.serial, way.state) for way in found.others] == [(SECOND, "device")]


@pytest.mark.parametrize("name", [SECOND, "transport_id:7"])
def test_a_name_with_blanks_reaches_the_phone(two_services: AdbServerPeer, name: str) -> None:
    chosen = choose(name, find_phones(server=two_services.port))
    assert chosen.serial == SECOND
    with closing(open_found(chosen, server=two_services.port)) as transport:
        assert transport.serial == SECOND
        assert transport.run(["echo", "hello"], timeout_s=5).stdout == b"hello\n"
        assert transport.state() == "device"


def test_a_server_without_numbers_is_asked_by_name() -> None:
    """adb before 1.0.40 (2018) gives connections no number."""
    phone = Connected("AB:CD EF", answers=phone_answers("AB:CD EF", "b1"))
    with AdbServerPeer([phone], with_numbers=False) as peer:
        (found,) = find_phones(server=peer.port)
        with closing(open_found(found, server=peer.port)) as transport:
            assert transport.run(["echo", "hello"], timeout_s=5).stdout == b"hello\n"
        assert "host:transport:AB:CD EF" in peer.requests


def cheap(number: int, boot_id: str) -> Connected:
    answers = phone_answers(CHEAP, boot_id, model=f"Cheap {number}")
    return Connected(CHEAP, usb_path=f"usb:1-{number}", number=number, answers=answers)


def test_two_phones_of_one_serial_stay_two_and_are_told_apart() -> None:
    with AdbServerPeer([cheap(1, "b1"), cheap(2, "b2")]) as peer:
        found = find_phones(server=peer.port)
        assert [phone.model for phone in found] == ["Cheap 1", "Cheap 2"]
        assert [name_of(phone, found) for phone in found] == ["transport_id:1", "transport_id:2"]
        with pytest.raises(NoUsableDeviceError, match=f"2 phones are called {CHEAP}") as caught:
            choose(CHEAP, found)
        assert "--device android:transport_id:1 or --device android:transport_id:2" in caught.value.hint
        with pytest.raises(NoUsableDeviceError, match="none was selected") as caught:
            choose("", found)
        assert "--device android:transport_id:1," in caught.value.hint
        for name in ("transport_id:2", "usb:1-2"):
            chosen = choose(name, found)
            with closing(open_found(chosen, server=peer.port)) as transport:
                told = transport.run(["getprop", "ro.product.model"], timeout_s=5).stdout
            assert told == b"Cheap 2\n"


def test_after_a_break_the_phone_at_the_same_port_is_taken_and_no_other() -> None:
    with AdbServerPeer([cheap(1, "b1"), cheap(2, "b2")]) as peer:
        chosen = choose("transport_id:2", find_phones(server=peer.port))
        with closing(open_found(chosen, server=peer.port)) as transport:
            peer.connected = [cheap(1, "b1")]
            with pytest.raises(PhoneNotReadyError, match="missing"):
                transport.reconnect(timeout_s=5)
            peer.connected = [cheap(1, "b1"), replace(cheap(2, "b2"), number=9)]
            told = transport.run(["getprop", "ro.product.model"], timeout_s=5).stdout
            assert told == b"Cheap 2\n"


def test_a_phone_that_is_joined_by_one_of_its_name_is_known_again() -> None:
    with AdbServerPeer([cheap(2, "b2")]) as peer:
        (found,) = find_phones(server=peer.port)
        with closing(open_found(replace(found, connection=None), server=peer.port)) as transport:
            transport.run(["echo", "hello"], timeout_s=5)
            peer.connected = [cheap(1, "b1"), cheap(2, "b2")]
            transport.close()
            told = transport.run(["getprop", "ro.product.model"], timeout_s=5).stdout
    assert told == b"Cheap 2\n"


@pytest.mark.parametrize("with_numbers", [True, False])
def test_a_name_of_several_phones_is_an_error_with_what_to_do(with_numbers: bool) -> None:
    with AdbServerPeer([cheap(1, "b1"), cheap(2, "b2")], with_numbers=with_numbers) as peer:
        transport = ServerTransport(CHEAP, server=peer.port)
        assert transport.state() == "ambiguous"
        with pytest.raises(PhoneNotReadyError, match="several phones are called") as caught:
            transport.run(["echo", "hello"], timeout_s=5)
    assert "transport_id:N" in caught.value.hint


def test_a_phone_without_a_serial_is_reached_by_its_number() -> None:
    phone = Connected("", usb_path="usb:1-3", number=5, answers=phone_answers("", "b1"))
    with AdbServerPeer([phone]) as peer:
        (found,) = find_phones(server=peer.port)
        assert found.usable
        assert name_of(found, [found]) == "transport_id:5"
        with closing(open_found(found, server=peer.port)) as transport:
            assert transport.serial == "transport_id:5"
            assert transport.run(["echo", "hello"], timeout_s=5).stdout == b"hello\n"


def test_the_virtual_phone_at_two_addresses_is_one_phone_through_googles_names() -> None:
    with running_phone(services=2) as phone, running_phone() as other:
        nobody = AdbServerPeer([])
        with nobody:
            found = find_phones(
                addresses=[*phone.addresses, other.address, f"localhost:{phone.port}"], server=nobody.port
            )
        assert [one.serial for one in found] == [phone.address, other.address]
        assert [way.serial for way in found[0].others] == [phone.addresses[1], f"localhost:{phone.port}"]
        phone.kill_daemon()
        phone.start_daemon()
        with AdbServerPeer([]) as nobody:
            (again,) = find_phones(addresses=phone.addresses, server=nobody.port)
        assert again.usable


# Which is which


def way(serial: str, kind: str = "server", state: str = "device", **named: object) -> FoundPhone:
    usb_path = str(named.pop("usb_path", ""))
    connection = Listed(serial, state, "", usb_path, 1) if kind == "server" else None
    identity = Identity(*(str(named.pop(name, "")) for name in ("hardware", "product", "boot")))
    return FoundPhone(serial, kind, state, connection=connection, identity=identity)  # type: ignore[arg-type]


USB = way("S1", usb_path="usb:1-1", hardware="S1", product="p", boot="b")
WIRELESS = way("192.168.1.5:40001", hardware="S1", product="p", boot="b")


def test_the_cable_goes_before_the_network_in_whatever_order_they_are_listed() -> None:
    for ways in ([USB, WIRELESS], [WIRELESS, USB]):
        (found,) = joined(ways)
        assert found.serial == "S1"
        assert [other.serial for other in found.others] == [WIRELESS.serial]


def test_a_cable_that_cannot_be_used_does_not_go_before_a_network_that_can() -> None:
    locked = way("S1", state="unauthorized", usb_path="usb:1-1")
    (found,) = joined([locked, WIRELESS])
    assert (found.serial, found.usable) == (WIRELESS.serial, True)
    assert [(other.serial, other.state) for other in found.others] == [("S1", "unauthorized")]


def test_the_way_that_is_named_is_taken_and_the_phones_own_serial_means_the_best_way() -> None:
    phone = way(SERVICE, hardware="S1", product="p", boot="b")
    found = joined([USB, WIRELESS, phone])
    assert choose(WIRELESS.serial, found).serial == WIRELESS.serial
    assert choose(SERVICE, found).serial == SERVICE
    assert choose("S1", found).serial == "S1"
    assert choose("S1", joined([WIRELESS, phone])).serial == WIRELESS.serial
    assert choose("", found).serial == "S1"


@pytest.mark.parametrize(
    "other",
    [
        way("X", hardware="S1", product="p", boot="another"),
        way("X", hardware="S1", product="q", boot="b"),
        way("X", hardware="S2", product="p", boot="b"),
        way("X", hardware="S1", product="p", boot="b", usb_path="usb:2-1"),
    ],
    ids=["restarted at another time", "another product", "another serial", "two cables"],
)
def test_what_differs_in_anything_is_another_phone(other: FoundPhone) -> None:
    assert len(joined([USB, other])) == 2


def test_a_phone_that_does_not_tell_its_start_is_known_by_serial_and_product() -> None:
    assert len(joined([USB, way("X", hardware="S1", product="p")])) == 1


def test_phones_that_tell_no_serial_are_not_taken_for_one() -> None:
    assert len(joined([way("X", product="p", boot="b"), way("Y", product="p", boot="b")])) == 2


def test_a_service_that_is_offline_belongs_to_the_phone_in_its_name() -> None:
    offline = way("adb-S1-jr888A (2)._adb-tls-connect._tcp", state="offline")
    (found,) = joined([offline, USB])
    assert found.serial == "S1"
    assert found.others == (replace(offline, others=()),)
    assert len(joined([offline, way("Y", hardware="S9", product="p", boot="b")])) == 2


def test_what_is_called_like_two_phones_belongs_to_neither() -> None:
    second = way("Y", hardware="S1", product="p", boot="c")
    assert len(joined([USB, second, way("adb-S1-abcdef._adb-tls-connect._tcp", state="offline")])) == 3


def test_names_of_mdns_services_are_told_from_others() -> None:
    assert serial_in_mdns_name(SERVICE) == serial_in_mdns_name(SECOND) == "35121JEHN28132"
    assert serial_in_mdns_name("adb-A-B-C-xyz123._adb-tls-connect._tcp.") == "A-B-C"
    assert not any(is_mdns_name(name) for name in ("R5CT1", "10.0.0.1:5555", "adb-x", "", "a.b._tcp"))


def test_phones_of_one_serial_on_usb_without_a_server_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adb_wire, "usb_devices", lambda: [(CHEAP, "device"), (CHEAP, "device")])
    found = find_phones("direct")
    assert [phone.state for phone in found] == ["ambiguous", "ambiguous"]
    with pytest.raises(NoUsableDeviceError, match="adb server") as caught:
        choose(CHEAP, found)
    assert "Unplug one" in caught.value.hint


def test_a_hint_is_typed_as_it_stands() -> None:
    ways = [way(SECOND, hardware="S1", product="p", boot="b"), way("Y's", hardware="S2", boot="c")]
    with pytest.raises(NoUsableDeviceError) as caught:
        choose("", joined(ways))
    words = shlex.split(caught.value.hint.split(", or")[0])
    assert words[-1] == f"android:{SECOND}"


def test_the_list_of_a_server_that_ends_between_two_answers_is_none() -> None:
    with AdbServerPeer([]) as peer:
        assert server_devices(peer.port) == ()
    assert server_devices(peer.port) is None
