"""What the golden cases of Self-MM and its family share: batches on the surface, specifications, weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.provenance import Provenance
from demeanor.data.task import Task

LETTERS = {"fusion": "M", "text": "T", "audio": "A", "vision": "V"}
PROVENANCE = Provenance(extractor="mmsa-pickle", version="1", recomputable=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The golden numbers were made with one thread; Adam's first step turns the last digit of a tiny gradient into a
    step of the learning rate, so the order of summation counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def specification(
    stream: str, dimension: int, integer: bool = False, max_length: int | None = None
) -> InputSpecification:
    return InputSpecification(
        stream=stream, dimension=dimension, integer=integer, max_length=max_length, provenance=PROVENANCE
    )


def specifications(text: int | None, audio: int, vision: int, /, **max_lengths: int) -> dict[str, InputSpecification]:
    """text None: token ids."""
    words = ("text.tokens", 1, True) if text is None else ("text.words", text, False)
    return {
        "text": specification(*words, max_lengths.get("text")),
        "audio": specification("audio.frames", audio, max_length=max_lengths.get("audio")),
        "vision": specification("vision.frames", vision, max_length=max_lengths.get("vision")),
    }


def sentiment(limit: float = 3.0) -> Task:
    return Task(name="sentiment", kind="regression", column="sentiment", low=-limit, high=limit)


def padded(values: np.ndarray, lengths: np.ndarray | None = None) -> Padded:
    """lengths None: every step is real, as for those originals that take padding for data."""
    steps = np.arange(values.shape[1])[None]
    mask = np.ones(values.shape[:2], bool) if lengths is None else steps < np.asarray(lengths)[:, None]
    return Padded(torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(mask))


def tokens(text_bert: np.ndarray) -> Padded:
    """[B, 3, L] ids, mask, segments -> a token stream; segments are zero throughout these files."""
    assert not text_bert[:, 2].any()
    return Padded(torch.from_numpy(text_bert[:, 0].astype(np.int64)[..., None]), torch.from_numpy(text_bert[:, 1] > 0))


def batch_of(inputs: dict[str, Padded], target: np.ndarray, rows: np.ndarray | None = None, **labels: Any) -> Batch:
    count = len(target)
    number = torch.arange(count)
    named = {name: torch.from_numpy(np.asarray(value, np.float32).reshape(-1)) for name, value in labels.items()}
    return Batch(
        inputs,
        tuple(str(n) for n in range(count)),
        number if rows is None else torch.from_numpy(np.asarray(rows, np.int64)),
        number,
        torch.zeros(count, dtype=torch.long),
        torch.full((count,), -1),
        {"target": torch.from_numpy(np.asarray(target, np.float32).reshape(-1)), **named},
    )


def weights(path: Path, suffix: str) -> dict[str, torch.Tensor]:
    return load_file(path.with_name(f"{path.name.removesuffix('.npz')}.{suffix}.safetensors"))


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def close(found: Any, expected: np.ndarray, tolerance: float, what: str = "") -> None:
    """Largest absolute difference within the tolerance; NaN equals NaN."""
    if isinstance(found, torch.Tensor):
        found = found.detach().numpy()
    np.testing.assert_allclose(
        np.asarray(found).reshape(np.shape(expected)), expected, rtol=0, atol=tolerance, err_msg=what
    )
