"""Two models on validation of the same data: who is better, and what does not compare."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from demeanor.__main__ import main
from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.serving.comparing import data_of, paired_on_validation
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.toy import EMOTION, SENTIMENT, toy_examples, toy_score


def trained(development, epochs: int, task=SENTIMENT) -> Bundle:
    training = TrainingSettings(epochs=epochs, patience=epochs, batch_size=16, threads=1, learning_rate=0.01)
    settings = BranchSettings(system="text_only", streams={"text": "text.words"}, training=training)
    return fit(f"words_{epochs}", settings, task, development, 1, toy_score, progress=False).bundle


def test_the_better_one_is_named_with_its_interval(tmp_path, monkeypatch):
    folder = tmp_path / "data/05_model_input/toy/development"
    toy_examples(train=80, valid=60).split("train", "valid").save(folder)
    development = Examples.load(folder)
    good, bad = trained(development, 15), trained(development, 1)
    found = paired_on_validation(good, bad, development)
    assert found.favours == "a"
    assert found.low < found.mean < found.high < 0
    assert found.units == 60
    assert paired_on_validation(good, good, development).mean == 0
    with pytest.raises(InputError, match="different tasks"):
        paired_on_validation(good, trained(development, 1, EMOTION), development)
    with pytest.raises(InputError, match="was trained on data"):
        paired_on_validation(good, bad, toy_examples(train=80, valid=60, seed=1).split("train", "valid"))
    for name, bundle in (("good", good), ("bad", bad)):
        bundle.save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["compare", "good", "bad"], catch_exceptions=False)
    assert "evidence that good is better; 60 clips of validation" in done.output
    with pytest.raises(InputError, match="corpora: none"):
        data_of(good, tmp_path / "elsewhere")
