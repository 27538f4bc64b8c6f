"""Every registered representation: learns, stores, embeds the same again, and treats absence as ordinary."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.examples import Examples
from demeanor.evaluation.probe import compare, probe
from demeanor.inference.model import Embedded, TrainedModel
from demeanor.representations.base import REPRESENTATIONS
from demeanor.representations.embedding import pooled_features
from demeanor.training.pretraining.loop import pretrain
from demeanor.training.pretraining.settings import RepresentationSettings
from tests.toy import SENTIMENT, toy_examples


@pytest.fixture(scope="module")
def development() -> Examples:
    return toy_examples(train=48, valid=24, noise=0.3).split("train", "valid")


def settings(name: str) -> RepresentationSettings:
    return RepresentationSettings(representation=name, epochs=3, batch_size=16, on_collapse="warn", device="cpu")


@pytest.mark.parametrize("name", REPRESENTATIONS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_learns_is_stored_and_embeds_the_same_again(name: str, development: Examples, tmp_path):
    bundle, history = pretrain(settings(name), development, seed=1)
    assert np.isfinite([row["valid_loss"] for row in history]).all()
    bundle.save(tmp_path / "bundle")
    again = TrainedModel.load(tmp_path / "bundle").embed(development)
    stream = TrainedModel.load(bundle).embed(development)
    assert stream.name == f"representation.{name}"
    assert list(stream.ragged.ids) == development.ids
    for mine, theirs in zip(stream.ragged, again.ragged, strict=True):
        assert np.isfinite(mine).all()
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    part = development.select(development.ids[5:9])
    for mine, theirs in zip(TrainedModel.load(bundle).embed(part).ragged, list(stream.ragged)[5:9], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_probe_reads_the_label_out_of_what_carries_it(development: Examples):
    bundle, _ = pretrain(settings("principal_components"), development, seed=1)
    stream = TrainedModel.load(bundle).embed(development)
    found = probe(stream, development, SENTIMENT)
    assert found["MAE"] < found["majority.MAE"]
    table = compare({"pca": stream, "pooled": pooled_features(bundle, development)}, development, SENTIMENT)
    assert next(iter(table.index)) == "majority"
    assert table.loc["pca", "Corr"] > 0.5


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_test_split_has_no_say(development: Examples):
    whole = toy_examples(train=48, valid=24, noise=0.3)
    mine, theirs = (pretrain(settings("principal_components"), part, seed=1)[0] for part in (development, whole))
    for name, value in mine.tensors.items():
        np.testing.assert_array_equal(value, theirs.tensors[name], err_msg=name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_seeds_that_carry_the_same_representation_share_its_stream(development: Examples, monkeypatch):
    """And one that carries another under the same name gets its own, not its neighbour's."""
    stream = "representation.pca"
    mine, other = (pretrain(settings("principal_components"), part, seed=1)[0] for part in
                   (development, development.select(development.ids[:40])))  # fmt: skip
    made = []
    plain = TrainedModel.embed
    monkeypatch.setattr(TrainedModel, "embed", lambda *args: made.append(args) or plain(*args))
    seeds = [TrainedModel.load(mine.carrying({stream: inner})) for inner in (mine, mine, other)]
    embedded = Embedded(development)
    first, second, third = (embedded.for_model(model).stream(stream) for model in seeds)
    assert first.ragged.values is second.ragged.values
    assert len(made) == 2
    np.testing.assert_array_equal(third.ragged.values, TrainedModel.load(other).embed(development).ragged.values)
    assert not np.array_equal(first.ragged.values, third.ragged.values)


@pytest.mark.parametrize("name", [name for name in REPRESENTATIONS if name != "principal_components"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_is_learnt_in_half_precision_on_any_processor(name: str, development: Examples):
    halved = settings(name).model_copy(update={"precision": "bfloat16", "epochs": 1})
    bundle, history = pretrain(halved, development)
    assert np.isfinite([row["train_loss"] for row in history]).all()
    assert all(np.isfinite(value).all() for value in bundle.tensors.values())
