"""Weakened validation: that share of one split's vectors, of no other split, the same ones every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demeanor.corpora.base import Card, Corpus
from demeanor.corpora.swap_noise import add_swap_noise
from demeanor.data.errors import InputError
from tests.toy import toy_examples


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    examples = toy_examples(train=20, valid=20, test=12)
    return Corpus("toy", examples.utterances, tmp_path, Card("Toy"), examples.streams)


def changed(corpus: Corpus, noisy: Corpus, stream: str) -> list[str]:
    pairs = zip(corpus.utterances["utterance_id"], corpus.utterances["split"], strict=True)
    before, after = corpus.streams[stream].ragged, noisy.streams[stream].ragged
    return [split for name, split in pairs if not np.array_equal(before[name], after[name])]


def test_a_share_of_valid_and_nothing_else(corpus: Corpus, tmp_path: Path):
    noisy = add_swap_noise(corpus, {"text.words": 0.4}, tmp_path)
    assert changed(corpus, noisy, "text.words") == ["valid"] * 8
    assert changed(corpus, noisy, "audio.frames") == []
    given = {values.tobytes() for values in corpus.streams["text.words"].ragged}
    assert all(values.tobytes() in given for values in noisy.streams["text.words"].ragged)
    again = add_swap_noise(corpus, {"text.words": 0.4}, tmp_path)
    np.testing.assert_array_equal(again.streams["text.words"].ragged.values, noisy.streams["text.words"].ragged.values)
    assert "8 of 20" in noisy.streams["text.words"].provenance.notes
    assert [finding.kind for finding in noisy.findings] == ["valid_swap_noise"]


def test_what_cannot_take_swap_noise_is_named(corpus: Corpus, tmp_path: Path):
    with pytest.raises(InputError) as caught:
        add_swap_noise(corpus, {"text.word": 0.1, "audio.frames": 1.5}, tmp_path)
    assert "Did you mean 'text.words'" in str(caught.value)
    assert "1.5" in str(caught.value)
    assert not list(tmp_path.iterdir())
