"""Features as they come: broken columns, no word times, a last batch of one, and streams of another width."""

from __future__ import annotations

import numpy as np
import pytest

from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.inference.model import TrainedModel
from demeanor.representations.input_transform import InputTransform
from demeanor.training.pretraining.loop import pretrain
from demeanor.training.pretraining.settings import RepresentationSettings
from tests.toy import toy_examples


def changed(examples: Examples, name: str, change) -> Examples:
    """With `change(values)` in place of every sequence of a stream."""
    old = examples.stream(name)
    sequences = {key: change(np.array(part)) for key, part in zip(old.ragged.ids, old.ragged, strict=True)}
    width = max(part.shape[1] for part in sequences.values())
    made = Stream(name, Ragged.from_sequences(sequences, dimension=width), old.provenance)
    return Examples.of(examples.utterances, {**examples.streams, name: made})


def column(number: int, value: float):
    def change(values: np.ndarray) -> np.ndarray:
        values[:, number] = value
        return values

    return change


def settings(**changes) -> RepresentationSettings:
    model = {"channels": 4, "representation_channels": 4}
    base = RepresentationSettings(model=model, epochs=2, batch_size=16, on_collapse="warn", device="cpu")
    return base.model_copy(update=changes)


@pytest.fixture
def development() -> Examples:
    return toy_examples(train=33, valid=8).split("train", "valid")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("value", [np.nan, -np.inf, 7.0], ids=["NaN", "-inf", "constant"])
def test_a_column_that_says_nothing_is_zero_everywhere(development: Examples, value: float):
    given = changed(development, "audio.frames", column(2, value))
    bundle, history = pretrain(settings(), given)
    assert np.isfinite([row["valid_loss"] for row in history]).all()
    matrix, _ = InputTransform.of(bundle)(given)
    assert (matrix[..., 2] == 0).all()
    assert (matrix[..., 1] != 0).any()
    # Whatever another split holds there: it could not have been learnt.
    other, _ = InputTransform.of(bundle)(changed(given, "audio.frames", column(2, 1e9)))
    assert (other[..., 2] == 0).all()
    assert all(np.isfinite(row).all() for row in TrainedModel.load(bundle).embed(given).ragged)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_single_values_that_are_not_finite_become_the_train_splits_mean(development: Examples):
    given = changed(development, "audio.frames", lambda values: np.where(np.arange(5) == 1, np.nan, values))
    transform = InputTransform.fit([development], settings().word_matrix)
    matrix, mask = transform(given)
    normaliser = transform.normalisers["mixture"]
    expected = (normaliser.fill - normaliser.low) / (normaliser.high - normaliser.low)
    np.testing.assert_allclose(matrix[..., 1][mask[..., 0]], expected[1], rtol=1e-5)


def test_modality_without_any_variation_is_said(development: Examples):
    given = changed(development, "audio.frames", np.ones_like)
    with pytest.warns(UserWarning, match="every column of audio is constant"):
        InputTransform.fit([given], settings().word_matrix)


def test_nothing_finite_at_all_is_an_error(development: Examples):
    for name in ("audio.frames", "text.words", "vision.frames"):
        development = changed(development, name, lambda values: np.full_like(values, np.nan))
    with pytest.raises(InputError, match="no finite observed value"):
        pretrain(settings(), development)


def test_without_word_times_frames_are_shared_out_and_it_is_said(development: Examples):
    assert "text.word_times" not in development.streams
    with pytest.warns(UserWarning, match=r"no usable word times.*Make the stream 'text.word_times'"):
        bundle, _ = pretrain(settings(), development)
    assert len(TrainedModel.load(bundle).embed(development).ragged) == len(development)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_last_batch_of_one_and_a_split_of_one(development: Examples):
    """33 utterances in batches of 16: the statistics of the last batch are those of its own positions."""
    one = development.select([*development.split("train").ids, development.split("valid").ids[0]])
    bundle, history = pretrain(settings(), one)
    assert bundle.card.protocol["train"] % 16 == 1
    assert bundle.card.protocol["valid"] == 1
    assert np.isfinite([row["train_loss"] for row in history]).all()
    single = one.split("valid")
    assert TrainedModel.load(bundle).embed(single).ragged[0].shape == (1, bundle.card.protocol["dimension"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_streams_of_another_width_are_refused_all_at_once(development: Examples):
    bundle, _ = pretrain(settings(), development)
    other = development
    for name in ("audio.frames", "vision.frames"):
        other = changed(other, name, lambda values: np.concatenate([values, values[:, :2]], axis=1))
    with pytest.raises(InputError) as caught:
        TrainedModel.load(bundle).embed(other)
    assert "5 columns expected for audio, stream 'audio.frames' has 7" in str(caught.value)
    assert "4 columns expected for vision, stream 'vision.frames' has 6" in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_matrix_too_narrow_for_four_poolings_is_an_error(development: Examples):
    chosen = settings()
    chosen = chosen.model_copy(update={"word_matrix": chosen.word_matrix.only(["audio"])})
    with pytest.raises(InputError, match="at least 10 are needed"):
        pretrain(chosen, development)
