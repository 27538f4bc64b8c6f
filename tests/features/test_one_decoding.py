"""A recording is opened once for its sound and once for its pictures, however many streams are made of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from demeanor.data.utterances import make_table
from demeanor.features import film, find_extractor
from demeanor.features.base import Clip
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.features.film import Film
from demeanor.features.media import MediaError, decode_frames
from demeanor.features.tasks import Partner, Task, after_death
from tests.features.media_samples import faces, voice, write_recording

REQUESTS = {
    "audio.frames": StreamRequest(extractor="opensmile_lld"),
    "audio.functionals": StreamRequest(extractor="opensmile_functionals"),
    "audio.waveform": StreamRequest(extractor="waveform"),
    "audio.words": StreamRequest(extractor="per_word", parameters={"extractor": "opensmile_lld"}),
    "vision.frames": StreamRequest(extractor="face_mesh"),
    "vision.slow": StreamRequest(extractor="face_descriptors", parameters={"fallback": "centre", "rate": 2.0}),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for n in range(3):
        write_recording(folder / f"c{n}.mp4", voice(0.8, pitch=100 + 20 * n), faces(8, mouth=n / 3))
    return folder


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was opened."""
    counted: Counter[str] = Counter()
    plain = av.open

    def counting(file: Any, *arguments: Any, **options: Any) -> Any:
        counted[Path(str(file)).name if isinstance(file, str) else "content"] += 1
        return plain(file, *arguments, **options)

    monkeypatch.setattr(av, "open", counting)
    return counted


def table_of(folder: Path) -> Any:
    rows = [
        {"utterance_id": f"u{n}", "corpus": "m", "split": "train", "dialogue": "d", "turn": n, "text": "so be it",
         "media": path.name}
        for n, path in enumerate(sorted(folder.glob("*.mp4")))
    ]  # fmt: skip
    return make_table(rows)


def test_in_training(recordings: Path, tmp_path: Path, opens: Counter[str]):
    clips = clips_of(table_of(recordings), recordings)
    streams, aside = extract_streams(clips, REQUESTS, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    assert aside.empty
    assert set(opens.values()) == {2}
    assert len(opens) == len(clips)
    opens.clear()
    for name, request in REQUESTS.items():
        alone = request.build()
        for clip in clips:
            np.testing.assert_array_equal(streams[name].ragged[clip.utterance_id], alone.extract_clip(clip), name)
    opens.clear()
    extract_streams(clips, REQUESTS, tmp_path / "cache", tmp_path / "again", 1, progress=False)
    assert not opens


def test_what_is_there_already_is_not_made_again_beside_another(recordings: Path, tmp_path: Path, monkeypatch):
    clips = clips_of(table_of(recordings), recordings)
    vision = {name: REQUESTS[name] for name in ("vision.frames", "vision.slow")}
    slow = {"vision.slow": REQUESTS["vision.slow"]}
    before, _ = extract_streams(clips, slow, tmp_path / "cache", tmp_path / "one", 1, progress=False)
    kind = type(find_extractor("face_descriptors"))

    def never(self: Any, clip: Clip) -> np.ndarray:
        raise AssertionError("made again")

    monkeypatch.setattr(kind, "extract_clip", never)
    after, _ = extract_streams(clips, vision, tmp_path / "cache", tmp_path / "two", 1, progress=False)
    assert after["vision.slow"].content_sha256 == before["vision.slow"].content_sha256


def test_what_a_partner_cannot_read_is_told_in_its_own_pass(recordings: Path, tmp_path: Path, monkeypatch):
    clips = clips_of(table_of(recordings), recordings)
    vision = {name: REQUESTS[name] for name in ("vision.frames", "vision.slow")}
    kind = type(find_extractor("face_descriptors"))
    plain = kind.extract_clip

    def picky(self: Any, clip: Clip) -> np.ndarray:
        if clip.utterance_id == "u1":
            raise ValueError("not this one")
        return plain(self, clip)

    monkeypatch.setattr(kind, "extract_clip", picky)
    streams, aside = extract_streams(clips, vision, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    assert aside[["utterance_id", "stream", "reason"]].to_numpy().tolist() == [
        ["u1", "vision.slow", "ValueError: not this one"]
    ]
    assert all(streams["vision.frames"].ragged.lengths > 0)


def test_a_clip_whose_worker_died_is_tried_again_without_partners():
    partner = Partner("face_descriptors", "{}", ("k",))
    task = Task("face_mesh", "{}", (Clip("a"),), ("a",), partners=(partner,))
    _, (again,) = after_death(task, MemoryError())
    assert again.partners == ()


def test_encoders_hear_the_same_sound(recordings: Path, tmp_path: Path, opens: Counter[str], monkeypatch):
    from tests.features.test_encoders import SPEECH, saved

    files = {"preprocessor_config": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False}}
    model = {"model": saved(tmp_path, SPEECH["hubert"](), **files)}
    requests = {
        "audio.frames": StreamRequest(extractor="hf_speech", parameters=model),
        "audio.speech": StreamRequest(
            extractor="hf_speech_statistics", parameters={**model, "layers": (0, 1), "spoken": False}
        ),
    }
    clips = clips_of(table_of(recordings), recordings)

    def made(streams: dict[str, StreamRequest], folder: str) -> dict[str, Any]:
        found, aside = extract_streams(clips, streams, tmp_path / folder, tmp_path / folder / "out", 1, progress=False)
        assert aside.empty
        return {name: stream.content_sha256 for name, stream in found.items()}

    together = made(requests, "together")
    assert list(opens.values()) == [1] * len(clips)
    apart = {name: made({name: request}, name)[name] for name, request in requests.items()}
    assert together == apart
    opens.clear()
    kind = type(find_extractor("hf_speech", model))
    plain = kind.extract

    def picky(self: Any, given: Any) -> Any:
        if type(self) is kind and len(given) > 1:
            raise ValueError("not together")
        return plain(self, given)

    monkeypatch.setattr(kind, "extract", picky)
    assert made(requests, "failed")["audio.speech"] == apart["audio.speech"]
    assert list(opens.values()) == [2] * len(clips)  # each alone, and the other's own pass


@pytest.mark.parametrize("content", [False, True])
def test_in_prediction(recordings: Path, opens: Counter[str], content: bool):
    from demeanor.data.bundle import BundleCard, InputSpecification
    from demeanor.inference.extraction import Extraction

    inputs = {
        name: InputSpecification(
            stream=name, dimension=maker.dimension, integer=False, max_length=None, provenance=maker.provenance()
        )
        for name, maker in ((name, request.build()) for name, request in REQUESTS.items() if name != "audio.words")
    }
    card = BundleCard.model_construct(inputs=inputs, representations={})
    column, path = ("video_bytes", recordings / "c0.mp4") if content else ("video", recordings / "c0.mp4")
    row = {column: path.read_bytes() if content else str(path), "text": "so be it"}
    found = Extraction(card)([row])
    assert not found.problems
    assert list(opens.values()) == [2]
    for name in inputs:
        expected = REQUESTS[name].build().extract_clip(Clip("x", text="so be it", media=path))
        np.testing.assert_array_equal(found.examples.stream(name).ragged[0], expected, name)


def test_sound_that_was_decoded_for_its_words_is_not_decoded_again(recordings: Path, opens: Counter[str]):
    from demeanor.data.raw_rows import Conversation
    from demeanor.inference.transcripts import Transcript, with_transcript

    clip = Clip("a", media=recordings / "c0.mp4")
    assert clip.audible is not None
    held = with_transcript(clip, Transcript("so be it"), Conversation()).at_hand(pictures=True)
    assert held.text == "so be it"
    np.testing.assert_array_equal(held.waveform, clip.waveform)
    assert opens == {"c0.mp4": 1}


@pytest.mark.parametrize(("start", "end"), [(0.0, None), (0.2, 0.6)])
@pytest.mark.parametrize(("rate", "side"), [(5.0, None), (3.0, 48), (None, None)])
def test_a_film_shows_what_decoding_anew_shows(recordings: Path, opens, start: float, end, rate, side):
    path = recordings / "c1.mp4"
    shown = Film(path, start, end)
    expected = list(decode_frames(path, start, end, rate, side))
    opens.clear()
    list(shown.frames(7.0))
    for _ in range(2):
        frames = list(shown.frames(rate, side))
        assert [time for time, _ in frames] == [time for time, _ in expected]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(frames, expected, strict=True))
    assert list(opens.values()) == [1]


