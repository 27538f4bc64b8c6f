"""The voice: what pitch, range, pace, loudness and brightness say about the sentiment and the emotion.

The manner is relative to the speaker's own baseline and linear in the voice's view of the sentiment; an emotion
adds its own, smaller colouring. Word times are those of the synthesiser's own word events.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.signal import resample_poly

from demeanor.corpora.demo import synthesiser
from demeanor.corpora.demo.grammar import Sentence
from demeanor.corpora.demo.latents import View
from demeanor.corpora.demo.speakers import Voice
from demeanor.data.errors import DemeanorError

SAMPLE_RATE = 16000
_USUAL_RATE = 172
_USUAL_RANGE = 45
_USUAL_LOUDNESS = -24.0
_PARAMETER_PER_SEMITONE = 50 / 12
"""espeak-ng's pitch parameter spans one octave per 50 steps."""

# added to the manner: semitones, factor of range, factor of rate, decibels, brightness in decibels, tremor depth
_EMOTION_MANNER = {
    "neutral": (0.0, 1.0, 1.0, 0.0, 0.0, 0.0),
    "happiness": (0.6, 1.15, 1.03, 0.5, 1.0, 0.0),
    "sadness": (-1.0, 0.85, 0.87, -2.0, -1.5, 0.0),
    "anger": (0.3, 1.1, 1.10, 3.0, 1.5, 0.0),
    "fear": (1.6, 0.9, 1.06, -0.5, 0.0, 0.45),
    "disgust": (-0.8, 0.95, 0.92, 0.0, -1.0, 0.0),
    "surprise": (1.0, 1.25, 1.0, 0.5, 0.5, 0.0),
}
_TREMOR_HERTZ = 7.0


class SynthesiserError(DemeanorError):
    """Speech could not be made."""


@dataclass(frozen=True)
class Manner:
    """How something is said, relative to nobody: what the synthesiser and the filters get."""

    semitones: float
    range_factor: float
    rate_factor: float
    decibels: float
    brightness: float
    tremor: float


@dataclass(frozen=True)
class Speech:
    """Samples in [-1, 1] at `SAMPLE_RATE`, and the words with their start and end in seconds."""

    samples: Float[np.ndarray, " time"]
    words: tuple[tuple[str, float, float], ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / SAMPLE_RATE


def manner_of(view: View) -> Manner:
    """Pleased voices are higher, livelier, a little faster, louder and brighter; emotions add their colour."""
    semitones, range_factor, rate_factor, decibels, brightness, tremor = _EMOTION_MANNER[view.emotion]
    value = view.value
    return Manner(
        semitones=1.0 * value + semitones,
        range_factor=float(np.exp(0.28 * value)) * range_factor,
        rate_factor=(1 + 0.03 * value) * rate_factor,
        decibels=1.6 * value + decibels,
        brightness=2.0 * value + brightness,
        tremor=tremor,
    )


def require_synthesiser() -> None:
    """SynthesiserError where espeak-ng is not installed."""
    if synthesiser.library_name() is None:
        raise SynthesiserError(
            "making the demo corpus needs the espeak-ng library, which is not installed: "
            "apt-get install espeak-ng (Debian, Ubuntu) or brew install espeak-ng. "
            "Using the corpus that comes with Demeanor needs no synthesiser."
        )


def speak(sentence: Sentence, view: View, voice: Voice) -> Speech:
    """The sentence in the speaker's voice, as the voice's view of the sentiment has it."""
    require_synthesiser()
    manner = manner_of(view)
    request = {
        "text": sentence.text,
        "voice": voice.name,
        "rate": round(np.clip(_USUAL_RATE * voice.rate_factor * manner.rate_factor, 90, 300)),
        "pitch": round(np.clip(50 + _PARAMETER_PER_SEMITONE * (voice.pitch_semitones + manner.semitones), 0, 99)),
        "range": round(np.clip(_USUAL_RANGE * manner.range_factor, 3, 99)),
        "volume": 100,
        "word_gap": 0,
    }
    raw, rate, events = _synthesise(request)
    samples = resample_poly(raw, SAMPLE_RATE, rate)
    words = _word_times(sentence, events, raw, rate)
    samples = _tilt(samples, manner.brightness)
    samples = _tremble(samples, manner.tremor)
    return Speech(_set_loudness(samples, _USUAL_LOUDNESS + voice.loudness_decibels + manner.decibels), words)


def _synthesise(request: dict) -> tuple[np.ndarray, int, list[tuple[int, int]]]:
    command = [sys.executable, "-m", synthesiser.__name__]
    result = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, check=False, timeout=60)
    if result.returncode != 0:
        raise SynthesiserError(f"espeak-ng failed on {request}: {result.stderr.decode(errors='replace').strip()}")
    head, _, body = result.stdout.partition(b"\n")
    answer = json.loads(head)
    return (
        np.frombuffer(body, "<i2") / 32768.0,
        int(answer["rate"]),
        [tuple(event) for event in answer["words"]],
    )


def _word_times(
    sentence: Sentence, events: list[tuple[int, int]], raw: np.ndarray, rate: int
) -> tuple[tuple[str, float, float], ...]:
    """Starts from the word events; espeak-ng says some pairs ("of the") as one, which are cut by their letters."""
    positions = np.cumsum([0, *[len(piece) + 1 for piece in sentence.text.split()]])[:-1]
    loud = np.flatnonzero(np.abs(raw) > 10 ** (-45 / 20) * np.abs(raw).max())
    by_position = dict(events)
    known = {index: by_position[int(place)] for index, place in enumerate(positions) if int(place) in by_position}
    known |= {0: int(loud[0]), len(positions): int(loud[-1]) + 1}
    letters = np.cumsum([0, *[len(word) for word in sentence.words]])
    anchors = sorted(known)
    # Between two known starts, letters stand for time.
    edges = np.interp(letters, letters[anchors], [known[index] for index in anchors])
    words = []
    for word, start, end in zip(sentence.words, edges[:-1], edges[1:], strict=True):
        inside = loud[(loud >= start) & (loud < end)]
        last = inside[-1] + 1 if len(inside) else end
        words.append((word, round(float(start / rate), 3), round(float(last / rate), 3)))
    return tuple(words)


def _tilt(samples: np.ndarray, decibels: float) -> np.ndarray:
    """A smooth shelf around 1.2 kHz: the highs move up by `decibels` against the lows."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), 1.0) / 1200.0)
    gain = decibels / (1 + np.exp(-2.5 * octaves))
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(samples))


def _tremble(samples: np.ndarray, depth: float) -> np.ndarray:
    time = np.arange(len(samples)) / SAMPLE_RATE
    return samples * (1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * _TREMOR_HERTZ * time)))


def _set_loudness(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Root mean square of the voiced part at `decibels` below full scale, peaks bent softly."""
    loud = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
    scaled = samples * 10 ** (decibels / 20) / np.sqrt(np.mean(loud**2))
    return 0.98 * np.tanh(scaled / 0.98)
