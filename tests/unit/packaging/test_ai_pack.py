"""An AI pack for Google Play: its layout is Google's own exporter's, its groups can be reached."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from ai_edge_litert.aot.ai_pack import export_lib
from ai_edge_litert.aot.core import aot_types
from ai_edge_litert.aot.vendors import fallback_backend
from ai_edge_litert.aot.vendors.google_tensor import google_tensor_backend
from ai_edge_litert.aot.vendors.google_tensor import target as google_target
from ai_edge_litert.aot.vendors.qualcomm import qualcomm_backend
from ai_edge_litert.aot.vendors.qualcomm import target as qualcomm_target

from android_bench.device import DeviceInfo
from nasflow.base.errors import UsageError
from stages.packaging.ai_pack import (
    TARGETING,
    DeviceFacts,
    Specialised,
    ai_pack,
    device_facts,
    group_name,
    targeting,
)

CONFIG = "{http://schemas.android.com/apk/config}"
SNAPDRAGON = DeviceFacts(soc_manufacturer="QTI", soc_model="SM8550")
TENSOR = DeviceFacts(soc_manufacturer="Google", soc_model="Tensor G4")
PIXEL = DeviceFacts(brand="google", device="husky")
LARGE, SMALL = DeviceFacts(ram_min_bytes=8_000_000_000), DeviceFacts(ram_max_bytes=4_000_000_000)


def chips(config: str) -> dict[str, set[tuple[str, str]]]:
    """The chips of each group, in the file's order of groups."""
    root = ElementTree.fromstring(config)
    assert root.tag == f"{CONFIG}device-targeting-config"
    return {
        group.attrib["name"]: {
            (chip.attrib["manufacturer"], chip.attrib["model"])
            for chip in group.iter(f"{CONFIG}system-on-chip")
        }
        for group in root.iterfind(f"{CONFIG}device-group")
    }


def test_files_and_groups_are_those_of_googles_exporter(tmp_path: Path) -> None:
    backends = [
        (
            qualcomm_backend.QualcommBackend(
                {
                    "backend_id": qualcomm_backend.QualcommBackend.id(),
                    "soc_model": qualcomm_target.SocModel.SM8550,
                    "soc_manufacturer": qualcomm_target.SocManufacturer.QUALCOMM,
                }
            ),
            b"for Snapdragons",
        ),
        (
            google_tensor_backend.GoogleTensorBackend(
                {
                    "backend_id": google_tensor_backend.GoogleTensorBackend.id(),
                    "soc_model": google_target.SocModel.TENSOR_G4,
                    "soc_manufacturer": google_target.SocManufacturer.GOOGLE,
                }
            ),
            b"for Tensors",
        ),
        (
            fallback_backend.FallbackBackend({"backend_id": fallback_backend.FallbackBackend.id()}),
            b"for others",
        ),
    ]
    compiled = aot_types.CompilationResult(
        models_with_backend=[
            (backend, aot_types.Model.create_from_bytes(content)) for backend, content in backends
        ]
    )
    export_lib.export(compiled, tmp_path, "found_networks", "model")

    ours = ai_pack(
        [Specialised(b"for Snapdragons", (SNAPDRAGON,)), Specialised(b"for Tensors", (TENSOR,))],
        b"for others",
        pack="found_networks",
    )

    theirs = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    own = ours.pop("found_networks/build.gradle.kts").decode()
    assert 'id("com.android.ai-pack")' in own
    assert 'packName = "found_networks"' in own
    config, exported = ours.pop(TARGETING).decode(), theirs.pop(TARGETING).decode()
    assert ours == theirs
    assert list(chips(config).items()) == list(chips(exported).items())


def test_all_that_devices_are_known_by_is_written_as_play_reads_it() -> None:
    config = targeting(
        [
            Specialised(b"", (PIXEL, DeviceFacts(brand="good-brand")), "pixels"),
            Specialised(b"", (DeviceFacts("", "", "Sin&clair", "ZX<80", 10**9, 2 * 10**9), LARGE), "chips"),
        ]
    )
    pixels, sinclair = ElementTree.fromstring(config).findall(f"{CONFIG}device-group")
    assert [[(c.tag, c.attrib) for c in selector] for selector in pixels] == [
        [(f"{CONFIG}included-device-id", {"brand": "google", "device": "husky"})],
        [(f"{CONFIG}included-device-id", {"brand": "good-brand"})],
    ]
    bounded, large = sinclair
    assert bounded.attrib == {"ram-min-bytes": "1000000000", "ram-max-bytes": "2000000000"}
    assert [chip.attrib for chip in bounded] == [{"manufacturer": "Sin&clair", "model": "ZX<80"}]
    assert (large.attrib, list(large)) == ({"ram-min-bytes": "8000000000"}, [])


