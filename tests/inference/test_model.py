"""One object per trained model: built once, views without a modality, subsets at once, and both kinds of bundle."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from demeanor.data.bundle import CARD, Bundle
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.inference import predict
from demeanor.inference.describe import as_text, columns_of, describe
from demeanor.inference.extraction import Extracted
from demeanor.inference.model import Embedded, TrainedModel
from demeanor.models import SYSTEMS, find_system
from demeanor.pipelines.evaluation.asking import ask_champions
from demeanor.pipelines.evaluation.nodes import score_sealed_test
from demeanor.pipelines.evaluation.reasons import ablate_modalities, explain_champions
from demeanor.pipelines.evaluation.settings import EvaluationSettings
from demeanor.serving.packaging import signature_of
from demeanor.serving.registry import registered_name
from demeanor.training.fit import fit
from demeanor.training.pretraining.loop import pretrain
from demeanor.training.pretraining.settings import RepresentationSettings
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.models.examples import TASKS, build, example_batch
from tests.toy import SENTIMENT, toy_examples, toy_score

STREAMS = {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def examples() -> Examples:
    return toy_examples(train=72, valid=24)


@pytest.fixture(scope="module")
def bundle(examples: Examples) -> Bundle:
    settings = BranchSettings(
        system="late_fusion", streams=STREAMS, training=TrainingSettings(epochs=2, batch_size=16, threads=1)
    )
    return fit("fusion", settings, SENTIMENT, examples.split("train", "valid"), 1, toy_score, progress=False).bundle


@pytest.fixture(scope="module")
def representation(examples: Examples) -> Bundle:
    settings = RepresentationSettings(representation="principal_components", on_collapse="warn", device="cpu")
    return pretrain(settings, examples.split("train", "valid"), name="pca")[0]


def emptied(examples: Examples, stream: str) -> Examples:
    """The same examples as if nothing of one stream had been recorded."""
    found = examples.stream(stream)
    nothing = {name: np.zeros((0, found.dimension), np.float32) for name in examples.ids}
    bare = type(found)(stream, Ragged.from_sequences(nothing, found.dimension), found.provenance)
    return Examples.of(examples.utterances, {**examples.streams, stream: bare})


def test_a_view_without_a_modality_shares_the_network_and_answers_as_if_it_had_not_been_recorded(examples, bundle):
    model = TrainedModel.load(bundle)
    view = model.without("audio")
    assert view.network is model.network
    assert (model.modalities, view.modalities) == (("audio", "text", "vision"), ("text", "vision"))
    assert view.without("text").modalities == ("vision",)
    expected = model.predict(emptied(examples, "audio.frames"))
    np.testing.assert_allclose(view.predict(examples), expected, atol=1e-5)
    assert np.abs(view.predict(examples) - model.predict(examples)).max() > 1e-3
    assert {*view.score_examples(examples)["modalities"]} == {"text", "text+vision"}


def test_subsets_are_answered_together_as_they_are_one_by_one(examples, bundle):
    model = TrainedModel.load(bundle)
    subsets = [model.modalities, ("text",), ("audio", "vision"), ()]
    for part in (examples, examples.select(examples.ids[3:8])):
        together = model.outputs(part, subsets)
        assert together.shape == (4, len(part), 1)
        for subset, found in zip(subsets, together, strict=True):
            np.testing.assert_allclose(found, model.outputs(part, [subset])[0], atol=1e-5)
    assert model.outputs(examples.select([]), subsets).shape == (4, 0, 1)


@pytest.mark.parametrize("name", SYSTEMS)
def test_copies_of_a_batch_do_not_touch_each_other(name: str):
    """Every system says of stacked subsets what it says of each of them alone."""
    system = build(name, find_system(name).card.tasks[0]).eval()
    batch = example_batch(system)
    dropped = [(), tuple(batch.inputs)[:1]]
    with torch.inference_mode():
        stacked = system(batch.stacked(dropped)).prediction
        alone = torch.cat([system(batch.without(roles)).prediction for roles in dropped])
    torch.testing.assert_close(stacked, alone, atol=1e-4, rtol=1e-4)


def test_an_ablation_builds_each_network_once(examples, bundle, monkeypatch):
    built = []
    plain = predict.build
    monkeypatch.setattr(predict, "build", lambda given: built.append(given) or plain(given))
    champions = {"sentiment": {"branch": "fusion", "seed": "seed_1"}}
    other = bundle.card.model_copy(update={"protocol": {**bundle.card.protocol, "seed": 2}})
    found = {"fusion": {"seed_1": bundle, "seed_2": Bundle(other, bundle.tensors)}}
    sealed = examples.split("test")
    settings = EvaluationSettings(resamples=20)
    predictions, _ = score_sealed_test(sealed, found)
    built.clear()
    asked = ask_champions(sealed, champions, found, predictions)
    table = ablate_modalities(asked, sealed, champions, {"sentiment": SENTIMENT}, settings)
    contributions, reasons = explain_champions(asked, sealed, champions, found, settings)
    assert len(built) == 2  # both tables are made of the same passes
    assert contributions["utterance_id"].tolist() == sealed.ids
    parts = contributions[[name for name in contributions if name.startswith("contribution_")]].sum(axis=1)
    whole = TrainedModel.load(bundle).predict(sealed)[:, 0]
    assert (contributions["baseline"] + parts).to_numpy() == pytest.approx(whole, abs=1e-4)
    assert reasons["conflicts"].tolist() == [0]  # the flag wants a calibration
    assert len(table) == 7
    row = table[table["modalities"] == "text"].iloc[0]
    mine = TrainedModel.load(bundle).without("audio", "vision").predict(sealed)
    assert row["MAE"] == pytest.approx(np.abs(mine[:, 0] - SENTIMENT.targets(sealed.utterances)).mean(), abs=1e-4)


def test_what_a_model_does_not_read_or_do_is_said(examples, bundle, representation):
    model, embedding = TrainedModel.load(bundle), TrainedModel.load(representation)
    with pytest.raises(InputError, match=r"reads no audi\. Did you mean 'audio'"):
        model.without("audi")
    with pytest.raises(InputError, match="nothing that it reads would be left"):
        model.without(*model.modalities)
    with pytest.raises(InputError, match="reads no smell"):
        model.outputs(examples, [("smell",)])
    with pytest.raises(InputError, match="it predicts, it does not embed"):
        model.embed(examples)
    with pytest.raises(InputError, match="it embeds, it does not predict"):
        embedding.predict(examples)


def test_a_representation_is_a_model_that_embeds(examples, representation, tmp_path):
    representation.save(tmp_path / "bundle")
    stored = json.loads((tmp_path / "bundle" / CARD).read_text())
    assert stored.pop("kind") == "embeds"
    # As it was written before cards said what their model does.
    (tmp_path / "bundle" / CARD).write_text(json.dumps(stored))
    model = TrainedModel.load(tmp_path / "bundle")
    assert model.card.kind == "embeds"
    assert "embeds an utterance in" in " ".join(str(model.bundle).split())
    outputs = model.outputs(examples, [model.modalities])[0]
    np.testing.assert_array_equal(outputs, np.concatenate(list(model.embed(examples).ragged)))
    expected = model.embed(emptied(examples, "vision.frames")).ragged.values
    np.testing.assert_allclose(model.without("vision").embed(examples).ragged.values, expected, atol=1e-5)
    answers = model.score_examples(examples)
    assert len(answers["embedding"][0]) == model.network.dimension
    assert f"{model.network.dimension} numbers" in as_text(answers.iloc[0].to_dict(), model.card)


def test_a_model_that_reads_embeddings_makes_them_itself(examples, representation):
    development = examples.split("train", "valid")
    stream = TrainedModel.load(representation).embed(development)
    more = Examples.of(development.utterances, {**development.streams, stream.name: stream})
    settings = BranchSettings(
        system="late_fusion", streams={"text": "text.words", "vision": "vision.frames"},
        training=TrainingSettings(epochs=1, threads=1),
    )  # fmt: skip
    settings = settings.model_copy(update={"streams": {"text": stream.name, "vision": "vision.frames"}})
    trained = fit("on pca", settings, SENTIMENT, more, 1, toy_score, progress=False).bundle
    model = TrainedModel.load(trained.carrying({stream.name: representation}))
    np.testing.assert_array_equal(model.predict(development), TrainedModel.load(trained).predict(more))
    assert Embedded(more).for_model(model) is more
    assert model.modalities == ("representation", "vision")
    # Words and voice reach it through the embedding alone.
    assert {*model.without("representation").score_examples(more.split("valid"))["modalities"]} == {"", "vision"}


@pytest.mark.parametrize("kind", TASKS)
def test_the_signature_in_the_registry_is_that_of_the_answers(kind: str, bundle: Bundle):
    card = bundle.card.model_copy(update={"task": TASKS[kind]})
    outputs = np.random.default_rng(0).normal(size=(3, card.task.outputs)).astype(np.float32)
    answers = describe(card, outputs, [("text",), ("vision", "text"), ()])
    assert list(answers) == list(columns_of(card))
    assert answers["modalities"].tolist() == ["text", "text+vision", ""]
    assert signature_of(card).outputs.input_names() == [
        "utterance_id", *answers, "problem", "transcript", "transcript_source",
    ]  # fmt: skip


def test_names_in_the_registry_follow_from_the_card(bundle: Bundle, representation: Bundle):
    assert registered_name(bundle.card) == "demeanor-toy-sentiment"
    assert registered_name(representation.card) == "representation-toy-pca"


def test_a_row_of_which_a_view_reads_nothing_has_a_problem(examples: Examples):
    part = examples.select(examples.ids[:2])
    first, second = part.ids
    read = Extracted([*part.ids, "c"], part, {first: ("text",), second: ("audio", "text")}, {"c": "no file"})
    left = read.only({"audio"})
    assert left.examples.ids == [second]
    assert left.used == {first: (), second: ("audio",)}
    assert left.problems == {first: "nothing in it that this model reads (audio)", "c": "no file"}
