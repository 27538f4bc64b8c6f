"""The training loop: learns, resumes bit for bit, keeps the test split out, and says what went wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, ProvenanceError
from demeanor.data.examples import Examples
from demeanor.data.normaliser import Normaliser
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.inference.model import TrainedModel
from demeanor.training.fit import fit
from demeanor.training.loop import TrainingFailed
from demeanor.training.schedules import plateaus
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.toy import EMOTION, EMOTIONS, SENTIMENT, toy_examples, toy_score


def branch(system: str = "text_only", streams: dict | None = None, **training) -> BranchSettings:
    settings = {"epochs": 6, "patience": 6, "batch_size": 8, "threads": 1, **training}
    return BranchSettings(
        system=system, streams=streams or {"text": "text.words"}, training=TrainingSettings(**settings)
    )


@pytest.fixture(scope="module")
def examples() -> Examples:
    return toy_examples()


@pytest.fixture(scope="module")
def development(examples: Examples) -> Examples:
    return examples.split("train", "valid")


def test_learns_and_its_bundle_predicts_the_same_after_saving(examples, development, tmp_path):
    trained = fit("words", branch(epochs=25, patience=25), SENTIMENT, development, 1, toy_score, progress=False)
    trained.bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    valid = development.split("valid")
    again = TrainedModel.load(loaded).predict(valid)
    np.testing.assert_array_equal(again, TrainedModel.load(trained.bundle).predict(valid))
    error = np.abs(again[:, 0] - SENTIMENT.targets(valid.utterances)).mean()
    guess = np.abs(SENTIMENT.targets(valid.utterances) - SENTIMENT.targets(examples.split("train").utterances).mean())
    assert error < 0.7 * guess.mean()
    assert error == pytest.approx(loaded.card.metrics["MAE"], abs=1e-5)
    assert loaded.card.protocol["seed"] == 1
    assert "text.words" in str(loaded)


@pytest.mark.parametrize("task", [EMOTION, EMOTIONS], ids=lambda task: task.kind)
def test_other_tasks(development, task):
    trained = fit("words", branch(), task, development, 1, toy_score, progress=False)
    assert trained.validation.shape == (16, task.outputs)


def test_same_seed_same_numbers_and_another_seed_others(development):
    runs = [fit("words", branch(), SENTIMENT, development, seed, toy_score, progress=False) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].validation, runs[1].validation)
    assert not np.array_equal(runs[0].validation, runs[2].validation)


def test_a_refit_learns_from_validation_too_for_as_many_epochs_as_it_chose(development):
    """What is told of validation is the first training's; the bundle is that of a training on both parts."""

    def run(**training):
        settings = branch("audio_only", {"audio": "audio.frames"}, **training)
        return fit("a", settings, SENTIMENT, development, 1, toy_score, progress=False)

    plain, refit = (run(epochs=12, patience=12, learning_rate=2e-2, refit=chosen) for chosen in (False, True))
    np.testing.assert_array_equal(plain.validation, refit.validation)
    assert [row["valid_loss"] for row in plain.history] == [row["valid_loss"] for row in refit.history]
    assert plain.bundle.card.metrics == refit.bundle.card.metrics
    both = Examples.of(development.utterances.assign(split="train"), development.streams)
    for name, value in Normaliser.fit(both, {"audio": "audio.frames"}).tensors().items():
        np.testing.assert_allclose(refit.bundle.tensors[name], value, rtol=1e-6)
        assert not np.allclose(plain.bundle.tensors[name], value)
    chosen = refit.bundle.card.protocol["epoch"]
    assert chosen < 12
    shorter = run(epochs=chosen, patience=12, learning_rate=2e-2, refit=True)
    assert shorter.bundle.weights_sha256 == refit.bundle.weights_sha256 != plain.bundle.weights_sha256
    with pytest.raises(ValueError, match="plateau"):
        TrainingSettings(refit=True, schedule="plateau")


EVERY_STREAM = {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("system", "streams"), [("text_only", None), ("ef_lstm", EVERY_STREAM), ("mult", EVERY_STREAM)]
)
def test_trains_in_half_precision_on_any_processor(development, precision, system, streams):
    """With recurrences, whose kernels not every processor has in half precision, and without."""
    settings = branch(system, streams, epochs=2, patience=2, precision=precision, device="cpu")
    trained = fit("half", settings, SENTIMENT, development, 1, toy_score, progress=False)
    assert np.isfinite([row["train_loss"] for row in trained.history]).all()
    assert np.isfinite(trained.validation).all()
    assert all(value.dtype != np.float16 for value in trained.bundle.tensors.values())


