"""What an environment says of representations: one that is not enabled stands ready and is not learnt."""

from __future__ import annotations

import pytest

from demeanor.data.task import Tasks
from demeanor.pipelines.representation_learning import nodes
from demeanor.training.pretraining.settings import RepresentationSettings
from tests.toy import SENTIMENT, toy_examples

QUICK = RepresentationSettings(representation="principal_components", epochs=1)


@pytest.fixture(scope="module")
def development():
    return toy_examples(train=24, valid=12).split("train", "valid")


def test_what_is_not_enabled_is_not_learnt(development, tmp_path):
    ready = QUICK.model_copy(update={"enabled": False})
    settings = nodes.Representations({"learnt": QUICK, "ready": ready})
    bundles, history = nodes.pretrain_representations(development, settings, str(tmp_path))
    assert list(bundles) == ["learnt"]
    assert set(history["representation"]) == {"learnt"}
    assert "enabled" not in bundles["learnt"].card.protocol


def test_an_environment_may_learn_none_at_all(development, tmp_path):
    settings = nodes.Representations({"ready": QUICK.model_copy(update={"enabled": False})})
    bundles, history = nodes.pretrain_representations(development, settings, str(tmp_path))
    assert (bundles, list(history.columns), len(history)) == ({}, ["representation", "epoch"], 0)
    assert nodes.embed_development(development, bundles) == {}
    table, _ = nodes.probe_representations(development, {}, bundles, Tasks({"sentiment": SENTIMENT}))
    assert table.empty
