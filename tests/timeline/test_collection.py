"""A folder or a list in, a table out: the caller's columns and order, failures as rows, going on after a stop."""

from __future__ import annotations

import pandas as pd
import pytest

from demeanor.data.errors import InputError
from demeanor.timeline.collection import collection_of, predict_collection
from demeanor.timeline.table import ModelHeader
from tests.timeline.examples import EMOTION, SENTIMENT, voice, write_wav


class NamingScorer:
    """Answers for whatever can be opened; stops after `allowed` batches."""

    in_dialogue = False

    def __init__(self, tasks=(SENTIMENT,), allowed=100):
        self.headers = tuple(
            ModelHeader(uri="m", branch="b", system="s", weights_sha256="x", task=task) for task in tasks
        )
        self.allowed, self.asked = allowed, []

    def score(self, rows):
        if len(self.asked) == self.allowed:
            raise KeyboardInterrupt
        self.asked.append([row["utterance_id"] for row in rows])
        tables = []
        for model in self.headers:
            bad = ["broken" in row.get("video", "") for row in rows]
            value = 1.0 if model.task.kind == "regression" else "anger"
            tables.append(
                pd.DataFrame({
                    "utterance_id": [row["utterance_id"] for row in rows],
                    model.task.name: pd.Series([None if one else value for one in bad], dtype=object),
                    "confidence": [None if one else 0.5 for one in bad],
                    "modalities": ["" if one else "audio" for one in bad],
                    "problem": ["it is damaged" if one else "" for one in bad],
                })
            )  # fmt: skip
        return tables


def folder(tmp_path):
    place = tmp_path / "clips"
    (place / "b").mkdir(parents=True)
    for name in ("b/two.wav", "a.wav", "b/broken.wav"):
        write_wav(place / name, voice(1))
    (place / "notes.txt").write_text("no recording", "utf-8")
    return place


def test_every_recording_below_a_folder_is_a_row_and_failures_are_rows_too(tmp_path):
    done = predict_collection(folder(tmp_path), NamingScorer(), tmp_path / "answers.parquet")
    table = pd.read_parquet(tmp_path / "answers.parquet")
    assert table["file"].tolist() == ["a.wav", "b/broken.wav", "b/two.wav"]
    assert table["problem"].tolist() == ["", "it is damaged", ""]
    assert table["sentiment"].isna().tolist() == [False, True, False]
    assert done.failed == 1
    assert done.recorded == pytest.approx(3.0, abs=0.01)
    assert "times real time" in str(done)
    assert not (tmp_path / ".answers.parquet.parts").exists()


def test_a_lists_own_columns_and_order_are_kept(tmp_path):
    folder(tmp_path)
    listed = tmp_path / "list.csv"
    listed.write_text("note,file,problem\nz;1,clips/b/two.wav,mine\n,clips/a.wav,\nx,nowhere/broken.wav,\n", "utf-8")
    scorer = NamingScorer((SENTIMENT, EMOTION))
    predict_collection(listed, scorer, tmp_path / "answers.csv")
    table = pd.read_csv(tmp_path / "answers.csv", keep_default_na=False)
    assert table.columns.tolist() == [
        "note", "file", "problem", "sentiment", "confidence_sentiment", "emotion", "confidence_emotion", "modalities",
        "demeanor_problem",
    ]  # fmt: skip
    assert table["note"].tolist() == ["z;1", "", "x"]
    assert table["emotion"].tolist() == ["anger", "anger", ""]
    assert table["demeanor_problem"].tolist() == ["", "", "it is damaged"]


def test_a_list_made_on_windows_names_film_and_sound(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("cam.mp4", "lapel.wav", "other.MOV"):
        (tmp_path / "clips" / name).touch()
    lines = ["Video;audio;file;text", "clips\\cam.mp4;clips\\lapel.wav;;NA", ";;clips/other.MOV;", ";clips/lapel.wav;;"]
    (tmp_path / "list.csv").write_bytes("\r\n".join(["sep=;", *lines]).encode("utf-16"))
    film, other, sound = collection_of(tmp_path / "list.csv").rows
    clips = tmp_path / "clips"
    assert (film["video"], film["audio"], film["text"]) == (str(clips / "cam.mp4"), str(clips / "lapel.wav"), "NA")
    assert (other["video"], sound["audio"]) == (str(clips / "other.MOV"), str(clips / "lapel.wav"))
    assert "video" not in sound
    assert "audio" not in other


def test_a_stopped_run_goes_on_and_a_changed_recording_is_scored_again(tmp_path):
    place, output = folder(tmp_path), tmp_path / "answers.csv"
    with pytest.raises(KeyboardInterrupt):
        predict_collection(place, NamingScorer(allowed=2), output, together=1)
    assert not output.exists()
    again = NamingScorer()
    predict_collection(place, again, output, together=1)
    assert again.asked == [["b/two.wav"]]
    with pytest.raises(KeyboardInterrupt):
        predict_collection(place, NamingScorer(allowed=2), output, together=1)
    write_wav(place / "a.wav", voice(2))
    changed = NamingScorer()
    predict_collection(place, changed, output, together=1)
    assert len(changed.asked) == 3


@pytest.mark.parametrize("make", ["empty", "nothing", "columns", "suffix"])
def test_what_cannot_be_scored_is_said_before(tmp_path, make):
    source, output = tmp_path / "x", tmp_path / "answers.csv"
    if make == "empty":
        source.mkdir()
    elif make == "columns":
        source = tmp_path / "x.csv"
        source.write_text("first,second\n1,2\n", "utf-8")
    elif make == "suffix":
        source, output = folder(tmp_path), tmp_path / "answers.doc"
    with pytest.raises(InputError):
        predict_collection(source, NamingScorer(), output)


def test_the_pipeline_scoring_reads_its_catalog_entry_and_answers(tmp_path, monkeypatch):
    import yaml
    from kedro.io import DataCatalog
    from kedro.runner import SequentialRunner

    from demeanor.pipelines.scoring import create_pipeline
    from demeanor.pipelines.scoring.nodes import ScoringSettings
    from tests.project import PROJECT

    class Loaded:
        def __init__(self, *models):
            assert models == ("folder",)
            self.scorer, self.bundles = NamingScorer(), {}

    monkeypatch.setattr("demeanor.analyser.Demeanor", Loaded)
    whole = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text("utf-8"))
    entries = {name: whole[name] for name in ("recordings_to_score", "scored_recordings")}
    entries["recordings_to_score"]["filepath"] = str(folder(tmp_path))
    entries["scored_recordings"]["filepath"] = str(tmp_path / "answers.parquet")
    catalog = DataCatalog.from_config(entries)
    chosen = yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text("utf-8"))["scoring"]
    chosen |= {"models": ["folder"], "processes": 1, "resume": str(tmp_path / "answers")}
    catalog["params:scoring"] = ScoringSettings(**chosen)
    SequentialRunner().run(create_pipeline(), catalog)
    assert pd.read_parquet(tmp_path / "answers.parquet")["file"].tolist() == ["a.wav", "b/broken.wav", "b/two.wav"]
    assert not (tmp_path / ".answers.parts").exists()