def test_the_device_is_chosen_in_one_way_everywhere(monkeypatch):
    """Of several processes each has chosen its own GPU: that one, and not the first, is `auto`."""
    from demeanor.inference import model
    from demeanor.training import fit
    from demeanor.training.pretraining import loop as representation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for module in (fit, representation, model):
        assert module.choose_device("auto") == torch.device("cuda", 3)
        assert module.choose_device("cuda:1") == torch.device("cuda", 1)
        assert module.choose_device("cpu") == torch.device("cpu")


class Killed(Exception):
    pass


@pytest.mark.parametrize("system", ["text_only", "late_fusion"])
def test_resumes_to_the_same_result_bit_for_bit(development, tmp_path, system):
    streams = {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}
    settings = branch(
        system,
        streams if system == "late_fusion" else None,
        modality_dropout=0.2,
        gradient_accumulation=2,
        schedule="cosine",
        warmup=0.1,
    )
    whole = fit("words", settings, SENTIMENT, development, 3, toy_score, progress=False)
    epochs = []

    def dies(row, epoch):
        epochs.append(epoch)
        if epoch == 3:
            raise Killed

    folder = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        fit("words", settings, SENTIMENT, development, 3, toy_score, dies, folder, progress=False)
    rest = []
    resumed = fit(
        "words", settings, SENTIMENT, development, 3, toy_score, lambda row, n: rest.append(n), folder, progress=False
    )
    assert epochs == [1, 2, 3]
    assert rest == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(whole.validation, resumed.validation)
    for name, value in whole.bundle.tensors.items():
        np.testing.assert_array_equal(value, resumed.bundle.tensors[name], err_msg=name)


def test_a_checkpoint_of_other_settings_is_not_taken(development, tmp_path):
    fit("words", branch(), SENTIMENT, development, 1, toy_score, checkpoints=tmp_path / "c", progress=False)
    seen = []
    fit(
        "words", branch(learning_rate=5e-3), SENTIMENT, development, 1, toy_score,
        lambda row, epoch: seen.append(row["seconds"]), tmp_path / "c", progress=False,
    )  # fmt: skip
    fresh = fit("words", branch(learning_rate=5e-3), SENTIMENT, development, 1, toy_score, progress=False)
    taken = torch.load(tmp_path / "c" / "latest.pt", weights_only=True)
    assert taken["history"][0]["train_loss"] == fresh.history[0]["train_loss"]


def test_a_checkpoint_is_taken_whatever_other_seeds_there_are(development, tmp_path):
    first = fit("words", branch(), SENTIMENT, development, 1, toy_score, checkpoints=tmp_path / "c", progress=False)
    again = fit(
        "words", branch(seeds=(1, 7)), SENTIMENT, development, 1, toy_score, checkpoints=tmp_path / "c", progress=False
    )
    assert [row["seconds"] for row in again.history] == [row["seconds"] for row in first.history]


def test_test_utterances_never_reach_training(examples):
    with pytest.raises(InputError, match="sealed"):
        fit("words", branch(), SENTIMENT, examples, 1, toy_score, progress=False)


def test_changing_the_test_split_changes_nothing(development):
    other = toy_examples(test=4).split("train", "valid")
    results = [fit("w", branch(), SENTIMENT, part, 1, toy_score, progress=False) for part in (development, other)]
    np.testing.assert_array_equal(results[0].validation, results[1].validation)


def test_a_missing_stream_is_named_with_the_nearest(development):
    with pytest.raises(InputError, match=r"Did you mean 'text\.words'"):
        fit("words", branch(streams={"text": "text.wrds"}), SENTIMENT, development, 1, toy_score, progress=False)


def test_a_loss_that_is_no_number_stops_with_advice(development):
    table = development.utterances.copy()
    settings = branch(learning_rate=1e30, clip_norm=None, weight_decay=0.0, epochs=20, patience=20)
    with pytest.raises(TrainingFailed, match="learning rate"):
        fit("words", settings, SENTIMENT, Examples.of(table, development.streams), 1, toy_score, progress=False)


