"""Metrics against the golden numbers of self_mm, mmml, tab_fusion (over the whole set) and conv_autoencoder."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from demeanor.data.task import Task
from demeanor.evaluation.metrics import UndefinedMetricWarning, score
from demeanor.reference.mmsa_three_classes import score_three_classes
from tests.parity.golden import golden_file, golden_folder

RAW_TOLERANCE = 2e-6  # self_mm's golden README; the rounded values and mmml's are exact at four decimals


def _task(kind: str) -> Task:
    return Task(name=kind, kind="regression", column="sentiment", convention=kind)


def _load(system: str, arrays: str, expected: str) -> tuple[dict[str, np.ndarray], dict]:
    folder = golden_folder(system)
    if not (folder / arrays).exists() or not (folder / expected).exists():
        return {}, {}
    with np.load(folder / arrays) as stored:
        return dict(stored), json.loads((folder / expected).read_text())


SELF_MM, SELF_MM_EXPECTED = _load("self_mm", "metrics_cases.npz", "metrics_expected.json")
MMML, MMML_EXPECTED = _load("mmml", "metrics_inputs.npz", "metrics_expected.json")


def _numbers(expected: dict) -> dict[str, float]:
    return {name: float(value) for name, value in expected.items()}


def _measure(kind: str, prediction: np.ndarray, target: np.ndarray, decimals: int | None) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return score(_task(kind), prediction, target, decimals=decimals)


def _check_all_zero(kind: str, prediction: np.ndarray, target: np.ndarray) -> None:
    """Where no label is other than zero the published evaluator raises; here the Non0 pair is NaN, the rest scored."""
    with pytest.warns(UndefinedMetricWarning, match="Non0_acc_2"):
        found = score(_task(kind), prediction, target)
    assert not target.any()
    assert np.isnan(found["Non0_acc_2"])
    assert np.isnan(found["Non0_F1_score"])
    assert found["Has0_acc_2"] == np.mean(prediction >= 0)


@pytest.mark.parametrize("case", SELF_MM_EXPECTED or [pytest.param("absent", marks=pytest.mark.skip("no golden file"))])
def test_self_mm(case: str):
    prediction, target = SELF_MM[f"{case}__pred"], SELF_MM[f"{case}__true"]
    mode, kind = SELF_MM_EXPECTED[case]["evaluator"].split("/")
    raw, rounded = SELF_MM_EXPECTED[case]["raw"], SELF_MM_EXPECTED[case]["rounded"]
    if "error" in raw:
        return _check_all_zero(kind, prediction, target)
    if mode == "classification":
        found = score_three_classes(prediction, target, reference=True)
        found_rounded = {name: round(value, 4) for name, value in found.items()}
    else:
        found = _measure(kind, prediction, target, None)
        found_rounded = _measure(kind, prediction, target, 4)
    assert found == pytest.approx(_numbers(raw), abs=RAW_TOLERANCE, rel=0, nan_ok=True)
    assert found_rounded == pytest.approx(_numbers(rounded), abs=1e-9, rel=0, nan_ok=True)


@pytest.mark.parametrize("case", MMML_EXPECTED or [pytest.param("absent", marks=pytest.mark.skip("no golden file"))])
def test_mmml(case: str):
    kind, expected = case.split("/", maxsplit=1)[0], MMML_EXPECTED[case]
    if kind == "classification":
        found = score_three_classes(MMML[f"{case}/logits"], MMML[f"{case}/labels"], reference=True)
        rounded = {name: round(value, 4) for name, value in found.items()}
    else:
        prediction, target = MMML[f"{case}/pred"], MMML[f"{case}/true"]
        if "raises" in expected:
            return _check_all_zero(kind, prediction, target)
        rounded = _measure(kind, prediction, target, 4)
    assert rounded == pytest.approx(_numbers(expected), abs=1e-9, rel=0, nan_ok=True)


def _one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[np.asarray(classes, dtype=np.int64)]


def test_tab_fusion():
    stored = json.loads(golden_file("tab_fusion", "e_misc.json").read_text())["metrics"]
    task = Task(name="emotion", kind="classification", column="emotion", classes=("0", "1", "2", "3"))
    found = score(task, _one_hot(stored["p"], 4), np.array(stored["y"]))
    expected = {
        "accuracy": stored["true_WA"],
        "UAR": stored["true_UA"],
        "weighted_F1": stored["f1_weighted"],
        "macro_F1": stored["f1_macro"],
    }
    assert found == pytest.approx(expected, abs=1e-6, rel=0)


def test_conv_autoencoder():
    task = Task(name="one_of_two", kind="classification", column="emotion", classes=("without", "with"))
    with np.load(golden_file("conv_autoencoder", "downstream.npz")) as stored:
        pairs = [(stored["mosei/pred"], stored["mosei/y_test"], stored["mosei/acc_f1w"])]
        pairs += [
            (stored[f"iemocap/{emotion}/pred"], stored["iemocap/y_test"] == emotion, row)
            for emotion, row in enumerate(stored["iemocap/metrics_acc_f1w"])
        ]
    for prediction, target, expected in pairs:
        found = score(task, _one_hot(prediction, 2), target.astype(np.int64))
        assert [found["accuracy"], found["weighted_F1"]] == pytest.approx(list(expected), abs=1e-6, rel=0)
