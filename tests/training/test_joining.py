"""Branches joined to one model: what validation teaches of them together, what its card says, and how it answers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from demeanor.data.bundle import Bundle
from demeanor.data.calibration import CalibrationSettings
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.task import Task, Tasks
from demeanor.evaluation.validation import validation_score
from demeanor.inference.asked import Asked
from demeanor.inference.explanation import can_explain
from demeanor.inference.hub import hub_readme
from demeanor.inference.model import TrainedModel
from demeanor.inference.predict import build
from demeanor.models import find_system
from demeanor.models.log_pool import LogPoolSettings
from demeanor.pipelines.evaluation.choosing import comparable_scores
from demeanor.pipelines.evaluation.nodes import choose_champions, score_sealed_test
from demeanor.pipelines.fusion_training.nodes import join_branches, train_branch
from demeanor.training.experts import sources_of
from demeanor.training.joining import join
from demeanor.training.settings import BranchSettings, JoinedSettings, TrainingSettings
from tests.toy import EMOTION, EMOTIONS, SENTIMENT, toy_examples

TASKS = Tasks({"sentiment": SENTIMENT, "emotion": EMOTION, "emotions": EMOTIONS})
STREAMS = {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}
CALIBRATION = CalibrationSettings(least=10)


def settings_of(task: str, members: tuple[str, ...] = ("words", "voice"), least: int = 20, **more) -> JoinedSettings:
    return JoinedSettings(task=task, members=members, least=least, calibration=CALIBRATION, **more)


def trained(development: Examples, modality: str, task: str, tasks: Tasks, place, seeds=(1, 2)) -> dict[str, Bundle]:
    settings = BranchSettings(
        system=f"{modality}_only", task=task, streams={modality: STREAMS[modality]}, calibration=CALIBRATION,
        model={"hidden": 8}, training=TrainingSettings(epochs=3, batch_size=16, threads=1, seeds=seeds,
                                                       learning_rate=0.01),
    )  # fmt: skip
    return train_branch(modality, development, settings, tasks, str(place))[0]


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Every utterance has words and a voice; of the voices one in nine is missing."""
    return toy_examples(train=60, valid=60, test=30)


@pytest.fixture(scope="module")
def development(examples: Examples) -> Examples:
    return examples.split("train", "valid")


def experts(development: Examples, task: str, place, seeds=(1, 2)) -> dict[str, dict[str, Bundle]]:
    return {
        name: trained(development, modality, task, TASKS, place, seeds)
        for name, modality in (("words", "text"), ("voice", "audio"))
    }


