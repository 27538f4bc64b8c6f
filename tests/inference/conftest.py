"""A voice whose pitch is its label, and a model of it that answers for recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demeanor.data.bundle import Bundle
from demeanor.data.examples import Examples
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.utterances import make_table
from demeanor.features.base import SAMPLE_RATE, to_int16
from demeanor.features.clips import WAVEFORM, clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.toy import SENTIMENT, toy_score


def voiced(folder: Path) -> Examples:
    """Utterances of 0.6 s, the higher the happier, spoken by two people in turn; with openSMILE's functionals."""
    generator = np.random.default_rng(0)
    rows, waves = [], {}
    for split, count in (("train", 32), ("valid", 10)):
        for n in range(count):
            label = float(np.round(generator.uniform(-3, 3), 1))
            name = f"{split}_{n}"
            rows.append({"utterance_id": name, "corpus": "tones", "split": split, "dialogue": split, "turn": n,
                         "speaker": f"{split}_{n % 2}", "text": "well", "sentiment": label})  # fmt: skip
            times = np.arange(round(0.6 * SAMPLE_RATE)) / SAMPLE_RATE
            pitch = 180 + 25 * label
            wave = sum(np.sin(2 * np.pi * pitch * k * times) / k for k in (1, 2, 3)) * 0.1
            waves[name] = to_int16(np.asarray(wave, dtype=np.float32))[:, None]
    table = make_table(rows)
    made = Provenance(extractor="waveform", version="1", rate=float(SAMPLE_RATE))
    streams = {WAVEFORM: Stream(WAVEFORM, Ragged.from_sequences(waves), made)}
    request = {
        "audio.functionals": StreamRequest(extractor="opensmile_functionals", parameters={"features": "eGeMAPSv02"})
    }
    more, _ = extract_streams(clips_of(table, folder, streams), request, folder / "cache", folder / "out", 1, False)
    return Examples.of(table, {**streams, **more})


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Examples]:
    """A model of the voice alone, and what it was trained on."""
    examples = voiced(tmp_path_factory.mktemp("voices"))
    settings = BranchSettings(
        system="audio_only", streams={"audio": "audio.functionals"},
        training=TrainingSettings(epochs=12, batch_size=8, threads=1, learning_rate=0.01),
    )  # fmt: skip
    return fit("voice", settings, SENTIMENT, examples, 1, toy_score, progress=False).bundle, examples
