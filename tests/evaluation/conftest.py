"""A small evaluation: one sentiment task, three systems of known order, three seeds each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from demeanor.data.task import Task
from demeanor.evaluation.metrics import score
from demeanor.evaluation.predictions import predictions_table
from demeanor.evaluation.receipts import Receipt


@dataclass(frozen=True)
class Evaluation:
    task: Task
    utterances: pd.DataFrame
    predictions: pd.DataFrame
    receipts: list[Receipt]


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    generator = np.random.default_rng(0)
    task = Task(name="sentiment", kind="regression", column="sentiment")
    n = 120
    utterances = pd.DataFrame(
        {
            "utterance_id": [f"u{i:03d}" for i in range(n)],
            "dialogue": [f"d{i // 10}" for i in range(n)],
            "sentiment": np.clip(1.5 * generator.normal(size=n), -3, 3).astype(np.float32),
        }
    )
    utterances.loc[5, "sentiment"] = np.nan
    truth = utterances["sentiment"].fillna(0.0).to_numpy()
    tables, receipts = [], []
    for branch, noise in {"weak": 1.3, "strong": 0.5, "strong_twin": 0.5}.items():
        shared = generator.normal(size=n)
        for seed in range(3):
            prediction = truth + noise * (0.9 * shared + 0.3 * generator.normal(size=n))
            tables.append(predictions_table(task, branch, seed, utterances, prediction))
            receipts.append(
                Receipt(
                    branch=branch,
                    system=f"{branch}_system",
                    task=task.name,
                    corpus="demo",
                    split="test",
                    seed=seed,
                    metrics=score(task, prediction, task.targets(utterances)),
                    n=n - 1,
                    data_hash="0123",
                    synthetic=True,
                )
            )
    return Evaluation(task, utterances, pd.concat(tables, ignore_index=True), receipts)