@pytest.fixture(scope="module")
def members(development: Examples, tmp_path_factory) -> dict[str, dict[str, Bundle]]:
    return experts(development, "emotion", tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def joined(development, members) -> dict[str, Bundle]:
    return join_branches("experts", development, settings_of("emotion"), TASKS, members)


@pytest.fixture(scope="module")
def apart() -> Examples:
    """Two corpora: the one has words alone, the other a voice alone, with words that were the same for all."""
    made = toy_examples(train=120, valid=80, test=40)
    table = made.utterances.copy()
    acted = (np.arange(len(table)) % 2).astype(bool)
    table["corpus"] = np.where(acted, "acted", "written")
    silent = {name for name, here in zip(made.ids, acted, strict=True) if not here}
    voices = made.stream("audio.frames")
    bare = Ragged.from_sequences(
        {name: values[:0] if name in silent else values
         for name, values in zip(voices.ragged.ids, voices.ragged, strict=True)}, voices.dimension, np.float32,
    )  # fmt: skip
    return Examples.of(table, {**made.streams, "audio.frames": Stream("audio.frames", bare, voices.provenance)})


def of_corpus(examples: Examples, name: str) -> Examples:
    return Examples.of(examples.utterances[examples.utterances["corpus"] == name], examples.streams)


@pytest.fixture(scope="module")
def strangers(apart, tmp_path_factory) -> tuple[Examples, dict[str, dict[str, Bundle]]]:
    """Experts that were trained on a corpus each, as if of the development data of both."""
    place, development = tmp_path_factory.mktemp("checkpoints"), apart.split("train", "valid")
    found = {}
    for name, modality, corpus in (("words", "text", "written"), ("voice", "audio", "acted")):
        own = trained(of_corpus(development, corpus), modality, "emotion", TASKS, place / name, (1,))
        found[name] = {
            seed: Bundle(bundle.card.model_copy(update={"data_hash": development.data_hash}), bundle.tensors)
            for seed, bundle in own.items()
        }
    return development, found


def test_weights_are_learnt_where_validation_has_what_all_were_trained_for(joined, members):
    card = joined["seed_1"].card
    told = card.protocol["joined"]
    assert (told["weights"], told["utterances"]) == ("learnt", {"voice+words": 54})
    assert set(told["learnt"]["voice+words"]) == {"words", "voice"}
    assert told["priors"] in ("kept", "divided")
    assert joined["seed_1"].card.settings["weights"] == joined["seed_2"].card.settings["weights"]
    assert "weights of voice and words learnt on 54 utterances of validation" in card.notes
    assert "never seen in training: any vision" in card.notes
    assert joined["seed_1"].parameters == sum(seeds["seed_1"].parameters for seeds in members.values())
    assert set(card.calibration.subsets) == {"audio", "text", "audio+text"}
    assert card.metrics["weighted_F1"] > 0
    assert "log_pool" in str(joined["seed_1"])
    assert "learnt on 54 utterances" in hub_readme(joined["seed_1"])


def test_alone_an_expert_answers_as_it_did(joined, members, examples):
    test = examples.split("test")
    model = TrainedModel.load(joined["seed_1"])
    for modality, name in (("text", "words"), ("audio", "voice")):
        alone = TrainedModel.load(members[name]["seed_1"])
        answers, own = model.without(*({"text", "audio"} - {modality})).score_examples(test), alone.score_examples(test)
        there = own["modalities"] != ""
        assert (answers["emotion"] == own["emotion"])[there].all()
    nothing = model.outputs(test, [()])[0]
    prior = LogPoolSettings(**joined["seed_1"].card.settings).prior
    np.testing.assert_allclose(np.exp(nothing), np.tile(prior, (len(test), 1)), atol=1e-4)


def test_it_is_saved_loaded_exported_explained_and_scored_like_any_other(joined, examples, tmp_path):
    test, bundle = examples.split("test"), joined["seed_1"]
    bundle.save(tmp_path / "bundle")
    model, loaded = TrainedModel.load(bundle), TrainedModel.load(tmp_path / "bundle")
    assert loaded.card == bundle.card
    np.testing.assert_array_equal(loaded.predict(test), model.predict(test))
    model.save_pretrained(tmp_path / "hub")
    np.testing.assert_array_equal(TrainedModel.from_pretrained(tmp_path / "hub").predict(test), model.predict(test))
    assert can_explain(bundle.card)
    answers = model.score_examples(test, explained=True)
    shown = [f"probability_{name}" for name in EMOTION.classes]
    chosen = answers[shown].to_numpy().max(axis=1)
    total = answers["baseline"] + answers["contribution_text"] + answers["contribution_audio"]
    np.testing.assert_allclose(total, chosen, atol=1e-6)
    lacking = answers["modalities"] == "text"
    assert lacking.any()
    np.testing.assert_allclose(answers.loc[lacking, "contribution_audio"], 0, atol=1e-6)
    _, (receipt, *_) = score_sealed_test(test, {"experts": joined})
    assert "learnt on 54 utterances" in receipt["notes"]


def test_members_that_have_been_asked_are_not_asked_again(joined, members, examples, monkeypatch: pytest.MonkeyPatch):
    """Whole bundles are built anew for each model: what counts is who computes."""
    test, bundle = examples.split("test"), joined["seed_1"]
    alone, asked = TrainedModel.load(bundle).predict(test), Asked(test)
    first = [asked(members[name]["seed_1"]) for name in ("words", "voice")]
    assert asked(members["words"]["seed_1"]) is first[0]

    def computes(*_: object) -> None:
        raise AssertionError("a member was asked again")

    for kind in ("text_only", "audio_only"):
        monkeypatch.setattr(find_system(kind), "forward", computes)
    said = asked(bundle)
    np.testing.assert_allclose(said.outputs, alone, atol=1e-5)
    assert said.seconds > sum(one.seconds for one in first)
    with pytest.raises(AssertionError, match="asked again"):
        Asked(test)(bundle)
    with pytest.raises(InputError, match=r"no member 'word'\. Did you mean 'words'"):
        build(bundle).take({"word": torch.zeros(1, 3)})


def test_a_voice_that_is_noise_hardly_counts(development, members, tmp_path):
    generator = np.random.default_rng(1)
    voices = development.stream("audio.frames").ragged
    noise = {name: generator.standard_normal((max(len(values), 1), 5)).astype(np.float32)
             for name, values in zip(voices.ids, voices, strict=True)}  # fmt: skip
    stream = Stream("audio.frames", Ragged.from_sequences(noise), development.stream("audio.frames").provenance)
    deaf = Examples.of(development.utterances, {**development.streams, "audio.frames": stream})
    words = Bundle(
        members["words"]["seed_1"].card.model_copy(update={"data_hash": deaf.data_hash}),
        members["words"]["seed_1"].tensors,
    )
    noisy = trained(deaf, "audio", "emotion", TASKS, tmp_path, (1,))["seed_1"]
    # As sure of itself as training has left it: a calibrated one says next to nothing, whatever its weight.
    bold = Bundle(noisy.card.model_copy(update={"calibration": None}), noisy.tensors)
    made = join_branches(
        "experts", deaf, settings_of("emotion"), TASKS, {"words": {"seed_1": words}, "voice": {"seed_1": bold}}
    )
    weights = made["seed_1"].card.settings["weights"]["voice+words"]
    assert weights["voice"] < 0.4 * weights["words"]
    own, alone = (one.card.metrics["weighted_F1"] for one in (made["seed_1"], words))
    assert own > alone - 0.1


def test_strangers_count_alike_and_are_calibrated_each_at_home(strangers):
    development, found = strangers
    made = join_branches("experts", development, settings_of("emotion"), TASKS, found)
    card = made["seed_1"].card
    told = card.protocol["joined"]
    assert (told["weights"], told["priors"], told["utterances"]) == ("equal", "divided", {"voice+words": 0})
    assert card.settings["weights"] == {}
    assert "equal weights of voice and words: validation has 0 utterances" in card.notes
    assert "priors divided out, their mean counted once" in card.notes
    assert "never seen in training: audio and text of one utterance, any vision" in card.notes
    # The acted corpus has words too, of which the expert in words knows nothing: they calibrate neither set.
    assert {name: fit.n for name, fit in card.calibration.subsets.items()} == {"text": 40, "audio": 36}
    assert card.protocol["corpus"] == "acted, written"
    assert card.protocol["members"]["voice"]["corpus"] == "acted"
    answers = TrainedModel.load(made["seed_1"]).score_examples(development.split("valid"))
    both = answers["modalities"] == "audio+text"
    assert answers.loc[both, "notes"].str.contains("too few of validation had audio and text").all()


def test_what_members_learnt_of_a_union_stands_in_its_card_unless_they_met_it_otherwise():
    def card(left_out=(), **corpora):
        return SimpleNamespace(protocol={"corpora": corpora, "left_out": left_out})

    once, twice = {"train": 9, "valid": 3, "draws": 1.0}, {"train": 9, "valid": 3, "draws": 2.0}
    apart = {"words": card(meld=once, left_out=("mosei",)), "voice": card(ravdess=twice)}
    assert sources_of(apart) == {"corpora": {"meld": once, "ravdess": twice}, "left_out": ["mosei"]}
    assert sources_of({"words": card(meld=once), "voice": card(meld=once)}) == {"corpora": {"meld": once}}
    assert sources_of({"words": card(meld=once), "voice": card(meld=twice)}) == {}


def test_branches_of_different_utterances_are_compared_by_all_of_them(strangers):
    development, found = strangers
    made = join_branches("experts", development, settings_of("emotion"), TASKS, found)
    every = {**found, "experts": made}
    scores, valid = comparable_scores(development, every), development.split("valid")
    for name, seeds in every.items():
        said = TrainedModel.load(seeds["seed_1"]).predict(valid)
        of_all = validation_score(EMOTION, said, EMOTION.targets(valid.utterances))["weighted_F1"]
        assert scores[name]["seed_1"] == pytest.approx(of_all, abs=1e-6)
        own = seeds["seed_1"].card.metrics["weighted_F1"]
        assert (own == pytest.approx(of_all, abs=1e-6)) == (name == "experts"), (
            "an expert's own are those of its corpus"
        )
    best = max(every, key=lambda name: np.mean(list(scores[name].values())))
    champion = choose_champions(development, every)["emotion"]
    assert (champion["branch"], champion["value"]) == (best, max(scores[best].values()))
    # Where all were judged by the same there is nothing to ask.
    assert comparable_scores(development, {"experts": made}) == {
        "experts": {seed: bundle.card.metrics["weighted_F1"] for seed, bundle in made.items()}
    }


@pytest.mark.parametrize("task", ["sentiment", "emotions"])
def test_numbers_and_labels_are_joined_too(development, tmp_path, task):
    both = experts(development, task, tmp_path, (1,))
    made = join_branches("experts", development, settings_of(task), TASKS, both)
    card = made["seed_1"].card
    assert card.protocol["joined"]["weights"] == ("intervals" if task == "sentiment" else "learnt")
    valid, metric = development.split("valid"), TASKS[task].selection_metric[0]
    alone = [np.mean([one.card.metrics[metric] for one in seeds.values()]) for seeds in both.values()]
    own = np.mean([one.card.metrics[metric] for one in made.values()])
    assert own < max(alone) if task == "sentiment" else own > min(alone)
    answers = TrainedModel.load(made["seed_1"]).score_examples(valid)
    assert answers["confidence"].notna().all()
    if task == "sentiment":
        widths = {name: seeds["seed_1"].card.calibration.subsets for name, seeds in both.items()}
        voice = widths["voice"]["audio"].width / widths["words"]["text"].width
        outputs = [TrainedModel.load(seeds["seed_1"]).predict(valid)[:, 0] for seeds in both.values()]
        there = np.asarray(valid.stream("audio.frames").ragged.lengths) > 0
        expected = (outputs[0] + outputs[1] / voice**2) / (1 + 1 / voice**2)
        np.testing.assert_allclose(answers["sentiment"][there], expected[there], atol=1e-4)


def test_members_of_other_classes_are_joined_by_a_map_or_refused(development, members, tmp_path):
    polarity = Task(name="mood", kind="classification", column="mood", classes=("negative", "neutral", "positive"))
    meld = Task(
        name="felt", kind="classification", column="felt",
        classes=("neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust"),
    )  # fmt: skip
    table = development.utterances.assign(
        mood=development.utterances["emotion"].map({"sad": "negative", "neutral": "neutral", "happy": "positive"}),
        felt=development.utterances["emotion"].map({"sad": "sadness", "neutral": "neutral", "happy": "joy"}),
    )
    given = Examples.of(table, development.streams)
    tasks = Tasks({"mood": polarity, "felt": meld, "emotion": EMOTION})
    both = {
        "words": trained(given, "text", "felt", tasks, tmp_path, (1,)),
        "voice": trained(given, "audio", "mood", tasks, tmp_path, (1,)),
    }
    made = join_branches("experts", given, settings_of("mood"), tasks, both)
    pool = LogPoolSettings(**made["seed_1"].card.settings)
    assert pool.members["words"].becomes["joy"] == "positive"
    assert pool.members["voice"].becomes == {}
    answers = TrainedModel.load(made["seed_1"]).score_examples(given.split("valid"))
    assert set(answers["mood"]) <= set(polarity.classes)
    with pytest.raises(InputError) as told:
        join_branches("experts", given, settings_of("felt"), tasks, both)
    assert "voice: no map leads from polarity to meld" in str(told.value)


def test_what_cannot_be_joined_is_refused_with_all_reasons(development, members, tmp_path):
    number = trained(development, "audio", "sentiment", TASKS, tmp_path, (1,))
    with pytest.raises(InputError) as told:
        join(
            "experts", settings_of("emotion"), EMOTION, development,
            {"words": members["words"], "voice": number, "x": {}}, validation_score,
        )  # fmt: skip
    assert "x has not been trained" in str(told.value)
    assert "voice: it does sentiment: regression in [-3, 3], which is no answer to emotion" in str(told.value)
    later = {"seed_9": members["voice"]["seed_1"]}
    with pytest.raises(InputError, match="no seed that all of them were trained with"):
        join_branches(
            "experts", development, settings_of("emotion"), TASKS, {"words": members["words"], "voice": later}
        )
    changed = Examples.of(development.utterances.iloc[1:], development.streams)
    with pytest.raises(InputError, match=r"words was trained on data \w+, features are now"):
        join_branches("experts", changed, settings_of("emotion"), TASKS, members)
    with pytest.raises(ValueError, match="one voice"):
        settings_of("emotion", ("words", "words"))


def test_the_choice_of_priors_is_that_of_the_parameters_where_they_say_one(development, members):
    made = {
        prior: join_branches("experts", development, settings_of("emotion", prior=prior), TASKS, members)
        for prior in ("kept", "divided", None)
    }
    told = {prior: bundles["seed_1"].card.protocol["joined"]["priors"] for prior, bundles in made.items()}
    assert (told["kept"], told["divided"]) == ("kept", "divided")
    assert made[None]["seed_1"].card.settings == made[told[None]]["seed_1"].card.settings


def test_seeds_together_are_one_model_that_says_the_mean_of_what_they_say(development, members, tmp_path):
    valid, one = development.split("valid"), ("words",)
    made = join_branches("mean", development, settings_of("emotion", one, seeds="together"), TASKS,
                         {"words": members["words"]})  # fmt: skip
    assert list(made) == ["seed_1"]
    card = made["seed_1"].card
    assert (card.protocol["joined"]["seeds"], card.protocol["joined"]["priors"]) == ("together", "kept")
    assert "joined by log_pool: seeds 1, 2 of words (text of toy" in card.notes
    temperature = members["words"]["seed_1"].card.calibration.subsets["text"].temperature
    logits = np.stack([TrainedModel.load(bundle).predict(valid) for bundle in members["words"].values()]) / temperature
    said = (logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))).mean(axis=0)
    expected = said - np.log(np.exp(said).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(TrainedModel.load(made["seed_1"]).predict(valid), expected, atol=1e-4)
    numbers = {"words": trained(development, "text", "sentiment", TASKS, tmp_path)}
    made = join_branches("mean", development, settings_of("sentiment", one, seeds="together"), TASKS, numbers)
    outputs = [TrainedModel.load(bundle).predict(valid) for bundle in numbers["words"].values()]
    np.testing.assert_allclose(TrainedModel.load(made["seed_1"]).predict(valid), np.mean(outputs, axis=0), atol=1e-5)


def test_who_was_not_trained_because_its_corpus_is_not_there_is_left_out(development, members, caplog):
    assert join_branches("experts", development, settings_of("emotion"), TASKS, {**members, "words": {}}) == {}
    assert "experts is not made, for lack of words" in caplog.text
    assert join_branches("mean", development, settings_of("emotion", ("words",), seeds="together"), TASKS,
                         {"words": {}}) == {}  # fmt: skip
    three = settings_of("emotion", ("words", "voice", "face"))
    made = join_branches("experts", development, three, TASKS, {**members, "face": {}})
    assert "experts is joined without face, for which nothing was trained" in caplog.text
    assert list(made["seed_1"].card.settings["members"]) == ["words", "voice"]


def test_all_seeds_of_one_expert_join_another_as_one_voice(development, examples, members, tmp_path):
    mean = join_branches("mean", development, settings_of("emotion", ("words",), seeds="together"), TASKS,
                         {"words": members["words"]})  # fmt: skip
    together = {"mean": mean, "voice": members["voice"]}
    made = join_branches("both", development, settings_of("emotion", tuple(together)), TASKS, together)
    assert list(made) == ["seed_1"]
    made["seed_1"].save(tmp_path / "bundle")
    model, test = TrainedModel.load(tmp_path / "bundle"), examples.split("test")
    assert set(model.card.inputs) == {"mean.words_1.text", "mean.words_2.text", "voice.audio"}
    # Of both it says what its pool makes of what the mean and the voice say by themselves; of one, what that one says.
    temperatures = [one["seed_1"].card.calibration.subsets[subset].temperature
                    for one, subset in ((mean, "text"), (members["voice"], "audio"))]  # fmt: skip
    parts = [TrainedModel.load(one["seed_1"]).predict(test) / temperature
             for one, temperature in zip(together.values(), temperatures, strict=True)]  # fmt: skip
    (weights,) = model.card.settings["weights"].values()
    heard = test.stream("audio.frames").ragged.lengths > 0
    pool = LogPoolSettings(**model.card.settings)
    own = np.log(np.array([one.prior for one in pool.members.values()]))
    said = [part - np.log(np.exp(part).sum(axis=1, keepdims=True)) for part in parts]
    base, shifts = (own.mean(axis=0), own) if pool.divided else (0.0, own * 0)
    both = base + sum(weights[name] * (part - shift) for name, part, shift in zip(together, said, shifts, strict=True))
    expected = np.where(heard[:, None], both, said[0])
    expected = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict(test), expected, atol=1e-4)
    assert model.score_examples(test, explained=True)["contribution_text"].abs().max() > 0
    assert "mean (text of toy" in model.card.notes


def test_seeds_of_several_branches_need_not_be_the_same_to_be_together(development, members):
    later = {"seed_9": Bundle(
        members["voice"]["seed_1"].card.model_copy(
            update={"protocol": {**members["voice"]["seed_1"].card.protocol, "seed": 9}}
        ), members["voice"]["seed_1"].tensors)}  # fmt: skip
    made = join_branches("mean", development, settings_of("emotion", seeds="together"), TASKS,
                         {"words": members["words"], "voice": later})  # fmt: skip
    card = made["seed_1"].card
    assert list(card.settings["members"]) == ["words_1", "words_2", "voice_9"]
    assert "seeds 1, 2 of words" in card.notes
    assert "seeds 9 of voice" in card.notes
    with pytest.raises(ValueError, match="one alone has nobody to be joined with"):
        settings_of("emotion", ("words",))
    with pytest.raises(ValueError, match="their priors are kept"):
        settings_of("emotion", seeds="together", prior="divided")
