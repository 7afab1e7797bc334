"""A search that found no phone, as a part of a bundle: what was tried, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial

from android_bench.adb.address import ServerAddress
from android_bench.adb.ways import Way
from android_bench.bundle.recording import Recorder, failure_of
from android_bench.discover import open_found
from android_bench.found_phone import FoundPhone
from nasflow.base.errors import NasflowError

PART = "connect"
_QUESTIONS = ("host:version", "host:devices-l")
_TIMEOUT_S = 5.0


def record_search(
    recorder: Recorder, how: Way, wanted: str, found: Sequence[FoundPhone], error: NasflowError
) -> None:
    """Record why no phone was chosen (``error``), what each way to one says, and what may connect to them.

    Ways that cannot be used are tried once more, for their errors; a phone that answers is not asked, for it
    is not the one that is meant. Raises DeviceError where that is too much to keep.
    """
    recorder.part = PART
    recorder.names.add(wanted)
    ways = [way for one in found for way in one.ways()]
    recorder.names.update(name for way in ways for name in (way.serial, way.identity.serial))
    _keep(recorder, f"choose {wanted or 'any phone'}", partial(_raise, error))
    for way in ways:
        _keep(recorder, f"found {way.serial or 'a phone'}", partial(str, f"{way.way}: {way.state}\n"))
    if how != "direct":
        _ask_server(recorder)
    if how != "server":
        _keep(recorder, "usb", partial(_on_usb, recorder))
    for way in (way for way in ways if way.serial and not way.usable):
        with suppress(NasflowError), closing(recorder.wrap(open_found(way))) as transport:  # it is recorded
            transport.run(["getprop", "ro.product.model"], timeout_s=_TIMEOUT_S)


def _ask_server(recorder: Recorder) -> None:
    from android_bench.adb.server import ask_server, server_devices

    try:
        server = ServerAddress.of(None)
    except NasflowError as error:
        _keep(recorder, "adb server", partial(_raise, error))
        return
    recorder.names.add(server.host)
    for question in _QUESTIONS:
        _keep(recorder, f"{server.describe()} {question}", partial(ask_server, server, question))
    recorder.names.update(listed.serial for listed in server_devices(server) or ())


def _on_usb(recorder: Recorder) -> str:
    from android_bench.adb.wire import usb_devices

    devices = usb_devices()
    recorder.names.update(serial for serial, _ in devices)
    return "".join(f"{serial or 'no serial number'}: {state}\n" for serial, state in devices)


def _keep(recorder: Recorder, asked: str, ask: Callable[[], str]) -> None:
    """Ask, and keep the answer or the error."""
    begin_s = recorder.now_s()
    answer, failure = "", None
    try:
        answer = ask()
    except NasflowError as error:
        failure = failure_of(error)
    recorder.keep(
        kind="connect",
        words=(asked,),
        at_s=begin_s,
        took_s=max(0.0, recorder.now_s() - begin_s),
        stdout=answer.encode(),
        failure=failure,
    )


def _raise(error: NasflowError) -> str:
    raise error
