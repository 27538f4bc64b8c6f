"""How far a branch is to be taken at its word on clips that it has not seen, before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from demeanor.data.calibration import (
    Calibration,
    by_fit,
    calibrated_probabilities,
    class_sets,
    confidences,
    intervals,
    probabilities,
    subset_name,
)
from demeanor.data.task import Task
from demeanor.evaluation.calibration import (
    adaptive_calibration_error,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_curve,
)
from demeanor.evaluation.conformal import losses, presence_names
from demeanor.evaluation.coverage import coverage_in_mix, design_effect, expected_coverage
from demeanor.evaluation.metrics import labelled
from demeanor.evaluation.selective import augrc, aurc, coverage_at_risk, risk_at_coverage, risk_coverage

Array = NDArray[Any]
RISKS = (0.1, 0.2)


def trust(
    task: Task,
    outputs: ArrayLike,
    target: ArrayLike,
    names: ArrayLike,
    calibration: Calibration,
    groups: ArrayLike | None = None,
    mix: ArrayLike | None = None,
) -> dict[str, Any]:
    """Figures of one branch, means over its seeds.

    outputs  [S, N, outputs] head outputs; target as Task.targets; names [N] the modalities that each clip has
             (subset_name), by which its calibration is chosen
    groups   [N] what makes clips alike: their dialogues
    mix      [classes] how common each class is on validation, of a task of one of several classes

    n; coverage of the intervals or sets (the promised one is `promised`) with the 95 % interval of a binomial share of
    n clips; expected_low and expected_high, between which chance alone, the one of the calibration included, would have
    left it (demeanor.evaluation.coverage; not of any of several classes, whose labels come together), with the
    design_effect of `groups`; calibrated_on, validation's clips, and wrong_on_validation, its share of wrong answers;
    coverage_in_mix, the coverage if classes were as common as in `mix`; size: mean length of an interval, or mean
    number of classes in a set; AURC, AUGRC, coverage at a risk of 10 and 20 %, risk at a coverage of 80 % by calibrated
    confidence, where a wrong answer is as `losses` says; for classes ECE, adaptive ECE, Brier and NLL of calibrated
    probabilities, the same with `raw_` before them of uncalibrated ones, and raw_AURC of the raw confidence. NaN where
    undefined.
    """
    known, truth = labelled(task, np.asarray(target)), np.asarray(target)
    values, has = np.asarray(outputs, dtype=np.float64)[:, known], np.asarray(names, dtype=object)[known]
    truth = truth[known]
    rows = [_of_seed(task, one, truth, has, calibration) for one in values]
    mean = {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else ())}
    held = np.array([held_of(task, one, truth, has, calibration) for one in values]) if len(truth) else np.zeros((0, 0))
    low, high = binomial(held.mean(axis=0)) if held.size else (np.nan, np.nan)
    return {
        "n": len(truth), "seeds": len(values), "promised": calibration.coverage, **mean,
        "coverage_low": low, "coverage_high": high,
        **_expected(task, held, has, calibration, None if groups is None else np.asarray(groups)[known]),
        "wrong_on_validation": np.nan if calibration.pooled.wrong is None else calibration.pooled.wrong,
        "coverage_in_mix": np.nan if mix is None or not held.size else coverage_in_mix(held.mean(axis=0), truth, mix),
    }  # fmt: skip


def _expected(task: Task, held: Array, names: Array, calibration: Calibration, groups: Array | None) -> dict[str, Any]:
    """What chance leads to expect of held [S, N]."""
    made = {"calibrated_on": calibration.pooled.n, "expected_low": np.nan, "expected_high": np.nan}
    if task.kind == "multilabel" or not held.size:
        return {**made, "design_effect": np.nan}
    effect = np.nan if groups is None else design_effect(held.mean(axis=0), groups)
    parts = [(fit.n, len(rows)) for fit, rows in by_fit(calibration, names)]
    low, high = expected_coverage(calibration.coverage, parts, effect if np.isfinite(effect) else 1.0)
    return {**made, "expected_low": low, "expected_high": high, "design_effect": effect}


def binomial(held: Array) -> tuple[float, float]:
    """95 % interval (Wilson) of the share of clips that hold, [n] shares of seeds in which each does."""
    found = binomtest(round(float(np.nansum(held))), int((~np.isnan(held)).sum())).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


def held_of(task: Task, values: Array, target: Array, names: Array, calibration: Calibration) -> Array:
    """[N] 1 where the interval or set of an answer holds the label, else 0; any of several classes: the share of its
    labels that it holds, NaN for a clip without one."""
    if task.kind == "regression":
        low, high = intervals(task, values, calibration, names)
        # Labels are float32, and an interval may end exactly at one.
        return ((target >= low - 1e-6) & (target <= high + 1e-6)).astype(np.float64)
    sets = class_sets(task, calibrated_probabilities(task, values, calibration, names), calibration, names)
    if task.kind == "classification":
        return sets[np.arange(len(target)), target].astype(np.float64)
    there = np.nan_to_num(target) > 0
    with np.errstate(invalid="ignore"):
        return (sets & there).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)


def size_of(task: Task, values: Array, names: Array, calibration: Calibration) -> Array:
    """[N] length of the interval, or number of classes in the set, of each answer."""
    if task.kind == "regression":
        low, high = intervals(task, values, calibration, names)
        return high - low
    chances = calibrated_probabilities(task, values, calibration, names)
    return class_sets(task, chances, calibration, names).sum(axis=1).astype(np.float64)


def _of_seed(task: Task, values: Array, target: Array, names: Array, calibration: Calibration) -> dict[str, float]:
    sure, wrong = confidences(task, values, calibration, names), losses(task, values, target)
    held = held_of(task, values, target, names, calibration)
    made = {
        "coverage": float(np.nanmean(held)) if len(held) else float("nan"),
        "size": float(size_of(task, values, names, calibration).mean()) if len(values) else float("nan"),
        "wrong": float(wrong.mean()) if len(wrong) else float("nan"),
        "AURC": aurc(sure, wrong),
        "AUGRC": augrc(sure, wrong),
        **{f"coverage_at_risk_{risk:g}": coverage_at_risk(sure, wrong, risk) for risk in RISKS},
        "risk_at_coverage_0.8": risk_at_coverage(sure, wrong, 0.8),
    }
    if task.kind == "regression":
        # Without a calibration a number has no confidence but its distance from the middle of the scale.
        distance = np.abs(values[:, 0] - (task.low + task.high) / 2)
        return {**made, "raw_AURC": aurc(distance, wrong)}
    made["raw_AURC"] = aurc(confidences(task, values, None, names), wrong)
    for prefix, chances in (
        ("raw_", probabilities(task, values)),
        ("", calibrated_probabilities(task, values, calibration, names)),
    ):
        made[f"{prefix}ECE"] = expected_calibration_error(task, chances, target)
        made[f"{prefix}adaptive_ECE"] = adaptive_calibration_error(task, chances, target)
        made[f"{prefix}Brier"] = brier_score(task, chances, target)
    made["raw_NLL"] = negative_log_likelihood(task, values, target)
    made["NLL"] = negative_log_likelihood(task, tempered(values, names, calibration), target)
    return made


def tempered(values: Array, names: Array, calibration: Calibration) -> Array:
    """Logits [N, classes] divided by the temperature of each clip's modalities."""
    made = np.array(values, dtype=np.float64)
    for fit, rows in by_fit(calibration, names):
        made[rows] /= fit.temperature
    return made


