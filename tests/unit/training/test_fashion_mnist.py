"""Fashion-MNIST: how it is split, where it is looked for, how it is fetched, what is refused."""

from __future__ import annotations

import gzip
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from nasflow.base.errors import DatasetMissingError, IntegrityError, MachineError, NasflowError, UsageError
from stages.data import fashion_mnist as data
from stages.data.config import DataConfig, open_dataset
from stages.data.dataset import Part, check_fits
from stages.data.fashion_mnist import FILES, find_file
from stages.space import SpaceConfig, load_space

TEST_FILES = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


@pytest.fixture
def source() -> Path:
    """Where the real files are on this machine."""
    open_dataset(DataConfig()).load("test")
    path = find_file("t10k-images-idx3-ubyte", None)
    assert path is not None
    return path.parent


@pytest.fixture
def bare(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without the data set and with an empty cache, whose path this is; no proxy."""
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(data, "cache_folder", lambda: tmp_path / "cache" / "fashion-mnist")
    monkeypatch.setenv("no_proxy", "*")
    data._read_files.cache_clear()
    yield tmp_path / "cache" / "fashion-mnist"
    data._read_files.cache_clear()


Answer = Callable[[str], bytes]


class Mirror:
    """A web server on loopback that answers with what ``answer`` gives for a file's name."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[-1]
                mirror.asked.append(name)
                try:
                    content = answer(name)
                except FileNotFoundError:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Tests are silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Mirror]]:
    running: list[Mirror] = []

    def start(answer: Answer) -> Mirror:
        running.append(Mirror(answer))
        monkeypatch.setattr(data, "MIRROR", running[-1].url)
        return running[-1]

    yield start
    for one in running:
        one.close()


# --- the splits ------------------------------------------------------------------------------------


def test_images_are_whole_padded_with_background_and_scaled() -> None:
    images = open_dataset(DataConfig()).load("test")
    assert len(images) == 10_000
    assert images.pixels_NHW.shape == (10_000, 32, 32)
    border = images.pixels_NHW.copy()
    border[:, 2:-2, 2:-2] = 0
    assert not border.any()
    batch_NHWC = images.batch_NHWC(slice(0, 50))
    assert (batch_NHWC.shape, batch_NHWC.dtype) == ((50, 32, 32, 3), np.float32)
    assert (batch_NHWC.min(), batch_NHWC.max()) == (-1.0, 1.0)
    assert np.array_equal(batch_NHWC[..., 0], batch_NHWC[..., 2])
    assert np.array_equal(images.batch_NHWC(np.array([7, 3])), batch_NHWC[[7, 3]])


def test_train_architecture_and_choice_part_the_training_file_between_them(source: Path) -> None:
    config = DataConfig()
    train, architecture, choice = (
        open_dataset(config).load(part) for part in ("train", "architecture", "choice")
    )
    assert (len(train), len(architecture), len(choice)) == (55_000, 2_500, 2_500)
    raw = gzip.decompress((source / "train-images-idx3-ubyte.gz").read_bytes())
    everything = Counter(raw[start : start + 784] for start in range(16, len(raw), 784))
    parts = (part.pixels_NHW[:, 2:-2, 2:-2] for part in (train, architecture, choice))
    assert Counter(x.tobytes() for pixels in parts for x in pixels) == everything


@pytest.mark.parametrize("config", [DataConfig(), DataConfig(architecture_images=1003, train_images=777)])
def test_parts_hold_equally_many_images_of_each_class(config: DataConfig) -> None:
    for split in ("train", "architecture", "choice"):
        counts = np.bincount(open_dataset(config).load(split).labels)
        assert len(counts) == 10
        assert counts.max() - counts.min() <= 1


def test_the_seed_decides_which_images_are_in_which_part() -> None:
    first, again, other = (
        open_dataset(DataConfig(split_seed=seed, architecture_images=500)).load("choice")
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first.pixels_NHW, again.pixels_NHW)
    assert not np.array_equal(first.pixels_NHW, other.pixels_NHW)


