"""What ``nasflow doctor`` looks at. Each check says what it found and how to mend it; none raises.

A broken environment is what this module is for: it starts with the standard library alone, and what
else it needs is imported inside the check that needs it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nasflow.base.errors import NasflowError
from stages.data.config import open_dataset
from stages.data.dataset import PARTS

if TYPE_CHECKING:
    from android_bench.device import Device, RuntimeOptions
    from nasflow.config import PipelineConfig
    from stages.data.config import DataConfig

GIB = 2**30
NEEDED_DISK_BYTES = GIB
NEEDED_MEMORY_BYTES = 4 * GIB
BUSY_LOAD_PER_CORE = 0.5
OWN_PACKAGES = ("nasflow", "pipeline", "stages", "android_bench")

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One finding. ``mend`` says what to do where ``state`` is not ok."""

    name: str
    state: State
    found: str
    mend: str = ""


def examine_all(config: Path | None, here: Path, overrides: Sequence[str] = ()) -> Iterator[Check]:
    """All checks in order, each as soon as it is known.

    ``config`` names a configuration file; without it the one above ``here`` counts, if there is one.
    ``overrides`` change its keys, as in ``offline=true``.
    """
    yield check_python()
    yield check_own_packages()
    yield from check_packages()
    check, settings, base = _configuration(config, here, overrides)
    yield check
    yield check_dataset(settings, base)
    artifacts = base / (settings.artifacts if settings is not None else "artifacts")
    yield check_folder(artifacts)
    yield check_disk(artifacts)
    yield check_memory()
    computes_here = settings is not None and settings.device in ("local", "onnxruntime")
    yield check_load(settings.runtime.threads if settings and computes_here else 1)
    yield check_runtime()
    if settings is not None and settings.device == "onnxruntime":
        yield check_onnx_runtime(settings)
    if settings is not None and settings.device.partition(":")[0] == "cuda":
        yield check_cuda(settings)


def check_python() -> Check:
    """The interpreter's version against what the installed package asks for."""
    found = f"{sys.version.split()[0]} at {sys.executable}"
    try:
        wanted = metadata.metadata("nasflow")["Requires-Python"]
        from packaging.specifiers import SpecifierSet
    except metadata.PackageNotFoundError:
        return Check("python", "ok", found)  # check_packages tells that nasflow is not installed
    except ModuleNotFoundError:
        return Check(
            "python", "warning", f"{found}; the required version cannot be checked", "pip install packaging"
        )
    if SpecifierSet(wanted).contains(sys.version.split()[0].rstrip("+"), prereleases=True):
        return Check("python", "ok", found)
    return Check("python", "failed", f"{found}, but {wanted} is needed", f"Use a Python {wanted}.")


def check_own_packages() -> Check:
    """That our four packages come from one place: ``pipeline`` is a name that others use, too."""
    root = Path(__file__).resolve().parents[2]
    for name in OWN_PACKAGES:
        spec = util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin.parent != root / name:
            return Check(
                "own packages",
                "failed",
                f"'{name}' comes from {origin or 'nowhere'}, not from {root}",
                "Another package has the same name: install nasflow in an environment of its own.",
            )
    return Check("own packages", "ok", f"{', '.join(OWN_PACKAGES)} in {root}")


def check_packages() -> Iterator[Check]:
    """Every needed package: installed, and in the range that nasflow's own metadata asks for."""
    try:
        lines = metadata.requires("nasflow") or []
        from packaging.requirements import Requirement
    except metadata.PackageNotFoundError:
        yield Check(
            "packages",
            "failed",
            "nasflow itself is not installed (it runs from its source)",
            "pip install nasflow, or in a clone: make install",
        )
        return
    except ModuleNotFoundError:
        yield Check("package packaging", "failed", "not installed", f"{_pip()} install packaging")
        return
    for line in lines:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        mend = f"{_pip()} install '{wanted.name}{wanted.specifier}'"
        name = f"package {wanted.name}"
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield Check(name, "failed", "not installed", mend)
            continue
        if wanted.specifier.contains(version, prereleases=True):
            yield Check(name, "ok", version)
        else:
            yield Check(name, "failed", f"{version}, but {wanted.specifier} is needed", mend)


