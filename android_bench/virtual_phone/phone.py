"""Start a virtual phone: :func:`serve` for people, :func:`running_phone` for tests and programs."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from android_bench.virtual_phone.auth import Answer, KnownKeys
from android_bench.virtual_phone.connection import Connection, Host, Service
from android_bench.virtual_phone.described_phone import PhoneDescription
from android_bench.virtual_phone.device_folder import DeviceFolder
from android_bench.virtual_phone.faults import FaultPlan, Faults, read_plan
from android_bench.virtual_phone.machine import Machine
from android_bench.virtual_phone.protocol import MAX_PAYLOAD_BYTES, VERSION
from android_bench.virtual_phone.sandbox import Sandbox, find_bubblewrap
from android_bench.virtual_phone.services import find_service
from android_bench.virtual_phone.wire import Wire
from nasflow.base.errors import MachineError, UsageError

DEFAULT_PORT = 6555
SCANNED_PORTS = range(5555, 5586)  # where adb servers look for emulators by themselves
MAX_CONNECTIONS = 16
FEATURES = ("shell_v2", "stat_v2", "ls_v2", "fixed_push_mkdir")
TICK_S = 1.0
CLOCKS_S = 0.05


class VirtualPhone:
    """A phone that listens on 127.0.0.1. Made by :func:`running_phone`."""

    def __init__(
        self,
        folder: DeviceFolder,
        machine: Machine,
        faults: Faults,
        *,
        port: int = 0,
        answer: Answer = "accept",
        authenticate: bool = True,
        features: tuple[str, ...] = FEATURES,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        version: int = VERSION,
        services: int = 1,
    ) -> None:
        self.faults = faults
        self.folder = folder
        self.answer: Answer = answer
        self._machine = machine
        self._features = features
        self._host = Host(
            banner=self._banner,
            keys=KnownKeys(folder.keys_file),
            answer=lambda: self.answer,
            find_service=self._find_service,
            faults=faults,
            max_payload_bytes=max_payload_bytes,
            version=version,
            authenticate=authenticate,
        )
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._closed = threading.Event()
        self._rebooting = threading.Lock()
        self._up = threading.Event()
        self._up.set()
        self._daemon_runs = threading.Event()
        self._daemon_runs.set()
        self._listeners = [_listen(port if number == 0 else 0) for number in range(services)]
        self.ports: tuple[int, ...] = tuple(one.getsockname()[1] for one in self._listeners)
        faults.on_change = self._on_faults
        self._on_faults()

    @property
    def port(self) -> int:
        """Of its first service."""
        return self.ports[0]

    @property
    def address(self) -> str:
        """HOST:PORT, as ``adb connect`` takes it."""
        return self.addresses[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """One for each of its services: ways to the one phone, as a real one may be announced twice."""
        return tuple(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def clients(self) -> int:
        """How many are connected now."""
        with self._lock:
            return len(self._connections)

    def storage(self, path: str) -> Path:
        """Where a file of the phone, such as ``/data/local/tmp/a``, lies on this computer."""
        for mount, folder in self.folder.storage.items():
            if path == mount or path.startswith(mount + "/"):
                return folder / path[len(mount) :].lstrip("/")
        raise UsageError(f"{path} is not in a writable folder of the simulated phone.")

    def accept_clients(self, service: int = 0) -> None:
        """Serve one of its services until :meth:`close`; each client gets a thread."""
        while not self._closed.is_set():
            self._daemon_runs.wait()
            listener = self._listeners[service]
            try:
                client, _ = listener.accept()
            except OSError:
                if self._daemon_runs.is_set() and listener is self._listeners[service]:
                    return
                continue  # its daemon was killed
            with self._lock:
                full = len(self._connections) >= MAX_CONNECTIONS
            if full or self._closed.is_set():
                client.close()
                continue
            if self.faults.plan.short_read_bytes is not None:  # the client's writes shall fall short too
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection = Connection(Wire(client, self.faults), self._host)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def keep_time(self, control_file: Path | None, seen: int | None = None) -> None:
        """Tick every second until :meth:`close`: the clock, and the fault file where there is one.

        The clocks of its cores follow their load more often.
        ``seen`` is the time of change (nanoseconds) of the fault file that is in force already.
        """
        ticks = 0
        while not self._closed.wait(CLOCKS_S):
            self.folder.follow_clocks(self.faults.plan, self.faults.since)
            ticks += 1
            if ticks * CLOCKS_S < TICK_S:
                continue
            ticks = 0
            self.folder.tick()
            if control_file is None:
                continue
            with contextlib.suppress(OSError):
                changed = control_file.stat().st_mtime_ns
                if changed != seen:
                    seen = changed
                    with contextlib.suppress(UsageError):  # half written: it will change again
                        self.faults.set(read_plan(control_file))

    def disconnect(self) -> None:
        """Pull the cable: every connection ends."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def reboot(self) -> None:
        """Restart: connections and commands end, boot id and uptime are new, files and keys stay."""
        with self._rebooting:
            self._up.clear()  # who connects meanwhile waits
            self.disconnect()
            try:
                self.folder.boot()
                self._machine.reboot()
            finally:
                self._up.set()

    def kill_daemon(self) -> None:
        """End what speaks ADB: connections break, new ones are refused. Detached commands go on."""
        self._daemon_runs.clear()
        self._close_listeners()
        self.disconnect()

    def start_daemon(self) -> None:
        """Listen again, at the same ports, if it was killed. Raises MachineError: another took one."""
        if not self._daemon_runs.is_set():
            self._listeners = [_listen(port) for port in self.ports]
            self._daemon_runs.set()

    def close(self) -> None:
        """Switch off. May be called twice."""
        self._closed.set()
        self._daemon_runs.set()
        self._close_listeners()
        self.faults.close()
        self.disconnect()
        self._machine.close()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _serve(self, connection: Connection) -> None:
        self._up.wait()
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _on_faults(self) -> None:
        plan = self.faults.plan
        self.folder.refresh(plan, self.faults.since)
        if hasattr(socket, "TCP_MAXSEG"):  # the next client's pieces shall be as small as ours; 0: any size
            segment = 0 if plan.segment_bytes is None else min(max(plan.segment_bytes, 88), 32_767)
            for listener in self._listeners:
                with contextlib.suppress(OSError):
                    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)

    def _find_service(self, name: str) -> Service | None:
        self.folder.tick()
        if name.startswith("shell,v2") and "shell_v2" not in self._features:
            return None
        return find_service(name, self._machine, self.faults, self.reboot)

    def _banner(self) -> bytes:
        phone = self.folder.description
        return (
            f"device::ro.product.name={phone.product};ro.product.model={phone.model};"
            f"ro.product.device={phone.product};features={','.join(self._features)}"
        ).encode()