def test_fewer_training_images_are_some_of_all_and_leave_validation_alone() -> None:
    few, all_of_them = DataConfig(train_images=300), DataConfig()
    images = {x.tobytes() for x in open_dataset(all_of_them).load("train").pixels_NHW}
    assert all(x.tobytes() in images for x in open_dataset(few).load("train").pixels_NHW)
    kept = [open_dataset(config).load("choice").pixels_NHW for config in (few, all_of_them)]
    assert np.array_equal(*kept)


def test_more_images_than_there_are_are_refused() -> None:
    assert DataConfig(train_images=55_000).train_images == 55_000
    with pytest.raises(ValidationError, match="more than the 60000 there are"):
        DataConfig(train_images=55_001)


def test_a_space_for_other_images_is_refused() -> None:
    check_fits(open_dataset(DataConfig()), load_space(SpaceConfig()))
    for config in (SpaceConfig(name="proxyless_mobile"), SpaceConfig(resolution=64)):
        with pytest.raises(UsageError, match="32 pixels, 3 channels, 10 classes"):
            check_fits(open_dataset(DataConfig()), load_space(config))


# --- where the files are ---------------------------------------------------------------------------


def copied(source: Path, folder: Path) -> DataConfig:
    folder.mkdir()
    for name in TEST_FILES:
        shutil.copy(source / name, folder)
    return DataConfig(path=str(folder))


def test_a_folder_of_ones_own_is_read(source: Path, tmp_path: Path) -> None:
    config = copied(source, tmp_path / "own")
    own, usual = open_dataset(config).load("test"), open_dataset(DataConfig()).load("test")
    assert np.array_equal(own.pixels_NHW, usual.pixels_NHW)
    assert np.array_equal(own.labels, usual.labels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: packed[:-20], "is damaged, or not a gzip file"),
        (lambda packed: b"something else", "is damaged, or not a gzip file"),
        (lambda packed: b"", "is damaged, or not a gzip file|is not Fashion-MNIST's"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-1] + b"\x0b"), "is not Fashion-MNIST's"),
    ],
    ids=["truncated", "no gzip", "empty", "one byte changed"],
)
def test_a_damaged_file_is_told_by_name(
    source: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    config = copied(source, tmp_path / "own")
    path = tmp_path / "own" / TEST_FILES[1]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IntegrityError, match=message) as caught:
        open_dataset(config).load("test")
    assert str(path) in caught.value.message
    assert "downloaded again" not in caught.value.hint, "a file in a folder of one's own never is"


def test_a_folder_without_the_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError, match=r"does not hold t10k-images-idx3-ubyte\.gz") as caught:
        open_dataset(DataConfig(path=str(tmp_path))).load("test")
    assert str(tmp_path) in caught.value.message
    assert "data.path" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "split", "words"),
    [
        ("nowhere", "train", "path: {0} does not exist."),
        ("file", "train", "path: {0} is a file, not a folder."),
        (
            "empty",
            "choice",
            "hold train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz.",
        ),
        ("train alone", "test", "hold t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz."),
        ("train alone", "train", ""),
    ],
)
def test_what_a_folder_lacks_is_known_before_it_is_read(
    tmp_path: Path, kind: str, split: Part, words: str
) -> None:
    folder = tmp_path / "images"
    if kind == "file":
        folder.touch()
    elif kind != "nowhere":
        folder.mkdir()
    if kind == "train alone":
        for name in FILES:
            if name.startswith("train"):
                (folder / f"{name}.gz").touch()
    if not words:
        open_dataset(DataConfig(path=str(folder))).check_folder(split)
        return
    with pytest.raises(DatasetMissingError) as caught:
        open_dataset(DataConfig(path=str(folder))).check_folder(split)
    assert words.format(folder) in caught.value.message
    assert "data.path" in caught.value.hint


# --- fetching --------------------------------------------------------------------------------------


