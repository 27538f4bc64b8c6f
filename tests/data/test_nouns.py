"""Utterances, examples, tasks, provenance and bundles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demeanor.data.batch import from_dialogues, to_dialogues
from demeanor.data.batches import Batches, drop_roles
from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, ProvenanceError
from demeanor.data.examples import Examples
from demeanor.data.files import sha256_of
from demeanor.data.normaliser import Normaliser
from demeanor.data.provenance import Provenance
from demeanor.data.task import Task, Tasks
from demeanor.data.utterances import make_table
from demeanor.training.fit import fit, specify
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.toy import EMOTION, EMOTIONS, SENTIMENT, toy_examples, toy_score

ROW = {"utterance_id": "a", "corpus": "toy", "split": "train", "dialogue": "d", "turn": 0}


def test_all_problems_of_a_table_are_told_at_once():
    with pytest.raises(InputError) as caught:
        make_table([{**ROW, "utterance_id": "a b", "split": "tst"}, {**ROW, "turn": -1, "sentiment": np.inf}])
    told = str(caught.value)
    assert all(name in told for name in ("utterance_id", "split", "turn"))
    assert "for example tst" in told


def test_an_infinite_label_is_an_error():
    with pytest.raises(InputError, match="column 'sentiment': 1 infinite"):
        make_table([{**ROW, "sentiment": np.inf}])


def test_examples_survive_storage_and_notice_a_stream_that_changed(tmp_path):
    examples = toy_examples()
    for stream in examples.streams.values():
        stream.save(tmp_path / "streams" / f"{stream.name}.safetensors")
    from demeanor.data.stream import load_streams

    stored = Examples.of(examples.utterances, load_streams(tmp_path / "streams")).split("train", "valid")
    stored.save(tmp_path / "development")
    assert not list((tmp_path / "development").glob("*.safetensors")), "streams are referred to, not copied"
    back = Examples.load(tmp_path / "development")
    assert back.data_hash == stored.data_hash
    assert "test" not in set(back.utterances["split"])
    np.testing.assert_array_equal(
        back.streams["text.words"].ragged["train_003"], stored.streams["text.words"].ragged["train_003"]
    )
    toy_examples(seed=1).streams["text.words"].save(tmp_path / "streams" / "text.words.safetensors")
    with pytest.raises(InputError, match="changed since the cut"):
        Examples.load(tmp_path / "development")


def test_the_hash_of_the_data_is_that_of_the_whole_text(monkeypatch: pytest.MonkeyPatch):
    """It is made in pieces, whatever their size, and stays the one that bundles and receipts carry."""
    examples = toy_examples(train=6, valid=1, test=1)
    table = examples.utterances.assign(text=['"quoted" \\ schön\n'] * 7 + [None])
    examples = Examples.of(table, examples.streams)
    text = examples.utterances.to_json(orient="records", double_precision=15)
    streams = {name: sha256_of([part.tolist() for part in one.ragged]) for name, one in examples.streams.items()}
    for rows in (3, 8, 10_000):
        monkeypatch.setattr("demeanor.data.examples.ROWS_AT_ONCE", rows)
        assert Examples.of(table, examples.streams).data_hash == sha256_of([text, streams])[:16]


def test_tasks_make_their_targets():
    table = toy_examples(train=6, valid=1, test=1).utterances
    assert SENTIMENT.targets(table).dtype == np.float32
    assert set(EMOTION.targets(table)) <= {0, 1, 2}
    assert EMOTIONS.targets(table).shape == (8, 2)
    cut = Task(name="sign", kind="classification", column="sentiment", classes=("negative", "positive"), cut="positive")
    zeroed = table.assign(sentiment=[0.0, 1.0, -1.0, np.nan, *table["sentiment"][4:]])
    assert list(cut.targets(zeroed)[:4]) == [-1, 1, 0, -1]
    merged = Task(name="e", kind="classification", column="emotion", classes=("sad", "other"), merge={"happy": "other"})
    assert set(merged.targets(table.assign(emotion=["happy"] * 8))) == {1}
    with pytest.raises(InputError, match="Did you mean 'sentiment'"):
        Task(name="s", kind="regression", column="sentimnt").targets(table)
    with pytest.raises(InputError, match="Did you mean 'emotion'"):
        Tasks({"emotion": EMOTION})["emotoin"]


def test_provenance_differs_by_what_changes_values_alone():
    mine = Provenance(extractor="x", version="1", parameters={"bands": 40}, licence="a")
    mine.require(Provenance(extractor="x", version="1", parameters={"bands": 40}, licence="b"), "audio.frames")
    with pytest.raises(ProvenanceError, match=r"parameters\.bands: 40 expected, 64 found"):
        mine.require(Provenance(extractor="x", version="1", parameters={"bands": 64}), "audio.frames")


def batches_of(examples: Examples, batching: str = "utterance") -> Batches:
    settings = BranchSettings(
        system="late_fusion", streams={"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}
    )
    return Batches(examples, specify(settings, examples), SENTIMENT, None, batching)


def test_every_row_comes_once_and_dialogues_stay_whole():
    train = toy_examples().split("train")
    for batching in ("utterance", "dialogue"):
        batches = batches_of(train, batching)
        plan = batches.plan(3, shuffle=np.random.default_rng(0))
        assert sorted(np.concatenate(plan)) == list(range(len(train)))
        for rows in plan:
            batch = batches[rows]
            if batching == "dialogue":
                assert len(batch) == 4 * (int(batch.dialogue.max()) + 1)
                laid, mask = to_dialogues(batch, batch.target)
                assert bool(mask.all())
                assert torch.equal(from_dialogues(batch, laid), batch.target)
                assert set(batch.speaker.tolist()) == {0, 1}


def test_a_step_budget_bounds_a_batch():
    batches = batches_of(toy_examples().split("train"))
    for rows in batches.plan(100, max_tokens_per_batch=30):
        assert len(rows) == 1 or len(rows) * batches.lengths[rows].max() <= 30


def test_worker_processes_change_nothing():
    batches = batches_of(toy_examples().split("train"))
    plan = batches.plan(7)
    for alone, worked in zip(batches.iterate(plan), batches.iterate(plan, workers=1), strict=True):
        assert alone.ids == worked.ids
        assert torch.equal(alone["audio"].values, worked["audio"].values)


def test_modality_dropout_never_takes_the_last_one():
    batch = batches_of(toy_examples().split("train"))[range(40)]
    dropped = drop_roles(batch, 0.95, torch.Generator().manual_seed(0))
    kept = torch.stack([dropped[role].present for role in dropped.inputs], dim=1)
    had = torch.stack([batch[role].present for role in batch.inputs], dim=1)
    assert bool(kept.any(dim=1).all())
    assert int(kept.sum()) < int(had.sum()) / 2
    assert not bool((kept & ~had).any())


def test_the_normaliser_sees_train_alone_and_repairs_what_is_not_finite():
    examples = toy_examples()
    with pytest.raises(ValueError, match="train split alone"):
        Normaliser.fit(examples, {"text": "text.words"})
    fitted = Normaliser.fit(examples.split("train"), {"text": "text.words"})
    stacked = np.concatenate(list(examples.split("train").streams["text.words"].ragged))
    mean, scale = fitted.statistics["text"]
    np.testing.assert_allclose(mean, stacked.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scale, stacked.std(axis=0), rtol=1e-4)
    values = np.full((1, 2, 6), np.nan, dtype=np.float32)
    assert not fitted.apply("text", values, np.array([[True, False]])).any()


def test_a_bundle_that_was_tampered_with_is_refused(tmp_path):
    settings = BranchSettings(
        system="text_only", streams={"text": "text.words"}, training=TrainingSettings(epochs=1, threads=1)
    )
    trained = fit("w", settings, SENTIMENT, toy_examples().split("train", "valid"), 1, toy_score, progress=False)
    trained.bundle.save(tmp_path / "bundle")
    assert Bundle.load(tmp_path / "bundle").weights_sha256 == trained.bundle.weights_sha256
    weights = tmp_path / "bundle" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match=r"not the file that card\.json describes"):
        Bundle.load(tmp_path / "bundle")
    with pytest.raises(InputError, match=r"no card\.json"):
        Bundle.load(tmp_path)
