"""The best that anybody could do on the demo corpus: the generator inverted exactly, metric by metric.

For each clip the posterior P(s | what the modalities show) is computed on the grid of sentiments by Bayes' rule
from the very probabilities in `latents`; each metric then gets the decision that is best for it in expectation:
the median for MAE, the mean for Corr, the likeliest class for Acc7 and for emotion, the likelier sign for Acc2.
No method that reads the words, the manner of the voice and the face can do better on average; on a given 140
clips it can be luckier, which the bootstrap intervals show.

Definitions. MAE: mean absolute error. Corr: Pearson's r. Acc7: equality after rounding to -3 .. 3.
Acc2 with zero: negative against the rest, all clips. Acc2 without zero: negative against positive, labels 0 left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from demeanor.corpora.demo import latents as model
from demeanor.corpora.demo.latents import EMOTIONS, GRID, KINDS, MODALITIES, Latents, View
from demeanor.data.files import read_json, write_json

SUBSETS: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "audio": ("audio",),
    "vision": ("vision",),
    "text + audio": ("text", "audio"),
    "text + vision": ("text", "vision"),
    "audio + vision": ("audio", "vision"),
    "all": MODALITIES,
}
CONTEXT = "all, whole dialogue"
"""All modalities of all turns of the dialogue, earlier and later ones: what a model with context may use."""
METRICS = ("MAE", "Corr", "Acc7", "Acc2 with zero", "Acc2 without zero", "emotion accuracy")
FIELD_NAMES = {
    "sentiment": {
        "MAE": "MAE",
        "Corr": "Corr",
        "Acc7": "Mult_acc_7",
        "Acc2 with zero": "Has0_acc_2",
        "Acc2 without zero": "Non0_acc_2",
    },
    "emotion": {"emotion accuracy": "accuracy"},
}
"""Task -> metric here -> its name in the field, under which scores of models stand."""
_RESAMPLES = 2000


def view_likelihood(view: View, modality: str) -> Float[np.ndarray, "kinds grid emotions"]:
    """P(view | kind, sentiment, emotion) of one modality; a density inside (-3, 3), a mass at either end."""
    suits = model.emotion_probabilities(np.array(view.value))
    shown = EMOTIONS.index(view.emotion)
    slopes = np.array([model.slope(kind, modality) for kind in KINDS])
    centre, spread = slopes[:, None] * GRID, model.NOISE[modality]
    if abs(view.value) < 3:
        value = norm.pdf(view.value, centre, spread)
    else:
        value = norm.cdf(-3, centre, spread) if view.value < 0 else norm.sf(3, centre, spread)
    fidelity = np.where(slopes > 0, model.EMOTION_FIDELITY, 0.0)
    emotion = np.repeat(((1 - fidelity) * suits[shown])[:, None], len(EMOTIONS), axis=1)
    emotion[:, shown] += fidelity
    if modality == "text":
        marked = np.array([model.marker_probability(kind, view.value) for kind in KINDS])
        value = value * (marked if view.marker else 1 - marked)[:, None]
    return value[:, :, None] * emotion[:, None, :]


def clip_likelihood(clip: Latents, modalities: tuple[str, ...]) -> Float[np.ndarray, "grid emotions"]:
    """P(emotion, what `modalities` show of the clip | sentiment); absent modalities say nothing."""
    table = model.kind_probabilities(GRID).T[:, :, None] * model.emotion_probabilities(GRID)[None]
    for modality in modalities:
        if modality not in clip.missing:
            table = table * view_likelihood(clip.views[modality], modality)
    return table.sum(axis=0)


def stationary_probabilities() -> Float[np.ndarray, " grid"]:
    """P(s_t) of a clip of which neither the turn nor the neighbours are known."""
    values, vectors = np.linalg.eig(model.transition_probabilities().T)
    weights = np.abs(np.real(vectors[:, np.argmax(np.real(values))]))
    return weights / weights.sum()


def posteriors(dialogues: list[list[Latents]], modalities: tuple[str, ...], context: bool = False):
    """P(s, emotion | views) per clip, [clips, grid, emotions], clips in dialogue order.

    With `context` the mood that persists is used as well, by the forward-backward recursion (Rabiner 1989).
    """
    prior = stationary_probabilities()
    results = []
    for dialogue in dialogues:
        tables = np.stack([clip_likelihood(clip, modalities) for clip in dialogue])
        weights = _smoothed(tables.sum(axis=2)) if context else np.broadcast_to(prior, tables.shape[:2])
        joint = weights[:, :, None] * tables
        results.append(joint / joint.sum(axis=(1, 2), keepdims=True))
    return np.concatenate(results)


def _smoothed(evidence: Float[np.ndarray, "turns grid"]) -> Float[np.ndarray, "turns grid"]:
    """What the other turns say about each turn's sentiment, its own evidence left out."""
    transition = model.transition_probabilities()
    before = np.empty_like(evidence)
    after = np.ones_like(evidence)
    before[0] = model.initial_probabilities()
    for turn in range(1, len(evidence)):
        message = (before[turn - 1] * evidence[turn - 1]) @ transition
        before[turn] = message / message.sum()
    for turn in range(len(evidence) - 2, -1, -1):
        message = transition @ (after[turn + 1] * evidence[turn + 1])
        after[turn] = message / message.sum()
    return before * after