def test_without_files_and_without_a_network_both_ways_are_named(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(data, "MIRROR", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        with pytest.raises(DatasetMissingError) as caught:
            open_dataset(DataConfig()).load("test")
    assert caught.value.exit_code == 8
    assert "cannot be fetched" in caught.value.message
    assert "dataset-fashion-mnist" in caught.value.hint
    assert "data.path" in caught.value.hint
    assert not bare.exists()


def test_missing_files_are_fetched_once_into_the_cache(
    source: Path, bare: Path, mirror: Callable[[Answer], Mirror]
) -> None:
    server = mirror(lambda name: (source / name).read_bytes())
    assert len(open_dataset(DataConfig()).load("test")) == 10_000
    assert server.asked == list(TEST_FILES)
    assert sorted(path.name for path in bare.iterdir()) == sorted(TEST_FILES)
    assert all((bare / name).read_bytes() == (source / name).read_bytes() for name in TEST_FILES)
    data._read_files.cache_clear()
    open_dataset(DataConfig()).load("test")
    assert server.asked == list(TEST_FILES)


def test_offline_missing_files_are_told_and_not_fetched(
    source: Path, bare: Path, mirror: Callable[[Answer], Mirror]
) -> None:
    server = mirror(lambda name: (source / name).read_bytes())
    with pytest.raises(DatasetMissingError, match="offline it is not downloaded"):
        open_dataset(DataConfig()).check_at_hand()
    assert server.asked == []
    open_dataset(DataConfig(path=str(source))).check_at_hand()


def test_a_damaged_file_in_the_cache_may_be_deleted_to_be_fetched_again(
    source: Path, bare: Path, mirror: Callable[[Answer], Mirror]
) -> None:
    mirror(lambda name: (source / name).read_bytes())
    bare.mkdir(parents=True)
    damaged = bare / TEST_FILES[0]
    damaged.write_bytes(b"torn")
    with pytest.raises(IntegrityError) as caught:
        open_dataset(DataConfig()).load("test")
    assert caught.value.hint == f"Delete {damaged}: it is downloaded again."
    damaged.unlink()
    assert len(open_dataset(DataConfig()).load("test")) == 10_000


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda packed: gzip.compress(b"other images"), IntegrityError),
        (lambda packed: b"<html>log in to this network</html>", IntegrityError),
        (lambda packed: packed[: len(packed) // 2], IntegrityError),
    ],
    ids=["other content", "a login page", "half of it"],
)
def test_what_is_not_the_data_set_is_not_kept(
    source: Path,
    bare: Path,
    mirror: Callable[[Answer], Mirror],
    answer: Callable[[bytes], bytes],
    error: type[NasflowError],
) -> None:
    server = mirror(lambda name: answer((source / name).read_bytes()))
    with pytest.raises(error) as caught:
        open_dataset(DataConfig()).load("test")
    assert server.url in caught.value.message
    assert not bare.exists()


def test_a_mirror_without_the_file_is_told(bare: Path, mirror: Callable[[Answer], Mirror]) -> None:
    def missing(name: str) -> bytes:
        raise FileNotFoundError(name)

    mirror(missing)
    with pytest.raises(DatasetMissingError, match="404"):
        open_dataset(DataConfig()).load("test")


def test_an_answer_that_is_no_http_is_told(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(data, "MIRROR", f"http://127.0.0.1:{listening.getsockname()[1]}/")

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 this is another service\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DatasetMissingError, match="cannot be fetched"):
            open_dataset(DataConfig()).load("test")
        thread.join()


def test_a_cache_that_cannot_be_written_is_told(
    source: Path, bare: Path, mirror: Callable[[Answer], Mirror]
) -> None:
    mirror(lambda name: (source / name).read_bytes())
    bare.parent.write_bytes(b"a file where the folder should be")
    with pytest.raises(MachineError) as caught:
        open_dataset(DataConfig()).load("test")
    assert str(bare) in caught.value.message
    assert "data.path" in caught.value.hint
