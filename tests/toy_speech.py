"""A small corpus of words and sound, made in memory: both carry the label."""

from __future__ import annotations

import numpy as np

from demeanor.data.examples import Examples
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.utterances import make_table
from demeanor.training.settings import BranchSettings, TrainingSettings

STREAMS = {"text": "text.tokens", "audio": "audio.waveform"}


def speech_examples(
    train: int = 25, valid: int = 10, absent: bool = False, longest: int = 700, seed: int = 0
) -> Examples:
    """Dialogues of five turns: token ids that begin with 2 and end with 3, and 16-bit samples.

    absent: every sixth utterance says nothing, every seventh makes no sound
    """
    generator = np.random.default_rng(seed)
    rows: list[dict] = []
    words: dict[str, np.ndarray] = {}
    sounds: dict[str, np.ndarray] = {}
    for split, count in (("train", train), ("valid", valid)):
        for n in range(count):
            label = float(np.round(generator.uniform(-3, 3), 1))
            name = f"{split}_{n:03d}"
            entry = {"utterance_id": name, "corpus": "toy", "split": split, "dialogue": f"{split}_{n // 5}"}
            rows.append({**entry, "turn": n % 5, "text": "a b c", "sentiment": label})
            said = [2, *generator.integers(10, 20, 3), 30 + round(label * 3), 3]
            words[name] = np.array([] if absent and n % 6 == 5 else said, dtype=np.int32)[:, None]
            heard = generator.normal(0, 1000 + 200 * label, generator.integers(300, longest))
            sounds[name] = np.array([] if absent and n % 7 == 6 else heard).astype(np.int16)[:, None]
    streams = {
        name: Stream(name, Ragged.from_sequences(values, 1, kind), Provenance(extractor="toy", version="1", rate=rate))
        for name, values, kind, rate in (
            ("text.tokens", words, np.int32, None),
            ("audio.waveform", sounds, np.int16, 16_000.0),
        )
    }
    return Examples.of(make_table(rows), streams)


def speech_branch(model: dict | None = None, **training) -> BranchSettings:
    """The tiny networks of the contract tests, without dropout."""
    from demeanor.models import find_system

    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    tiny = find_system("mmml").tiny().as_dict()
    tiny["audio_configuration"] |= still
    tiny["text_configuration"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    chosen = {"epochs": 3, "patience": 5, "batch_size": 8, "threads": 1, "device": "cpu", **training}
    return BranchSettings(
        system="mmml",
        streams=STREAMS,
        model={**tiny, "dropout": 0.0, **(model or {})},
        training=TrainingSettings(**chosen),
    )
