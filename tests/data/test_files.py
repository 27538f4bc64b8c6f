"""A disk that is full or closed: path and free space are told, whoever was writing, and nothing half-written stays."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demeanor.data.errors import InputError
from demeanor.data.files import disk_error, disk_errors_told, is_full, write_atomically, write_json
from demeanor.data.ragged import Ragged
from demeanor.datasets import CSVFile, ParquetFile, TextFile
from demeanor.training.checkpoint import Checkpoint

resource = pytest.importorskip("resource")
LARGE = np.arange(100_000, dtype=np.float32)


@contextmanager
def small_disk(room: int = 10_000) -> Iterator[None]:
    """No file may become larger than `room` bytes: the system's own refusal, without a disk that is really full."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, ignored)


def ragged(folder: Path) -> None:
    Ragged.from_sequences({"one": LARGE[:, None]}, 1, np.float32).save(folder / "stream.safetensors")


def checkpoint(folder: Path) -> None:
    import torch

    Checkpoint(folder, "same").save({"model": {"weight": torch.from_numpy(LARGE)}}, improved=True)


def weights(folder: Path) -> None:
    from safetensors.numpy import save_file

    with write_atomically(folder / "bundle") as temporary:
        temporary.mkdir()
        save_file({"weight": LARGE}, temporary / "weights.safetensors")


def picture(folder: Path) -> None:
    import h5py

    with write_atomically(folder / "sequence.csd") as temporary, h5py.File(temporary, "w") as handle:
        handle["values"] = LARGE


WRITERS: dict[str, Callable[[Path], None]] = {
    "json": lambda folder: write_json(folder / "report.json", LARGE.tolist()),
    "ragged": ragged,
    "checkpoint": checkpoint,
    "safetensors": weights,
    "hdf5": picture,
    "parquet": lambda folder: ParquetFile(filepath=str(folder / "table.parquet")).save(pd.DataFrame({"a": LARGE})),
    "csv": lambda folder: CSVFile(filepath=str(folder / "table.csv")).save(pd.DataFrame({"a": LARGE})),
    "text": lambda folder: TextFile(filepath=str(folder / "report.md")).save("x" * 100_000),
}


def deliberate(error: BaseException) -> InputError:
    """The InputError itself, or below the error that Kedro makes of whatever a dataset raises."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, InputError):
        found = found.__cause__
    assert found is not None, f"no readable error in {error!r}"
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_every_writer_names_the_path_and_the_free_space(tmp_path: Path, kind: str):
    folder = tmp_path / "project"
    folder.mkdir()
    with pytest.raises(Exception) as raised, small_disk():  # noqa: PT011 - Kedro wraps it for datasets
        WRITERS[kind](folder)
    told = str(deliberate(raised.value))
    assert str(folder) in told
    assert re.search(r"the file is larger than a limit.*; [\d,.]+ MiB are free in ", told)
    assert "run the same command again" in told
    assert ".part" not in told
    assert not list(folder.rglob("*")), "something half-written stays"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EACCES, "permission is denied"),
        (errno.EROFS, "can only be read"), (errno.EIO, "reports a fault"),
    ],
)  # fmt: skip
def test_each_refusal_of_the_system_has_its_words(tmp_path: Path, number: int, told: str):
    with pytest.raises(InputError, match=told) as raised, write_atomically(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "file") in str(raised.value)
    assert is_full(OSError(number, "")) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_a_device_without_room():
    with pytest.raises(InputError, match=r"/dev/full.*\n.*the disk is full"), disk_errors_told("/dev/full"):
        Path("/dev/full").write_text("anything")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "the disk is full"),
        (RuntimeError("(sqlite3.OperationalError) attempt to write a readonly database"), "permission is denied"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError("file write failed: filename = 'x', errno = 28, error message = 'No space'"), "the disk is full"),
    ],
)
def test_libraries_that_keep_no_number_are_understood(error: Exception, told: str):
    assert told in str(disk_error(error, "store.db"))


def test_the_file_that_an_error_names_is_the_one_that_is_told():
    told = str(disk_error(PermissionError(errno.EACCES, "Permission denied", "/closed/recording.mp4"), "/open/stream"))
    assert told.startswith("/closed/recording.mp4: 1 problem")


def test_other_errors_pass_as_they_are(tmp_path: Path):
    for error in (ValueError("28 values"), FileNotFoundError(errno.ENOENT, "gone"), InputError("a", ["b"])):
        with pytest.raises(type(error)) as raised, write_atomically(tmp_path / "file"):
            raise error
        assert raised.value is error
    unrelated = ValueError("a fault in the program")
    unrelated.__context__, unrelated.__suppress_context__ = PermissionError(errno.EACCES, "before"), True
    assert disk_error(unrelated) is None
