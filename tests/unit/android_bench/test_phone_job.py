"""The detached job's script and folder: quoted words, whole files, nothing of others."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.phone import job as phone_job
from android_bench.phone.clocks import WarmUp
from android_bench.phone.job import (
    MAX_TIMINGS,
    PhoneJob,
    keys_of,
    left_jobs,
    remove_folder,
    stretches_of,
)
from android_bench.transport import Completed
from nasflow.base.errors import DeviceError

FOLDER = "/data/local/tmp/nasflow"


class ThisComputer:
    """A transport that runs commands here, with the phone's folder somewhere below a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.serial = "here"

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        words = [word.replace(FOLDER, str(self.folder)) for word in argv]
        done = subprocess.run(
            words, capture_output=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
        )
        stdout = done.stdout.replace(str(self.folder).encode(), FOLDER.encode())
        return Completed(stdout, done.stderr, done.returncode)

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        place = Path(remote.replace(FOLDER, str(self.folder)))
        text = content.replace(FOLDER.encode(), str(self.folder).encode())
        place.write_bytes(text.replace(b"/sys/devices/system/cpu", str(self.folder / "cpu").encode()))

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        return Path(remote.replace(FOLDER, str(self.folder))).read_bytes()

    def state(self) -> str:
        return "device"

    def reconnect(self, *, timeout_s: float) -> None:
        raise AssertionError("nothing was lost")

    def close(self) -> None:
        raise AssertionError("nobody asked for it")


@pytest.fixture
def here(tmp_path: Path) -> ThisComputer:
    (tmp_path / "phone").mkdir()
    return ThisComputer(tmp_path / "phone")


@settings(max_examples=200)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30), min_size=1
    )
)
def test_foreign_words_stay_words(words: list[str]) -> None:
    script = PhoneJob.of([tuple(words)], [(0, 1)]).script()
    begin = script.index("  one 0000 ") + 2
    line = script[begin : script.index("\n  state 0000.after")]
    assert shlex.split(line) == ["one", "0000", *words]


def test_foreign_words_run_nothing_in_the_script(here: ThisComputer, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    words = ("printf", "%s", f"$(touch {trap}) `touch {trap}`; touch {trap} '&& touch {trap}\n touch {trap}")
    script = PhoneJob.of([words], [(0, 1)]).script()
    place = tmp_path / "run.sh"
    place.write_text(script.replace(FOLDER, str(here.folder)))
    folder = Path(PhoneJob.of([words], [(0, 1)]).folder.replace(FOLDER, str(here.folder)))
    folder.mkdir()
    subprocess.run(["sh", str(place)], check=True, timeout=20, stdin=subprocess.DEVNULL)
    assert (folder / "0000.0.txt").read_text() == words[2]
    assert not trap.exists()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=200), st.floats(0.1, 60), st.integers(1, 30))
def test_stretches_cover_every_timing_once_and_are_short(
    seconds: list[float], longest_s: float, most: int
) -> None:
    stretches = stretches_of(seconds, longest_s=longest_s, most=most)
    assert [index for first, end in stretches for index in range(first, end)] == list(range(len(seconds)))
    for first, end in stretches:
        assert 1 <= end - first <= most
        assert end - first == 1 or sum(seconds[first:end]) <= longest_s * 1.000001


def test_keys_are_those_of_the_list_that_is_left_and_never_equal_within_one() -> None:
    commands = [("a",), ("b",)] * 4
    keys = keys_of(commands)
    assert len(set(keys)) == 8
    assert keys_of(commands[3:]) == keys[3:]


def test_equal_work_has_an_equal_name_and_other_work_another() -> None:
    job = PhoneJob.of([("a",), ("b",)], [(0, 1), (1, 2)])
    assert job == PhoneJob.of([("a",), ("b",)], [(0, 1), (1, 2)])
    assert job.folder != PhoneJob.of([("a",), ("b",)], [(0, 2)]).folder
    assert job.folder != PhoneJob.of([("a",), ("c",)], [(0, 1), (1, 2)]).folder