def confidence_curve(
    task: Task, outputs: ArrayLike, target: ArrayLike, names: ArrayLike, calibration: Calibration, bins: int = 10
) -> pd.DataFrame:
    """`reliability_curve` of the calibrated confidence against being right, all seeds together; for a number, whose
    answer is right on the label's side of the scale's middle, as well. Arguments as `trust`."""
    known, truth = labelled(task, np.asarray(target)), np.asarray(target)
    values, has = np.asarray(outputs, dtype=np.float64)[:, known], np.asarray(names, dtype=object)[known]
    sure = np.concatenate([confidences(task, one, calibration, has) for one in values])
    right = 1.0 - np.concatenate([losses(task, one, truth[known]) for one in values])
    two = Task(name=task.name, kind="multilabel", column=task.column, classes=("right",))
    return reliability_curve(two, sure[:, None], right[:, None], bins)


def selective_curve(
    task: Task, outputs: ArrayLike, target: ArrayLike, names: ArrayLike, calibration: Calibration
) -> pd.DataFrame:
    """`risk_coverage` of the calibrated confidence, all seeds together. Arguments as `trust`."""
    known, truth = labelled(task, np.asarray(target)), np.asarray(target)
    values, has = np.asarray(outputs, dtype=np.float64)[:, known], np.asarray(names, dtype=object)[known]
    sure = np.concatenate([confidences(task, one, calibration, has) for one in values])
    return risk_coverage(sure, np.concatenate([losses(task, one, truth[known]) for one in values]))


def surer_without(
    task: Task,
    whole: ArrayLike,
    fewer: Sequence[tuple[ArrayLike, ArrayLike]],
    names: ArrayLike,
    calibration: Calibration,
) -> float:
    """Share of cases in which taking a modality away raises the confidence by more than 0.01.

    whole [N, outputs] with all modalities of each clip (names [N]); fewer: for each modality taken away its outputs and
    the names of what is left, "" for clips that do not count, because they lack it or are left with nothing.
    """
    before = confidences(task, np.asarray(whole, dtype=np.float64), calibration, np.asarray(names, dtype=object))
    risen, cases = 0, 0
    for outputs, rest in fewer:
        left = np.asarray(rest, dtype=object)
        after = confidences(task, np.asarray(outputs, dtype=np.float64), calibration, left)
        counted = left != ""
        risen += int((after[counted] > before[counted] + 0.01).sum())
        cases += int(counted.sum())
    return risen / cases if cases else float("nan")


def risen_confidence(
    task: Task, outputs: Mapping[str, ArrayLike], present: Mapping[str, ArrayLike], calibration: Calibration
) -> float:
    """`surer_without` over all modalities of `present` (modality -> [N] booleans), each of them taken away in turn.

    outputs  subset_name -> head outputs [N, outputs] with these modalities alone
    """
    there = {name: np.asarray(here, dtype=bool) for name, here in present.items()}
    fewer = []
    for lost, mine in there.items():
        rest = {name: here & (name != lost) for name, here in there.items()}
        counted = mine & np.any(list(rest.values()), axis=0)
        fewer.append((outputs[subset_name(set(there) - {lost})], np.where(counted, presence_names(rest), "")))
    return surer_without(task, outputs[subset_name(there)], fewer, presence_names(there), calibration)