def decide(posterior: Float[np.ndarray, "clips grid emotions"]) -> dict[str, np.ndarray]:
    """The best decision for each metric, see the head of this module.

    By name, one number, class or truth value for each clip [clips].
    """
    over_sentiment = posterior.sum(axis=2)
    classes = np.round(GRID).astype(int)
    by_class = np.stack([over_sentiment[:, classes == value].sum(axis=1) for value in range(-3, 4)], axis=1)
    negative = over_sentiment[:, GRID < 0].sum(axis=1)
    return {
        "median": GRID[(over_sentiment.cumsum(axis=1) < 0.5).sum(axis=1)],
        "mean": over_sentiment @ GRID,
        "class": by_class.argmax(axis=1) - 3,
        "not_negative": negative < 0.5,
        "positive": over_sentiment[:, GRID > 0].sum(axis=1) > negative,
        "emotion": posterior.sum(axis=1).argmax(axis=1),
    }


def score(decisions: dict[str, np.ndarray], labels: np.ndarray, emotions: np.ndarray) -> dict[str, float]:
    """`METRICS` of decisions against the planted truth.

    Decisions as of `decide`, labels from -3 to 3 and classes of emotions, all [clips].
    """
    signed = labels != 0
    return {
        "MAE": float(np.abs(decisions["median"] - labels).mean()),
        "Corr": float(np.corrcoef(decisions["mean"], labels)[0, 1]),
        "Acc7": float((decisions["class"] == np.round(labels)).mean()),
        "Acc2 with zero": float((decisions["not_negative"] == (labels >= 0)).mean()),
        "Acc2 without zero": float((decisions["positive"] == (labels > 0))[signed].mean()),
        "emotion accuracy": float((decisions["emotion"] == emotions).mean()),
    }


def ceilings(dialogues: list[list[Latents]]) -> dict[str, dict[str, Any]]:
    """Per subset of modalities: the metrics, and 95% bootstrap intervals over clips for MAE and Corr."""
    clips = [clip for dialogue in dialogues for clip in dialogue]
    labels = np.array([clip.sentiment for clip in clips])
    emotions = np.array([EMOTIONS.index(clip.emotion) for clip in clips])
    table: dict[str, dict[str, Any]] = {}
    for name, modalities in [*SUBSETS.items(), (CONTEXT, MODALITIES)]:
        decisions = decide(posteriors(dialogues, modalities, context=name == CONTEXT))
        table[name] = score(decisions, labels, emotions) | {"intervals": _intervals(decisions, labels, emotions)}
    return table


def _intervals(decisions: dict[str, np.ndarray], labels: np.ndarray, emotions: np.ndarray) -> dict[str, list[float]]:
    random = np.random.default_rng(0)
    draws: dict[str, list[float]] = {"MAE": [], "Corr": []}
    for _ in range(_RESAMPLES):
        chosen = random.integers(len(labels), size=len(labels))
        resampled = score({name: value[chosen] for name, value in decisions.items()}, labels[chosen], emotions[chosen])
        for metric, values in draws.items():
            values.append(resampled[metric])
    return {metric: np.percentile(values, [2.5, 97.5]).tolist() for metric, values in draws.items()}


def read_latents(folder: Path, split: str) -> list[list[Latents]]:
    """The planted truth of one split from `sidecar.json`, dialogue by dialogue in turn order."""
    dialogues: dict[str, list[tuple[int, Latents]]] = {}
    for entry in read_json(folder / "sidecar.json")["utterances"].values():
        if entry["split"] == split:
            views = {name: View(**view) for name, view in entry["views"].items()}
            kind = entry["contradiction"] or "sincere"
            clip = Latents(entry["sentiment"], entry["emotion"], kind, views, tuple(entry["missing"]))
            dialogues.setdefault(entry["dialogue"], []).append((entry["turn"], clip))
    return [[clip for _, clip in sorted(turns, key=lambda pair: pair[0])] for turns in dialogues.values()]


def compute_ceiling(folder: Path) -> dict[str, Any]:
    """What `ceiling.json` holds: the ceilings of the test split."""
    dialogues = read_latents(folder, "test")
    scores = ceilings(dialogues)
    return {
        "corpus": "synthetic demo corpus",
        "split": "test",
        "clips": sum(len(dialogue) for dialogue in dialogues),
        "metrics": list(METRICS),
        "ceilings": scores,
        "rows": {task: _rows(scores, names) for task, names in FIELD_NAMES.items()},
    }


def _rows(found: dict[str, dict[str, Any]], names: dict[str, str]) -> dict[str, dict[str, float]]:
    """The ceilings of one task as rows that stand below a table of systems."""
    labels = {name: "planted ceiling" if name == "all" else f"ceiling, {name}" for name in ["all", *SUBSETS]}
    return {label: {names[key]: found[row][key] for key in names} for row, label in labels.items()}


def write_ceiling(folder: Path) -> dict[str, Any]:
    """Compute and write `ceiling.json`."""
    result = compute_ceiling(folder)
    write_json(folder / "ceiling.json", result)
    return result


def markdown_table(result: dict[str, Any]) -> str:
    """The ceilings as the README shows them, with the 95% intervals of MAE and Corr."""
    lines = ["| " + " | ".join(["what is seen", *METRICS]) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for name in [*SUBSETS, CONTEXT]:
        row, cells = result["ceilings"][name], [name]
        for metric in METRICS:
            cell = f"{row[metric]:.3f}"
            if metric in row["intervals"]:
                low, high = row["intervals"][metric]
                cell += f" [{low:.3f}, {high:.3f}]"
            cells.append(cell)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
