"""The sealed test of each corpus of a union is scored, compared and told of apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from demeanor.data.examples import Examples
from demeanor.data.task import Task, Tasks
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.validation import validation_score
from demeanor.inference.model import TrainedModel
from demeanor.pipelines.evaluation.asking import gather_calibrated
from demeanor.pipelines.evaluation.choosing import comparable_scores
from demeanor.pipelines.evaluation.drawing import draw_comparison
from demeanor.pipelines.evaluation.nodes import choose_champions, compare_systems, score_sealed_test
from demeanor.pipelines.evaluation.registering import summarise
from demeanor.pipelines.evaluation.settings import EvaluationSettings
from demeanor.pipelines.evaluation.trust import examine_trust
from demeanor.pipelines.fusion_training.nodes import train_branch
from demeanor.serving.registry import registered_name
from demeanor.training.settings import BranchSettings
from tests.toy import EMOTION, SENTIMENT
from tests.training.test_sources import TRAINING, union

TASKS = Tasks({"sentiment": SENTIMENT, "emotion": EMOTION})
BRANCHES = {
    "words_big": {"corpora": ["big"]},
    "words_both": {"corpora": ["big", "small"], "sampling": "equal"},
    "voice": {"system": "audio_only", "task": "emotion", "streams": {"audio": "audio.frames"}},
    "voice_big": {"system": "audio_only", "corpora": ["big"], "streams": {"audio": "audio.frames"}},
}
SETTINGS = EvaluationSettings(resamples=50)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    examples = union(test=True)
    development, test = examples.split("train", "valid"), examples.split("test")
    made, place = {}, str(tmp_path_factory.mktemp("checkpoints"))
    for name, given in BRANCHES.items():
        block = {"system": "text_only", "streams": {"text": "text.words"}, "training": TRAINING, **given}
        made[name] = train_branch(name, development, BranchSettings(**block), TASKS, place)[0]
    champions = choose_champions(development, made)
    predictions, receipts = score_sealed_test(test, made)
    compared = compare_systems(predictions, receipts, champions, made, development, TASKS, SETTINGS)
    return {"development": development, "test": test, "bundles": made, "champions": champions,
            "predictions": predictions, "receipts": receipts, "compared": compared}  # fmt: skip


def test_a_receipt_is_of_one_corpus_and_says_where_the_system_learnt(evaluated):
    receipts = [Receipt(**one) for one in evaluated["receipts"]]
    found = {(one.branch, one.corpus): (one.n, one.learnt_from) for one in receipts}
    assert found == {
        ("words_big", "big"): (8, "big"), ("words_big", "small"): (8, "big"),
        ("words_both", "big"): (8, "big, small"), ("words_both", "small"): (8, "big, small"),
        ("voice_big", "big"): (8, "big"), ("voice_big", "small"): (8, "big"), ("voice", "other"): (16, "other"),
    }  # fmt: skip
    assert len({one.name for one in receipts}) == len(receipts)
    assert {one.branch: one.sampling for one in receipts}["words_both"] == {"big": 0.6, "small": 3.0}
    assert len({one.data_hash for one in receipts}) == 3
    table = evaluated["test"].utterances
    predictions = evaluated["predictions"]
    for one in receipts:
        own = predictions[(predictions["branch"] == one.branch) & (predictions["corpus"] == one.corpus)]
        assert set(own["utterance_id"]) == set(table.loc[table["corpus"] == one.corpus, "utterance_id"])
        if one.task == "sentiment":
            error = np.abs(own["prediction"] - own["target"]).mean()
            assert one.metrics["MAE"] == pytest.approx(float(error), abs=1e-5)


def test_tables_are_by_corpus_with_a_constant_of_its_own_train_part(evaluated):
    table, text, verdicts = evaluated["compared"]
    rows = {(row["task"], row["corpus"], row["branch"]) for row in table.to_dict("records")}
    of_small = {("sentiment", "small", name) for name in ("words_big", "train mean")}
    assert {("sentiment", "big", "words_both"), ("emotion", "other", "voice")} | of_small <= rows
    assert "# sentiment, tested on small" in text
    assert "words_big learnt from big, not from this corpus" in text
    assert "words_both learnt from big (0.6 times an epoch), small (3 times an epoch)." in text
    constant = table[(table["corpus"] == "small") & (table["branch"] == "train mean")]["MAE"].iloc[0]
    development, test = (evaluated[name].utterances for name in ("development", "test"))
    mean = development[(development["corpus"] == "small") & (development["split"] == "train")]["sentiment"].mean()
    target = test[test["corpus"] == "small"]["sentiment"]
    assert constant == pytest.approx(float((target - mean).abs().mean()), abs=1e-5)
    said = summarise(table, verdicts, evaluated["champions"], {}, TASKS, SETTINGS)
    assert "Tested on small:" in said
    assert draw_comparison(table, TASKS, SETTINGS) is not None


def test_slices_of_the_champion_are_by_corpus_too(evaluated):
    calibrated = gather_calibrated(evaluated["test"], evaluated["predictions"], evaluated["bundles"], TASKS)
    _, slices = examine_trust(
        calibrated, evaluated["test"], evaluated["development"], evaluated["champions"], TASKS, SETTINGS
    )
    mine = slices[(slices["task"] == "sentiment") & (slices["slice"] == "corpus")]
    assert set(mine["group"]) == {"big", "small"}


def test_where_means_do_not_compare_the_champion_is_whoever_is_best_on_the_corpora_of_all(evaluated):
    own = evaluated["bundles"]
    sentiment = {name: seeds for name, seeds in own.items() if name != "voice"}
    scores = comparable_scores(evaluated["development"], sentiment)
    means = {name: np.mean(list(values.values())) for name, values in scores.items()}
    champion = evaluated["champions"]["sentiment"]
    assert champion["branch"] == min(means, key=lambda name: means[name])
    assert champion["mean"] == pytest.approx(means[champion["branch"]])
    valid = evaluated["development"].split("valid")
    table = valid.utterances[valid.utterances["corpus"].isin(["big", "small"])]
    said = TrainedModel.load(own["words_big"]["seed_1"]).predict(Examples.of(table, valid.streams))
    of_both = validation_score(SENTIMENT, said, SENTIMENT.targets(table))["MAE"]
    assert scores["words_big"]["seed_1"] == pytest.approx(of_both, abs=1e-6)
    bundle = evaluated["bundles"]["words_both"]["seed_1"]
    assert registered_name(bundle.card, "everyday") == "demeanor-everyday-sentiment"
    assert registered_name(bundle.card) == "demeanor-big+small-sentiment"


def test_validation_of_a_union_scores_no_row_of_another_corpus(evaluated):
    card = evaluated["bundles"]["words_big"]["seed_1"].card
    assert card.protocol["valid"] == 16
    assert card.calibration is not None
    assert isinstance(SENTIMENT, Task)
    assert validation_score(SENTIMENT, np.zeros((2, 1)), np.array([1.0, 3.0]))["MAE"] == 2.0
