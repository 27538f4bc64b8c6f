"""The page of trained here, tested there, from answers that are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demeanor.data.files import write_json
from tests.benchmarks.cross_corpus import STUDIES, Study, facts_of, page


def made_up(study: Study, corpora: tuple[str, ...], out: Path, revision: str) -> None:
    """Right where it learnt, without a clue elsewhere."""
    generator, parts = np.random.default_rng(1), []
    for seed in (0,):
        for corpus in study.corpora:
            number = np.arange(60)
            table = {"branch": "x", "seed": seed, "utterance_id": [f"{corpus}.{n}" for n in number], "corpus": corpus,
                     "dialogue": [f"{corpus}.{n // 4}" for n in number]}  # fmt: skip
            if study.task.kind == "regression":
                target = np.linspace(-2.5, 2.5, 60)
                table |= {"target": target, "prediction": target * (corpus in corpora) + generator.normal(0, 0.1, 60)}
            else:
                width = len(study.task.classes)
                said = number % width if corpus in corpora else 0 * number
                table |= {"target": number % width}
                table |= {f"prediction_{one}": (said == n) * 1.0 for n, one in enumerate(study.task.classes)}
            parts.append(pd.DataFrame(table))
    place = facts_of(out, study, corpora)
    pd.concat(parts, ignore_index=True).to_parquet(place.with_suffix(".parquet"))
    write_json(place, {"chosen": 0.01, "by": "x", "valid": 0.5, "constant": 0.0, "seconds": 6.0, "revision": revision,
                       "weights": dict.fromkeys(corpora, 1.0)})  # fmt: skip


def test_cells_say_what_is_own_at_chance_or_empty(tmp_path: Path):
    for study in STUDIES:
        for _, corpora in study.trainings():
            made_up(study, corpora, tmp_path, "0123456789ab")
    text = page(tmp_path)
    assert "code 0123456789ab. Words alone" in text
    emotion = text.partition("## Emotion")[2]
    rows = [line for line in emotion.splitlines() if line.startswith(("| meld", "| all of them"))]
    assert "| **1.000 [1.000, 1.000]** | 0.143 [0.143, 0.143], chance |" in " ".join(rows[0].split())
    assert rows[1].count("**1.000 [1.000, 1.000]**") == 2
    assert "constant 1.27" in text.partition("## Three sides")[0]
    assert "ravdess, because no map leads" in text
    place = facts_of(tmp_path, STUDIES[0], STUDIES[0].corpora)
    made_up(STUDIES[0], STUDIES[0].corpora, tmp_path, "unknown")
    assert place.is_file()
    with pytest.raises(SystemExit, match="name no revision"):
        page(tmp_path)