def _configuration(
    config: Path | None, here: Path, overrides: Sequence[str]
) -> tuple[Check, PipelineConfig | None, Path]:
    """The configuration's check, its values, and the folder that its paths are relative to."""
    try:
        from nasflow.config import PipelineConfig
        from pipeline.config.loader import find_config, load_config

        path = config if config is not None else find_config(here)
        notices: list[str] = []
        settings = load_config(PipelineConfig, path, overrides, tell=notices.append)
    except NasflowError as error:
        return Check("configuration", "failed", error.message, error.hint or "Fix the file."), None, here
    except ImportError as error:
        return Check("configuration", "failed", f"cannot be read: {error}", _REINSTALL), None, here
    if path is None:
        return (
            Check("configuration", "ok", "no pipeline.yaml here: 'nasflow init' writes one"),
            settings,
            here,
        )
    if notices:
        return (
            Check("configuration", "warning", str(path), " ".join(notices)),
            settings,
            path.resolve().parent,
        )
    return Check("configuration", "ok", str(path)), settings, path.resolve().parent


def check_dataset(settings: PipelineConfig | None, base: Path) -> Check:
    """That the images are on this machine and whole; where they are not, how they come here."""
    return _guarded("data set", lambda: _dataset(settings, base))


def _dataset(settings: PipelineConfig | None, base: Path) -> Check:
    from nasflow.assemble import resolve_data
    from nasflow.config import PipelineConfig
    from stages.data.fashion_mnist import FILES, find_file

    settings = settings or PipelineConfig()
    data = resolve_data(settings.data, base)
    if data.source != "fashion_mnist":
        return _own_images(data)
    if settings.offline:
        open_dataset(data).check_at_hand()
    if data.path is None and not open_dataset(data).is_at_hand():
        return Check(
            "data set",
            "warning",
            "Fashion-MNIST is not on this computer; the first run downloads it (30 MB)",
            "Without a network: install Debian's package dataset-fashion-mnist, or set data.path.",
        )
    counts = {part: len(open_dataset(data).load(part)) for part in PARTS}
    source = find_file(next(iter(FILES)), data.path)
    found = ", ".join(f"{count} {part}" for part, count in counts.items())
    return Check("data set", "ok", f"{found} images in {source.parent if source else data.path}")


def _own_images(data: DataConfig) -> Check:
    """Images of one's own: read, those that are new, and split as a run would; none is decoded for it."""
    from nasflow.own_images.warnings import image_warnings
    from stages.data.image_folder import ImageFolder

    dataset = open_dataset(data)
    if data.source == "hub" and not dataset.is_at_hand():
        found = f"{data.name} is not on this computer; the first run fetches it"
        return Check("data set", "warning", found, "Without a network: name a folder of Parquet files.")
    dataset.check_at_hand()
    found = ", ".join(f"{count} {part}" for part, count in dataset.counts.items())
    where = data.path if data.source == "folder" else data.name
    warnings = list(image_warnings(dataset.look())) if isinstance(dataset, ImageFolder) else []
    if dataset.shared_choice:
        found += " (architecture and choice are the same)"
    if warnings:
        return Check("data set", "warning", f"{found} images in {where}; {' '.join(warnings)}", _DATA_CHECK)
    return Check("data set", "ok", f"{found} images in {where}")


_DATA_CHECK = "Look at them: nasflow data check"


def check_folder(artifacts: Path) -> Check:
    """That the artifacts folder, or the place where it will be made, can be written."""
    existing = _existing_parent(artifacts)
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".nasflow-doctor-") as probe:
            probe.write(b"x")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return Check(
            "artifacts folder",
            "failed",
            f"{existing} cannot be written: {error.strerror}",
            "Give yourself permission to write there, or set 'artifacts' in pipeline.yaml.",
        )
    state = "exists" if existing == artifacts else "will be created"
    return Check("artifacts folder", "ok", f"{artifacts} {state} and can be written")


