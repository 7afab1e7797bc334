"""The phone without a sandbox: a table of commands, no shell, and no way out of its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from android_bench.adb.direct import DirectTransport
from android_bench.virtual_phone.command_table import CommandTable, Result
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.device_folder import DeviceFolder
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import running_phone
from android_bench.virtual_phone.simple_shell import EXIT_CODE, NotUnderstood, parse
from nasflow.base.errors import DeviceError

TMP = "/data/local/tmp"


@pytest.fixture
def folder(tmp_path: Path) -> DeviceFolder:
    folder = DeviceFolder(tmp_path / "phone", PhoneDescription())
    folder.create()
    folder.refresh(FaultPlan(), 0.0)
    return folder


@pytest.fixture
def table(folder: DeviceFolder) -> Iterator[CommandTable]:
    table = CommandTable(folder)
    yield table
    table.close()


def test_words_quotes_and_operators_are_read() -> None:
    first, second, third = parse(
        """echo 'a b' "c $? 'd'" e\\ f && cat <nothing""".replace(" <nothing", "") + " x; y"
    )
    assert [word.text for word in first.words] == ["echo", "a b", f"c {EXIT_CODE} 'd'", "e f"]
    assert (second.after, [word.text for word in second.words]) == ("&&", ["cat", "x"])
    assert third.after == ";"
    redirected = parse("a >out 2>&1; b >>more 2>/dev/null")
    assert (redirected[0].output, redirected[0].errors_to_output) == ("out", True)
    assert (redirected[1].output, redirected[1].append, redirected[1].errors) == ("more", True, "/dev/null")


@pytest.mark.parametrize(
    "line",
    [
        "a | b",
        "a & b",
        "$(a)",
        "`a`",
        "echo $HOME",
        '"$HOME"',
        "(a)",
        "a <b",
        "'open",
        '"open',
        "a >",
        "a &&",
        "> >",
    ],
)
def test_what_needs_a_shell_is_refused(table: CommandTable, line: str) -> None:
    with pytest.raises(NotUnderstood):
        parse(line)
    done = table.run(line)
    assert done.code == 2
    assert b"no shell" in done.errors


@given(st.text(alphabet="ab *?$'\"\\;&|<>2\n", max_size=40) | st.text(max_size=60))
@settings(max_examples=1000, deadline=None)
def test_any_line_is_understood_or_refused(line: str) -> None:
    try:
        commands = parse(line)
    except NotUnderstood:
        return
    assert all(command.words for command in commands)


arguments = st.sampled_from(
    [
        f"{TMP}",
        f"{TMP}/a",
        f"{TMP}/*",
        "/etc/passwd",
        "-rf",
        "-p",
        "-c",
        "%s",
        "755",
        "f0",
        "x",
        "..",
        "''",
        "\udcff",
    ]
)


@given(
    st.sampled_from(sorted(["cat", "chmod", "df", "dumpsys", "echo", "getprop", "kill", "ls", "mkdir", "mv"]))
    | st.sampled_from(["nohup", "rm", "setsid", "sha256sum", "stat", "taskset", "uname", "id", "nosuch"]),
    st.lists(arguments, max_size=4),
    st.sampled_from(["", f">{TMP}/out", ">/etc/out", "2>&1", "; echo $?"]),
)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_use_of_a_command_ends_with_a_code(
    table: CommandTable, folder: DeviceFolder, name: str, words: list[str], end: str
) -> None:
    done = table.run(" ".join([name, *words, end]))
    assert 0 <= done.code <= 255
    assert b"root:" not in done.output
    assert all(place.is_dir() for place in folder.storage.values())


def test_files_are_made_read_moved_and_removed(table: CommandTable, folder: DeviceFolder) -> None:
    assert table.run(f"mkdir -p {TMP}/a/b && echo hello >{TMP}/a/b/c; echo $?").output == b"0\n"
    digest = hashlib.sha256(b"hello\n").hexdigest()
    assert table.run(f"sha256sum {TMP}/a/b/c").output == f"{digest}  {TMP}/a/b/c\n".encode()
    assert table.run(f"mv {TMP}/a/b/c {TMP}/a/d; cat {TMP}/a/d {TMP}/a/*").output == b"hello\nhello\n"
    assert table.run(f"chmod 755 {TMP}/a/d && stat -c '%s %a' {TMP}/a/d").output == b"6 755\n"
    assert table.run(f"ls {TMP}/a").output == b"b\nd\n"
    assert table.run(f"rm {TMP}/nothing").code == 1
    assert table.run(f"rm -f {TMP}/nothing; rm -rf {TMP}/a; ls {TMP}/a").code == 1
    assert table.run(f"rm -rf {TMP}").code == 1
    assert table.run(f"mv {TMP} /sdcard/elsewhere").code == 1
    assert folder.storage[TMP].is_dir()


def test_the_phone_s_own_files_are_read(table: CommandTable, folder: DeviceFolder) -> None:
    assert (
        table.run("getprop ro.product.model; getprop no.such; uname -m").output == b"Pixel 8 Pro\n\naarch64\n"
    )
    assert b"[ro.soc.model]: [Tensor G3]" in table.run("getprop").output
    assert b"level: 94" in table.run("dumpsys battery").output
    assert table.run("cat /proc/sys/kernel/random/boot_id").output.decode().strip() == folder.boot_id
    clocks = table.run("cat /sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq").output
    assert clocks == b"1704000\n2367000\n2914000\n"
    assert table.run("df /data").output.count(b"\n") == 2
    assert table.run("taskset f0 echo ran; taskset 0 echo ran").output == b"ran\n"


def test_what_is_not_in_the_table_is_not_run(table: CommandTable) -> None:
    for name in ("sh", "python3", "/bin/sh", "/usr/bin/env", "curl", "./x", "ln"):
        assert table.run(f"{name} -c 'echo ran'").code == 127


@pytest.mark.parametrize(
    "path", ["/etc/passwd", f"{TMP}/../../../etc/passwd", f"{TMP}/../settings", "relative", "//etc/passwd"]
)
def test_files_of_the_host_cannot_be_read_or_written(table: CommandTable, path: str) -> None:
    assert table.run(f"cat {path}").code == 1
    assert table.run(f"echo x >{path}").code == 1
    assert table.run(f"rm {path}").code == 1
    assert table.run(f"mkdir -p {path}/x").code == 1


def test_a_link_out_of_the_folder_is_not_followed(
    table: CommandTable, folder: DeviceFolder, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    (folder.storage[TMP] / "link").symlink_to(secret)
    (folder.storage[TMP] / "way").symlink_to(tmp_path)
    for path in ("link", "way/secret"):
        assert table.run(f"cat {TMP}/{path}") == Result(
            1, b"", f"cat: {TMP}/{path}: Not a directory\n".encode()
        )
        assert table.run(f"echo x >{TMP}/{path}").code == 1
    assert secret.read_text() == "of the host"


def test_phone_files_cannot_be_changed(table: CommandTable) -> None:
    assert table.run("echo x >/system/etc/phone/battery").code == 1
    assert table.run("rm -rf /sys/devices/system/cpu/cpufreq/policy0").code in (0, 1)
    assert table.run("cat /sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq").output == b"1704000\n"


def test_files_go_both_ways_and_stay_inside(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    with (
        running_phone(tmp_path / "phone", inside="table") as phone,
        closing(DirectTransport(phone.address, key=tmp_path / "adbkey")) as transport,
    ):
        transport.push(content, f"{TMP}/new/file", timeout_s=20)
        assert transport.pull(f"{TMP}/new/file", timeout_s=20) == content
        assert transport.run(["sha256sum", f"{TMP}/new/file"], timeout_s=20).stdout.split()[0] == (
            hashlib.sha256(content).hexdigest().encode()
        )
        outside = tmp_path / "outside"
        for path in (str(outside), f"{TMP}/../../outside", "/system/bin/sh"):
            with pytest.raises(DeviceError):
                transport.push(content, path, timeout_s=20)
        assert not outside.exists()
        assert not phone.is_confined_shell