def _listen(port: int) -> socket.socket:
    if port in SCANNED_PORTS:
        raise UsageError(
            f"Port {port} is in the range 5555 to 5585, which adb servers scan for emulators.",
            hint=f"Choose another port, such as {DEFAULT_PORT}.",
        )
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        while listener.getsockname()[1] in SCANNED_PORTS:
            listener.close()
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise MachineError(
            f"Port {port} of 127.0.0.1 cannot be used: {error.strerror}.",
            hint="Choose another with --port, or 0 for any free port.",
        ) from error
    return listener


@contextmanager
def running_phone(
    folder: Path | None = None,
    *,
    port: int = 0,
    description: PhoneDescription | None = None,
    plan: FaultPlan | None = None,
    control_file: Path | None = None,
    answer: Answer = "accept",
    authenticate: bool = True,
    features: tuple[str, ...] = FEATURES,
    max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    version: int = VERSION,
    services: int = 1,
    rest_clock: Callable[[], float] = time.monotonic,
) -> Iterator[VirtualPhone]:
    """A virtual phone for as long as the block runs; ``port`` 0 takes any that is free.

    ``folder`` keeps its storage and keys; without one they are temporary. ``answer`` is what the owner says
    to a new key. ``services`` is at how many ports it listens. ``rest_clock`` tells the seconds of a rest
    (``sustained_back_s``).

    Raises UsageError, and MachineError where bubblewrap cannot confine its shell here.
    """
    seen = None
    if control_file is not None and plan is None and control_file.exists():
        seen = control_file.stat().st_mtime_ns
        plan = read_plan(control_file)
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="virtual-phone-")))
        device = DeviceFolder(folder, description or PhoneDescription(), rest_clock)
        try:
            device.create()
        except OSError as error:
            raise MachineError(
                f"The simulated phone's folder {folder} cannot be created: {error.strerror}.",
                hint="Choose a folder that you may write to.",
                raw=str(error),
            ) from error
        faults = Faults(plan)
        device.refresh(faults.plan, faults.since)
        machine = _machine(device)
        stack.callback(machine.close)
        phone = VirtualPhone(
            device,
            machine,
            faults,
            port=port,
            answer=answer,
            authenticate=authenticate,
            features=features,
            max_payload_bytes=max_payload_bytes,
            version=version,
            services=services,
        )
        threads = [
            threading.Thread(target=phone.accept_clients, args=(service,), name="virtual-phone", daemon=True)
            for service in range(services)
        ]
        threads.append(
            threading.Thread(
                target=phone.keep_time, args=(control_file, seen), name="virtual-clock", daemon=True
            )
        )
        for thread in threads:
            thread.start()
        try:
            yield phone
        finally:
            phone.close()
            for thread in threads:
                thread.join()


def _machine(device: DeviceFolder) -> Machine:
    """A shell that bubblewrap confines. Raises MachineError where that cannot run."""
    bubblewrap = find_bubblewrap()
    if bubblewrap is None:
        raise MachineError(
            "the simulated phone needs bubblewrap to confine its shell: it is not installed, or this "
            "computer does not allow it to create a sandbox.",
            hint="Install the package bubblewrap, and allow user namespaces.",
        )
    sandbox = Sandbox(device, bubblewrap)
    sandbox.start()
    return sandbox


def serve(
    *,
    port: int = DEFAULT_PORT,
    folder: Path | None = None,
    description: PhoneDescription | None = None,
    control_file: Path | None = None,
    answer: Answer = "accept",
    services: int = 1,
    on_ready: Callable[[VirtualPhone], None] = lambda phone: None,
    stop: threading.Event | None = None,
) -> None:
    """Run a virtual phone until ``stop`` is set, or an exception (a signal's) ends it.

    ``control_file`` is a JSON object of :class:`~android_bench.virtual_phone.faults.FaultPlan`, read again
    whenever it changes. Raises UsageError, MachineError.
    """
    with running_phone(
        folder,
        port=port,
        description=description,
        control_file=control_file,
        answer=answer,
        services=services,
    ) as phone:
        on_ready(phone)
        (stop or threading.Event()).wait()
