"""Quoting, plain text, names: what every way to a phone shares."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.transport import STATE_ADVICE, PhoneNotReadyError, quote, split_host_port
from nasflow.base.errors import DeviceError, DeviceLostError, NoUsableDeviceError
from nasflow.base.text import plain_text

WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)


@given(WORDS)
@settings(max_examples=1000)
def test_a_quoted_command_splits_into_the_same_words(argv: list[str]) -> None:
    assert shlex.split(quote(argv)) == argv


@pytest.mark.parametrize("shell", ["sh", pytest.param("mksh", marks=pytest.mark.needs("mksh"))])
def test_a_real_shell_sees_the_words_and_expands_nothing(shell: str) -> None:
    words = [
        "$HOME",
        "`id`",
        "a;b",
        "*",
        "it's",
        'say "x"',
        "new\nline",
        "",
        "-n",
        "&&",
        "~",
        "ä😀",
        "\\",
        "!",
    ]
    done = subprocess.run([shell, "-c", quote(["printf", "[%s]", *words])], capture_output=True, check=True)
    assert done.stdout.decode() == "".join(f"[{word}]" for word in words)


@pytest.mark.parametrize("argv", [[], ["a", "b\0c"]])
def test_what_no_command_line_can_carry_is_refused(argv: list[str]) -> None:
    with pytest.raises(ValueError, match="remote command"):
        quote(argv)


@given(st.one_of(st.text(), st.binary()), st.integers(1, 50))
@settings(max_examples=1000)
def test_plain_text_has_no_control_characters_and_is_capped(output: str | bytes, limit: int) -> None:
    text = plain_text(output, limit=limit)
    assert len(text) <= limit
    assert not [c for c in text if c != "\n" and c != "\t" and (ord(c) < 32 or 127 <= ord(c) < 160)]


def test_plain_text_takes_out_whole_escape_sequences() -> None:
    assert plain_text(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\r\ny\xff\x1b(B") == "red x\ny\ufffd"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("192.168.1.5:5555", ("192.168.1.5", 5555)),
        ("phone.local:41234", ("phone.local", 41234)),
        ("[fe80::1]:5555", ("fe80::1", 5555)),
        ("R5CT123ABCD", None),
        ("host:0", None),
        ("host:70000", None),
        ("a b:5555", None),
        ("host:", None),
        ("transport_id:3", None),
        ("adb-35121JEHN28132-jr888A._adb-tls-connect._tcp", None),
        ("adb-35121JEHN28132-jr888A._adb-tls-connect._tcp:5555", None),
        ("adb-35121JEHN28132-jr888A (2)._adb-tls-connect._tcp:5555", None),
    ],
)
def test_host_and_port_are_told_from_a_serial(name: str, parts: tuple[str, int] | None) -> None:
    assert split_host_port(name) == parts


def test_the_errors_have_their_exit_codes() -> None:
    assert issubclass(DeviceLostError, DeviceError)
    assert DeviceLostError("x").exit_code == 5
    error = PhoneNotReadyError("x", state="unauthorized")
    assert isinstance(error, NoUsableDeviceError)
    assert error.exit_code == 4
    assert error.hint == STATE_ADVICE["unauthorized"]
    assert PhoneNotReadyError("x", state="a new word").hint
