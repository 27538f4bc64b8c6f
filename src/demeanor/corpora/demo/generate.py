"""Makes the corpus: plan, words, voices, faces, mp4 files, `label.csv`, `sidecar.json`, `ceiling.json`, README."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.corpora.demo import face, speech
from demeanor.corpora.demo.grammar import Sentence, compose
from demeanor.corpora.demo.latents import MODALITIES
from demeanor.corpora.demo.media import write_clip
from demeanor.corpora.demo.plan import Clip, plan_corpus
from demeanor.data.files import write_atomically, write_json

SIDECAR_FORMAT = "demeanor-demo-sidecar"
SIDECAR_VERSION = 1
MEDIA_FOLDER = "Raw"
_SHORTEST, _LONGEST = 2.0, 4.0
_LEAD, _TRAIL = 0.2, 0.2
_ROOM_NOISE = 10 ** (-68 / 20)
_MOST_WORDS = 12
LABEL_COLUMNS = (
    "video_id",
    "clip_id",
    "text",
    "label",
    "label_T",
    "label_A",
    "label_V",
    "annotation",
    "mode",
)


@dataclass(frozen=True)
class MadeClip:
    """What became of a planned clip: the sentence, and when its words are said (seconds from the clip's start)."""

    clip: Clip
    sentence: Sentence
    words: tuple[tuple[str, float, float], ...]
    duration: float


def generate(output: Path, seed: int, jobs: int = 1, only: int | None = None) -> list[MadeClip]:
    """Write the whole corpus to `output`, replacing what is there once all is made; `only` makes the first few clips.

    Raises SynthesiserError where espeak-ng is not installed.
    """
    from demeanor.corpora.demo.ceiling import write_ceiling
    from demeanor.corpora.demo.readme import write_readme

    speech.require_synthesiser()
    clips = plan_corpus(seed)[:only]
    with write_atomically(output) as folder:
        folder.mkdir(parents=True)
        for video_id in {clip.video_id for clip in clips}:
            (folder / MEDIA_FOLDER / video_id).mkdir(parents=True)
        make = partial(make_clip, folder=folder)
        if jobs == 1:
            made = [make(clip) for clip in clips]
        else:
            with ProcessPoolExecutor(jobs) as pool:
                made = list(pool.map(make, clips, chunksize=5))
        label_table(made).to_csv(folder / "label.csv", index=False, lineterminator="\n")
        write_json(folder / "sidecar.json", sidecar(made, seed))
        if only is None:
            write_ceiling(folder)
            write_readme(folder)
    return made


def make_clip(clip: Clip, folder: Path) -> MadeClip:
    """Words, voice and pictures of one clip, written under `folder`."""
    random = np.random.default_rng(clip.seed)
    latents = clip.latents
    view = latents.views["text"]
    most = _MOST_WORDS
    while True:
        sentence = compose(view.value, view.emotion, view.marker, clip.topic, most, random)
        spoken = speech.speak(sentence, latents.views["audio"], clip.speaker.voice)
        if spoken.duration + _LEAD + _TRAIL <= _LONGEST:
            break
        most = len(sentence.words) - 1
    duration = max(_SHORTEST, spoken.duration + _LEAD + _TRAIL)
    frames = int(min(np.ceil(duration * face.FRAME_RATE), _LONGEST * face.FRAME_RATE))
    samples = np.zeros(round(frames / face.FRAME_RATE * speech.SAMPLE_RATE))
    lead = round(_LEAD * speech.SAMPLE_RATE)
    samples[lead : lead + len(spoken.samples)] = spoken.samples[: len(samples) - lead]
    energy = face.speech_energy(samples, speech.SAMPLE_RATE, frames)
    pictures = face.film(
        clip.speaker.look, None if "vision" in latents.missing else latents.views["vision"], energy, random
    )
    samples = samples + _ROOM_NOISE * random.standard_normal(len(samples))
    if "audio" in latents.missing:
        samples = np.zeros_like(samples)
    path = folder / MEDIA_FOLDER / clip.video_id / f"{clip.clip_id}.mp4"
    write_clip(path, pictures, face.FRAME_RATE, samples, speech.SAMPLE_RATE)
    words = tuple((word, round(start + _LEAD, 3), round(end + _LEAD, 3)) for word, start, end in spoken.words)
    return MadeClip(clip, sentence, words, round(frames / face.FRAME_RATE, 4))


def label_table(made: list[MadeClip]) -> pd.DataFrame:
    """`label.csv`: one row per clip. A modality that is missing shows nothing, so its own label is 0."""
    rows = []
    for item in made:
        clip, latents = item.clip, item.clip.latents
        own = [
            0.0 if modality in latents.missing else round(latents.views[modality].value, 2) + 0.0
            for modality in MODALITIES
        ]
        sign = int(np.sign(latents.sentiment))
        annotation = {-1: "Negative", 0: "Neutral", 1: "Positive"}[sign]
        rows.append(
            (
                clip.video_id,
                clip.clip_id,
                item.sentence.text,
                latents.sentiment + 0.0,
                *own,
                annotation,
                clip.split,
            )
        )
    return pd.DataFrame(rows, columns=list(LABEL_COLUMNS))


def sidecar(made: list[MadeClip], seed: int) -> dict[str, Any]:
    """`sidecar.json`: what the table has no column for, the planted truth included."""
    return {
        "format": SIDECAR_FORMAT,
        "version": SIDECAR_VERSION,
        "synthetic": True,
        "seed": seed,
        "utterances": {f"{item.clip.video_id}_{item.clip.clip_id}": _entry(item) for item in made},
    }


def _entry(item: MadeClip) -> dict[str, Any]:
    clip, latents = item.clip, item.clip.latents
    views: dict[str, dict[str, Any]] = {
        modality: {"value": view.value, "emotion": view.emotion} for modality, view in latents.views.items()
    }
    views["text"]["marker"] = latents.views["text"].marker
    return {
        "video_id": clip.video_id,
        "clip_id": clip.clip_id,
        "split": clip.split,
        "speaker": clip.speaker.name,
        "dialogue": clip.video_id,
        "turn": clip.turn,
        "language": "en",
        "start": 0.0,
        "end": item.duration,
        "words": [list(word) for word in item.words],
        "sentiment": latents.sentiment,
        "emotion": latents.emotion,
        "contradiction": None if latents.kind == "sincere" else latents.kind,
        "missing": list(latents.missing),
        "views": views,
        "topic": clip.topic,
        "form": item.sentence.form,
        "text_value": round(item.sentence.value, 4),
    }
