"""A small corpus made in memory: every modality carries the label, with its own noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

from demeanor.data.examples import Examples
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.data.utterances import make_table

SENTIMENT = Task(
    name="sentiment",
    kind="regression",
    column="sentiment",
    unimodal={"text": "sentiment_text", "audio": "sentiment_audio", "vision": "sentiment_vision"},
)
EMOTION = Task(name="emotion", kind="classification", column="emotion", classes=("sad", "neutral", "happy"))
EMOTIONS = Task(name="emotions", kind="multilabel", column="emotions", classes=("sad", "happy"))
DIMENSIONS = {"text.words": 6, "audio.frames": 5, "vision.frames": 4}


def toy_examples(train: int = 40, valid: int = 16, test: int = 16, seed: int = 0, noise: float = 0.5) -> Examples:
    """Dialogues of four turns and two speakers; every ninth utterance lacks audio, every eleventh vision."""
    generator = np.random.default_rng(seed)
    rows: list[dict] = []
    sequences: dict[str, dict[str, np.ndarray]] = {name: {} for name in DIMENSIONS}
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        for n in range(count):
            label = float(np.round(generator.uniform(-3, 3), 1))
            name = f"{split}_{n:03d}"
            rows.append(
                {
                    "utterance_id": name,
                    "corpus": "toy",
                    "split": split,
                    "dialogue": f"{split}_{n // 4}",
                    "turn": n % 4,
                    "speaker": f"{split}_{n // 4}_{n % 2}",
                    "text": "a b c",
                    "sentiment": label,
                    "sentiment_text": label,
                    "sentiment_audio": label,
                    "sentiment_vision": label,
                    "emotion": ["sad", "neutral", "happy"][int(np.digitize(label, [-1, 1]))],
                    "emotions_sad": float(label < 0),
                    "emotions_happy": float(label > 0),
                }
            )
            for stream, width in DIMENSIONS.items():
                absent = (stream == "audio.frames" and n % 9 == 8) or (stream == "vision.frames" and n % 11 == 10)
                steps = 0 if absent else int(generator.integers(2, 9))
                values = generator.normal(0, noise, (steps, width))
                values[:, 0] += label / 2
                sequences[stream][name] = values.astype(np.float32)
    streams = {
        stream: Stream(
            stream,
            Ragged.from_sequences(by_id, dimension=DIMENSIONS[stream]),
            Provenance(extractor="toy", version="1", parameters={"stream": stream}),
        )
        for stream, by_id in sequences.items()
    }
    return Examples.of(make_table(rows), streams)


def toy_score(task: Task, prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """A metric that needs nothing of the evaluation layer."""
    if task.kind == "regression":
        return {"MAE": float(np.abs(prediction[:, 0] - target).mean())}
    if task.kind == "classification":
        return {"weighted_F1": float((prediction.argmax(1) == target).mean())}
    return {"macro_F1": float(((prediction > 0) == (target > 0)).mean())}


def table_of(examples: Examples) -> pd.DataFrame:
    return examples.utterances
