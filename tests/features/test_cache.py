"""The shards of a stream: as many as a user has clips, found by an index, put together, whole whenever a run ends."""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from demeanor.data.files import sha256_of
from demeanor.data.ragged import Ragged
from demeanor.data.utterances import make_table
from demeanor.features import cache, shard_index
from demeanor.features import clip as clips_of_a_corpus
from demeanor.features.base import Clip
from demeanor.features.cache import ShardCache
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.features.shard_index import INDEX, LINE, Block, add_to_index, blocks_of
from tests.features.media_samples import voice, write_recording

WIDTH = 3


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug in a test."""
    monkeypatch.setattr("demeanor.data.files.flush_to_disk", lambda path: None)


@pytest.fixture
def few_files() -> Iterator[None]:
    """Sixteen files more than are open now, whatever the suite has open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def opened(folder: Path) -> ShardCache:
    return ShardCache(folder, WIDTH, np.dtype(np.float32))


def clip(n: int) -> tuple[str, np.ndarray]:
    """Key and values [T, 3] of one clip; every fifth has no step."""
    values = np.random.default_rng(n).random((n % 5, WIDTH)).astype(np.float32)
    return sha256_of(n), values


def filled(folder: Path, shards: int, each: int = 2) -> ShardCache:
    found = opened(folder)
    for start in range(0, shards * each, each):
        found.add(dict(clip(n) for n in range(start, start + each)))
    return found


