"""Further tasks beside a system's own: learnt where their labels are, gone from what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.spec_sheet import sources
from demeanor.data.task import IGNORED, Tasks
from demeanor.inference.model import TrainedModel
from demeanor.models import SYSTEMS, find_system
from demeanor.models.blocks.auxiliary_heads import PLACE, give_heads, label_of, left_out_of, losses, why_not
from demeanor.pipelines.fusion_training.nodes import train_branch
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings
from tests.models.examples import build, example_batch
from tests.toy import EMOTION, SENTIMENT, toy_examples, toy_score

TRAINING = {"seeds": [1], "epochs": 2, "batch_size": 8, "threads": 1}
ABLE = [name for name in SYSTEMS if why_not(find_system(name)) is None]


def settings(**given) -> BranchSettings:
    return BranchSettings(**{"system": "text_only", "streams": {"text": "text.words"}, "training": TRAINING, **given})


def halved() -> Examples:
    """Numbers in the even rows, emotions in the odd ones."""
    examples = toy_examples().split("train", "valid")
    table = examples.utterances.copy()
    odd = np.arange(len(table)) % 2 == 1
    table.loc[odd, "sentiment"] = np.nan
    table.loc[~odd, "emotion"] = None
    return Examples.of(table, examples.streams)


@pytest.mark.parametrize("name", ABLE)
def test_a_system_that_can_learns_further_tasks_or_says_why_not(name):
    system = build(name)
    batch = example_batch(system)
    if system.eval()(batch).representation is None:
        with pytest.raises(InputError, match="gives no representation"):
            give_heads(system, {"emotion": EMOTION}, {"emotion": 0.5}, batch)
        return
    give_heads(system, {"emotion": EMOTION}, {"emotion": 0.5}, batch)
    labels = torch.arange(len(batch)) % 3
    output = system.train()(batch)
    terms = losses(system, output, replace(batch, labels={**batch.labels, label_of("emotion"): labels}))
    torch.testing.assert_close(terms["total"], terms["main"] + 0.5 * terms["also_emotion"])
    terms["total"].backward()
    head = getattr(system, PLACE).heads["emotion"]
    assert head.weight.grad is not None
    assert float(head.weight.grad.abs().sum()) > 0
    groups = system.parameter_groups(1e-3, 0.0)
    held = [id(value) for group in [*groups, *left_out_of(groups, system, 1e-3)] for value in group["params"]]
    assert {id(head.weight), id(head.bias)} <= set(held), "no optimiser moves the further head"
    assert len(held) == len(set(held))
    nobody = torch.full_like(labels, IGNORED)
    terms = losses(system, output, replace(batch, labels={**batch.labels, label_of("emotion"): nobody}))
    assert float(terms["also_emotion"].detach()) == 0.0


def test_the_text_branches_that_tune_an_encoder_are_able():
    assert {"mmml_text", "self_mm_text", "text_only", "audio_only"} <= set(ABLE)


def test_rows_of_either_task_are_learnt_from_and_the_answer_is_the_main_ones(tmp_path):
    examples = halved()
    both, tasks = settings(also=["emotion"]), Tasks({"sentiment": SENTIMENT, "emotion": EMOTION})
    bundles, history = train_branch("b", examples, both, tasks, str(tmp_path))
    (bundle,) = bundles.values()
    protocol = bundle.card.protocol
    assert (protocol["train"], protocol["valid"]) == (40, 8), "validation is of the main task alone"
    assert protocol["also"] == {"emotion": {"weight": 1.0, "train": 20}}
    assert "it learnt emotion (20 rows, weight 1) as well" in "\n".join(sources(protocol))
    assert history["train_also_emotion"].notna().all()
    assert not [name for name in bundle.tensors if PLACE in name], "a head that nobody asks is kept"
    assert TrainedModel.load(bundle).predict(examples).shape == (len(examples), 1)
    alone = fit("b", settings(), SENTIMENT, examples, 1, toy_score, progress=False).bundle
    assert alone.card.protocol["train"] == 20
    assert alone.tensors.keys() == bundle.tensors.keys()


def test_what_cannot_be_is_refused_with_the_reason(tmp_path):
    roles = {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}
    for given, told in (
        (
            {"system": "misa", "streams": roles, "also": ["emotion"]},
            "misa cannot learn emotion as well: .* a loss of its own",
        ),
        ({"system": "ridge", "also": ["emotion"]}, "closed form"),
        ({"also": ["sentiment"]}, "other tasks than sentiment"),
        ({"also": {"emotion": 0}}, "weights above 0"),
    ):
        with pytest.raises(ValueError, match=told):
            settings(**given)
    tasks = Tasks({"sentiment": SENTIMENT, "emotion": EMOTION})
    with pytest.raises(InputError, match="there is no task 'emotoin'"):
        train_branch("b", halved(), settings(also=["emotoin"]), tasks, str(tmp_path))
    with pytest.raises(InputError, match="'emotion' is not given"):
        fit("b", settings(also=["emotion"]), SENTIMENT, halved(), 1, toy_score, progress=False)
