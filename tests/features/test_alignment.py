"""Forced alignment against brute force, the uniform fallback, frames per word."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from demeanor.features import find_extractor
from demeanor.features.alignment import best_path, uniform_times, word_spans
from demeanor.features.base import Clip, Word
from demeanor.features.engine import StreamRequest, extract_streams
from tests.features.media_samples import voice


def collapse(path: tuple[int, ...], blank: int) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


@pytest.mark.parametrize("seed", range(30))
def test_the_best_path_is_that_of_brute_force(seed: int):
    generator = torch.Generator().manual_seed(seed)
    frames, symbols, blank = 2 + seed % 5, 3, seed % 3
    count = seed % 4
    letters = [symbol for symbol in range(symbols) if symbol != blank]
    choice = torch.randint(len(letters), (count,), generator=generator).tolist()
    targets = [letters[n] for n in choice]
    scores = (2 * torch.randn(frames, symbols, generator=generator)).log_softmax(dim=-1).double()
    best, score = None, -np.inf
    for path in itertools.product(range(symbols), repeat=frames):
        if collapse(path, blank) == targets:
            own = float(scores[range(frames), list(path)].sum())
            best, score = (path, own) if own > score else (best, score)
    found = best_path(scores, targets, blank)
    if best is None:
        assert found is None
        return
    assert found is not None
    spoken = [targets[n] if n >= 0 else blank for n in found]
    assert collapse(tuple(spoken), blank) == targets
    assert float(scores[range(frames), spoken].sum()) == pytest.approx(score, abs=1e-9)
    assert (np.diff(found[found >= 0]) >= 0).all()


def test_words_get_the_frames_of_their_letters():
    # letters a=1, b=2, delimiter=3; "ab", a word that cannot be spelt, "b"
    wanted = [0, 1, 1, 0, 2, 3, 0, 2, 2, 0]
    scores = torch.full((10, 4), -8.0)
    scores[range(10), wanted] = 0.0
    path = best_path(scores.log_softmax(dim=-1), [1, 2, 3, 2])
    assert word_spans(path, [0, 0, -1, 2], 3).tolist() == [[1, 5], [5, 5], [7, 9]]
    assert best_path(scores[:3], [1, 1, 2]) is None


@pytest.fixture
def ctc_model(tmp_path: Path) -> str:
    torch.manual_seed(0)
    letters = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
    letters |= {letter: 5 + n for n, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ'")}
    (tmp_path / "vocab.json").write_text(json.dumps(letters))
    transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json")).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=len(letters),
    )  # fmt: skip
    transformers.Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    return str(tmp_path)


def test_forced_alignment_of_clips(ctc_model: str):
    extractor = find_extractor("ctc_word_times", {"model": ctc_model})
    assert extractor.spell(["I'm", "42", "ok"]) == ([13, 31, 17, 4, 19, 15], [0, 0, 0, -1, 2, 2])
    clip = Clip("a", text="It was, 42 honestly fine", recorded=voice(1.5))
    times, silent, dumb, hurried = extractor.extract(
        [clip, replace(clip, recorded=np.zeros(9000, np.float32)), replace(clip, text=" "),
         replace(clip, text="far too many letters " * 9)]
    )  # fmt: skip
    assert times.shape == (5, 2)
    assert (times[:, 1] >= times[:, 0]).all()
    assert (np.diff(times[:, 0]) >= 0).all()
    assert times[-1, 1] <= 1.5
    assert times[2, 0] == times[2, 1]
    assert (len(silent), len(dumb), len(hurried)) == (0, 0, 0)
    assert extractor.provenance().alignment == "ctc"


def test_uniform_times_share_the_sound():
    times = uniform_times(["a", "bcd"], 3.0)
    np.testing.assert_allclose(times, [[0, 1], [1, 3]])
    extractor = find_extractor("uniform_word_times")
    assert extractor.provenance().alignment == "uniform"
    assert extractor.extract_clip(Clip("a", text="one two", recorded=voice(1.0)))[-1, 1] == pytest.approx(1.0)


def test_frames_are_averaged_per_word():
    clip = Clip("a", text="one two three", recorded=voice(1.0))
    frames = find_extractor("opensmile_lld").extract_clip(clip)
    extractor = find_extractor("per_word", {"extractor": "opensmile_lld"})
    assert len(extractor.extract_clip(clip)) == 0
    words = (Word("one", 0.0, 0.2), Word("two", 0.2, 0.201), Word("three", 0.5, 9.0))
    values = extractor.extract_clip(replace(clip, words=words))
    np.testing.assert_allclose(values[0], frames[:20].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(values[1], frames[20])
    np.testing.assert_allclose(values[2], frames[50:].mean(axis=0), rtol=1e-5)
    guessed = find_extractor("per_word", {"extractor": "opensmile_lld", "unaligned": "uniform"})
    assert len(guessed.extract_clip(clip)) == 3
    assert guessed.provenance().alignment == "words or uniform"


def test_word_times_that_are_made_serve_the_streams_after_them(tmp_path: Path):
    clips = [Clip(f"u{n}", text="one two", recorded=voice(0.5 + n / 10)) for n in range(3)]
    requests = {
        "audio.words": StreamRequest(extractor="per_word", parameters={"extractor": "opensmile_lld"}),
        "text.word_times": StreamRequest(extractor="uniform_word_times"),
    }
    streams, aside = extract_streams(clips, requests, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    assert list(streams) == list(requests)
    assert streams["audio.words"].ragged.lengths.tolist() == [2, 2, 2]
    assert aside.empty
