"""The planted truth: sentiment, emotion, and what each modality gets to see of them.

The model is small and discrete on purpose, so that `ceiling` can invert it exactly:

    sentiment   s_1 .. s_n of a dialogue: a Markov chain on the grid -3, -2.8, ..., 3 (a mood that persists)
    emotion     e ~ P(e | s)
    kind        k ~ P(k | s): sincere, sarcasm (pleased words, displeased voice and face) or teasing (the reverse)
    value       v_m = clip(a(k, m) s + noise_m, -3, 3) with a = -1 for the words of contradictory clips, else 1
    emotion_m   the true emotion with probability `EMOTION_FIDELITY`, otherwise one that suits v_m
    marker      whether the words give sarcasm away ("oh great, another ...")
    missing     the voice or the face is absent, whatever the rest

for each modality m in text, audio and vision. Only v_m, emotion_m, the marker and the absence reach the media,
so nothing that is computed from the words, the voice's manner and the face can know more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

MODALITIES = ("text", "audio", "vision")
EMOTIONS = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
KINDS = ("sincere", "sarcasm", "teasing")

GRID = np.round(np.arange(-15, 16) * 0.2, 1)
"""All sentiments that exist; labels are these very values."""

PERSISTENCE = 0.5
SPREAD = 1.9
"""Autocorrelation from turn to turn, and standard deviation before the chain is cut to [-3, 3]."""

NOISE = {"text": 0.95, "audio": 1.5, "vision": 2.1}
"""Standard deviation of each modality's own noise, in units of sentiment."""

EMOTION_FIDELITY = 0.6
SARCASM_RATE, SARCASM_BELOW = 0.16, -0.5
TEASING_RATE, TEASING_ABOVE = 0.06, 0.5
MARKER_FROM = 0.4
"""Words must sound at least this pleased before they can carry a sarcastic marker."""
MARKER_RATE = {"sincere": 0.05, "sarcasm": 0.7, "teasing": 0.05}
MISSING_RATE = 0.045
"""Chance of a silent voice, and the same again of an absent face; never both in one clip."""

# weight, centre and width in sentiment of each emotion
_EMOTION_SHAPE = {
    "neutral": (1.3, 0.0, 0.8),
    "happiness": (1.6, 2.0, 1.0),
    "sadness": (1.0, -1.8, 0.9),
    "anger": (1.0, -2.2, 0.9),
    "fear": (0.8, -1.4, 0.8),
    "disgust": (0.8, -1.9, 0.8),
    "surprise": (0.7, 0.8, 1.2),
}


@dataclass(frozen=True)
class View:
    """What one modality shows of a clip: a value in [-3, 3], an emotion, and (words only) a sarcastic marker."""

    value: float
    emotion: str
    marker: bool = False


@dataclass(frozen=True)
class Latents:
    """The whole truth about one clip."""

    sentiment: float
    emotion: str
    kind: str
    views: dict[str, View]
    missing: tuple[str, ...] = field(default=())


def emotion_probabilities(sentiment: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n emotions"]:
    """P(emotion | sentiment), for the true pair and for what suits a modality's value alike."""
    columns = [
        weight * np.exp(-0.5 * ((np.asarray(sentiment) - centre) / width) ** 2)
        for weight, centre, width in (_EMOTION_SHAPE[emotion] for emotion in EMOTIONS)
    ]
    weights = np.stack(columns, axis=-1)
    return weights / weights.sum(axis=-1, keepdims=True)


def kind_probabilities(sentiment: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n kinds"]:
    """P(kind | sentiment): sarcasm needs displeasure to hide, teasing needs goodwill."""
    sarcasm = np.where(np.asarray(sentiment) <= SARCASM_BELOW, SARCASM_RATE, 0.0)
    teasing = np.where(np.asarray(sentiment) >= TEASING_ABOVE, TEASING_RATE, 0.0)
    return np.stack([1 - sarcasm - teasing, sarcasm, teasing], axis=-1)


def slope(kind: str, modality: str) -> float:
    """The sign with which a modality follows the sentiment."""
    return -1.0 if kind != "sincere" and modality == "text" else 1.0


def marker_probability(kind: str, value: float) -> float:
    """P(the words carry a sarcastic marker | kind, value of the words)."""
    return MARKER_RATE[kind] if value >= MARKER_FROM else 0.0


def initial_probabilities() -> Float[np.ndarray, " grid"]:
    """P(s_1)."""
    weights = np.exp(-0.5 * (GRID / SPREAD) ** 2)
    return weights / weights.sum()


def transition_probabilities() -> Float[np.ndarray, "grid grid"]:
    """P(s_t | s_t-1), rows by s_t-1."""
    spread = SPREAD * np.sqrt(1 - PERSISTENCE**2)
    weights = np.exp(-0.5 * ((GRID[None, :] - PERSISTENCE * GRID[:, None]) / spread) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def sample_dialogue(turns: int, random: np.random.Generator) -> list[Latents]:
    """Draw the truth of one dialogue, turn by turn."""
    transition = transition_probabilities()
    state = int(random.choice(len(GRID), p=initial_probabilities()))
    clips = []
    for turn in range(turns):
        if turn:
            state = int(random.choice(len(GRID), p=transition[state]))
        clips.append(_sample_clip(float(GRID[state]), random))
    return clips


def _sample_clip(sentiment: float, random: np.random.Generator) -> Latents:
    emotion = EMOTIONS[random.choice(len(EMOTIONS), p=emotion_probabilities(np.array(sentiment)))]
    kind = KINDS[random.choice(len(KINDS), p=kind_probabilities(np.array(sentiment)))]
    views = {}
    for modality in MODALITIES:
        noisy = slope(kind, modality) * sentiment + random.normal(0.0, NOISE[modality])
        value = round(float(np.clip(noisy, -3, 3)), 4)
        shown = emotion
        if random.random() >= EMOTION_FIDELITY or slope(kind, modality) < 0:
            shown = EMOTIONS[random.choice(len(EMOTIONS), p=emotion_probabilities(np.array(value)))]
        marker = modality == "text" and random.random() < marker_probability(kind, value)
        views[modality] = View(value, shown, bool(marker))
    draw = random.random()
    missing = ("audio",) if draw < MISSING_RATE else ("vision",) if draw < 2 * MISSING_RATE else ()
    return Latents(sentiment, emotion, kind, views, missing)
