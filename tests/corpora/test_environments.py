"""Every environment in conf/ says something that the program understands, before any data are there."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml

from demeanor.corpora.base import CorpusSettings
from demeanor.corpora.doctor import DoctorSettings
from demeanor.data.task import Tasks
from demeanor.models import find_published
from demeanor.pipelines.branches import enabled
from demeanor.training.pretraining.settings import RepresentationSettings
from demeanor.training.settings import BranchSettings
from demeanor.training.tuning.settings import TuningSettings, branch_with
from tests.project import PROJECT, parameters_of

CONF = PROJECT / "conf"
ENVIRONMENTS = sorted(path.parent.name for path in CONF.glob("*/parameters.yml") if path.parent.name != "base")
ENVIRONMENTS = [name for name in ENVIRONMENTS if name != "local" and not name.endswith("_tuned")]
WANTED = {"demo", "mosi", "mosei", "sims", "simsv2", "iemocap", "meld", "mosi_utterances", "ravdess", "folder"}

parameters = cache(parameters_of)


@cache
def branch(environment: str, name: str) -> BranchSettings:
    return BranchSettings.model_validate(parameters(environment)["branches"][name])


def test_there_is_one_file_for_every_corpus():
    """What is the same for all stands in conf/base; an environment is one file of what differs."""
    assert set(ENVIRONMENTS) >= WANTED
    for environment in ENVIRONMENTS:
        assert [path.name for path in (CONF / environment).iterdir()] == ["parameters.yml"], environment


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_settings_are_understood(environment):
    found = parameters(environment)
    CorpusSettings.model_validate(found["corpus"])
    DoctorSettings.model_validate(found["doctor"])
    tasks = Tasks.model_validate(found["tasks"])
    # Those that stand ready without being enabled are understood, too.
    for name in found["branches"]:
        assert branch(environment, name).task in tasks.root
    assert enabled(found["branches"])
    for representation in found["representations"].values():
        RepresentationSettings.model_validate(representation)


@pytest.mark.parametrize("environment", sorted(set(ENVIRONMENTS) - {"demo"}))
def test_an_environment_takes_nothing_from_the_demo(environment):
    text = (CONF / environment / "parameters.yml").read_text(encoding="utf-8")
    assert {"corpus", "tasks", "branches"} <= set(yaml.safe_load(text))
    assert parameters(environment)["evaluation"]["ceiling"] is None
    assert "01_raw/demo" not in str(parameters(environment))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_streams_are_made_or_come_with_the_corpus(environment):
    found = parameters(environment)
    made = {name for modality in ("text", "audio", "vision") for name in found["features"][modality]}
    imported = {
        "mmsa_pickle": {"text.tokens", "text.words", "audio.frames", "vision.frames"},
        "mosi_utterances": {"text.sentence", "audio.functionals", "vision.functionals"},
    }.get(found["corpus"]["reader"], set())
    used = {stream for name in enabled(found["branches"]) for stream in branch(environment, name).streams.values()}
    assert used <= made | imported | {"audio.waveform"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_spaces_to_search_belong_to_branches(environment):
    found = parameters(environment)
    tuning = TuningSettings.model_validate(found["tuning"])
    assert tuning.corpus == environment
    named = set(tuning.space) & set(found["branches"])
    for name in named:
        values = {key: value.first for key, value in tuning.ranges(name).items()}
        branch_with(found["branches"][name], values, tuning.seeds)
    if "late_fusion" in found["branches"]:
        assert set(tuning.branches) <= named


#: Some of what is published, as it stands there: model and training settings of a system for a corpus.
PUBLISHED: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("mosi", "self_mm", {"encoder": "bert-base-uncased", "vision_hidden": 32, "label_limit": 3.0},
     {"seeds": (1111, 1112, 1113, 1114, 1115), "batch_size": 16, "gradient_accumulation": 4, "weight_decay": 1e-3,
      "optimiser": "adam", "clip_norm": None, "selection": "loss"}),
    ("mosei", "mult", {"dimension": 30, "heads": 6, "vision_kernel": 3, "causal": True},
     {"batch_size": 4, "plateau_patience": 20, "clip_value": 0.6, "learning_rate": 5e-4}),
    ("sims", "mfn", {"memory": 64, "update_dropout": 0.7}, {"batch_size": 32, "learning_rate": 1e-3}),
    ("sims", "tfr_net", {"encoder": "bert-base-chinese", "encoder_learning_rate": 1e-5}, {"patience": 6}),
    ("simsv2", "self_mm", {"label_limit": 3.0, "audio_learning_rate": 1e-3}, {"batch_size": 16}),
    ("simsv2", "mlmf", {"rank": 3, "text_weight": 5.0}, {"batch_size": 128, "weight_decay": 5e-3}),
    ("mosei_recordings", "mmml", {"text_context": 2, "audio_context": 1, "cache_gigabytes": 8.0},
     {"seeds": (1, 11, 111), "batch_size": 1, "learning_rate": 5e-6, "precision": "bfloat16"}),
    ("sims_recordings", "mmml", {"text_length": 64, "version": "v1"}, {"batch_size": 8, "learning_rate": 1e-5}),
    ("iemocap", "tab_fusion_published", {"encoder": "roberta-large", "audio_length": 1024}, {"weight_decay": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("environment", "name", "model", "training"), PUBLISHED)
def test_published_settings_are_those_of_the_source(environment, name, model, training):
    settings = branch(environment, name)
    assert {key: settings.model[key] for key in model} == model
    assert {key: getattr(settings.training, key) for key in training} == training
    assert find_published(settings.system).source


def test_what_a_branch_says_wins_over_what_was_published():
    block = {"system": "self_mm", "model": {"published": "mosi", "text_dropout": 0.3}, "training": {"epochs": 2}}
    settings = BranchSettings(**block, streams={"text": "text.words"})
    assert (settings.model["text_dropout"], settings.model["audio_dropout"]) == (0.3, 0.1)
    assert settings.streams == {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}
    assert (settings.training.epochs, settings.training.batch_size, settings.normalise) == (2, 16, False)
    assert "published" not in settings.as_dict()["model"]
    assert "enabled" not in settings.as_dict(), "a bundle keeps what was trained, not that it was"


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (
            {"system": "self_mm", "model": {"published": "mozi"}},
            "only for mosi, .*Did you mean 'mosi'",
        ),
        ({"system": "late_fusion", "model": {"published": "mosi"}}, "nothing is published for late_fusion"),
        ({"system": "selfmm", "model": {"published": "mosi"}, "streams": {}}, "there is no system 'selfmm'"),
    ],
)
def test_what_is_not_published_is_told(block, told):
    with pytest.raises(ValueError, match=told):
        BranchSettings(**block)
