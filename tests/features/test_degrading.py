"""Clips made worse: by the amount that was asked for, the same way every time, and more of it for a larger amount."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.features.base import SAMPLE_RATE, Clip, Word, to_int16
from demeanor.features.degrading import DEGRADATIONS, Surroundings, degradations, errors, loudness
from tests.project import DEMO

SENTENCE = "well I really like the way that you said it to her"
WORDS = tuple(Word(word, 0.2 * place, 0.2 * place + 0.2) for place, word in enumerate(SENTENCE.split()))
ALL = frozenset({"text", "words", "audio", "video", "dialogue"})


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return to_int16((0.2 * np.sin(2 * np.pi * frequency * times)).astype(np.float32))


def clips(**changed: Any) -> list[Clip]:
    texts = [SENTENCE, "no never", "maybe some other day", "yes"]
    return [
        replace(Clip(f"c{n}", text=text, words=WORDS if n == 0 else None, recorded=tone(150.0 + 40 * n),
                     dialogue=tuple(texts), turn=n), **changed)
        for n, text in enumerate(texts)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["white", "babble"])
def test_noise_has_the_ratio_that_was_asked_for(kind: str):
    around = Surroundings(clips(), seed=3)
    before = around.clips[0].waveform
    assert before is not None
    differences = []
    for level in (20.0, 10.0):
        after = DEGRADATIONS[kind](around.clips, level, around)[0].waveform
        assert after is not None
        assert len(after) == len(before)
        difference = after - before
        assert 20 * np.log10(loudness(before) / loudness(difference)) == pytest.approx(level, abs=0.2)
        differences.append(difference / loudness(difference))
    # The same noise, louder: correlated but for the rounding to 16 bits.
    assert np.mean(differences[0] * differences[1]) > 0.99
    hard = DEGRADATIONS[kind](around.clips, -30.0, around)[0].waveform
    assert hard is not None
    assert np.abs(hard).max() <= 1.0


def test_the_same_seed_does_the_same_in_any_order_and_another_seed_does_not():
    def made(seed: int, order: int) -> dict[str, list[str]]:
        around = Surroundings(clips()[::order], seed)
        return {
            kind.name: sorted(one.content(ALL) for one in kind(around.clips, kind.levels[0], around))
            for kind in degradations(["white", "words", "misalignment"])
        }

    assert made(1, 1) == made(1, 1)
    assert made(1, 1)["white"] == made(1, -1)["white"]
    assert made(1, 1)["words"] == made(1, -1)["words"]
    assert made(1, 1)["white"] != made(2, 1)["white"]
    assert made(1, 1)["words"] != made(2, 1)["words"]
    assert made(1, 1)["misalignment"] == made(2, 1)["misalignment"], "there is nothing to draw"


def test_nobody_babbles_against_themselves():
    everybody = clips()
    around = Surroundings(everybody, 0, {"c0": "ann", "c1": "ann", "c2": "bob", "c3": "ann"})
    heard = np.fft.rfft(around.babble(everybody[0], SAMPLE_RATE))
    assert np.abs(heard).argmax() == 230, "the voice of c2, the only stranger"
    alone = Surroundings(everybody[:1], 0)
    with pytest.raises(InputError, match="no other voice"):
        DEGRADATIONS["babble"](everybody[:1], 0.0, alone)


def test_silence_and_absence_stay_what_they_are():
    quiet = clips(recorded=None)
    around = Surroundings(quiet)
    for name in ("white", "babble", "misalignment"):
        assert DEGRADATIONS[name](quiet, 0.0, around)[0].waveform is None
    assert DEGRADATIONS["words"]([Clip("c", text=None)], 0.8, around)[0].text is None


def test_late_sound_is_silence_first():
    around = Surroundings(clips())
    before, late = around.clips[0].waveform, DEGRADATIONS["misalignment"](around.clips, 0.25, around)[0].waveform
    assert before is not None
    assert late is not None
    assert not late[:4000].any()
    assert np.array_equal(late[4000:], before[:-4000])
    assert not DEGRADATIONS["misalignment"].make(around.clips[0], 9.0, around).waveform.any()  # type: ignore[union-attr]


def test_words_are_misheard_as_often_as_asked_and_keep_their_times():
    around = Surroundings(clips(), seed=5)
    long = " ".join(f"w{n}" for n in range(4000))
    heard = errors(long, 0, 0.4, around)
    right = {place for word, place in heard if word == f"w{place}"}
    too_many = len(heard) - len({place for _, place in heard})
    assert (4000 - len(right) + too_many) / 4000 == pytest.approx(0.4, abs=0.03)
    lesser = {place for word, place in errors(long, 0, 0.2, around) if word != f"w{place}"}
    assert lesser <= {place for word, place in heard if word != f"w{place}"}, "what is wrong at 20 % is at 40 %"
    for level in (0.4, 0.8):
        worse = DEGRADATIONS["words"](around.clips, level, around)[0]
        assert worse.words is not None
        assert worse.text is not None
        assert [word.text for word in worse.words] == worse.text.split()
        ends = [time for word in worse.words for time in (word.start, word.end)]
        assert ends == sorted(ends)
        assert all(word.end > word.start for word in worse.words)
        assert worse.dialogue[worse.turn] == worse.text
        assert worse.dialogue[1] != around.clips[0].dialogue[1]


def test_pictures_are_lost_one_after_the_other():
    path = sorted(DEMO.glob("Raw/*/*.mp4"))[0]
    clip = Clip("film", media=Path(path), end=1.0)
    around = Surroundings([clip], seed=1)
    whole = [time for time, _ in clip.frames(10.0)]
    shown = {}
    for share in (0.0, 0.25, 0.5, 1.0):
        worse = DEGRADATIONS["frames"]([clip], share, around)[0]
        shown[share] = {time for time, _ in pickle.loads(pickle.dumps(worse)).at_hand(True).frames(10.0)}
        assert worse.content(frozenset({"video"})) != clip.content(frozenset({"video"}))
        assert worse.content(frozenset({"audio"})) == clip.content(frozenset({"audio"}))
    assert shown[0.0] == set(whole) > shown[0.25] > shown[0.5]
    assert not shown[1.0]


def test_an_unknown_kind_is_named_with_the_nearest():
    with pytest.raises(InputError, match="white"):
        degradations(["whit"])
