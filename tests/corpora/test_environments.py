"""Every environment in conf/ says something that the program understands, before any data are there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from demeanor.corpora.base import CorpusSettings
from demeanor.corpora.doctor import DoctorSettings
from demeanor.data.task import Tasks
from demeanor.training.pretraining.settings import RepresentationSettings
from demeanor.training.settings import BranchSettings
from demeanor.training.tuning.settings import TuningSettings, branch_with

CONF = Path(__file__).resolve().parents[2] / "conf"
ENVIRONMENTS = sorted(path.parent.name for path in CONF.glob("*/parameters_ingestion.yml"))
PARTS = ("ingestion", "feature_engineering", "representation_learning", "fusion_training", "evaluation")
WANTED = {"base", "mosi", "mosei", "sims", "simsv2", "iemocap", "meld", "mosi_utterances", "ravdess", "folder"}


def load(environment: str) -> dict:
    found: dict = {}
    for part in PARTS:
        path = CONF / environment / f"parameters_{part}.yml"
        assert path.is_file(), f"{path} is missing: the values of conf/base, made for the demo, would be taken"
        found |= yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def test_there_is_one_for_every_corpus():
    assert set(ENVIRONMENTS) >= WANTED


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_settings_are_understood(environment):
    parameters = load(environment)
    CorpusSettings.model_validate(parameters["corpus"])
    DoctorSettings.model_validate(parameters["doctor"])
    tasks = Tasks.model_validate(parameters["tasks"])
    for branch in parameters["branches"]:
        settings = BranchSettings.model_validate(parameters[branch])
        assert settings.task in tasks.root
    # Branches that stand ready without being named are understood, too.
    for block in parameters.values():
        if isinstance(block, dict) and "system" in block:
            BranchSettings.model_validate(block)
    for representation in parameters["representations"].values():
        RepresentationSettings.model_validate(representation)


@pytest.mark.parametrize("environment", sorted(set(ENVIRONMENTS) - {"base"}))
def test_streams_are_made_or_come_with_the_corpus(environment):
    parameters = load(environment)
    assert yaml.safe_load((CONF / environment / "globals.yml").read_text())["corpus"] == environment
    made = {name for modality in ("text", "audio", "vision") for name in parameters["features"][modality]}
    imported = {
        "mmsa_pickle": {"text.tokens", "text.words", "audio.frames", "vision.frames"},
        "mosi_utterances": {"text.sentence", "audio.functionals", "vision.functionals"},
    }.get(parameters["corpus"]["reader"], set())
    used = {stream for branch in parameters["branches"] for stream in parameters[branch]["streams"].values()}
    assert used <= made | imported | {"audio.waveform"}


@pytest.mark.parametrize("path", sorted(CONF.glob("*/parameters_tuning.yml")), ids=lambda path: path.parent.name)
def test_spaces_to_search_belong_to_branches(path):
    text = path.read_text(encoding="utf-8").replace("${globals:corpus}", path.parent.name)
    tuning = TuningSettings.model_validate(yaml.safe_load(text)["tuning"])
    parameters = load(path.parent.name)
    for branch in tuning.space:
        values = {name: value.first for name, value in tuning.ranges(branch).items()}
        branch_with(parameters[branch], values, tuning.seeds)
    assert set(tuning.branches) <= set(parameters["branches"])
