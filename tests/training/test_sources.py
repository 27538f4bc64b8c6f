"""A branch learns from the corpora that it names, as often as it says, and is validated on no other's rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from demeanor.data.batches import Batches
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.spec_sheet import sources
from demeanor.data.task import Tasks
from demeanor.inference.model_page import model_page
from demeanor.pipelines.branches import selection_of
from demeanor.pipelines.fusion_training.nodes import seed_jobs, train_branch
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings
from demeanor.training.sources import draws_of, of_corpora
from tests.toy import EMOTION, SENTIMENT, toy_examples, toy_score

TRAINING = {"seeds": [1], "epochs": 2, "batch_size": 8, "threads": 1}


def union(test: bool = False) -> Examples:
    """`big` with numbers, `small` with numbers, `other` with emotions alone and no words."""
    parts = {
        "big": toy_examples(40, 16, 8, seed=1),
        "small": toy_examples(8, 8, 8, seed=2),
        "other": toy_examples(seed=3),
    }
    tables = []
    for name, part in parts.items():
        table = part.utterances.copy()
        for column in ("utterance_id", "dialogue", "speaker"):
            table[column] = f"{name}." + table[column]
        lost = "sentiment" if name == "other" else "emotion"
        tables.append(table.assign(**{"corpus": name, lost: np.nan if lost == "sentiment" else None}))
    table = pd.concat(tables, ignore_index=True)
    streams = {}
    for stream, first in parts["big"].streams.items():
        sequences = {f"{name}.{one}": values[:0] if (name, stream) == ("other", "text.words") else values
                     for name, part in parts.items()
                     for one, values in zip(part.ids, part.streams[stream].ragged, strict=True)}  # fmt: skip
        streams[stream] = type(first)(stream, first.ragged.from_sequences(sequences, first.dimension), first.provenance)
    examples = Examples.of(table, streams)
    return examples if test else examples.split("train", "valid")


def settings(**given) -> BranchSettings:
    return BranchSettings(**{"system": "text_only", "streams": {"text": "text.words"}, "training": TRAINING, **given})


def test_validation_and_training_are_of_the_named_corpora():
    chosen = of_corpora(union(), settings(corpora=["big", "small"]), [SENTIMENT])
    assert set(chosen.utterances["corpus"]) == {"big", "small"}
    trained = fit("b", settings(corpora=["small"]), SENTIMENT, union(), 1, toy_score, progress=False)
    protocol = trained.bundle.card.protocol
    assert (protocol["corpus"], protocol["train"], protocol["valid"]) == ("small", 8, 8)
    assert protocol["corpora"] == {"small": {"train": 8, "valid": 8, "draws": 1.0}}


def test_without_names_a_branch_learns_where_labels_and_streams_are():
    text, audio = settings(), settings(system="audio_only", streams={"audio": "audio.frames"})
    assert set(of_corpora(union(), text, [SENTIMENT]).utterances["corpus"]) == {"big", "small"}
    assert set(of_corpora(union(), audio, [EMOTION]).utterances["corpus"]) == {"other"}
    for given in ({}, {"corpora": ["other"]}):
        with pytest.raises(
            InputError, match=r"no utterance of .*other has a label of emotion and a step of text.words"
        ):
            of_corpora(union(), settings(**given), [EMOTION])
    alone = toy_examples().split("train", "valid")
    assert of_corpora(alone, text, [SENTIMENT]) is alone


@pytest.mark.parametrize("batching", ["utterance", "dialogue"])
def test_rows_are_met_as_often_as_asked(batching):
    train = of_corpora(union(), settings(), [SENTIMENT]).split("train")
    made = {
        "text": InputSpecification(stream="text.words", dimension=6, provenance=train.stream("text.words").provenance)
    }
    batches = Batches(train, made, SENTIMENT, batching=batching)
    size = 8 if batching == "utterance" else 2
    plans = [batches.plan(size, None, np.random.default_rng(n), {"big": 0.5, "small": 2.0}) for n in range(3)]
    for plan in plans:
        met = Counter(train.utterances["utterance_id"][row] for rows in plan for row in rows)
        by_corpus = Counter(train.utterances["corpus"][row] for rows in plan for row in rows)
        assert by_corpus == {"big": 20, "small": 16}
        assert {met[name] for name in met if name.startswith("small")} == {2}
        assert {met[name] for name in met if name.startswith("big")} == {1}
        if batching == "dialogue":
            assert all(len(set(rows)) == len(rows) for rows in plan), "a dialogue stands twice in a batch"
    chosen = [frozenset(int(row) for rows in plan for row in rows) for plan in plans]
    assert len(set(chosen)) > 1, "the half that an epoch meets is always the same"


def test_a_plan_without_draws_is_what_it_was():
    train = toy_examples().split("train")
    made = {
        "text": InputSpecification(stream="text.words", dimension=6, provenance=train.stream("text.words").provenance)
    }
    batches = Batches(train, made, SENTIMENT)
    one, other = (batches.plan(8, None, np.random.default_rng(1), draws) for draws in (None, {"toy": 1.0}))
    assert [rows.tolist() for rows in one] == [rows.tolist() for rows in other]


def test_equal_gives_each_corpus_as_many_rows_in_an_epoch_as_long():
    train = of_corpora(union(), settings(), [SENTIMENT]).split("train").utterances
    draws = draws_of(settings(sampling="equal"), train)
    counts = train["corpus"].value_counts()
    assert {name: round(times * counts[name]) for name, times in draws.items()} == {"big": 24, "small": 24}
    assert draws_of(settings(), train) is None
    with pytest.raises(InputError, match="small is given no weight"):
        draws_of(settings(sampling={"big": 1}), train)


def test_weights_and_what_was_left_out_stand_in_the_card():
    chosen = settings(corpora=["big", "small", "gone"], sampling={"big": 1, "small": 2, "gone": 3})
    bundle = fit("b", chosen, SENTIMENT, union(), 1, toy_score, progress=False).bundle
    told = "\n".join(sources(bundle.card.protocol))
    assert "small (8 rows, 8 for validation, each met 2 times an epoch)" in told
    assert "Left out, because nothing was there: gone." in told
    assert told.splitlines()[0] in str(bundle)
    assert told.splitlines()[1] in model_page(bundle, {}, [])
    assert bundle.card.protocol["corpus"] == "big, small"


def test_a_branch_whose_corpora_are_all_left_out_is_not_trained(tmp_path, caplog):
    gone, tasks = settings(corpora=["gone"]), Tasks({"sentiment": SENTIMENT})
    assert seed_jobs("b", union(), gone, tasks, str(tmp_path)) == []
    bundles, history = train_branch("b", union(), gone, tasks, str(tmp_path))
    assert bundles == {}
    assert len(history) == 0
    assert "b is not trained: nothing is there of what it learns from, gone" in caplog.text
    with pytest.raises(InputError, match="none of gone is there"):
        fit("b", gone, SENTIMENT, union(), 1, toy_score, progress=False)


def test_test_rows_of_no_corpus_reach_training():
    with pytest.raises(InputError, match="sealed"):
        fit("b", settings(corpora=["small"]), SENTIMENT, union(test=True), 1, toy_score, progress=False)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sampling": {"big": 0}}, "more than 0"),
        ({"corpora": ["big"], "sampling": {"small": 1}}, "sampling gives weights to small, corpora are big"),
        ({"system": "ridge", "sampling": "equal"}, "solved from every row once"),
        ({"sampling": "often"}, "sampling"),
    ],
)
def test_sampling_that_cannot_be_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        settings(**given)


def test_a_misspelt_corpus_is_told_before_anything_is_read():
    corpus = {"reader": "union", "options": {"corpora": {"meld": {}, "mosi": {}}}}
    with pytest.raises(InputError, match=r"one names 'melt'\. Did you mean 'meld'"):
        selection_of({"corpus": corpus, "branches": {"one": {"corpora": ["melt"]}, "two": {"corpora": ["mosi"]}}})
    with pytest.raises(InputError, match="one names 'mosi'"):
        selection_of({"corpus": {"options": {"name": "meld"}}, "branches": {"one": {"corpora": ["mosi"]}}})
