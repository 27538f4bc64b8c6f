"""Clips of a table: made when they are asked for, a block at a time, whoever asks."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged, RaggedWriter
from demeanor.data.stream import Stream
from demeanor.data.utterances import make_table
from demeanor.features import clips as clips_of_a_table
from demeanor.features import find_extractor
from demeanor.features.cache import ShardCache
from demeanor.features.clip import Clip
from demeanor.features.clips import BLOCK, clips_of, taken, with_words
from demeanor.features.plan import SHARD, TASKS_EACH, Plan


def table_of(count: int, turns: int = 3) -> pd.DataFrame:
    return make_table(
        [
            {
                "utterance_id": f"u{n}", "corpus": "made", "split": "train", "dialogue": f"d{n % (count // turns)}",
                "turn": n // (count // turns), "speaker": f"s{n % 2}", "text": f"turn number {n}", "media": f"c{n}.wav",
            }
            for n in range(count)
        ]
    )  # fmt: skip


def same(first: Clip, second: Clip) -> bool:
    return all(getattr(first, field.name) == getattr(second, field.name) for field in fields(Clip))


def test_any_way_to_ask_gives_the_same_clips():
    clips = clips_of(table_of(9), Path("/corpus"))
    every = list(clips)
    assert len(clips) == len(every) == 9
    assert [clip.utterance_id for clip in every] == [f"u{n}" for n in range(9)]
    assert every[4].dialogue == ("turn number 1", "turn number 4", "turn number 7")
    assert (every[4].turn, every[4].speakers, every[4].media) == (1, ("s1", "s0", "s1"), Path("/corpus/c4.wav"))
    for n, clip in enumerate(every):
        assert same(clip, clips[n])
        assert same(clip, clips[n - 9])
    for asked in (slice(2, 5), slice(None, None, -1), slice(8, 2, -3), slice(4, 4)):
        assert all(same(*pair) for pair in zip(clips[asked], every[asked], strict=True))
    assert all(same(*pair) for pair in zip(taken(clips, [7, 0, 3]), taken(every, [7, 0, 3]), strict=True))
    with pytest.raises(IndexError):
        clips[9]


def test_a_dialogue_is_whole_across_blocks():
    clips = clips_of(table_of(3 * BLOCK), Path("/corpus"))
    for n, clip in zip((0, BLOCK, 2 * BLOCK), (clips[0], clips[BLOCK], clips[2 * BLOCK]), strict=True):
        assert clip.dialogue == tuple(f"turn number {k * BLOCK}" for k in range(3))
        assert clip.turn == n // BLOCK


def test_the_newest_times_of_words_count_where_they_say_anything():
    def times(**spans: list[list[float]]) -> Stream:
        given = {name: np.array(value, np.float32) for name, value in spans.items()}
        return Stream("text.word_times", Ragged.from_sequences(given), Provenance(extractor="sidecar", version="1"))

    first, second = times(u0=[[0, 1]] * 3, u1=[[0, 1]] * 3), times(u1=[[2, 3]] * 3, u2=[[4, 5]] * 3)
    lazy = with_words(clips_of(table_of(3), Path("/corpus"), {"text.word_times": first}), second)
    plain = with_words(list(clips_of(table_of(3), Path("/corpus"), {"text.word_times": first})), second)
    assert [clip.words[0].start if clip.words else None for clip in lazy] == [0, 2, 4]
    assert all(same(*pair) for pair in zip(lazy, plain, strict=True))


def test_going_through_many_clips_holds_a_block_of_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clips_of_a_table, "BLOCK", 64)
    table = table_of(40 * 64, turns=4)
    list(clips_of(table_of(64), Path("/corpus")))  # what is imported at the first use belongs to no clip
    tracemalloc.start()
    for _ in clips_of(table, Path("/corpus")):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / len(table) < 250, "bytes of a clip that is not under way; one that is takes a thousand"


def test_work_begins_before_all_clips_have_been_looked_at(tmp_path: Path):
    extractor = find_extractor("opensmile_functionals", {})
    table = table_of(2 * BLOCK).assign(media=None)
    sounds = {name: np.full((1, 1), n, np.int16) for n, name in enumerate(table["utterance_id"])}
    sounds["u1"] = sounds["u0"]
    given = Stream("audio.waveform", Ragged.from_sequences(sounds), Provenance(extractor="waveform", version="1"))
    shards = ShardCache.of(tmp_path, extractor, extractor.provenance())
    clips = clips_of(table, Path("/corpus"), {"audio.waveform": given})
    plan = Plan(extractor, clips, shards)
    ahead, groups = plan.groups(2)
    first = next(groups)
    assert ahead == 2 * TASKS_EACH * SHARD
    assert len(first) == SHARD
    assert plan.passed + plan.wanted < len(clips) / 2
    rest = list(groups)
    assert (plan.wanted, plan.passed, plan.different) == (len(clips) - 1, 1, len(clips) - 1)
    assert [name for name, _ in plan.each()] == list(table["utterance_id"])
    assert sum(map(len, rest)) + len(first) == plan.wanted
    small = Plan(extractor, clips[:20], shards)
    assert [len(group) for group in small.groups(2)[1]] == [1] * 19


def test_a_run_that_goes_on_begins_with_what_is_missing(tmp_path: Path):
    extractor = find_extractor("librosa_functionals", {})
    table = table_of(2 * BLOCK).assign(media=None)
    sounds = {name: np.full((1, 1), n, np.int16) for n, name in enumerate(table["utterance_id"])}
    given = Stream("audio.waveform", Ragged.from_sequences(sounds), Provenance(extractor="waveform", version="1"))
    clips = clips_of(table, Path("/corpus"), {"audio.waveform": given})
    shards = ShardCache.of(tmp_path, extractor, extractor.provenance())
    whole = Plan(extractor, clips, shards)
    made = [key for group in whole.groups(2)[1] for key in group]
    shards.add({key: np.zeros((1, extractor.dimension), np.float32) for key in made[:BLOCK]})
    again = Plan(extractor, clips, shards)
    _, groups = again.groups(2)
    first = next(groups)
    assert list(first) == made[BLOCK : BLOCK + len(first)]
    assert again.passed == 0
    assert [key for group in (first, *groups) for key in group] == made[BLOCK:]
    assert (again.wanted, again.passed) == (BLOCK, BLOCK)
    assert list(again.each()) == list(whole.each())


def test_the_hash_of_stored_samples_is_noted_and_is_that_of_the_samples(tmp_path: Path):
    sounds = {"u0": np.arange(5, dtype=np.int16)[:, None], "u1": np.zeros((0, 1), np.int16)}
    for name, each in (("noted", True), ("plain", False)):
        with RaggedWriter.open(tmp_path / name, 1, np.int16, each=each) as writer:
            for identity, samples in sounds.items():
                writer.append(identity, samples)
    assert Ragged.load(tmp_path / "plain").digest("u0") is None
    noted, reads = Ragged.load(tmp_path / "noted"), frozenset({"audio"})
    assert noted.select(["u1", "u0"]).digest("u0") == noted.digest("u0") != noted.digest("u1")
    for identity, samples in sounds.items():
        hashes = {Clip(identity, stored=tmp_path / name).content(reads) for name in ("noted", "plain")}
        assert hashes == {Clip(identity, recorded=samples).content(reads)}
