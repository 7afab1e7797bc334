"""The first program inside the sandbox: starts commands and serves files for the daemon outside.

Each request comes over a socket as JSON with the descriptors that it needs. ``shell`` starts the phone's
shell with them as standard input, output and error, and writes the exit code to the fourth; when that one
is closed first, the shell gets SIGHUP, as on a phone. ``sync`` serves files on the first. Everything ends
with the socket. Standard library only.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from android_bench.virtual_phone.guest_commands import PYTHON_ENVIRONMENT
from android_bench.virtual_phone.sync import SyncOptions, serve_sync

MAX_REQUEST_BYTES = 160 * 1024
MAX_DESCRIPTORS = 4
_BUFFER_BYTES = 1 << 17


def send_request(link: socket.socket, request: Mapping[str, object], descriptors: list[int]) -> None:
    """Ask for something; used by the daemon. Raises OSError where the guest is gone."""
    socket.send_fds(link, [json.dumps(request).encode()], descriptors)


def receive_request(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next request and its descriptors; None at the end."""
    room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    text, ancillary, _, _ = link.recvmsg(MAX_REQUEST_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    if not text:
        return None
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return json.loads(text), list(descriptors)


def run_shell(request: dict[str, Any], descriptors: list[int]) -> None:
    """Start a command, and report its exit code when it has ended."""
    standard_input, output, errors, control = descriptors
    command = [request["shell"], "-c", request["command"]] if request["command"] else [request["shell"]]
    try:
        process = subprocess.Popen(
            command,
            stdin=standard_input,
            stdout=output,
            stderr=errors,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        os.write(errors, f"{request['shell']}: {os.strerror(error.errno or 0)}\n".encode())
        os.write(control, b"126")
        for descriptor in descriptors:
            os.close(descriptor)
        return
    for descriptor in descriptors[:3]:
        os.close(descriptor)
    threading.Thread(target=_watch, args=(process, control), daemon=True).start()


def _watch(process: subprocess.Popen[bytes], control: int) -> None:
    handle = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.register(control, 0)  # only that the other end was closed
        if all(descriptor != handle for descriptor, _ in poll.poll()):
            signal.pidfd_send_signal(handle, signal.SIGHUP)
        code = process.wait()
        os.write(control, str(code if code >= 0 else 128 - code).encode())
    except (BrokenPipeError, ConnectionError):
        pass  # nobody waits for the code any more
    finally:
        os.close(handle)
        os.close(control)


def run_sync(request: dict[str, Any], descriptor: int) -> None:
    """Serve files until the client has done."""
    options = SyncOptions(push_failure=request["push_failure"], free_bytes=request["free_bytes"])
    with (
        socket.socket(fileno=descriptor) as link,
        os.fdopen(os.dup(descriptor), "rb", buffering=_BUFFER_BYTES) as reader,
        os.fdopen(os.dup(descriptor), "wb", buffering=_BUFFER_BYTES) as writer,
    ):
        serve_sync(reader, writer, options)
        link.shutdown(socket.SHUT_RDWR)


def main(descriptor: int) -> None:
    """Serve requests until the daemon is gone."""
    for name in (*PYTHON_ENVIRONMENT, "_"):
        os.environ.pop(name, None)
    os.umask(0o022)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # Under nohup a shell would inherit that and never hang up; a handler is reset where it starts.
        signal.signal(signal.SIGHUP, lambda *_: None)
    with socket.socket(fileno=descriptor) as link:
        link.set_inheritable(False)
        link.send(b"ready")
        while (request := receive_request(link)) is not None:
            header, descriptors = request
            if header["op"] == "shell":
                run_shell(header, descriptors)
            else:
                threading.Thread(target=run_sync, args=(header, descriptors[0]), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
