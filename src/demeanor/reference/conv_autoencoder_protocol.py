"""Labels, columns and downstream step of the convolutional autoencoder's authors, to the letter.

docs/systems/conv_autoencoder.md#labels, #downstream. `demeanor.evaluation.probe` is the protocol to use; this one is
for numbers that are to be compared with theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from demeanor.data.errors import InputError
from demeanor.evaluation.probe_models import choose_c, fit_logistic
from demeanor.evaluation.probe_scores import class_scores, confusion

EMOTIONS = ("Neutral", "Happy", "Sad", "Angry")
GRID = tuple(float(value) for value in np.logspace(-10, 2, 20))


def seven_classes(sentiment: float) -> int:
    """Class 0 to 6 of a sentiment in [-3, 3], rounded away from zero: (0, 1] -> 4, [-1, 0) -> 2, below -2 -> 0.
    InputError for NaN."""
    if math.isnan(sentiment):
        raise InputError("sentiment", ["a label is not a number"], "Leave utterances without a label out.")
    rounded = math.ceil(sentiment) if sentiment > 0 else math.floor(sentiment)
    return max(-3, min(3, rounded)) + 3


def two_classes(sentiment: float) -> int:
    """1 for a sentiment that is not negative: neutral counts as positive."""
    return int(seven_classes(sentiment) >= 3)


def emotion_class(one_hot: Sequence[Sequence[int]]) -> int | None:
    """Index in EMOTIONS of the first of four [absent, present] pairs that is present; None if none is."""
    return next((n for n, (_, present) in enumerate(one_hot) if present), None)


def reference_columns(
    modalities: Sequence[str], version: Literal["final", "2021-10-12"] = "final"
) -> list[tuple[int, int]]:
    """Which of the 409 columns the reference cut out for a set of modalities, its slips included.

    final       right for MOSEI and MOSI (audio, text, vision), wrong for IEMOCAP
    2021-10-12  right for IEMOCAP (audio, vision, text); next to the released modality checkpoints
    Both take vision alone for vision and text, and crash on audio alone, which is an InputError here.
    """
    wanted = frozenset(modalities)
    cuts: dict[frozenset[str], tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {
        frozenset(("audio", "vision", "text")): ([(0, 409)], [(0, 409)]),
        frozenset(("audio", "vision")): ([(0, 74), (374, 409)], [(0, 109)]),
        frozenset(("audio", "text")): ([(0, 374)], [(0, 74), (109, 409)]),
        frozenset(("vision", "text")): ([(374, 409)], [(74, 109)]),
        frozenset(("vision",)): ([(374, 409)], [(74, 109)]),
        frozenset(("text",)): ([(74, 374)], [(109, 409)]),
    }
    if wanted not in cuts:
        raise InputError(
            "modalities",
            [f"the reference has no columns for {', '.join(sorted(wanted)) or 'none'}"],
            "Its code crashes on audio alone (intended: 0:74). Select modalities by name in `word_matrix.streams`.",
        )
    return cuts[wanted][0 if version == "final" else 1]


def one_vs_rest(
    x_fit: Float[np.ndarray, "rows dimension"],
    y_fit: Int[np.ndarray, " rows"],
    x_test: Float[np.ndarray, "tests dimension"],
    y_test: Int[np.ndarray, " tests"],
    classes: int = len(EMOTIONS),
) -> list[dict[str, Any]]:
    """IEMOCAP: for each emotion a binary problem with C = 1, fitted on train and valid together.

    Per class: model, predicted [tests], accuracy, weighted_F1 (and UAR, macro_F1, which the reference leaves out).
    """
    per_class = []
    for n in range(classes):
        model = fit_logistic(x_fit, (y_fit == n).astype(np.int64), 1.0)
        predicted = model.predict(x_test)
        scores = class_scores(confusion((y_test == n).astype(np.int64), predicted, 2))
        per_class.append({"model": model, "predicted": predicted, **scores})
    return per_class


def binary_with_search(
    x_train: Float[np.ndarray, "rows dimension"],
    y_train: Int[np.ndarray, " rows"],
    x_valid: Float[np.ndarray, "rows2 dimension"],
    y_valid: Int[np.ndarray, " rows2"],
    x_test: Float[np.ndarray, "tests dimension"],
    y_test: Int[np.ndarray, " tests"],
    grid: Sequence[float] = GRID,
) -> dict[str, Any]:
    """MOSEI: C by weighted F1 on valid (the first of equal ones), fitted again on train and valid, scored on test.

    Labels are two_classes: negative or not. Gives C, valid_scores per C, model, predicted and the test's scores.
    """
    scores = [
        class_scores(confusion(y_valid, fit_logistic(x_train, y_train, c).predict(x_valid), 2))["weighted_F1"]
        for c in grid
    ]
    chosen = choose_c(scores, grid)
    model = fit_logistic(np.concatenate([x_train, x_valid]), np.concatenate([y_train, y_valid]), chosen)
    predicted = model.predict(x_test)
    return {
        "C": chosen,
        "valid_scores": scores,
        "model": model,
        "predicted": predicted,
        **class_scores(confusion(y_test, predicted, 2)),
    }
