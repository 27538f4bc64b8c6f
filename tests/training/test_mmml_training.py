"""MMML through the loop: what can go wrong says where, checkpoints stay few, two processes equal one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demeanor.data.batches import Batches
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.models import find_system
from demeanor.training.checkpoint import Checkpoint
from demeanor.training.distributed.launch import train
from demeanor.training.fit import fit, specify
from demeanor.training.loop import TrainingFailed
from tests.toy import SENTIMENT, toy_score
from tests.toy_speech import speech_branch, speech_examples


def run(development: Examples, settings, **more):
    return fit("mmml", settings, SENTIMENT, development, 1, toy_score, progress=False, **more)


def replaced(examples: Examples, stream: str, utterance: str, values: np.ndarray) -> Examples:
    """The same examples with another sequence for one utterance."""
    former = examples.streams[stream]
    sequences = {name: former.ragged[n] for n, name in enumerate(former.ragged.ids)}
    ragged = Ragged.from_sequences({**sequences, utterance: values.astype(former.ragged.dtype)}, 1, former.ragged.dtype)
    return Examples.of(examples.utterances, {**examples.streams, stream: Stream(stream, ragged, former.provenance)})


@pytest.mark.parametrize("context", ["stream", "dialogue"])
def test_it_learns_from_words_and_sound_with_some_of_either_missing(context):
    size = 2 if context == "dialogue" else 8
    settings = speech_branch({"context": context}, batch_size=size, learning_rate=3e-3, epochs=8)
    trained = run(speech_examples(absent=True), settings)
    losses = [row["train_loss"] for row in trained.history]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
    assert np.isfinite(trained.validation).all()


def test_a_loss_that_is_no_number_names_epoch_batch_and_utterances():
    settings = speech_branch(learning_rate=1e30, clip_norm=None, epochs=20)
    with pytest.raises(TrainingFailed, match=r"epoch \d+, batch \d of 4: the loss became .* at utterances train_\d+"):
        run(speech_examples(), settings)


def test_after_a_failure_the_epochs_before_it_are_still_there(tmp_path, monkeypatch):
    """The weights turn to NaN in the third epoch; the best of the first two can be taken up again."""
    from demeanor.training import loop

    former = loop.Loop._epoch

    def broken(self, forward, epoch, memory):
        if epoch == 3:
            next(self.system.parameters()).data.fill_(float("nan"))
        return former(self, forward, epoch, memory)

    monkeypatch.setattr(loop.Loop, "_epoch", broken)
    settings = speech_branch(epochs=4)
    with pytest.raises(TrainingFailed, match="epoch 3, batch 1 of 4"):
        run(speech_examples(), settings, checkpoints=tmp_path / "c")
    kept = torch.load(tmp_path / "c" / Checkpoint.LATEST, weights_only=True)
    assert len(kept["history"]) == 2
    monkeypatch.undo()
    resumed = run(speech_examples(), settings, checkpoints=tmp_path / "c")
    whole = run(speech_examples(), settings)
    np.testing.assert_array_equal(resumed.validation, whole.validation)


@pytest.mark.parametrize("context", ["stream", "dialogue"])
def test_a_recording_of_ten_minutes_is_read_to_its_limit_and_no_further(context):
    """Ten minutes at 16 kHz are 9.6 million samples; the tiny network reads 0.05 s of them."""
    development = speech_examples()
    settings = speech_branch({"context": context})
    inputs = specify(settings, development)
    limit = inputs["audio"].max_length
    assert limit == (800 if context == "stream" else 8000)
    long = np.random.default_rng(3).integers(-3000, 3000, (9_600_000, 1)).astype(np.int16)
    torch.manual_seed(0)
    network = find_system("mmml")(find_system("mmml").Settings(**settings.model), inputs, SENTIMENT).eval()
    answers = []
    for sound in (long, long[:limit]):
        batches = Batches(replaced(development, "audio.waveform", "train_003", sound), inputs, SENTIMENT)
        batch = batches[np.arange(8)]
        assert batch["audio"].values.shape[1] == limit
        with torch.inference_mode():
            answers.append(network(batch).prediction)
    torch.testing.assert_close(*answers, atol=1e-6, rtol=0)
    assert torch.isfinite(answers[0]).all()


def test_checkpoints_are_the_latest_and_the_best_and_a_finished_training_keeps_little(tmp_path, monkeypatch):
    folder = tmp_path / "c"
    written: list[str] = []
    former = Checkpoint._write
    monkeypatch.setattr(
        Checkpoint, "_write", lambda self, name, state: (written.append(name), former(self, name, state))
    )
    sizes: list[int] = []

    def watch(row, epoch):
        assert sorted(path.name for path in folder.iterdir()) == [Checkpoint.BEST, Checkpoint.LATEST]
        sizes.append(sum(path.stat().st_size for path in folder.iterdir()))

    settings = speech_branch(epochs=8, patience=8, learning_rate=1e-2)
    trained = run(speech_examples(), settings, checkpoints=folder, report=watch)
    values = [row["valid_MAE"] for row in trained.history]
    improvements = sum(value < min(values[:n], default=np.inf) for n, value in enumerate(values))
    assert 0 < improvements < 8, "epochs of both kinds are wanted here"
    assert written.count(Checkpoint.BEST) == improvements
    assert max(sizes) < 1.02 * min(sizes), "they must not grow"
    left = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert left[Checkpoint.LATEST] < 0.1 * left[Checkpoint.BEST]
    # The same training asked for again is over at once, with the same result.
    seen: list[int] = []
    again = run(speech_examples(), settings, checkpoints=folder, report=lambda row, epoch: seen.append(epoch))
    assert seen == list(range(1, 9))
    np.testing.assert_array_equal(again.validation, trained.validation)
    # Without the best weights it begins anew.
    (folder / Checkpoint.BEST).unlink()
    np.testing.assert_array_equal(run(speech_examples(), settings, checkpoints=folder).validation, trained.validation)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    """At the same global batch, whole dialogues on one process; exact where every utterance has words and sound.
    Utterance by utterance it is shown in tests/training/distributed, for a system that starts sooner.

    Batches of an odd number of rows: of an even number as many may lie above as below their labels, the gradient of
    an absolute error is then 0, and Adam makes full steps of what rounding leaves.
    """
    development = speech_examples(train=30)
    alone = run(development, speech_branch({"context": "dialogue"}, batch_size=3))
    rows: dict[int, list[dict]] = {}
    together = train(
        "mmml", speech_branch({"context": "dialogue"}, batch_size=3, devices=2), SENTIMENT, development, 1, toy_score,
        lambda row, epoch: rows.setdefault(epoch, []).append(row), tmp_path / "checkpoint",
    )  # fmt: skip
    assert {epoch: len(reported) for epoch, reported in rows.items()} == {1: 1, 2: 1, 3: 1}, "one process reports"
    for name in ("train_loss", "train_loss_M", "train_loss_T", "train_loss_A", "valid_loss", "valid_MAE"):
        expected = [row[name] for row in alone.history]
        np.testing.assert_allclose([row[name] for row in together.history], expected, rtol=5e-5, err_msg=name)
    np.testing.assert_allclose(together.validation, alone.validation, rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["best.pt", "latest.pt"]


@pytest.mark.slow
def test_a_failure_in_one_of_two_processes_is_told_like_any_other():
    settings = speech_branch(batch_size=5, devices=2, learning_rate=1e30, clip_norm=None, epochs=20)
    with pytest.raises(TrainingFailed, match=r"^epoch \d, batch \d of 5: the loss became"):
        train("mmml", settings, SENTIMENT, speech_examples(), 1, toy_score)
