"""Trained models as folders with a model card, and by hub id: nothing here asks the network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard, constants

from demeanor.__main__ import main
from demeanor.data.bundle import CARD, WEIGHTS, Bundle
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.evaluation.receipts import Receipt
from demeanor.inference.hub import README, HubError, fetch_bundle, hub_readme
from demeanor.inference.model import TrainedModel
from demeanor.serving.locating import load_bundle
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.toy import SENTIMENT, toy_examples, toy_score

NAME, COMMIT = "someone/some-model", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def examples() -> Examples:
    return toy_examples(train=24, valid=8)


@pytest.fixture(scope="module")
def bundle(examples: Examples) -> Bundle:
    training = TrainingSettings(epochs=1, batch_size=16, threads=1)
    settings = BranchSettings(system="text_only", streams={"text": "text.words"}, training=training)
    return fit("words", settings, SENTIMENT, examples.split("train", "valid"), 1, toy_score, progress=False).bundle


@pytest.fixture
def receipt(bundle: Bundle) -> Receipt:
    return Receipt(
        branch="words", system="text_only", task="sentiment", corpus="toy", split="test", seed=1, n=16,
        metrics={"MAE": 0.75, "Corr": float("nan"), "Has0_acc_2": 0.5}, data_hash="abc", code_revision="fedcba987654",
        weights_sha256=bundle.weights_sha256,
    )  # fmt: skip


@pytest.fixture
def cache(bundle: Bundle, tmp_path: Path) -> Path:
    """A cache of the hub that holds the model at one commit, as the hub's own library lays it out."""
    repository = tmp_path / "cache" / f"models--{NAME.replace('/', '--')}"
    bundle.save(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    return tmp_path / "cache"


def test_a_round_trip_answers_byte_for_byte(examples, bundle, receipt, tmp_path):
    model = TrainedModel.load(bundle)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".gitattributes").write_text("mine", encoding="utf-8")
    folder = model.save_pretrained(tmp_path / "out", [receipt])
    assert {path.name for path in folder.iterdir()} == {CARD, WEIGHTS, README, ".gitattributes"}
    again = TrainedModel.from_pretrained(folder)
    assert again.card == model.card
    expected, found = model.predict(examples), again.predict(examples)
    assert np.abs(expected).sum() > 0
    assert found.tobytes() == expected.tobytes()


def test_the_head_of_the_readme_is_the_hubs_and_its_figures_are_the_receipts(bundle, receipt):
    older = receipt.model_copy(update={"metrics": {"MAE": 0.1}, "time": receipt.time.replace(year=2000)})
    text = hub_readme(bundle, [older, receipt])
    card = ModelCard(text)
    assert card.data.library_name == "demeanor"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.datasets == ["toy"]
    assert card.data.license == "other"
    assert {"sentiment", "regression", "text", "text-only"} <= set(card.data.tags)
    measured = {(one.dataset_split, one.metric_name): one.metric_value for one in card.data.eval_results}
    assert measured["test", "MAE"] == 0.75
    assert ("test", "Corr") not in measured, "what is undefined is no figure"
    assert measured["validation", "MAE"] == pytest.approx(bundle.card.metrics["MAE"], abs=1e-6)
    assert "| MAE |" in text
    assert "code `fedcba987654`" in text
    assert "corpus toy: unknown: ask the owner" in text
    assert "No receipt of the sealed test" in hub_readme(bundle)


def test_a_receipt_of_other_weights_is_refused(bundle, receipt, tmp_path):
    other = receipt.model_copy(update={"weights_sha256": "0" * 64})
    with pytest.raises(InputError, match="is of other weights"):
        TrainedModel.load(bundle).save_pretrained(tmp_path / "out", [other])
    assert not (tmp_path / "out").exists()


def test_a_fetched_model_knows_its_commit(examples, bundle, cache):
    model = TrainedModel.from_pretrained(NAME, revision=COMMIT, cache_dir=cache, local_files_only=True)
    assert model.card.origin == f"{NAME}@{COMMIT}"
    assert f"fetched as  {NAME}@{COMMIT}" in str(model.bundle)
    assert fetch_bundle(NAME, "main", cache_dir=cache, local_files_only=True).card.origin.endswith(COMMIT)
    assert model.predict(examples).tobytes() == TrainedModel.load(bundle).predict(examples).tobytes()


def test_offline_is_one_sentence(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError) as raised:
        TrainedModel.from_pretrained(NAME, revision="v2", cache_dir=cache)
    assert str(raised.value) == (
        f"model '{NAME}' at revision 'v2' cannot be had from the Hugging Face hub: it is neither a folder here nor in "
        "this machine's cache, and asking the hub is switched off (HF_HUB_OFFLINE)."
    )
    with pytest.raises(HubError, match="there is no such folder, and a name on the Hugging Face hub is OWNER/NAME"):
        TrainedModel.from_pretrained(tmp_path / "nowhere")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        load_bundle(f"hf://{NAME}@{COMMIT}")


def test_a_folder_has_no_revision(bundle, tmp_path):
    bundle.save(tmp_path / "model")
    with pytest.raises(InputError, match="a folder has no revisions"):
        TrainedModel.from_pretrained(tmp_path / "model", revision="main")


def test_the_command_finds_the_receipt_and_predict_takes_the_folder(bundle, receipt, tmp_path, monkeypatch):
    bundle.save(tmp_path / "model")
    reporting = tmp_path / "data" / "08_reporting" / "toy"
    reporting.mkdir(parents=True)
    other = receipt.model_copy(update={"weights_sha256": "0" * 64})
    (reporting / "receipts.json").write_text(json.dumps([other.as_dict(), receipt.as_dict()]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["export", "model", "out"])
    assert done.exit_code == 0, done.output
    assert "figures of the sealed test from a receipt of" in done.output
    assert "| MAE |" in (tmp_path / "out" / README).read_text(encoding="utf-8")
    answers = [
        CliRunner().invoke(main, ["predict", "--text", "a b", "--model", name, "--json"]) for name in ("model", "out")
    ]
    # The toy's features are made by no extractor: both folders say the same about it.
    assert answers[0].exit_code == answers[1].exit_code
    assert answers[0].output.replace('"model"', '"out"') == answers[1].output
    assert "toy" in answers[1].output
    (reporting / "receipts.json").write_text("[1]", encoding="utf-8")
    assert "holds no receipts" in CliRunner().invoke(main, ["export", "model", "out"]).output