def check_disk(artifacts: Path) -> Check:
    """Free space where the artifacts lie."""
    free = shutil.disk_usage(_existing_parent(artifacts)).free
    found = f"{free / GIB:.1f} GiB free"
    if free < NEEDED_DISK_BYTES:
        mend = "Free some space ('nasflow clean' helps), or set 'artifacts' to a folder on another disk."
        return Check(
            "disk", "failed", f"{found}, at least {NEEDED_DISK_BYTES / GIB:.0f} GiB are needed", mend
        )
    return Check("disk", "ok", found)


def check_memory() -> Check:
    """Memory that this process may use: the computer's, or a container's limit where that is lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return Check("memory", "ok", "cannot be read on this system")
    limit = Path("/sys/fs/cgroup/memory.max")
    written = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    if written.isdecimal():
        total = min(total, int(written))
    found = f"{total / GIB:.1f} GiB"
    if total < NEEDED_MEMORY_BYTES:
        return Check(
            "memory",
            "warning",
            f"{found}, a run needs up to {NEEDED_MEMORY_BYTES / GIB:.0f} GiB",
            "Close other programs, or lower the batch sizes in pipeline.yaml.",
        )
    return Check("memory", "ok", found)


def check_load(wanted_threads: int = 1) -> Check:
    """CPU threads that this process may use, and how busy the computer is: load spoils timings.

    ``wanted_threads`` are those that a model is to be run with on this computer.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    threads = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    if wanted_threads > threads:
        found = f"{threads} threads, but runtime.threads is {wanted_threads}: models run many times slower"
        return Check("cpu", "warning", found, f"Set runtime.threads to {threads} or less.")
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return Check("cpu", "ok", f"{threads} threads; the load cannot be read on this system")
    found = f"{threads} threads, load {load:.1f}"
    if load > BUSY_LOAD_PER_CORE * threads:
        return Check("cpu", "warning", f"{found}: latencies will be noisy", "Close other programs first.")
    return Check("cpu", "ok", found)


def check_runtime() -> Check:
    """That LiteRT loads, runs a small network and gives a sane latency."""
    return _guarded("runtime", _runtime)


def check_onnx_runtime(settings: PipelineConfig) -> Check:
    """The same of ONNX Runtime, for those who measure with it."""
    from nasflow.assemble import onnx_runtime

    return _guarded("onnxruntime", lambda: _measured("onnxruntime", onnx_runtime(settings.runtime)))


def check_cuda(settings: PipelineConfig) -> Check:
    """The same of a GPU, with the settings that it is to be measured with; and what its state says."""
    from nasflow.assemble import cuda_gpu

    told: list[str] = []

    def measured() -> Check:
        gpu = cuda_gpu(settings.device, settings.runtime, told.append)
        return _measured("cuda", gpu, settings.runtime)

    check = _guarded("cuda", measured)
    if check.state != "ok" or not told:
        return check
    return replace(check, state="warning", found=" ".join([f"{check.found};", *told]), mend=_GPU_MEND)


_GPU_MEND = "Timings can be made all the same; they may be noisier than they need be."


def _runtime() -> Check:
    from android_bench.local.device import LocalDevice

    return _measured("runtime", LocalDevice())


def _measured(name: str, device: Device, options: RuntimeOptions | None = None) -> Check:
    from android_bench.device import DEFAULT_OPTIONS, BenchmarkRequest
    from nasflow.doctor.trial_model import trial_model

    asked = options or DEFAULT_OPTIONS
    trial = trial_model(32, asked.precision)
    try:
        info = device.info()
        measured = device.benchmark(BenchmarkRequest(name="doctor", model=trial.model, options=asked))
    finally:
        device.close()
    how = f" ({asked.describe(info.kind)})" if options is not None else ""
    found = f"{info.runtime}: {trial.name} in {measured.median_ms:.3f} ms{how}"
    return Check(name, "ok", found)


_REINSTALL = "Install the packages that failed above; in a clone: make install"


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check of ours that runs real code: what that code raises is its finding."""
    try:
        return check()
    except NasflowError as error:
        return Check(name, "failed", error.message, error.hint)
    except ImportError as error:
        return Check(name, "failed", f"cannot be checked: {error}", _REINSTALL)


def _existing_parent(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _pip() -> str:
    return f"{sys.executable} -m pip"
