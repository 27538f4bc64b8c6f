"""Ridge against scikit-learn's, and the text branches alone against the whole systems with the same weights."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import RidgeCV

from demeanor.models.mmml.text_only import MMMLText, MMMLTextSettings
from demeanor.models.ridge import STRENGTHS, Ridge, RidgeSettings, solve
from demeanor.models.self_mm_text import SelfMMText, SelfMMTextSettings
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.models.examples import build, example_batch
from tests.toy import SENTIMENT, toy_examples, toy_score


def test_ridge_is_scikit_learns_with_the_strength_that_leaves_one_out_best():
    generator = np.random.default_rng(3)
    values = generator.normal(2, 1, (60, 9))
    target = values @ generator.normal(0, 1, 9) + generator.normal(0, 3, 60) + 5
    weight, bias, strength = solve(torch.from_numpy(values), torch.from_numpy(target))
    theirs = RidgeCV(STRENGTHS.numpy()).fit(values, target)
    assert STRENGTHS[0] < strength < STRENGTHS[-1]
    assert strength == theirs.alpha_
    np.testing.assert_allclose(weight.numpy(), theirs.coef_, rtol=1e-8)
    np.testing.assert_allclose(bias.item(), theirs.intercept_, rtol=1e-8)


def test_a_ridge_branch_stays_as_it_was_solved_and_sees_train_alone():
    examples = toy_examples(train=60, valid=12).split("train", "valid")
    training = TrainingSettings(epochs=3, threads=1)
    branch = BranchSettings(system="ridge", streams={"text": "text.words"}, normalise=False, training=training)
    bundle = fit("ridge", branch, SENTIMENT, examples, 1, toy_score, progress=False).bundle
    train = examples.split("train")
    ragged = train.stream("text.words").ragged
    means = np.stack([ragged[n].mean(axis=0) for n in range(len(ragged))]).astype(np.float64)
    target = SENTIMENT.targets(train.utterances).astype(np.float64)
    weight, _, _ = solve(torch.from_numpy(means), torch.from_numpy(target))
    np.testing.assert_allclose(bundle.tensors["model.linear.weight"][0], weight.numpy(), atol=1e-5)
    # What nobody said is the mean of what was said.
    absent = bundle.tensors["model.absences.text.vector"]
    np.testing.assert_allclose(absent, means.mean(axis=0), atol=1e-5)
    assert Ridge.parameter_groups(build("ridge"), 1.0, 1.0)[0]["lr"] == 1.0, "tuned: it learns on"
    assert RidgeSettings().tuned is False


def test_mmmls_text_branch_is_the_head_t_of_the_whole():
    whole = build("mmml").eval()
    roles = ("text", "text_context")
    inputs = {role: whole.inputs[role] for role in roles}
    settings = MMMLTextSettings(text_configuration=whole.settings.text_configuration)
    alone = MMMLText(settings, inputs, whole.task).eval()
    alone.words.load_state_dict(whole.words.state_dict())
    alone.head.load_state_dict(whole.fusion.heads["text"].state_dict())
    batch = example_batch(whole)
    with torch.no_grad():
        torch.testing.assert_close(alone(batch).prediction, whole(batch).auxiliary["head_T"])


def test_self_mms_text_branch_is_the_head_of_the_whole():
    whole = build("self_mm").eval()
    settings = SelfMMTextSettings(text_dimension=8)
    alone = SelfMMText(settings, {"text": whole.inputs["text"]}, whole.task).eval()
    alone.head.load_state_dict(whole.heads["text"].state_dict())
    batch = example_batch(whole)
    with torch.no_grad():
        torch.testing.assert_close(alone(batch).prediction, whole(batch).auxiliary["prediction_text"])