def test_features_made_in_another_way_are_refused(development):
    trained = fit("words", branch(epochs=1), SENTIMENT, development, 1, toy_score, progress=False)
    stream = development.streams["text.words"]
    other = Provenance(extractor="toy", version="2", parameters={"stream": "text.words"})
    changed = Examples(
        development.utterances, {**development.streams, "text.words": Stream(stream.name, stream.ragged, other)}
    )
    with pytest.raises(ProvenanceError, match="version: '1' expected, '2' found"):
        TrainedModel.load(trained.bundle).predict(changed)


def test_misspelt_settings_are_refused_before_anything_runs():
    with pytest.raises(ValueError, match="has no role"):
        branch(streams={"txt": "text.words"})
    with pytest.raises(ValueError, match="Did you mean 'text_only'"):
        branch(system="text_onli")
    with pytest.raises(ValueError, match="Extra inputs"):
        BranchSettings(system="text_only", streams={"text": "text.words"}, model={"hiden": 3})
    assert TrainingSettings(seeds=3).seeds == (1, 2, 3)
    for none in (0, (), True):
        with pytest.raises(ValueError, match="seeds"):
            TrainingSettings(seeds=none)


def test_checkpoints_leave_frozen_encoders_out_and_go_on_with_the_same_ones_alone(development, tmp_path):
    """An epoch over remembered vectors must not write the whole encoder again; resuming finds it where it was."""
    from transformers import RobertaConfig, RobertaModel

    ids = {name: np.array([[0], [5 + n % 50], [2]]) for n, name in enumerate(development.ids)}
    made = Stream("text.tokens", Ragged.from_sequences(ids), Provenance(extractor="toy", version="1"))
    examples = Examples.of(development.utterances, {"text.tokens": made})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    encoder = RobertaModel(RobertaConfig(vocab_size=2000, max_position_embeddings=12, **sizes))
    encoder.save_pretrained(tmp_path / "encoder")

    def run(folder=None):
        settings = branch("tab_fusion", {"text": "text.tokens"}, epochs=4, patience=9, selection="loss")
        settings = settings.model_copy(update={"task": "emotion", "model": {"encoder": str(tmp_path / "encoder")}})
        return fit("tab", settings, EMOTION, examples, 1, toy_score, checkpoints=folder, progress=False)

    whole, stopped = run(), run(tmp_path / "a")
    assert (tmp_path / "a" / "best.pt").stat().st_size < 2000 * 16 * 4 / 2
    again = run(tmp_path / "a")
    for other in (stopped, again):
        assert other.bundle.weights_sha256 == whole.bundle.weights_sha256
    np.testing.assert_array_equal(
        TrainedModel.load(again.bundle).predict(examples), TrainedModel.load(whole.bundle).predict(examples)
    )
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight.add_(1.0)
    encoder.save_pretrained(tmp_path / "encoder")
    assert run(tmp_path / "a").bundle.weights_sha256 == run().bundle.weights_sha256 != whole.bundle.weights_sha256


def test_the_rate_falls_on_plateaus_as_torch_lets_it_and_a_resumed_training_remembers(development, tmp_path):
    losses = [1.0, 0.9, 0.9, 0.95, 0.91, 0.92, 0.8, 0.8, 0.81, 0.82, 0.83]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=2)
    for number, loss in enumerate(losses, 1):
        torchs.step(loss)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.1 ** plateaus(losses[:number], 2))
    settings = branch(schedule="plateau", plateau_patience=0, learning_rate=0.3, epochs=6)
    whole = fit("plateau", settings, SENTIMENT, development, 1, toy_score, progress=False)
    rates = [row["learning_rate"] for row in whole.history]
    assert rates[0] == 0.3
    assert rates[-1] < 0.3

    def stop(row: dict[str, float], epoch: int) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit("plateau", settings, SENTIMENT, development, 1, toy_score, stop, tmp_path, progress=False)
    again = fit("plateau", settings, SENTIMENT, development, 1, toy_score, checkpoints=tmp_path, progress=False)
    assert [row["learning_rate"] for row in again.history] == rates
    assert [row["valid_loss"] for row in again.history] == [row["valid_loss"] for row in whole.history]
