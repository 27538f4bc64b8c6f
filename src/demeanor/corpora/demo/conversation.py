"""A longer recording: invented people talk, with a planted course of sentiment, silence, an overlap, and a stretch
without a face. What was planted stands beside it as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from demeanor.corpora.demo import face, speech
from demeanor.corpora.demo.grammar import compose
from demeanor.corpora.demo.latents import EMOTIONS, View, emotion_probabilities
from demeanor.corpora.demo.media import write_clip
from demeanor.corpora.demo.speakers import make_speakers
from demeanor.data.files import write_atomically, write_json

ROOM_NOISE = 10 ** (-68 / 20)
LEAD, PAUSE, LONG_SILENCE = 0.5, 0.9, 4.0
OVERLAP = 0.8
FORMAT = "demeanor-demo-conversation"


@dataclass(frozen=True)
class PlantedTurn:
    """Seconds in the recording, who speaks, what is said, and the sentiment that was planted."""

    start: float
    end: float
    speaker: str
    text: str
    sentiment: float
    emotion: str
    words: tuple[tuple[str, float, float], ...]
    face: bool = True


@dataclass(frozen=True)
class Conversation:
    """What was planted. `silence`: the long one; `faceless`: where nobody is in the picture; both in seconds."""

    duration: float
    turns: tuple[PlantedTurn, ...]
    silence: tuple[float, float]
    faceless: tuple[float, float]
    overlap: tuple[float, float]


def course(turns: int) -> np.ndarray:
    """[turns] sentiment of each turn: pleased, then a quarrel, then peace again."""
    return np.round(2.2 * np.cos(2 * np.pi * np.arange(turns) / max(turns - 1, 1)), 1)


def make_conversation(path: Path, turns: int = 20, people: int = 3, seed: int = 7) -> Conversation:
    """Write `path` (mp4) and what was planted in it (`path` with the ending .json).

    The people are those of the test split, whom no model of the demo knows. SynthesiserError without espeak-ng.
    """
    random = np.random.default_rng([seed, 11])
    cast = make_speakers(2)["test"][:people]
    planted, sounds, position = [], [], LEAD
    overlapped, faceless_turns = turns // 2, {turns // 2 + 2, turns // 2 + 3}
    # Not right before the overlap: that turn begins early, and would begin within the silence.
    silent_after = max(min(turns // 3, overlapped - 2), 0)
    silence = overlap = (0.0, 0.0)
    for number, sentiment in enumerate(course(turns)):
        who = cast[number % len(cast)]
        emotion = EMOTIONS[int(random.choice(len(EMOTIONS), p=emotion_probabilities(np.array(sentiment))))]
        view = View(float(sentiment), emotion)
        sentence = _sentence(view, random)
        spoken = speech.speak(sentence, view, who.voice)
        if number == overlapped:
            position -= PAUSE + OVERLAP
            overlap = (round(position, 3), round(position + OVERLAP, 3))
        start = round(position, 3)
        words = tuple((word, round(start + a, 3), round(start + b, 3)) for word, a, b in spoken.words)
        end = round(start + spoken.duration, 3)
        planted.append(
            PlantedTurn(
                words[0][1], words[-1][2], who.name, sentence.text, float(sentiment), emotion, words,
                number not in faceless_turns,
            )
        )  # fmt: skip
        sounds.append((start, spoken.samples))
        position = end + PAUSE
        if number == silent_after:
            silence = (planted[-1].end, round(position + LONG_SILENCE - PAUSE, 3))
            position += LONG_SILENCE - PAUSE
    duration = float(np.ceil((position + LEAD) * face.FRAME_RATE) / face.FRAME_RATE)
    samples = np.zeros(round(duration * speech.SAMPLE_RATE))
    for start, spoken_samples in sounds:
        place = round(start * speech.SAMPLE_RATE)
        samples[place : place + len(spoken_samples)] += spoken_samples
    pictures = _pictures(planted, cast, samples, duration, random)
    samples += ROOM_NOISE * random.standard_normal(len(samples))
    without = [turn for turn in planted if not turn.face]
    made = Conversation(duration, tuple(planted), silence, (without[0].start, without[-1].end), overlap)
    with write_atomically(path) as temporary:
        write_clip(temporary, pictures, face.FRAME_RATE, np.clip(samples, -1, 1), speech.SAMPLE_RATE)
    with write_atomically(path.with_suffix(".rttm")) as temporary:
        temporary.write_text(rttm_of(path.stem, planted), encoding="utf-8")
    write_json(path.with_suffix(".json"), {"format": FORMAT, "version": 1, "synthetic": True, **asdict(made)})
    return made


def rttm_of(name: str, turns: Sequence[PlantedTurn]) -> str:
    """Who speaks when, a line per turn."""
    return "".join(
        f"SPEAKER {name} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA> {turn.speaker} <NA> <NA>\n"
        for turn in turns
    )


def _sentence(view: View, random: np.random.Generator):
    from demeanor.corpora.demo.lexicon import TOPICS

    return compose(view.value, view.emotion, view.marker, str(random.choice(sorted(TOPICS))), 12, random)


def _pictures(planted, cast, samples, duration, random) -> list[np.ndarray]:
    """The camera is on whoever speaks, and stays there until somebody else begins."""
    frames = round(duration * face.FRAME_RATE)
    looks = {who.name: who.look for who in cast}
    energy = face.speech_energy(samples, speech.SAMPLE_RATE, frames)
    begins = [0, *(int(turn.start * face.FRAME_RATE) for turn in planted[1:]), frames]
    pictures: list[np.ndarray] = []
    for turn, first, last in zip(planted, begins[:-1], begins[1:], strict=True):
        view = View(turn.sentiment, turn.emotion) if turn.face else None
        pictures += face.film(looks[turn.speaker], view, energy[first:last], random) if last > first else []
    return pictures
