"""A scripted adb server on loopback: a list of connections, and phones behind them that answer from a table.

Written from adb's ``SERVICES.TXT``, ``sockets.cpp`` (``parse_host_service``) and ``transport.cpp``
(``acquire_one_transport``, ``append_transport``), and sharing nothing with our client. What adb refuses is
refused in adb's words.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Connected:
    """One connection of the server. ``answers`` maps a shell command line to its standard output."""

    name: str
    state: str = "device"
    usb_path: str = ""
    model: str = ""
    number: int = 1
    answers: Mapping[str, str] = field(default_factory=dict)

    def short(self) -> str:
        return f"{self.name or '(no serial number)'}\t{self.state}\n"

    def long(self, *, with_number: bool) -> str:
        line = f"{self.name or '(no serial number)':<22} {self.state}"
        line += f" {self.usb_path}" if self.usb_path else ""
        if self.model:
            line += f" product:husky model:{self.model} device:husky"
        return line + (f" transport_id:{self.number}\n" if with_number else "\n")


def phone_answers(serial: str, boot_id: str, model: str = "Pixel 7a") -> dict[str, str]:
    """What a phone of that serial number answers to the questions that tell phones apart."""
    return {
        "getprop ro.product.model": f"{model}\n",
        "getprop ro.soc.model": "GS201\n",
        "getprop ro.build.version.release": "15\n",
        "getprop ro.serialno": f"{serial}\n",
        "getprop ro.product.device": "lynx\n",
        "cat /proc/sys/kernel/random/boot_id": f"{boot_id}\n",
        "echo hello": "hello\n",
    }


class Refused(Exception):
    """FAIL, with these words."""


class AdbServerPeer:
    """Listens on a free port, or at a socket's ``path``; ``connected`` may be changed meanwhile."""

    def __init__(self, connected: Sequence[Connected], *, path: str = "", with_numbers: bool = True) -> None:
        self.connected = list(connected)
        self.requests: list[str] = []
        self.failures: list[BaseException] = []
        self._with_numbers = with_numbers
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen()
            self.port = 0
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
        self._listener.settimeout(0.05)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
        assert not self.failures, self.failures

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(10)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        chosen: Connected | None = None
        with client, client.makefile("rb") as incoming:
            try:
                while size := incoming.read(4):
                    request = incoming.read(int(size, 16)).decode()
                    self.requests.append(request)
                    try:
                        chosen = self._handle(client, request, chosen)
                    except Refused as refusal:
                        words = str(refusal).encode()
                        client.sendall(b"FAIL" + b"%04x" % len(words) + words)
                        return
                    if chosen is None:
                        return
            except OSError:
                return
            except BaseException as error:  # noqa: BLE001 - shown by the test that uses the peer
                self.failures.append(error)

    def _handle(self, client: socket.socket, request: str, chosen: Connected | None) -> Connected | None:
        """The device that is chosen for what follows on this connection; None: nothing may follow."""
        if request in ("host:devices", "host:devices-l"):
            lines = [
                one.long(with_number=self._with_numbers) if request.endswith("-l") else one.short()
                for one in self.connected
            ]
            self._say(client, "".join(lines))
            return None
        if request.startswith("host:transport-id:"):
            number = int(request.rpartition(":")[2])
            found = self._one([one for one in self.connected if one.number == number], f"id {number}")
        elif request.startswith("host:transport:"):
            name = request.removeprefix("host:transport:")
            found = self._one([one for one in self.connected if one.name == name], name)
        elif request == "host:features" and chosen is not None:
            self._say(client, "shell_v2,cmd")
            return None
        elif chosen is not None and request.startswith("shell,v2,raw:"):
            client.sendall(b"OKAY")
            self._shell(client, chosen, request.removeprefix("shell,v2,raw:"))
            return None
        else:
            raise Refused(f"unknown host service '{re.sub('^host:', '', request)}'")
        client.sendall(b"OKAY")
        return found

    @staticmethod
    def _one(named: list[Connected], name: str) -> Connected:
        if not named:
            raise Refused(f"device '{name}' not found")
        if len(named) > 1:
            raise Refused(f"more than one device with serial {name}")
        if named[0].state != "device":
            raise Refused(f"device {named[0].state}")
        return named[0]

    @staticmethod
    def _say(client: socket.socket, text: str) -> None:
        client.sendall(b"OKAY" + b"%04x" % len(text.encode()) + text.encode())

    @staticmethod
    def _shell(client: socket.socket, phone: Connected, command: str) -> None:
        assert client.recv(5) == b"\x04\0\0\0\0", "standard input is closed first"
        answer = phone.answers.get(command)
        output = (answer or "").encode()
        client.sendall(struct.pack("<BI", 1, len(output)) + output)
        client.sendall(struct.pack("<BI", 3, 1) + bytes([answer is None]))
