"""The demo's generator: its planted model can be inverted, its words and faces say what they should."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from demeanor.corpora.demo import ceiling, face, latents, speech
from demeanor.corpora.demo.grammar import compose
from demeanor.corpora.demo.latents import EMOTIONS, MODALITIES, View, sample_dialogue
from demeanor.corpora.demo.lexicon import TOPICS
from demeanor.corpora.demo.media import read_clip, write_clip
from demeanor.corpora.demo.plan import plan_corpus
from demeanor.corpora.demo.speakers import make_speakers
from tests.project import DEMO

needs_espeak = pytest.mark.skipif(
    speech.synthesiser.library_name() is None, reason="espeak-ng is not installed; using the corpus needs none"
)


@pytest.fixture(scope="module")
def many() -> list:
    """Far more dialogues than the corpus has, so that what holds on average is seen to hold."""
    random = np.random.default_rng(0)
    return [sample_dialogue(10, random) for _ in range(200)]


def columns(dialogues) -> tuple[np.ndarray, np.ndarray]:
    clips = [clip for dialogue in dialogues for clip in dialogue]
    values = [
        [0.0 if name in clip.missing else clip.views[name].value for name in MODALITIES]
        + [float(name in clip.missing) for name in MODALITIES[1:]]
        for clip in clips
    ]
    return np.array(values), np.array([clip.sentiment for clip in clips])


def test_the_ceiling_is_above_a_linear_reading_and_rises_with_what_is_seen(many, monkeypatch):
    monkeypatch.setattr(ceiling, "_RESAMPLES", 2)
    some = many[:60]
    table = ceiling.ceilings(some)
    seen, labels = columns(some)
    design = np.column_stack([seen, np.ones(len(seen))])
    # Fitted on the very clips it is scored on, which favours the line.
    line = design @ np.linalg.lstsq(design, labels, rcond=None)[0]
    assert table["all"]["MAE"] < np.abs(line - labels).mean() - 0.03
    assert table["all"]["Corr"] > np.corrcoef(line, labels)[0, 1] + 0.01
    assert table[ceiling.CONTEXT]["MAE"] < table["all"]["MAE"]
    for pair in (("text", "audio"), ("text", "vision"), ("audio", "vision")):
        both = table[" + ".join(pair)]
        assert table["all"]["MAE"] < both["MAE"] < min(table[name]["MAE"] for name in pair)
        assert table["all"]["Corr"] > both["Corr"] > max(table[name]["Corr"] for name in pair)
    for name in MODALITIES:
        assert 0.55 < table[name]["Corr"] < 0.85


def test_the_posterior_is_calibrated(many):
    posterior = ceiling.posteriors(many, MODALITIES)
    assert np.allclose(posterior.sum(axis=(1, 2)), 1)
    negative = posterior.sum(axis=2)[:, latents.GRID < 0].sum(axis=1)
    truth = columns(many)[1] < 0
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01)):
        chosen = (negative >= low) & (negative < high)
        assert abs(negative[chosen].mean() - truth[chosen].mean()) < 0.05


def test_missing_modalities_say_nothing_and_a_marker_hints_at_sarcasm():
    views = {name: View(2.0, "happiness") for name in MODALITIES}
    whole = latents.Latents(2.0, "happiness", "sincere", views, ())
    deaf = latents.Latents(2.0, "happiness", "sincere", views, ("audio",))
    assert np.allclose(ceiling.posteriors([[deaf]], ("text", "audio")), ceiling.posteriors([[deaf]], ("text",)))
    assert not np.allclose(ceiling.posteriors([[whole]], ("text", "audio")), ceiling.posteriors([[whole]], ("text",)))
    marked = latents.Latents(2.0, "happiness", "sincere", views | {"text": View(2.0, "happiness", True)}, ())
    means = [float(ceiling.decide(ceiling.posteriors([[clip]], ("text",)))["mean"][0]) for clip in (whole, marked)]
    assert means[1] < means[0] - 1


def test_the_plan_is_the_same_for_a_seed_and_is_the_one_on_disk():
    clips = plan_corpus(2)
    assert clips == plan_corpus(2)
    assert [clip.latents for clip in plan_corpus(3)] != [clip.latents for clip in clips]
    on_disk = [clip for dialogue in ceiling.read_latents(DEMO, "test") for clip in dialogue]
    assert [clip.latents for clip in clips if clip.split == "test"] == on_disk
    voices = [person.voice.name for people in make_speakers(2).values() for person in people]
    assert len(set(voices)) == len(voices) == 20


def test_sentences_say_the_value_they_were_asked_for():
    random = np.random.default_rng(0)
    wanted, got, forms = [], [], set()
    for value in np.linspace(-3, 3, 61):
        emotion = EMOTIONS[int(random.integers(len(EMOTIONS)))]
        sentence = compose(float(value), emotion, False, sorted(TOPICS)[int(random.integers(10))], 12, random)
        assert 5 <= len(sentence.words) <= 12
        assert len(sentence.words) == len(sentence.text.split())
        wanted.append(value)
        got.append(sentence.value)
        forms.add(sentence.form)
    assert np.abs(np.array(wanted) - got).max() <= 0.6
    assert forms == {"plain", "negated"}
    assert compose(2.0, "happiness", True, "food", 12, random).form == "sarcastic"


def test_faces_are_found_where_there_is_one_and_smile_when_pleased():
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found, absent = [], []
    for number, person in enumerate(make_speakers(2)["test"]):
        view = View(float(number - 3), EMOTIONS[number])
        for shown, hits in ((view, found), (None, absent)):
            picture = face.film(person.look, shown, np.full(13, 0.5), np.random.default_rng(number))[12]
            assert picture.shape == (96, 96, 3)
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            hits.append(len(detector.detectMultiScale(grey, 1.1, 3, minSize=(30, 30))) > 0)
    assert np.mean(found) > 0.8
    assert not any(absent)
    pleased, displeased = (face.expression_of(View(value, "neutral")) for value in (2.0, -2.0))
    assert pleased.smile > 0.5 > -0.5 > displeased.smile


def test_a_clip_is_coded_the_same_every_time(tmp_path):
    person = make_speakers(2)["train"][0]
    pictures = face.film(person.look, View(1.0, "fear"), np.abs(np.sin(np.arange(24))), np.random.default_rng(0))
    sound = 0.1 * np.sin(2 * np.pi * 220 * np.arange(32000) / 16000)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_clip(tmp_path / name, pictures, face.FRAME_RATE, sound, speech.SAMPLE_RATE)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    frames, samples, rate = read_clip(tmp_path / "a.mp4")
    assert frames.shape == (24, 96, 96, 3)
    assert rate == 16000
    assert np.abs(frames.astype(int) - np.stack(pictures)).mean() < 6
    assert np.corrcoef(samples[:32000], sound)[0, 1] > 0.99


def test_a_missing_synthesiser_is_said_in_one_sentence(monkeypatch, tmp_path):
    from demeanor.corpora.demo.generate import generate

    monkeypatch.setattr(speech.synthesiser, "library_name", lambda: None)
    with pytest.raises(speech.SynthesiserError, match="apt-get install espeak-ng"):
        generate(tmp_path / "demo", seed=2)
    assert list(tmp_path.iterdir()) == []


@needs_espeak
def test_pleased_voices_are_louder_and_a_request_always_sounds_the_same():
    person = make_speakers(2)["test"][0]
    sentence = compose(1.0, "neutral", False, "food", 8, np.random.default_rng(0))
    pleased, again, displeased = (
        speech.speak(sentence, View(value, "neutral"), person.voice) for value in (2.5, 2.5, -2.5)
    )
    assert np.array_equal(pleased.samples, again.samples)
    assert pleased.words == again.words
    assert np.sqrt(np.mean(pleased.samples**2)) > 1.5 * np.sqrt(np.mean(displeased.samples**2))
    assert [word for word, _, _ in pleased.words] == sentence.words


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed; using the corpus needs none")
def test_what_is_generated_twice_is_the_same_byte_for_byte(tmp_path):
    from demeanor.corpora.demo.generate import generate

    for name in ("one", "two"):
        generate(tmp_path / name, seed=2, jobs=1, only=2)
    paths = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(paths) == 4
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in paths)