@pytest.fixture(autouse=True)
def _more_than_a_few_are_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten shards tell as much as forty."""
    monkeypatch.setattr(cache, "FEW", 8)


def holds(found: ShardCache, count: int) -> None:
    assert len(found) == count
    for n in range(count):
        key, values = clip(n)
        assert key in found
        np.testing.assert_array_equal(found[key], values)
        assert found[key].dtype == np.float32


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_hundreds_of_shards_need_no_open_file_and_no_map(tmp_path: Path, few_files: None):
    holds(filled(tmp_path, 300), 600)
    again = opened(tmp_path)
    assert len(files(tmp_path)) == 300
    holds(again, 600)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    again.merge()
    assert len(files(tmp_path)) == 1
    holds(again, 600)
    holds(opened(tmp_path), 600)


def test_what_lies_where_is_not_in_memory(tmp_path: Path):
    """As objects of Python these keys and their places take more than 20 MB."""

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()

    keys = (hashlib.sha256(n.to_bytes(4, "big")).hexdigest() for n in range(60_000))
    lines, first = [], 0
    while ids := tuple(islice(keys, LINE)):
        lines.append(Block("a.safetensors", 9, 60_000, first, first, "<f4", WIDTH, ids, (1,) * len(ids)))
        first += len(ids)
    (tmp_path / "a.safetensors").write_bytes(b"nine byte")
    for block in lines:
        add_to_index(tmp_path, block)
    del lines, block
    before = resident()
    found = opened(tmp_path)
    assert resident() - before < 8 << 20
    assert len(found) == 60_000
    assert hashlib.sha256((59_999).to_bytes(4, "big")).hexdigest() in found


def test_the_index_spares_opening_a_shard_and_may_be_lost_torn_or_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    filled(tmp_path, 12)
    asked: list[str] = []

    def counted(path: Path) -> Iterator[Block]:
        asked.append(path.name)
        return blocks_of(path)

    monkeypatch.setattr(cache, "blocks_of", counted)
    holds(opened(tmp_path), 24)
    assert not asked
    index = tmp_path / INDEX
    index.write_bytes(index.read_bytes()[:-20])  # killed while the last line was written
    holds(opened(tmp_path), 24)
    assert len(asked) == 1
    asked.clear()
    holds(opened(tmp_path), 24)
    assert not asked
    shutil.copy(index, tmp_path / "former")
    filled(tmp_path, 13)
    asked.clear()
    shutil.copy(tmp_path / "former", index)  # a run was killed between its shard and the index
    holds(opened(tmp_path), 26)
    assert len(asked) == 1
    asked.clear()
    index.unlink()  # as a former version leaves a cache
    holds(opened(tmp_path), 26)
    assert len(asked) == 13


def test_a_damaged_shard_is_removed_and_its_clips_are_missing(tmp_path: Path):
    filled(tmp_path, 4)
    spoilt = next(path for path in files(tmp_path) if clip(0)[0] in Ragged.load(path).ids)
    spoilt.write_bytes(spoilt.read_bytes()[:-30])
    found = opened(tmp_path)
    assert not spoilt.exists()
    assert found.missing(clip(n)[0] for n in range(8)) == [clip(0)[0], clip(1)[0]]


def test_shards_of_another_width_are_left_alone(tmp_path: Path):
    Ragged.from_sequences({"other": np.zeros((2, 5), np.float32)}).save(tmp_path / "0.safetensors")
    filled(tmp_path, 10).merge()
    found = opened(tmp_path)
    assert "other" not in found
    holds(found, 20)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("moment", ["while it is written", "before the index", "before the parts go"])
def test_a_merge_that_is_killed_loses_nothing_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    found = filled(tmp_path, 12)

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "while it is written":
            patch.setattr(cache.RaggedWriter, "_finish", killed)
        elif moment == "before the index":
            patch.setattr(shard_index, "write_atomically", killed)
        else:
            patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            found.merge()
    again = opened(tmp_path)
    holds(again, 24)
    assert len(files(tmp_path)) == (12 if moment == "while it is written" else 13)
    again.merge()
    holds(again, 24)
    holds(opened(tmp_path), 24)
    assert len(files(tmp_path)) == 1


def test_a_run_reads_on_when_another_has_put_the_shards_together(tmp_path: Path):
    mine, theirs = filled(tmp_path, 12), opened(tmp_path)
    theirs.merge()
    holds(mine, 24)


def test_big_files_are_left_alone_and_a_few_small_ones_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    size = filled(tmp_path, 12).folder.joinpath(files(tmp_path)[0].name).stat().st_size
    monkeypatch.setattr(cache, "MERGED", 4 * size)
    opened(tmp_path).merge()
    big = files(tmp_path)
    assert len(big) < 12
    opened(tmp_path).merge()
    assert files(tmp_path) == big
    holds(opened(tmp_path), 24)


def test_a_complete_stream_leaves_a_few_files_and_the_next_run_makes_nothing(tmp_path: Path, capsys):
    clips = [Clip(f"u{n}", recorded=voice(0.1, pitch=100 + n)) for n in range(40)]
    requests = {"audio.waveform": StreamRequest(extractor="waveform")}
    made, _ = extract_streams(clips, requests, tmp_path / "cache", tmp_path / "out", 1)
    (folder,) = (tmp_path / "cache").iterdir()
    assert len(files(folder)) <= cache.FEW
    (tmp_path / "out" / "audio.waveform.safetensors").unlink()
    again, _ = extract_streams(clips, requests, tmp_path / "cache", tmp_path / "out", 1)
    assert "0 clips made, 40 kept" in capsys.readouterr().err
    assert again["audio.waveform"].content_sha256 == made["audio.waveform"].content_sha256


def test_a_recording_that_may_not_be_read_is_set_aside_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clips = [
        Clip(f"u{n}", media=write_recording(tmp_path / f"{n}.wav", voice(0.2, pitch=100 + n), audio_codec="pcm_s16le"))
        for n in range(3)
    ]
    plain = clips_of_a_corpus.sha256_of_file

    def guarded(path: Path | str) -> str:
        if str(path).endswith("1.wav"):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(clips_of_a_corpus, "sha256_of_file", guarded)
    requests = {"audio.waveform": StreamRequest(extractor="waveform")}
    streams, aside = extract_streams(clips, requests, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    assert list(aside["utterance_id"]) == ["u1"]
    assert aside["reason"][0] == f"{tmp_path / '1.wav'}: cannot be read (Permission denied)"
    assert [len(streams["audio.waveform"].ragged[f"u{n}"]) > 0 for n in range(3)] == [True, False, True]


def test_the_clips_of_a_dialogue_share_its_transcripts(tmp_path: Path):
    common = {"corpus": "c", "split": "train", "dialogue": "d"}
    table = make_table([{"utterance_id": f"u{n}", "turn": n, "text": f"t {n}", **common} for n in range(50)])
    clips = clips_of(table, tmp_path)
    assert all(one.dialogue is clips[0].dialogue for one in clips)
    assert [one.dialogue[one.turn] for one in clips] == [one.text for one in clips]
    assert len({one.content(frozenset({"dialogue"})) for one in clips}) == 50
