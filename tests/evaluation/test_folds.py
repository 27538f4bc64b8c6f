"""Tables over folds: every session by itself, mean and deviation over sessions, and what does not belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.evaluation.folds import fold_table, main, read_folds
from demeanor.evaluation.receipts import Receipt


def receipt(fold: int, seed: int, value: float, branch: str = "tab", modalities: tuple[str, ...] = ()) -> dict:
    made = Receipt(
        branch=branch, system="tab_fusion", task="emotion", corpus="iemocap", split="test", seed=seed,
        metrics={"accuracy": value, "UAR": value + 0.01}, n=100 + fold, data_hash=f"data{fold}", modalities=modalities,
    )  # fmt: skip
    return made.as_dict()


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    values = {1: (0.6, 0.7), 2: (0.5, 0.6), 3: (0.8, 0.8)}
    made = []
    for fold, scores in values.items():
        entries = [receipt(fold, seed, value) for seed, value in enumerate(scores)]
        entries.append(receipt(fold, 0, 0.1, modalities=("text",)))
        path = tmp_path / f"session_{fold}.json"
        path.write_text(json.dumps(entries))
        made.append(path)
    return made


def test_rows_and_the_mean_over_folds(paths: list[Path], capsys: pytest.CaptureFixture[str]):
    lines = fold_table(read_folds(paths), "emotion", "tab", ["accuracy", "UAR"])
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["fold", "seeds", "utterances", "accuracy", "UAR"]
    assert cells[2] == ["session_1", "2", "101", "0.650", "0.660"]
    means = np.array([0.65, 0.55, 0.8])
    assert cells[-1][3] == f"{means.mean():.3f} ± {means.std(ddof=1):.3f}"
    main([*map(str, paths), "--metrics", "accuracy"])
    shown = capsys.readouterr().out
    assert "tab, emotion" in shown
    assert "session_3" in shown


def test_what_does_not_belong_together(paths: list[Path], tmp_path: Path):
    folds = read_folds(paths)
    with pytest.raises(InputError, match="no receipt of other on emotion"):
        fold_table(folds, "emotion", "other", ["accuracy"])
    with pytest.raises(InputError, match="has no macro_F1"):
        fold_table(folds, "emotion", "tab", ["accuracy", "macro_F1"])
    copied = {"a": folds["session_1"], "b": folds["session_1"]}
    with pytest.raises(InputError, match="copied twice"):
        fold_table(copied, "emotion", "tab", ["accuracy"])
    (tmp_path / "broken.json").write_text("[{}]")
    with pytest.raises(InputError) as caught:
        read_folds([tmp_path / "broken.json", tmp_path / "none.json"])
    assert len(caught.value.problems) == 2
