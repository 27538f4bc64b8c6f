"""Calibrated, withheld and explained answers of a trained model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from demeanor.commands.predict import words_alone
from demeanor.data.bundle import Bundle
from demeanor.data.calibration import CalibrationSettings
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.inference.describe import as_text, columns_of, records_of
from demeanor.inference.model import TrainedModel
from demeanor.training.calibrating import calibrate
from demeanor.training.fit import fit, sealed
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.toy import EMOTION, SENTIMENT, toy_examples, toy_score

STREAMS = {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}


@pytest.fixture(scope="module")
def examples() -> Examples:
    return toy_examples(train=60, valid=40, test=20)


def trained(examples: Examples, task, **calibration) -> Bundle:
    settings = BranchSettings(
        system="late_fusion", streams=STREAMS, calibration=CalibrationSettings(least=20, **calibration),
        training=TrainingSettings(epochs=8, batch_size=16, threads=1, modality_dropout=0.3, learning_rate=0.01),
    )  # fmt: skip
    development = examples.split("train", "valid")
    made = fit("fusion", settings, task, development, 1, toy_score, progress=False)
    valid = sealed(development, task)[1]
    inputs = made.bundle.card.inputs
    return made.bundle.calibrated(calibrate(task, inputs, valid, [1], [made.subsets], settings.calibration))


@pytest.fixture(scope="module")
def number(examples: Examples) -> Bundle:
    return trained(examples, SENTIMENT)


@pytest.fixture(scope="module")
def classes(examples: Examples) -> Bundle:
    return trained(examples, EMOTION, risk=0.05)


def test_a_number_has_an_interval_as_wide_as_its_modalities_ask_for(examples, number):
    test = examples.split("test")
    answers = TrainedModel.load(number).score_examples(test)
    widths = {name: fit.width for name, fit in number.card.calibration.subsets.items()}
    inside = answers[answers["sentiment"].abs() + max(widths.values()) < 3]
    for _, row in inside.iterrows():
        assert row["high"] - row["low"] == pytest.approx(2 * widths[row["modalities"]])
    assert (answers["low"] >= -3).all()
    assert answers["confidence"].between(0.4, 1).all()
    assert answers["answered"].all()
    assert answers.loc[answers["modalities"] == "text+vision", "notes"].unique().tolist() == ["no voice in it"]


def test_classes_have_a_set_and_unsure_answers_are_withheld(examples, classes):
    model = TrainedModel.load(classes)
    answers = model.score_examples(examples.split("test"))
    below = classes.card.calibration.below
    assert (answers["answered"] == (answers["confidence"] >= below)).all()
    assert not answers["answered"].all()
    withheld = answers[~answers["answered"]]
    assert withheld["notes"].str.contains("withheld").all()
    assert withheld["emotion"].isin(EMOTION.classes).all()  # it still says what it would have said
    assert all(row["emotion"] in row["set"].split("+") for row in records_of(answers))
    chances = answers[[f"probability_{name}" for name in EMOTION.classes]]
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_allclose(chances.max(axis=1), answers["confidence"])
    assert ": withheld" in as_text(records_of(withheld)[0], classes.card)


@pytest.mark.parametrize("kind", ["number", "classes"])
def test_contributions_sum_to_the_answer_minus_the_baseline(kind, examples, number, classes):
    bundle = number if kind == "number" else classes
    model, test = TrainedModel.load(bundle), examples.split("test")
    plain, answers = model.score_examples(test), model.score_examples(test, explained=True)
    np.testing.assert_allclose(plain["confidence"], answers["confidence"], atol=1e-6)
    parts = answers[[f"contribution_{name}" for name in model.modalities]].sum(axis=1)
    answered = answers["sentiment"] if kind == "number" else answers["confidence"]
    np.testing.assert_allclose(answers["baseline"] + parts, answered, atol=1e-5)
    silent = answers["modalities"] == "text+vision"
    np.testing.assert_allclose(answers.loc[silent, "contribution_audio"], 0, atol=1e-5)
    assert answers["conflict"].isin([True, False]).all()
    assert "because of" in as_text(records_of(answers)[0], bundle.card)


def test_a_view_explains_with_what_it_has(examples, number):
    answers = TrainedModel.load(number).without("vision").score_examples(examples.split("test"), explained=True)
    assert "contribution_vision" not in answers
    parts = answers["contribution_audio"] + answers["contribution_text"]
    np.testing.assert_allclose(answers["baseline"] + parts, answers["sentiment"], atol=1e-5)


def test_an_explanation_that_means_little_is_refused_unless_asked_for(examples, number):
    card = number.card
    protocol = {**card.protocol, "training": {**card.protocol["training"], "modality_dropout": 0.0}}
    bundle = Bundle(card.model_copy(update={"protocol": protocol}), number.tensors)
    model, some = TrainedModel.load(bundle), examples.split("test")
    with pytest.raises(InputError, match="without modality_dropout"):
        model.score_examples(some, explained=True)
    assert "baseline" in model.score_examples(some, explained=True, anyway=True)


def test_a_caller_of_the_registered_model_may_ask_why(examples, number, monkeypatch):
    from mlflow.exceptions import MlflowException

    from demeanor.serving.mlflow_model import DemeanorModel
    from demeanor.serving.packaging import signature_of

    assert {one.name for one in signature_of(number.card).params} == {"explain", "explain_anyway"}
    served, some = DemeanorModel(), examples.split("test")
    served.model = TrainedModel.load(number)
    monkeypatch.setattr(TrainedModel, "score", lambda self, rows, *asked: self.score_examples(some, *asked))
    rows = pd.DataFrame([{"text": "well"}])
    assert "baseline" not in served.predict(None, rows)
    assert "baseline" not in served.predict(None, rows, {"explain": False})
    answers = served.predict(None, rows, {"explain": True})
    assert {"baseline", "conflict", "contribution_text", "contribution_vision"} <= set(answers)
    protocol = {**number.card.protocol, "training": {**number.card.protocol["training"], "modality_dropout": 0.0}}
    served.model = TrainedModel.load(Bundle(number.card.model_copy(update={"protocol": protocol}), number.tensors))
    with pytest.raises(MlflowException, match="without modality_dropout") as refused:
        served.predict(None, rows, {"explain": True})
    assert refused.value.get_http_status_code() == 400
    assert "baseline" in served.predict(None, rows, {"explain": True, "explain_anyway": True})


def test_an_older_bundle_answers_and_says_that_it_is_uncalibrated(examples, number):
    older = Bundle(number.card.model_copy(update={"calibration": None}), number.tensors)
    answers = TrainedModel.load(older).score_examples(examples.split("test"), explained=True)
    assert answers["notes"].str.contains("uncalibrated").all()
    assert answers[["low", "high", "confidence"]].isna().all(axis=None)
    assert answers["answered"].all()
    assert records_of(answers)[0]["conflict"] is None
    assert as_text(records_of(answers)[0], older.card)


def test_a_language_outside_training_and_too_few_clips_are_said(examples, number):
    foreign = examples.split("test")
    table = foreign.utterances.assign(language="de")
    answers = TrainedModel.load(number).score_examples(Examples.of(table, foreign.streams))
    assert answers["notes"].str.contains("language de: trained on en").all()
    few = number.card.calibration.model_copy(update={"subsets": {}})
    pooled = TrainedModel.load(number.calibrated(few)).score_examples(foreign)
    assert pooled["notes"].str.contains("calibrated on all clips together").all()


def test_words_alone_leave_every_recording_out():
    rows = [{"utterance_id": "a", "text": "well", "video": "a.mp4", "audio_bytes": b"x", "turn": 1}]
    assert words_alone(rows) == [{"utterance_id": "a", "text": "well", "turn": 1}]
    from demeanor.__main__ import main

    done = CliRunner().invoke(main, ["predict", "absent.mp4", "--only", "text", "--model", "nowhere"])
    assert done.exit_code == 2
    assert "needs the words of every row" in done.output


def test_the_columns_are_those_that_the_signature_names(examples, number, classes):
    for bundle in (number, classes):
        answers = TrainedModel.load(bundle).score_examples(examples.split("test"))
        assert set(columns_of(bundle.card)) == set(answers) - {
            "utterance_id", "problem", "transcript", "transcript_source",
        }  # fmt: skip