def test_a_long_film_is_not_held(recordings: Path, opens: Counter[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(film, "HELD", 40_000)  # some three frames
    shown = Film(recordings / "c2.mp4")
    for _ in range(2):
        assert len(list(shown.frames(5.0))) == 4
    assert list(opens.values()) == [2]
    assert shown._frames is None


def test_a_film_that_was_left_early_or_is_broken(recordings: Path, tmp_path: Path, opens: Counter[str]):
    shown = Film(recordings / "c0.mp4")
    next(iter(shown.frames(5.0)))
    assert len(list(shown.frames(5.0))) == len(list(shown.frames(5.0))) == 4
    assert list(opens.values()) == [2]
    (tmp_path / "broken.mp4").write_bytes(b"no film at all")
    broken = Film(tmp_path / "broken.mp4")
    for _ in range(2):
        with pytest.raises(MediaError, match=r"broken\.mp4: not a readable recording"):
            list(broken.frames(5.0))
    assert opens["broken.mp4"] == 1


def test_encoders_of_pictures_see_the_same_film(recordings: Path, tmp_path: Path, opens: Counter[str]):
    from tests.features.test_encoders import COLOURS, PICTURES, saved

    files = {"preprocessor_config": {"image_processor_type": "CLIPImageProcessor", **COLOURS}}
    model = {"model": saved(tmp_path, PICTURES["clip"](), **files)}
    requests = {
        "vision.frames": StreamRequest(extractor="hf_image", parameters=model),
        "vision.slow": StreamRequest(extractor="hf_image", parameters={**model, "rate": 2.0, "region": "centre"}),
    }
    clips = clips_of(table_of(recordings), recordings)
    streams, aside = extract_streams(clips, requests, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    assert aside.empty
    assert list(opens.values()) == [1] * len(clips)
    for name, request in requests.items():
        alone = request.build()
        for clip in clips:
            np.testing.assert_array_equal(streams[name].ragged[clip.utterance_id], alone.extract_clip(clip), name)
