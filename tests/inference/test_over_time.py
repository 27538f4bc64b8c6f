"""A recording of three seconds with a voice in the second one alone: that is where its answer came about."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError
from demeanor.features.base import SAMPLE_RATE, Clip, Word, to_int16
from demeanor.features.leaving_out import length_of, windows_of, without
from demeanor.inference.model import TrainedModel
from demeanor.inference.over_time import MOST, contributions_over_time, over_time_text
from tests.project import DEMO


@pytest.fixture(scope="module")
def model(voice) -> TrainedModel:
    return TrainedModel.load(voice[0])


def recording(voiced: tuple[float, float] = (1.0, 2.0), seconds: float = 3.0) -> bytes:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    samples = sum(np.sin(2 * np.pi * 250 * k * times) / k for k in (1, 2, 3)) * 0.1
    samples = np.where((times >= voiced[0]) & (times < voiced[1]), samples, 0.0).astype(np.float32)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, len(times), "NONE", ""))
        writer.writeframes(to_int16(samples).tobytes())
    return file.getvalue()


def test_the_window_that_holds_the_voice_is_what_the_answer_is_owed_to(model: TrainedModel):
    rows = [{"utterance_id": "a", "audio_bytes": recording()}]
    (answer,) = model.score(rows)["sentiment"]
    table = contributions_over_time(model, rows)
    assert table[["start", "end"]].to_numpy().tolist() == [[0, 1], [1, 2], [2, 3]]
    assert table["contribution"][0] == table["contribution"][2] == 0, "silence that is silenced"
    read = model.extraction(rows).examples
    baseline = model.outputs(read, [()])[0, 0, 0]
    assert table["contribution"][1] == pytest.approx(answer - baseline, abs=1e-5)
    assert abs(table["contribution"][1]) > 0.1
    assert "1.0 to   2.0 s" in over_time_text(table)
    assert list(table) == ["start", "end", "contribution"], "of one modality there is nothing to part"


def test_what_has_no_time_or_is_several_is_refused(model: TrainedModel):
    with pytest.raises(InputError, match="2 rows"):
        contributions_over_time(model, [{"audio_bytes": recording()}, {"audio_bytes": recording()}])
    with pytest.raises(InputError, match="nothing in it that this model reads"):
        contributions_over_time(model, [{"text": "well"}])
    several = model.card.model_copy(
        update={"inputs": {**model.card.inputs, "text": model.card.inputs["audio"].model_copy(
            update={"stream": "text.sentence", "modality": "text"})}}
    )  # fmt: skip
    untaught = TrainedModel.__new__(TrainedModel)
    untaught.bundle = Bundle(several, model.bundle.tensors)
    with pytest.raises(InputError, match="without modality_dropout"):
        contributions_over_time(untaught, [{"audio_bytes": recording()}])


def test_a_window_takes_its_sound_its_words_and_its_pictures():
    path = Path(sorted(DEMO.glob("Raw/*/*.mp4"))[0])
    words = (Word("no", 0.0, 0.4), Word("never", 0.4, 0.9), Word("mind", 0.9, 1.4))
    clip = Clip("a", text="no never mind", words=words, media=path, dialogue=("well", "no never mind"), turn=1)
    seconds = length_of(clip)
    assert seconds is not None
    assert seconds > 1
    fewer = without(clip, (0.5, 1.0), seconds)
    assert (fewer.text, fewer.dialogue) == ("no mind", ("well", "no mind"))
    assert fewer.words == (words[0], words[2])
    before, after = clip.waveform, fewer.waveform
    assert before is not None
    assert after is not None
    assert len(before) == len(after)
    assert not after[8000:16000].any()
    assert before[8000:16000].any()
    assert np.array_equal(after[:8000], before[:8000])
    times = [time for time, _ in clip.frames(8.0)]
    assert [time for time, _ in fewer.at_hand(True).frames(8.0)] == [t for t in times if not 0.5 <= t < 1.0]
    assert fewer.content(frozenset({"video"})) != clip.content(frozenset({"video"}))
    untimed = without(Clip("b", text="one two three four", recorded=np.zeros(16000, np.int16)), (0.25, 0.75), 1.0)
    assert untimed.text == "one four"
    assert without(Clip("c", text="well"), (0.0, 9.0), 1.0).text is None


def test_windows_cover_the_recording_and_are_no_more_than_the_most():
    assert windows_of(2.6, 1.0, MOST) == [(0.0, 2.6 / 3), (2.6 / 3, 5.2 / 3), (5.2 / 3, 2.6)]
    assert windows_of(0.2, 1.0, MOST) == [(0.0, 0.2)]
    assert len(windows_of(600.0, 1.0, MOST)) == MOST
    assert length_of(Clip("a", text="well")) is None
