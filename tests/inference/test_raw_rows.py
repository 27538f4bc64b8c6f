"""A bundle that answers for raw rows: absence, refusal, problems in a row, and the same numbers as in a batch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import demeanor
from demeanor.__main__ import main
from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError, ProvenanceError
from demeanor.data.examples import Examples
from demeanor.data.utterances import make_table
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.features.recogniser import can_recognise
from demeanor.inference.describe import as_text
from demeanor.inference.model import TrainedModel
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.features.media_samples import voice, write_tracks
from tests.project import DEMO
from tests.toy import SENTIMENT, toy_examples, toy_score

CLIPS = sorted((DEMO / "Raw" / "synthetic_01").glob("*.mp4")) + sorted((DEMO / "Raw" / "synthetic_02").glob("*.mp4"))
STREAMS = {
    "text.sentence": StreamRequest(extractor="hf_sentence", parameters={"model": "minilm"}),
    "audio.functionals": StreamRequest(extractor="librosa_functionals"),
    "vision.frames": StreamRequest(extractor="face_descriptors"),
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Examples:
    folder = tmp_path_factory.mktemp("features")
    table = make_table(
        [
            {
                "utterance_id": f"{path.parent.name}_{path.stem}",
                "corpus": "demo-synthetic",
                "split": "valid" if n % 3 == 0 else "train",
                "dialogue": path.parent.name,
                "turn": n,
                "text": "what a lovely day" if n % 2 else "this is awful",
                "media": str(path.relative_to(DEMO)),
                "sentiment": 1.0 if n % 2 else -1.0,
            }
            for n, path in enumerate(CLIPS)
        ]
    )
    streams, _ = extract_streams(clips_of(table, DEMO), STREAMS, folder / "cache", folder / "out", 1, progress=False)
    return Examples.of(table, streams)


@pytest.fixture(scope="module")
def bundle(examples) -> Bundle:
    settings = BranchSettings(
        system="late_fusion",
        streams={"text": "text.sentence", "audio": "audio.functionals", "vision": "vision.frames"},
        training=TrainingSettings(epochs=4, batch_size=4, threads=1),
    )
    return fit("fusion", settings, SENTIMENT, examples, 1, toy_score, progress=False).bundle


#: What a bundle chooses: a reader follows a clip to the extractor's call and to the system's, each one file.
CHOSEN = ("features", "models")
#: Comes before the clip, once for all of them.
LOADING = ("addresses", "load_bundle", "TrainedModel.load")


def files_of(do: Callable[[], None], start: str) -> list[str]:
    """Files of demeanor whose functions `do` calls within its function `start`, in the order of their first calls.

    Without loading, without the nouns of data/, and without what an extractor or a system calls: those stand there by
    the name of their package.
    """
    source, found, within = f"{Path(demeanor.__file__).parent}/", dict[str, None](), dict[int, None]()
    begun: list[FrameType] = []

    def look(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "return":
            within.pop(id(frame), None)
            if begun and frame is begun[0]:
                sys.setprofile(None)
        if event != "call" or within or not code.co_filename.startswith(source):
            return
        if not begun and code.co_qualname == start:
            begun.append(frame)
        if not begun:
            return
        name = Path(code.co_filename.removeprefix(source))
        before = code.co_qualname in LOADING or code.co_name == "<module>"
        if before or name.parts[0] in CHOSEN:
            within[id(frame)] = None
        if not before and name.parts[0] != "data":
            found[name.parts[0] if name.parts[0] in CHOSEN else name.as_posix()] = None

    sys.setprofile(look)
    try:
        do()
    finally:
        sys.setprofile(None)
    return list(found)


def test_a_clip_passes_seven_files_from_the_command_to_its_answer(bundle, tmp_path, capsys):
    """The goal is that many at most: whoever adds one makes the design simpler elsewhere."""
    bundle.save(tmp_path / "bundle")
    asked = ["predict", str(CLIPS[0]), "--text", "I like it", "--model", str(tmp_path / "bundle"), "--json"]

    def ask() -> None:
        with pytest.raises(SystemExit, match="0"):
            main(asked, prog_name="demeanor")

    files = files_of(ask, "predict")
    assert next(iter(json.loads(capsys.readouterr().out).values()))[0]["modalities"]
    assert files == [
        "commands/predict.py", "inference/model.py", "inference/extraction.py", "features", "inference/predict.py",
        "models", "inference/describe.py",
    ]  # fmt: skip


def test_a_raw_clip_gets_the_answer_that_its_features_get(examples, bundle):
    rows = [
        {"utterance_id": row.utterance_id, "text": row.text, "video": str(DEMO / row.media)}
        for row in examples.utterances.itertuples()
    ]
    answers = TrainedModel.load(bundle).score(rows)
    np.testing.assert_allclose(answers["sentiment"], TrainedModel.load(bundle).predict(examples)[:, 0], atol=2e-5)
    assert set(answers["modalities"]) <= {"audio+text+vision", "text+vision", "audio+text"}
    assert (answers["problem"] == "").all()


def test_anything_may_be_missing_and_bytes_serve_as_well_as_a_path(bundle):
    path = str(CLIPS[0])
    rows = pd.DataFrame(
        [
            {"text": "what a lovely day"},
            {"video": path},
            {"video_bytes": CLIPS[0].read_bytes()},
            {"audio": path},
            {"text": "what a lovely day", "video": path},
        ]
    )
    answers = TrainedModel.load(bundle).score(rows)
    words = "+text" if can_recognise() else ""
    expected = ["text", f"audio{words}+vision", f"audio{words}+vision", f"audio{words}", "audio+text+vision"]
    assert list(answers["modalities"]) == expected
    source = "recognised by whisper-base" if words else ""
    for number in (1, 2, 3):
        assert answers["transcript_source"][number].startswith(source)
        assert bool(answers["transcript"][number]) == bool(words)
    assert answers["transcript_source"][[0, 4]].tolist() == ["given", "given"]
    assert answers["sentiment"].notna().all()
    assert answers["sentiment"][1] == pytest.approx(answers["sentiment"][2], abs=1e-5)
    assert "sentiment" in as_text(answers.iloc[0].to_dict(), bundle.card)


def test_a_row_that_cannot_be_read_says_why_and_the_others_are_answered(bundle, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no film", encoding="utf-8")
    answers = TrainedModel.load(bundle).score(
        [{"text": "fine"}, {"video": str(broken)}, {"video": "absent.mp4"}, {"text": "  "}]
    )
    assert answers["problem"][0] == ""
    assert "broken.mp4" in answers["problem"][1]
    assert "there is no file absent.mp4" in answers["problem"][2]
    assert "nothing in it that this model reads (audio, text, vision)" in answers["problem"][3]
    assert answers["sentiment"][1:].isna().all()
    assert "no answer" in as_text(answers.iloc[1].to_dict(), bundle.card)


def test_an_answer_says_how_its_recording_was_read(bundle, tmp_path):
    silence = np.zeros(8000, np.float32)
    film = write_tracks(tmp_path / "v.mkv", [("Desktop", False, silence), ("Microphone", True, voice(0.5))])
    quiet = write_tracks(tmp_path / "q.mkv", [("Desktop", True, silence), (None, False, voice(0.5))])
    rows = [
        {"text": "so be it", "video": str(film)}, {"text": "so be it", "audio_bytes": film.read_bytes()},
        {"video": str(quiet)}, {"text": "so be it"},
    ]  # fmt: skip
    answers = TrainedModel.load(bundle).score(rows)
    for row in (0, 1):
        assert answers["modalities"][row] == "audio+text"
        assert answers["notes"][row].endswith("further tracks, which are not read: audio track 0 'Desktop'")
    assert "nothing in it" in answers["problem"][2]
    assert answers["notes"][2] == "there are further tracks, which are not read: audio track 1"
    assert "tracks" not in answers["notes"][3]
    assert "audio track 1" in as_text(answers.iloc[2].to_dict(), bundle.card)


def test_unknown_columns_are_named_with_the_nearest(bundle):
    with pytest.raises(InputError, match="Did you mean 'video'"):
        TrainedModel.load(bundle).score([{"vdeo": "x.mp4"}])


def test_imported_features_cannot_be_made_from_a_recording():
    development = toy_examples().split("train", "valid")
    settings = BranchSettings(
        system="text_only", streams={"text": "text.words"}, training=TrainingSettings(epochs=1, threads=1)
    )
    trained = fit("words", settings, SENTIMENT, development, 1, toy_score, progress=False)
    with pytest.raises(ProvenanceError, match=r"stream 'text\.words' cannot be made from a recording"):
        TrainedModel.load(trained.bundle).score([{"text": "hello"}])
    answers = TrainedModel.load(trained.bundle).score_examples(development.split("valid"))
    assert len(answers) == 16


def test_features_of_another_making_are_refused_with_the_difference(bundle, examples, tmp_path):
    request = {"audio.functionals": StreamRequest(extractor="librosa_functionals", parameters={"mfcc": 20})}
    clips = clips_of(examples.utterances, DEMO)
    other, _ = extract_streams(clips, request, tmp_path / "cache", tmp_path / "out", 1, progress=False)
    changed = Examples.of(examples.utterances, {**examples.streams, **other})
    with pytest.raises(ProvenanceError, match=r"parameters\.mfcc: 13 expected, 20 found"):
        TrainedModel.load(bundle).score_examples(changed)


def test_eight_threads_that_ask_for_one_clip_get_one_answer(bundle):
    model = TrainedModel.load(bundle)
    row = {"text": "what a lovely day", "video": str(CLIPS[0]), "start": 0.0, "end": 0.8}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: model.score([row]).to_json(double_precision=15), range(40)))
    assert set(answers) == {TrainedModel.load(bundle).score([row]).to_json(double_precision=15)}