@pytest.mark.parametrize(
    ("info", "facts", "name"),
    [
        ({"soc": "QTI SM8550", "os_build": "a/b/c:1"}, SNAPDRAGON, "Qualcomm_SM8550"),
        ({"soc": "Google Tensor G4", "os_build": ""}, TENSOR, "Google_Tensor_G4"),
        (
            {"soc": "taro", "os_build": "google/husky/husky:14/UD1A.230803.041/10808477:user/release-keys"},
            PIXEL,
            "google_husky",
        ),
    ],
)
def test_a_run_is_meant_for_phones_with_the_chip_it_was_measured_on(
    info: dict[str, str], facts: DeviceFacts, name: str
) -> None:
    device = DeviceInfo(kind="android", model="A phone", runtime="litert 2.3.0", **info)
    assert device_facts(device) == facts
    assert group_name(facts) == name


@pytest.mark.parametrize("kind", ["local", "android"])
def test_a_run_whose_devices_cannot_be_named_is_refused(kind: str) -> None:
    device = DeviceInfo.model_validate(
        {"kind": kind, "model": "Ours", "soc": "x86_64" if kind == "android" else "x86_64 cpu family 6",
         "os_build": "Linux-6.1", "runtime": "litert"}
    )  # fmt: skip
    with pytest.raises(UsageError, match="measured on Ours cannot be meant for a group of phones"):
        device_facts(device)


def pack_of(*specialised: Specialised, default: bytes | None = b"x", pack: str = "pack") -> dict[str, bytes]:
    return ai_pack(specialised, default, pack=pack)


@pytest.mark.parametrize(
    ("specialised", "said"),
    [
        ([], "with one network for all devices"),
        ([Specialised(b"", (TENSOR,), "other")], "'other' is no name of a device group"),
        ([Specialised(b"", (TENSOR,), "1st")], "'1st' is no name"),
        ([Specialised(b"", (TENSOR,), "a b")], "'a b' is no name"),
        ([Specialised(b"", ())], "'' is no name"),
        ([Specialised(b"", (TENSOR,)), Specialised(b"", (TENSOR,))], "two networks for the device group"),
        ([Specialised(b"", (TENSOR,), "A"), Specialised(b"", (PIXEL,), "a")], "two networks for .* group a"),
        ([Specialised(b"", (TENSOR,) * 6)], "has 6 kinds of devices; Play takes 1 to 5"),
        ([Specialised(b"", (DeviceFacts(),), "a")], "names no property of a device"),
        ([Specialised(b"", (DeviceFacts(device="husky"),), "a")], "without its brand"),
        ([Specialised(b"", (DeviceFacts(soc_model="G4"),), "a")], "maker or its model, and not both"),
        ([Specialised(b"", (DeviceFacts(ram_min_bytes=-1),), "a")], "asks for -1 to None bytes"),
        ([Specialised(b"", (DeviceFacts(ram_min_bytes=9, ram_max_bytes=9),), "a")], "asks for 9 to 9 bytes"),
        ([Specialised(b"", (DeviceFacts(brand="a\x1b[31m"),), "a")], "cannot be printed"),
        (
            [Specialised(b"", (SNAPDRAGON,), "a"),
             Specialised(b"", (DeviceFacts("s", "dm3q", "Qualcomm", "SM8550"),), "b")],
            "no device gets the network of group b for s dm3q, with Qualcomm SM8550: group a",
        ),
        ([Specialised(b"", (SMALL,)), Specialised(b"", (DeviceFacts(ram_max_bytes=10**9),))], "no device"),
    ],
)  # fmt: skip
def test_groups_that_play_refuses_or_that_no_device_reaches_are_named(
    specialised: list[Specialised], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        pack_of(*specialised)
    assert caught.value.hint
    assert caught.value.message.isprintable()


def test_fewer_devices_first_is_allowed() -> None:
    narrow, wide = DeviceFacts("samsung", "dm3q", "QTI", "SM8550"), SNAPDRAGON
    files = pack_of(Specialised(b"1", (narrow,), "galaxy"), Specialised(b"2", (wide,)))
    assert list(chips(files[TARGETING].decode())) == ["galaxy", "Qualcomm_SM8550"]
    assert files["pack/src/main/assets/model#group_galaxy/model.tflite"] == b"1"


@pytest.mark.parametrize("pack", ["", "1pack", "my-pack", "../pack", "päck"])
def test_a_pack_has_a_name_that_play_takes_and_a_default(pack: str) -> None:
    with pytest.raises(UsageError, match="is no name of an AI pack"):
        pack_of(Specialised(b"", (TENSOR,)), pack=pack)
    with pytest.raises(UsageError, match="for the devices of no group"):
        pack_of(Specialised(b"", (TENSOR,)), default=None)
    with pytest.raises(UsageError, match="is no name of a file"):
        ai_pack([Specialised(b"", (TENSOR,))], b"", pack="pack", model="../model")
