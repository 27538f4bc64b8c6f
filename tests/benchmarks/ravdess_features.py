"""RAVDESS as the benchmarks of its voices read it: Whisper's layers, folds of speakers, statistics to choose among."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from demeanor.data.examples import Examples
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.data.utterances import make_table

PROJECT = Path(__file__).resolve().parents[2]
CLASSES = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
TASK = Task(name="emotion", kind="classification", column="emotion", classes=CLASSES)
STREAM, STATES, GATHERED = "audio.layers", "audio.states", "audio.gathered"
FOLDS = 4
WIDTH = 512
_WHISPER = {"model": "whisper-base", "apart": True}
#: Streams beside that of the environment, for probes and trials.
REQUESTS: Mapping[str, dict[str, Any]] = {
    STATES: {"extractor": "hf_speech_statistics", "parameters": {**_WHISPER, "layers": [0, 1, 2, 3, 4, 5, 6]}},
    GATHERED: {
        "extractor": "hf_speech_statistics",
        "parameters": {**_WHISPER, "layers": [1, 2, 3, 4, 5, 6], "read": "attention"},
    },
}

Values = np.ndarray
#: name -> what is made of [N, 6, 1024]: mean, then deviation, of what the heads of layers 1 to 6 gather
ATTENTION: Mapping[str, Callable[[Values], Values]] = {
    **{f"attention of layer {n}": lambda x, n=n: x[:, n - 1] for n in range(1, 7)},
    **{
        f"attention of layers {first}-{last}": lambda x, a=first, b=last: x[:, a - 1 : b].reshape(len(x), -1)
        for first, last in ((2, 4), (2, 5), (2, 6), (3, 4), (3, 5), (3, 6))
    },
    "attention of layers 2-5, means": lambda x: x[:, 1:5, :WIDTH].reshape(len(x), -1),
}
#: name -> what is made of [N, 7, 1024]: mean, then deviation, of what enters layers 0 to 5 and of what leaves the last
STATISTICS: Mapping[str, Callable[[Values], Values]] = {
    "mean of layers 3-6 (the probe's)": lambda x: x[:, 3:7].mean(axis=1),
    "mean of layers 3-6, means alone": lambda x: x[:, 3:7, :WIDTH].mean(axis=1),
    "mean of layers 3-6, deviations alone": lambda x: x[:, 3:7, WIDTH:].mean(axis=1),
    "mean of layers 2-4": lambda x: x[:, 2:5].mean(axis=1),
    "mean of layers 2-5": lambda x: x[:, 2:6].mean(axis=1),
    **{f"layer {n}": lambda x, n=n: x[:, n] for n in range(7)},
    **{
        f"layers {first}-{last} side by side": lambda x, a=first, b=last: x[:, a : b + 1].reshape(len(x), -1)
        for first, last in ((0, 6), (1, 5), (2, 4), (2, 5), (2, 6), (3, 4), (3, 6))
    },
    "layers 2-4 side by side, means alone": lambda x: x[:, 2:5, :WIDTH].reshape(len(x), -1),
}


def environment() -> dict[str, Any]:
    """Branch and extractor are those of the environment: one place for settings."""
    return yaml.safe_load((PROJECT / "conf" / "ravdess" / "parameters.yml").read_text(encoding="utf-8"))


def extract(ravdess: Path, name: str, cache: Path) -> Stream:
    """[layers, 1024] per clip: mean and deviation of some of Whisper base's layers over what is spoken, by the
    product's own extraction; what is in the cache is not made again. `name` is the environment's or of REQUESTS."""
    from demeanor.features.base import Clip
    from demeanor.features.engine import StreamRequest, extract_streams

    clips = [Clip(path.stem, media=path) for path in sorted(ravdess.glob("Actor_*/*.*"))]
    if not clips:
        raise SystemExit(f"no Actor_*/* under {ravdess}: give RAVDESS' speech files with --ravdess")
    request = REQUESTS[name] if name in REQUESTS else environment()["features"]["audio"][name]
    streams, _ = extract_streams(clips, {name: StreamRequest(**request)}, cache, cache / "streams", workers=1)
    return streams[name]


def known(stream: Stream) -> list[str]:
    """Names of the clips in which something is heard."""
    return [name for name in sorted(stream.ragged.ids) if len(stream.ragged[name])]


def fields(name: str) -> list[int]:
    """RAVDESS names: modality-channel-emotion-intensity-statement-repetition-actor."""
    return [int(value) for value in name.split("-")]


def parts_of(speakers: list[int], fold: int) -> dict[int, str]:
    """Speaker -> split, in one of the four folds."""
    folds = np.array_split(np.random.default_rng(0).permutation(np.unique(speakers)), FOLDS)
    rest = [speaker for speaker in sorted(set(speakers)) if speaker not in folds[fold]]
    valid = rest[fold::4][:3]
    return {s: "valid" if s in valid else "train" if s in rest else "test" for s in sorted(set(speakers))}


def examples_of(names: list[str], stream: Stream, splits: dict[int, str]) -> Examples:
    """Clips by name, with the splits of their speakers; speakers without one are left out."""
    rows = [
        {
            "utterance_id": name, "corpus": "ravdess", "split": splits[fields(name)[6]], "dialogue": name, "turn": 0,
            "speaker": str(fields(name)[6]), "emotion": CLASSES[fields(name)[2] - 1],
        }
        for name in names if fields(name)[6] in splits
    ]  # fmt: skip
    return Examples.of(make_table(rows), {stream.name: stream})


def softmax(outputs: np.ndarray) -> np.ndarray:
    shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
