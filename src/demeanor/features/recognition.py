"""Transcripts for recordings that have none: Whisper (Radford et al., 2022), or any speech-to-text model of the hub.

What is recognised is written into the utterances table once, with its maker in column `transcript`, so that text
streams, models and readers all see the same words. Without this step an utterance without transcript has no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import pandas as pd
from pydantic import Field

from demeanor.data.settings import Settings
from demeanor.features.base import SAMPLE_RATE, Clip

#: `generate` completes the model's own configuration while it runs.
_GENERATING = Lock()


class RecognitionSettings(Settings):
    """`model`: a local folder or a hub id, such as openai/whisper-small. Speech is read in pieces of 30 s."""

    model: str
    longest: int = Field(default=128, ge=1, description="new tokens per piece")
    together: int = Field(default=8, ge=1, description="pieces per pass")


def transcribe(clips: Sequence[Clip], settings: RecognitionSettings) -> list[str | None]:
    """One transcript per clip; None where there is no sound or nothing was understood. MediaError where a recording
    cannot be read. The most probable words are taken (no sampling), so that the same sound gives the same text."""
    import torch

    from demeanor.features.hub import load_model, load_processor, load_tokenizer

    processor, tokenizer = load_processor(settings.model), load_tokenizer(settings.model)
    model: Any = load_model(settings.model, "AutoModelForSpeechSeq2Seq")
    size = 30 * SAMPLE_RATE
    pieces: list[Any] = []
    owners: list[int] = []
    for n, clip in enumerate(clips):
        waveform = clip.without_cache().audible
        for start in range(0, 0 if waveform is None else len(waveform), size):
            assert waveform is not None
            pieces.append(waveform[start : start + size])
            owners.append(n)
    said: list[list[str]] = [[] for _ in clips]
    for start in range(0, len(pieces), settings.together):
        group = pieces[start : start + settings.together]
        inputs = processor(group, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
        with torch.inference_mode(), _GENERATING:
            ids = model.generate(inputs.to(model.device), max_new_tokens=settings.longest, do_sample=False, num_beams=1)
        for owner, text in zip(owners[start:], tokenizer.batch_decode(ids, skip_special_tokens=True), strict=False):
            said[owner].append(text.strip())
    return [" ".join(part for part in parts if part) or None for parts in said]


def fill_transcripts(utterances: pd.DataFrame, clips: Sequence[Clip], settings: RecognitionSettings) -> pd.DataFrame:
    """The table with `text` recognised where it was missing, and column `transcript`: "corpus", "recognised by
    <model> <hash>", or missing where there is no text at all. `clips` are those of the table, in its order."""
    from demeanor.features.hub import resolve

    table = utterances.copy()
    empty = [clip.spoken is None for clip in clips]
    found = transcribe([clip for clip, missing in zip(clips, empty, strict=True) if missing], settings)
    maker = f"recognised by {settings.model} {(resolve(settings.model).weights_sha256 or '')[:12]}".strip()
    texts, makers, recognised = [], [], iter(found)
    for clip, missing in zip(clips, empty, strict=True):
        text = next(recognised) if missing else clip.text
        texts.append(text)
        makers.append(None if text is None else maker if missing else "corpus")
    table["text"] = pd.array(texts, dtype="str")
    table["transcript"] = pd.array(makers, dtype="str")
    return table
