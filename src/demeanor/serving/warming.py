"""What a model is asked while it is loaded, so that the first caller does not wait for libraries, tables and weights.

Every modality is in it: a sentence, a second of voice and a face that moves, drawn as those of the demo corpus.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

SEED = 1


def first_rows() -> list[dict[str, Any]]:
    """Two turns of a conversation: one with words, voice and face, one with words alone."""
    whole: dict[str, Any] = {
        "text": "Well, I really like it.",
        "video_bytes": recording(),
        "start": 0.1,
        "language": "en",
    }
    other: dict[str, Any] = {"text": "So do I."}
    return [
        {**row, "dialogue": "warm", "turn": turn, "speaker": f"speaker {turn}"}
        for turn, row in enumerate((whole, other))
    ]


@cache
def recording(valence: float = 1.0, emotion: str = "happiness") -> bytes:
    """Content of an mp4 file of 1.5 s: a face that shows `emotion` and, from -3 to 3, `valence`."""
    import numpy as np

    from demeanor.corpora.demo import face
    from demeanor.corpora.demo.latents import View
    from demeanor.corpora.demo.media import write_clip
    from demeanor.corpora.demo.speakers import make_speakers

    random = np.random.default_rng(SEED)
    rate, frames = 16_000, 18
    time = np.arange(rate * frames // face.FRAME_RATE) / rate
    voice = sum(np.sin(2 * np.pi * 140 * harmonic * time) / harmonic for harmonic in range(1, 12))
    samples = 0.1 * voice * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)) + 0.001 * random.standard_normal(len(time))
    look = make_speakers(SEED)["train"][0].look
    pictures = face.film(look, View(valence, emotion), face.speech_energy(samples, rate, frames), random)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "first.mp4"
        write_clip(path, pictures, face.FRAME_RATE, samples, rate)
        return path.read_bytes()