@pytest.mark.parametrize("count", [0, MAX_TIMINGS + 1])
def test_a_job_has_a_bounded_size(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 500"):
        PhoneJob.of([("true",)] * count, [(0, count)])


def test_a_job_is_read_again_by_another_client(here: ThisComputer) -> None:
    job = PhoneJob.of([("true",), ("false",), ("true",)], [(0, 2), (2, 3)])
    folder = Path(job.folder.replace(FOLDER, str(here.folder)))
    assert not job.poll(here).alive
    job.start(here)
    while 1 not in (progress := job.poll(here)).finished:
        assert progress.alive or job.poll(here).finished == {0, 1}
    assert progress.codes == {0: 0, 1: 1, 2: 0}
    assert progress.results == frozenset()
    assert job.output(here, 1, progress) == (Completed(b"", b"", 1), None)
    (folder / "keys").write_text("".join(f"{n} {key}\n" for n, key in zip((0, 0, 1), job.keys, strict=True)))
    found = PhoneJob.left_in(here, job.folder)
    assert found is not None
    assert (found.stretches, found.keys, found.commands) == (job.stretches, job.keys, ())
    before, after = found.readings(here, 1)
    assert before.at <= after.at <= datetime.now(UTC)
    assert before.boot_id == after.boot_id
    assert found.begun(here) is not None
    assert found.begun(here, 2) is None, "there is no such stretch"
    assert left_jobs(here) == (job.folder,)
    remove_folder(here, job.folder)
    assert left_jobs(here) == ()


class Cores:
    """One cluster's files, and load that lowers what it may run at, as the folder's ``after`` says."""

    def __init__(self, folder: Path, *, falls_after: int) -> None:
        self.policy = folder / "cpu" / "cpufreq" / "policy4"
        self.policy.mkdir(parents=True)
        for name, text in (("related_cpus", "4 5"), ("cpuinfo_max_freq", "2400000")):
            (self.policy / name).write_text(f"{text}\n")
        self.allow(2_400_000)
        self.log = folder / "log"
        self.log.touch()
        fall = " && ".join(
            f"echo 2000000 >{self.policy}/{name}" for name in ("scaling_max_freq", "scaling_cur_freq")
        )
        self.load = folder / "load.sh"
        count = f'echo "${{1#--min_secs=}}" >>{self.log}'
        self.load.write_text(f"{count}; [ $(wc -l <{self.log}) -lt {falls_after} ] || {{ {fall}; }}\n")

    def allow(self, khz: int) -> None:
        for name in ("scaling_max_freq", "scaling_cur_freq"):
            (self.policy / name).write_text(f"{khz}\n")

    @property
    def pieces(self) -> list[str]:
        return self.log.read_text().split()


def warmed(here: ThisComputer, cores: Cores, *, least: int, stretches: int = 1) -> PhoneJob:
    """A job of one timing in each stretch, run to its end."""
    cuts = [(index, index + 1) for index in range(stretches)]
    job = PhoneJob.of([("true",)] * stretches, cuts)
    job = replace(job, warm_up=WarmUp(("sh", str(cores.load)), least, 1.0))
    job.start(here)
    while len(job.poll(here).finished) < stretches:
        assert job.poll(here).alive or len(job.poll(here).finished) == stretches
    return job


def test_load_goes_on_until_the_clock_keeps_still_and_each_timing_has_its_own(here: ThisComputer) -> None:
    cores = Cores(here.folder, falls_after=2)
    job = warmed(here, cores, least=2)
    assert cores.pieces == ["1", "1", "1"]
    clocks = job.clocks(here, 0)
    assert list(clocks) == ["load", "0000"]
    for (policy,) in clocks.values():
        assert (policy.cores, policy.current_khz, policy.allowed_max_khz) == ((4, 5), 2_000_000, 2_000_000)


def test_a_clock_that_never_keeps_still_ends_the_load_all_the_same(here: ThisComputer) -> None:
    cores = Cores(here.folder, falls_after=99)
    changing = f"wc -l <{cores.log} >{cores.policy}/scaling_max_freq"
    cores.load.write_text(f'echo "${{1#--min_secs=}}" >>{cores.log}; {changing}\n')
    warmed(here, cores, least=2)
    assert cores.pieces == ["1"] * 6


def test_a_phone_that_keeps_its_clock_is_warmed_up_for_a_moment(here: ThisComputer) -> None:
    cores = Cores(here.folder, falls_after=99)
    warmed(here, cores, least=0)
    assert cores.pieces == ["0.3"]


def test_the_next_stretch_goes_on_in_the_warmth_of_the_last(here: ThisComputer) -> None:
    cores = Cores(here.folder, falls_after=99)
    job = warmed(here, cores, least=2, stretches=2)
    assert cores.pieces == ["1", "1", "0.3"]
    assert list(job.clocks(here, 1)) == ["load", "0001"]


def test_a_job_of_before_clocks_were_written_has_none(here: ThisComputer) -> None:
    cores = Cores(here.folder, falls_after=99)
    job = warmed(here, cores, least=0)
    (here.folder / job.folder.rpartition("/")[2] / "0000.clocks").unlink()
    assert job.clocks(here, 0) == {}


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_note_of_clocks_that_is_torn_or_damaged_is_read_as_far_as_it_goes(noise: bytes, cut: int) -> None:
    job = PhoneJob.of([("true",)], [(0, 1)])
    whole = f"== {job.token} load\npolicy0/related_cpus=0 1\npolicy0/scaling_max_freq=2400000\n".encode()

    class Damaged(ThisComputer):
        def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
            return Completed(whole[:cut] + noise, b"", 0)

    for policies in job.clocks(Damaged(Path()), 0).values():
        assert all(policy.cores for policy in policies)


def running_number(here: ThisComputer, job: PhoneJob) -> str:
    return (here.folder / job.folder.rpartition("/")[2] / "pid").read_text().strip()


def test_a_start_that_is_told_twice_starts_once_and_another_starts_anew(here: ThisComputer) -> None:
    job = PhoneJob.of([("sleep", "60")], [(0, 1)])
    job.start(here, "a1")
    first = running_number(here, job)
    job.start(here, "a1")
    assert running_number(here, job) == first
    assert job.poll(here).alive
    job.start(here, "b2")
    assert running_number(here, job) != first
    ended = Path(f"/proc/{first}/cmdline")
    assert not (ended.exists() and ended.read_bytes())
    job.start(here)
    assert job.poll(here).alive
    remove_folder(here, job.folder)


def test_a_start_that_broke_off_before_the_job_ran_is_made_up_for(here: ThisComputer) -> None:
    job = PhoneJob.of([("sleep", "60")], [(0, 1)])
    folder = here.folder / job.folder.rpartition("/")[2]
    folder.mkdir()
    (folder / "start").write_text("a1\n")
    job.start(here, "a1")
    assert job.poll(here).alive
    remove_folder(here, job.folder)


def test_a_start_that_is_told_again_after_the_job_has_ended_measures_nothing_twice(
    here: ThisComputer,
) -> None:
    job = PhoneJob.of([("sh", "-c", "echo >>../count")], [(0, 1)])
    for _ in range(2):
        job.start(here, "a1")
        while job.poll(here).alive:
            pass
    assert (here.folder / "count").read_text() == "\n"


def test_a_job_that_ends_while_it_is_looked_at_is_not_taken_for_broken_off(
    here: ThisComputer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = PhoneJob.of([("sleep", "60")], [(0, 1)])
    job.start(here)
    listing = tmp_path / "bin" / "ls"
    listing.parent.mkdir()
    listing.write_text(f'#!/bin/sh\n{shutil.which("ls")} "$@"\ntouch 0000.after\nkill -9 -$(cat pid)\n')
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{listing.parent}:{os.environ['PATH']}")
    progress = job.poll(here)
    assert progress.alive or 0 in progress.finished
    monkeypatch.undo()
    assert not job.poll(here).alive
    assert job.poll(here).finished == {0}


@pytest.mark.parametrize("text", ["", "0 abc\n", f"1 {'a' * 64}\n", f"0 {'a' * 64}\n../x\n"])
def test_damaged_keys_are_no_job(here: ThisComputer, text: str) -> None:
    name = "job-" + "0" * 32
    (here.folder / name).mkdir()
    (here.folder / name / "keys").write_text(text)
    assert PhoneJob.left_in(here, f"{FOLDER}/{name}") is None


@pytest.mark.parametrize(
    "folder", ["/", FOLDER, f"{FOLDER}/../x", f"{FOLDER}/job-1", f"/sdcard/job-{'0' * 32}", f"{FOLDER}/job-*"]
)
def test_nothing_but_a_jobs_folder_is_deleted(here: ThisComputer, folder: str) -> None:
    with pytest.raises(ValueError, match="not a job's folder"):
        remove_folder(here, folder)


def test_a_note_of_the_state_that_is_torn_is_no_reading(here: ThisComputer) -> None:
    job = PhoneJob.of([("true",)], [(0, 1)])
    folder = Path(job.folder.replace(FOLDER, str(here.folder)))
    folder.mkdir()
    for name in ("0000.before", "0000.after"):
        (folder / name).write_text(f"1700000000\n== {job.token} 0\nThermal Sta")
    with pytest.raises(DeviceError, match="1 of 7 parts"):
        job.readings(here, 0)


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """Put scripts before what this computer has."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def finished(here: ThisComputer, job: PhoneJob) -> PhoneJob:
    job.start(here)
    while job.poll(here).alive:
        pass
    assert job.poll(here).finished == set(range(len(job.stretches)))
    return job


def test_a_note_of_an_earlier_version_is_no_reading_and_no_error_where_a_job_is_only_looked_at(
    here: ThisComputer,
) -> None:
    job = PhoneJob.of([("true",)], [(0, 1)])
    folder = here.folder / job.folder.rpartition("/")[2]
    folder.mkdir()
    (folder / "0000.before").write_text("1700000000\n" + f"== {job.token} 0\nwords\n" * 5)
    assert job.begun(here) is None


def test_a_phone_without_a_date_is_read_all_the_same(
    here: ThisComputer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path / "bin", monkeypatch, date="exit 1")
    job = finished(here, PhoneJob.of([("true",)], [(0, 1)]))
    for reading in job.readings(here, 0):
        assert reading.wall_s is None
        assert reading.uptime_s is not None
        assert abs(datetime.now(UTC) - reading.at) < timedelta(hours=1)


def test_a_reading_is_dated_by_this_computers_clock_and_not_by_the_phones(
    here: ThisComputer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path / "bin", monkeypatch, date="echo 86400.5")  # as a phone that has just begun: 1970
    job = finished(here, PhoneJob.of([("true",)], [(0, 1)]))
    before, after = job.readings(here, 0)
    assert (before.wall_s, after.wall_s) == (86_400.5, 86_400.5)
    assert before.at <= after.at
    assert abs(datetime.now(UTC) - after.at) < timedelta(hours=1)


def test_a_phone_that_fell_asleep_is_woken_before_each_stretch_by_the_job_itself(
    here: ThisComputer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.write_text("Asleep")
    programs(
        tmp_path / "bin",
        monkeypatch,
        dumpsys=f'[ "$1" != power ] || echo "  mWakefulness=$(cat {state})"',
        input=f'[ "$1 $2" != "keyevent KEYCODE_WAKEUP" ] || printf Awake >{state}',
        cmd="exit 20",
        sleep="exit 0",
    )
    fall_asleep = ("sh", "-c", f"printf Dozing >{state}")
    job = finished(here, PhoneJob.of([("true",), fall_asleep, ("true",)], [(0, 1), (1, 2), (2, 3)]))
    seen = [tuple(reading.wakefulness for reading in job.readings(here, number)) for number in range(3)]
    assert seen == [("Awake", "Awake"), ("Awake", "Dozing"), ("Awake", "Awake")]


def test_a_phone_that_does_not_tell_whether_it_is_awake_gets_no_key(
    here: ThisComputer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    programs(tmp_path / "bin", monkeypatch, dumpsys="exit 0", input=f"echo >>{keys}", cmd=f"echo >>{keys}")
    job = finished(here, PhoneJob.of([("true",)], [(0, 1)]))
    assert job.readings(here, 0)[1].awake is None
    assert not keys.exists()


def test_another_process_with_the_jobs_number_is_left_alone(here: ThisComputer) -> None:
    job = PhoneJob.of([("true",)], [(0, 1)])
    folder = Path(job.folder.replace(FOLDER, str(here.folder)))
    folder.mkdir()
    with subprocess.Popen(["sleep", "30"], start_new_session=True) as other:
        for number in (str(other.pid), "1", "0", "-1", "$(touch x)", "../1"):
            (folder / "pid").write_text(number)
            assert not job.poll(here).alive
            phone_job.stop_folder(here, job.folder)
        assert other.poll() is None
        other.kill()
    assert not (folder / "x").exists()
