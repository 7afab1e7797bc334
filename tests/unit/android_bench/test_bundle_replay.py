"""What was recorded answers again, and nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from android_bench.adb.direct import DirectTransport
from android_bench.android import AndroidDevice
from android_bench.bundle.archive import Bundle
from android_bench.bundle.dynamic import DYNAMIC, normal_form
from android_bench.bundle.exchange import Header
from android_bench.bundle.recording import Recorder
from android_bench.bundle.replay import ReplayTransport
from android_bench.bundle.stand_in import replay_with_stand_in
from android_bench.device import DeviceInfo, LatencyMeasurement
from android_bench.phone.lock import Owner
from android_bench.transport import Completed, PhoneNotReadyError, Transport
from android_bench.virtual_phone.phone import running_phone
from benchmarks._fault_run import DESCRIPTION, requests
from nasflow.base.errors import DeviceError, DeviceLostError, UsageError

pytestmark = pytest.mark.needs("bubblewrap")

Session = tuple[Recorder, DeviceInfo, list[tuple[int, LatencyMeasurement]]]
HEADER = Header(nasflow="1")


@dataclass
class Scripted:
    """A transport whose answers are listed."""

    answers: list[Completed | Exception | bytes]
    serial: str = "S1"
    asked: list[Sequence[str]] = field(default_factory=list)

    def _next(self) -> Completed | bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        self.asked.append(argv)
        answer = self._next()
        assert isinstance(answer, Completed)
        return answer

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        self._next()

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        answer = self._next()
        assert isinstance(answer, bytes)
        return answer

    def state(self) -> str:
        return "offline"

    def reconnect(self, *, timeout_s: float) -> None:
        self._next()

    def close(self) -> None:
        pass


def recorded(*answers: Completed | Exception | bytes) -> tuple[Recorder, Transport]:
    recorder = Recorder(clock=lambda: 7.0)
    return recorder, recorder.wrap(Scripted(list(answers)))


def at_any_time(table: Sequence[tuple[int, LatencyMeasurement]]) -> list[object]:
    """Measurements without the moment, which is by this computer's clock."""
    return [
        (index, found.model_dump(exclude={"conditions": {"at"}} if found.conditions else None))
        for index, found in table
    ]


def replay(recorder: Recorder, **named: str) -> ReplayTransport:
    return ReplayTransport(Bundle(HEADER, tuple(recorder.exchanges)), **named)


def said(text: str, code: int = 0) -> Completed:
    return Completed(text.encode(), b"err", code)


def test_answers_come_in_their_order_and_the_last_one_stays() -> None:
    recorder, transport = recorded(said("one"), said("other"), said("two", 3))
    for words in (["poll"], ["cat", "x"], ["poll"]):
        transport.run(words, timeout_s=1)
    again = replay(recorder)
    found = [again.run(["poll"], timeout_s=1) for _ in range(3)]
    assert found == [said("one"), said("two", 3), said("two", 3)]
    assert again.run(["cat", "x"], timeout_s=1) == said("other")


def test_what_was_never_asked_has_no_answer_and_is_named() -> None:
    recorder, transport = recorded(said("one"))
    transport.run(["cat", "x"], timeout_s=1)
    again = replay(recorder)
    for call in (
        lambda: again.run(["cat", "y"], timeout_s=1),
        lambda: again.run(["cat x"], timeout_s=1),
        lambda: again.pull("/y", timeout_s=1),
        lambda: again.push(b"y", "/y", timeout_s=1),
    ):
        with pytest.raises(DeviceError, match="the bundle does not contain an answer to"):
            call()


def test_errors_are_raised_again_as_they_were() -> None:
    errors = [
        DeviceLostError("gone", hint="plug it in", raw="r"),
        PhoneNotReadyError("locked", state="unauthorized"),
        DeviceError("nonsense"),
    ]
    recorder, transport = recorded(*errors)
    for error in errors:
        with pytest.raises(type(error)):
            transport.run([error.message], timeout_s=1)
    again = replay(recorder)
    for error in errors:
        with pytest.raises(type(error)) as caught:
            again.run([error.message], timeout_s=1)
        assert (caught.value.message, caught.value.hint) == (error.message, error.hint)


def test_files_are_known_by_their_content_and_come_back_byte_by_byte() -> None:
    recorder, transport = recorded(b"", b"", bytes(range(256)))
    transport.push(b"\0model", "/a.0123abcd.part", timeout_s=1)
    transport.push(b"echo 0123456789abcdef\n", "/b", timeout_s=1)
    assert transport.pull("/c", timeout_s=1) == bytes(range(256))
    model, script, _ = recorder.exchanges
    assert (model.text, model.size_bytes) == (None, 6)
    assert script.text == "echo 0123456789abcdef\n"
    again = replay(recorder)
    again.push(b"\0model", "/a.ffffffff.part", timeout_s=1)
    again.push(b"echo fedcba9876543210\n", "/b", timeout_s=1)
    assert again.pull("/c", timeout_s=1) == bytes(range(256))
    with pytest.raises(DeviceError):
        again.push(b"\0other", "/a.ffffffff.part", timeout_s=1)


def test_what_is_random_now_stands_in_the_answers_for_what_was_random_then() -> None:
    then, now = "run 0123456789abcdef 1 2 there", "run fedcba9876543210 33 44 here"
    recorder, transport = recorded(said(""), said(f"{then}\n"), said("run aaaaaaaaaaaaaaaa 5 6 foreign\n"))
    transport.run(["take", then], timeout_s=1)
    transport.run(["cat", "owner"], timeout_s=1)
    transport.run(["cat", "owner"], timeout_s=1)
    again = replay(recorder)
    again.run(["take", now], timeout_s=1)
    assert again.run(["cat", "owner"], timeout_s=1).stdout.decode() == f"{now}\n"
    assert b"foreign" in again.run(["cat", "owner"], timeout_s=1).stdout


