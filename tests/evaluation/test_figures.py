"""Figures: drawn without pyplot and without warnings, with the numbers that they show, from odd data too."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from demeanor.data.errors import InputError
from demeanor.data.task import Task
from demeanor.evaluation.calibration import reliability_curve
from demeanor.evaluation.comparison import compare
from demeanor.evaluation.curves import reliability_diagram, training_curves
from demeanor.evaluation.figures import (
    comparison_forest,
    confusion_matrix,
    modality_ablation_bars,
    regression_scatter,
)
from demeanor.evaluation.robustness import modality_ablation
from demeanor.pipelines.evaluation import create_pipeline
from demeanor.pipelines.evaluation.drawing import DRAWINGS, draws

MOSI = Task(name="sentiment", kind="regression", column="sentiment")
EMOTION = Task(name="emotion", kind="classification", column="emotion", classes=("neutral", "happy", "sad"))


def _drawn(figure: Figure) -> str:
    """Draw for real, warnings being errors; all texts of the figure."""
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(target, format="png", dpi=40)
    assert target.getvalue().startswith(b"\x89PNG")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    for axes in figure.axes:
        texts += [axes.get_title(), axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        texts += [tick.get_text() for tick in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    return "\n".join(texts)


def test_confusion():
    logits, target = np.eye(3)[[0, 0, 1, 2, 2, 0]], np.array([0, 0, 1, 2, 1, -1])
    text = _drawn(confusion_matrix(EMOTION, logits, target, title="emotion"))
    assert "neutral (2)" in text
    assert "50%\n1" in text
    assert "accuracy 0.800, UAR 0.833" in text
    _drawn(confusion_matrix(EMOTION, np.full((2, 3), np.nan), np.array([0, 1])))
    with pytest.raises(InputError, match="regression"):
        confusion_matrix(MOSI, np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("n", [0, 1, 100, 2000])
def test_scatter(n: int):
    generator = np.random.default_rng(0)
    target = generator.normal(size=n)
    text = _drawn(regression_scatter(MOSI, target + generator.normal(size=n), target, title="sentiment"))
    assert f"n = {n}" in text
    assert "MAE = " in text


def test_scatter_of_a_collapsed_model():
    assert "r = nan" in _drawn(regression_scatter(MOSI, np.array([1.0, 1.0, np.nan]), np.array([0.0, 1.0, 2.0])))


def test_forest(evaluation):
    table = compare(evaluation.task, evaluation.receipts, evaluation.predictions, train_target=np.array([0.0, 1.0]))
    figure = comparison_forest(evaluation.task, table, reference={"planted ceiling": 0.2}, title="sentiment")
    text = _drawn(figure)
    assert text.index("strong") < text.index("(train mean)")
    assert "lower is better" in text
    assert [line.get_text() for line in figure.legends[0].get_texts()] == ["planted ceiling"]
    assert "undefined" in _drawn(comparison_forest(evaluation.task, table, metric="Corr"))
    _drawn(comparison_forest(evaluation.task, table.iloc[:1]))


def test_ablation_bars():
    generator = np.random.default_rng(0)
    target = generator.normal(size=50)

    def predict(chosen):
        return [target + generator.normal(size=50) / len(subset) for subset in chosen]

    table = modality_ablation(MOSI, predict, target, ["text", "audio"], resamples=50)
    text = _drawn(modality_ablation_bars(table, metric="MAE", title="withheld"))
    assert "text + audio" in text
    assert f"({table['MAE'][1] - table['MAE'][0]:+.3f})" in text


def _history(branches: int, seeds: int, epochs: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"branch": f"b{b}", "seed": s, "epoch": e, "train_loss": 1 / e, "valid_MAE": 1 / e + 0.1 * s}
            for b in range(branches)
            for s in range(seeds)
            for e in range(1, epochs + 1)
        ],
        columns=["branch", "seed", "epoch", "train_loss", "valid_MAE"],
    )


@pytest.mark.parametrize(("branches", "seeds", "epochs"), [(1, 1, 1), (2, 3, 5), (5, 2, 4)])
def test_training_curves(branches: int, seeds: int, epochs: int):
    text = _drawn(training_curves(_history(branches, seeds, epochs), title="training"))
    assert all(f"b{b}" in text for b in range(branches))
    assert "valid MAE" in text


def test_training_curves_of_nothing_and_of_the_wrong_thing():
    assert "no training history" in _drawn(training_curves(_history(0, 0, 0)))
    with pytest.raises(InputError, match="valid_Corr"):
        training_curves(_history(1, 1, 1), metric="valid_Corr")
    unmeasured = _history(1, 2, 3).assign(valid_MAE=np.nan)
    _drawn(training_curves(unmeasured))


def test_reliability():
    chances = np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]])
    curve = reliability_curve(EMOTION, chances, np.array([0, 2]))
    assert "ECE = 0.300" in _drawn(reliability_diagram(curve, ece=0.3, title="valid"))


def test_pyplot_is_never_loaded():
    code = (
        "import sys, demeanor.evaluation.figures, demeanor.evaluation.curves, demeanor.evaluation.comparison;"
        "print([name for name in ('matplotlib.pyplot', 'torch', 'kedro', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_draws_a_figure_is_a_node():
    before = create_pipeline().all_outputs()
    assert {"evaluation.comparison_figure", "evaluation.reliability_figure"} <= before
    try:

        @draws("one", "other", of=["predictions"])
        def draw_two(predictions: pd.DataFrame) -> tuple[Figure, Figure]:
            return Figure(), Figure()

        assert create_pipeline().all_outputs() - before == {"evaluation.one_figure", "evaluation.other_figure"}
    finally:
        DRAWINGS.pop()
