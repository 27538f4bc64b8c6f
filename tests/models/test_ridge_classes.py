"""Ridge classification against scikit-learn's, and as a branch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional

from demeanor.data.errors import InputError
from demeanor.models import find_system
from demeanor.models.ridge_classes import FACTORS, RidgeClasses, RidgeClassesSettings, best_factor, solve
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.models.examples import TASKS, build, example_batch, specification
from tests.toy import EMOTION, toy_examples, toy_score


def rows(count: int, width: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    target = np.concatenate([np.arange(3), generator.choice(3, count - 3, p=[0.6, 0.3, 0.1])])
    centres = generator.normal(0, 1, (3, width))
    return centres[target] + generator.normal(0, 1.5, (count, width)), target


@pytest.mark.parametrize(("count", "width"), [(60, 9), (25, 80)])
@pytest.mark.parametrize("balanced", [False, True])
def test_it_is_scikit_learns_on_indicators_and_leaves_each_row_out(count: int, width: int, balanced: bool):
    values, target = rows(count, width)
    weights = 1 / np.bincount(target)[target] if balanced else np.ones(count)
    weights = weights * count / weights.sum()
    found = solve(torch.from_numpy(values), torch.from_numpy(target), 3, 0.5, balanced)
    theirs = Ridge(alpha=0.5 * width).fit(values, np.eye(3)[target], sample_weight=weights)
    np.testing.assert_allclose(found.weight.numpy(), theirs.coef_, atol=1e-9)
    np.testing.assert_allclose(found.bias.numpy(), theirs.intercept_, atol=1e-9)
    for out in (0, 7, count - 1):
        rest = np.arange(count) != out
        alone = Ridge(alpha=0.5 * width).fit(values[rest], np.eye(3)[target[rest]], sample_weight=weights[rest])
        np.testing.assert_allclose(found.left_out[out].numpy(), alone.predict(values[out : out + 1])[0], atol=1e-8)


def test_scores_become_probabilities_that_fit_rows_left_out():
    values, target = rows(80, 12)
    found = solve(torch.from_numpy(values), torch.from_numpy(target), 3, 0.3, True)
    factor = best_factor(found.left_out, torch.from_numpy(target))
    assert FACTORS[0] < factor < FACTORS[-1]
    loss = [float(functional.cross_entropy(found.left_out * by, torch.from_numpy(target))) for by in (1.0, factor)]
    assert loss[1] < loss[0]


def test_a_branch_stays_as_it_was_solved_and_is_the_same_at_every_seed():
    examples = toy_examples(train=60, valid=12).split("train", "valid")
    branch = BranchSettings(
        system="ridge_classes", task="emotion", streams={"text": "text.words", "audio": "audio.frames"},
        training=TrainingSettings(epochs=2, threads=1),
    )  # fmt: skip
    one, two = (fit("r", branch, EMOTION, examples, seed, toy_score, progress=False) for seed in (1, 2))
    for name, values in one.bundle.tensors.items():
        np.testing.assert_array_equal(values, two.bundle.tensors[name], name)
    assert one.bundle.tensors["model.linear.weight"].any()
    assert RidgeClasses.parameter_groups(build("ridge_classes", "classification"), 1.0, 1.0)[0]["lr"] == 1.0
    assert RidgeClassesSettings().tuned is False


def test_steps_stand_side_by_side():
    settings = RidgeClassesSettings(steps={"audio": (1, 0)}, tuned=True)
    inputs = {"audio": specification("audio", RidgeClasses.card.roles["audio"])}
    system = find_system("ridge_classes")(settings, inputs, TASKS["classification"])
    assert system.linear.in_features == 2 * inputs["audio"].dimension
    batch = example_batch(build("ridge_classes", "classification"))
    wrong = find_system("ridge_classes")(RidgeClassesSettings(steps={"audio": (9,)}), inputs, TASKS["classification"])
    with pytest.raises(InputError, match=r"rows of \d steps; step 9 \(from 0\) is read"):
        wrong(batch)
    with pytest.raises(InputError, match="no stream for 'vision'"):
        find_system("ridge_classes")(RidgeClassesSettings(steps={"vision": (0,)}), inputs, TASKS["classification"])
