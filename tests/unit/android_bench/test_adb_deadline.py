"""Waiting on a socket by a clock of one's own: in time, whole, and never for ever."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from android_bench.adb.deadline import Deadline


class Steps:
    """A clock that moves on by so much at every look."""

    def __init__(self, step_s: float) -> None:
        self.now, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        yield ours, theirs


def test_silence_ends_by_the_clock_that_was_given(ends: tuple[socket.socket, socket.socket]) -> None:
    clock = Steps(10.0)
    with pytest.raises(TimeoutError, match="no answer within 30 s"):
        Deadline(30.0, clock).receive(ends[0], 10)
    assert clock.now == 40.0


def test_a_side_that_takes_no_more_ends_by_the_clock(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeoutError, match="no answer within 30 s"):
        Deadline(30.0, Steps(1.0)).send(ends[0], bytes(50_000_000))


def test_what_comes_late_is_received_all_the_same(ends: tuple[socket.socket, socket.socket]) -> None:
    late = threading.Timer(0.2, ends[1].sendall, [b"late"])
    late.start()
    assert Deadline(20.0).receive(ends[0], 10) == b"late"
    late.join()


def test_a_large_content_arrives_whole_through_a_slow_reader(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    content = os.urandom(3_000_000)
    received = bytearray()

    def read() -> None:
        while len(received) < len(content):
            received.extend(ends[1].recv(10_000))

    reader = threading.Thread(target=read)
    reader.start()
    Deadline(20.0).send(ends[0], content)
    reader.join()
    assert bytes(received) == content


def test_a_connection_that_the_system_gave_up_is_not_waited_for() -> None:
    class GivenUp(socket.socket):
        def recv(self, *_: int) -> bytes:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

        def send(self, *_: object) -> int:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    with closing(GivenUp()) as connection:
        for call in (
            lambda: Deadline(20.0).receive(connection, 1),
            lambda: Deadline(20.0).send(connection, b"x"),
        ):
            with pytest.raises(TimeoutError, match="Connection timed out"):
                call()