def test_state_and_reconnecting_are_recorded_and_are_fine_where_they_were_not() -> None:
    recorder, transport = recorded(DeviceLostError("gone"), b"")
    assert transport.state() == "offline"
    with pytest.raises(DeviceLostError):
        transport.reconnect(timeout_s=1)
    transport.reconnect(timeout_s=1)
    again = replay(recorder)
    assert again.state() == "offline"
    with pytest.raises(DeviceLostError):
        again.reconnect(timeout_s=1)
    again.reconnect(timeout_s=1)
    nothing = replay(Recorder())
    assert nothing.state() == "device"
    nothing.reconnect(timeout_s=1)


def test_a_part_holds_only_what_was_asked_in_it() -> None:
    recorder, transport = recorded(said("one"), said("two"))
    for recorder.part in ("trial", "measurement"):
        transport.run(["poll"], timeout_s=1)
    assert replay(recorder, part="measurement").run(["poll"], timeout_s=1) == said("two")
    with pytest.raises(DeviceError):
        replay(recorder, part="state").run(["poll"], timeout_s=1)


def test_a_phone_that_does_not_stop_talking_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("android_bench.bundle.recording.MAX_KEPT_BYTES", 1000)
    _, transport = recorded(said("x" * 900), said("x" * 900))
    transport.run(["a"], timeout_s=1)
    with pytest.raises(DeviceError, match="too much for a bundle"):
        transport.run(["a"], timeout_s=1)


def test_hashes_of_content_are_not_random_and_tokens_are() -> None:
    digest = "ab" * 32
    text = f"/x/{digest}.tflite.0123456789abcdef.part"
    assert normal_form(text) == f"/x/{digest}.tflite.#.part"
    assert normal_form(Owner.of_this_process().line()) == "#"
    assert normal_form(f"job-{'0' * 32}\n12 {digest}\n") == "job-#\n#\n"
    assert not DYNAMIC.groups


# A device


def measured(transport: Transport, runner: object) -> tuple[DeviceInfo, list[tuple[int, LatencyMeasurement]]]:
    device = AndroidDevice(
        transport,
        runner=runner,  # type: ignore[arg-type]
        clock=lambda: 0.0,
        sleep=lambda _: None,
    )
    with closing(device):
        return device.info(), list(device.benchmark_many(requests()))


def no_runner(abi: str) -> object:
    raise UsageError(f"one for {abi} was asked for")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorder, DeviceInfo, object]:
    key = tmp_path_factory.mktemp("key") / "adbkey"
    recorder = Recorder(part="measurement")
    with running_phone(description=DESCRIPTION) as phone:
        device = AndroidDevice(
            recorder.wrap(DirectTransport(phone.address, key=key)),
            runner=no_runner,  # type: ignore[arg-type]
        )
        with closing(device):
            info, table = device.info(), list(device.benchmark_many(requests()))
    return recorder, info, table


def test_a_whole_session_gives_the_same_phone_and_the_same_measurements(
    session: Session,
) -> None:
    recorder, info, table = session
    again, measured_again = measured(replay(recorder), no_runner)
    assert again.model_copy(update={"serial": info.serial}) == info
    assert at_any_time(measured_again) == at_any_time(table)


def test_another_build_of_the_program_stands_in_for_the_recorded_one(
    session: Session,
) -> None:
    """As for a real phone's bundle, which does not hold the program."""
    recorder, info, table = session
    recorded_sha256 = "c0" * 32
    exchanges = []
    for one in recorder.exchanges:
        text = one.model_dump_json().replace("[ro.nasflow.virtual]: [true]\\n", "")
        text = text.replace("/system/bin/benchmark_model", f"/data/local/tmp/nasflow/{recorded_sha256}")
        exchanges.append(type(one).model_validate_json(text))
    sha = [one for one in exchanges if one.words[:1] == ("sha256sum",) and recorded_sha256 in one.words[1]]
    assert sha
    exchanges = [
        one.model_copy(update={"stdout": f"{recorded_sha256}  x\n".encode()}) if one in sha else one
        for one in exchanges
    ]
    exchanges += [
        sha[0].model_copy(update={"words": words, "stdout": b"", "exit_code": 0})
        for words in (
            ("mkdir", "-p", "/data/local/tmp/nasflow"),
            ("chmod", "755", f"/data/local/tmp/nasflow/{recorded_sha256}"),
        )
    ]
    header = HEADER.model_copy(update={"info": info.model_copy(update={"binary_sha256": recorded_sha256})})
    transport, runner = replay_with_stand_in(Bundle(header, tuple(exchanges)))
    again, measured_again = measured(transport, runner)
    assert again.binary_sha256 == recorded_sha256
    assert not again.virtual
    assert at_any_time(measured_again) == at_any_time(table)


def test_a_recording_of_a_session_can_be_kept_as_a_file(session: Session, tmp_path: Path) -> None:
    from android_bench.bundle.archive import read_bundle, write_bundle

    recorder, _, table = session
    path = tmp_path / "phone.zip"
    write_bundle(path, Bundle(HEADER, tuple(recorder.exchanges), "contents"))
    bundle = read_bundle(path)
    assert bundle.exchanges == tuple(recorder.exchanges)
    assert at_any_time(measured(ReplayTransport(bundle), no_runner)[1]) == at_any_time(table)
