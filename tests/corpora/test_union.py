"""Several corpora in one table: ids of their own, splits as they were, nothing passed over in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from demeanor.corpora.base import Corpus, CorpusSettings
from demeanor.corpora.doctor import examine
from demeanor.data.errors import InputError
from demeanor.data.task import Task
from tests.corpora.test_meld_ravdess import meld, ravdess

RAVDESS = {"reader": "ravdess", "options": {"held_out": 1},
           "labels": {"emotion": {"column": "emotion", "space": "ravdess", "to": "meld"}}}  # fmt: skip
CLIPS = "video_id,clip_id,text,label,mode\nv1,1,I love it,2.0,train\nv1,2,Not me,-1.0,train\nv2,1,Well,0.0,valid\n"


def words(folder: Path, name: str = "mosi", more: str = "v3,1,So so,0.5,test\n") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "label.csv").write_text(CLIPS + more, encoding="utf-8")
    return folder


def read(folder: Path, corpora: dict, **options) -> Corpus:
    settings = CorpusSettings(reader="union", options={"path": folder, "name": "all", "corpora": corpora, **options})
    return settings.read(folder / "out")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ravdess(tmp_path / "ravdess")
    meld(tmp_path / "meld")
    return words(words(tmp_path), "mosei", "v3,1,So so,0.5,test\nv4,1,Bad,-3,train\n")


ALL = {
    "mosi": {"reader": "label_csv"},
    "mosei": {"reader": "label_csv"},
    "meld": {"reader": "meld"},
    "ravdess": RAVDESS,
}


def test_ids_dialogues_and_speakers_are_each_corpus_own_and_splits_stay(folder: Path):
    corpus = read(folder, ALL)
    table = corpus.utterances
    assert table["utterance_id"].is_unique
    assert table.groupby("dialogue")["corpus"].nunique().max() == 1
    assert table.dropna(subset=["speaker"]).groupby("speaker")["corpus"].nunique().max() == 1
    for name, given in ALL.items():
        options = {"path": folder / name, "name": name, **given.get("options", {})}
        alone = CorpusSettings(**{**given, "options": options}).read(folder / "alone").utterances
        mine = table[table["corpus"] == name]
        assert list(mine["utterance_id"]) == [f"{name}.{one}" for one in alone["utterance_id"]]
        assert list(mine["split"]) == list(alone["split"])
        assert list(mine["text"]) == list(alone["text"])
    # mosi and mosei call their clips alike, and each stands in its own split.
    assert set(table.loc[table["utterance_id"].str.endswith("v3_1"), "utterance_id"]) == {"mosi.v3_1", "mosei.v3_1"}
    assert (corpus.root / table.loc[table["corpus"] == "ravdess", "media"].iloc[0]).is_file()
    assert corpus.set_aside == {}


def test_labels_of_others_are_missing_and_mapped_ones_share_a_column(folder: Path):
    table = read(folder, ALL).utterances
    by_corpus = table.groupby("corpus")
    assert by_corpus["sentiment"].count().to_dict() == {"meld": 0, "mosei": 5, "mosi": 4, "ravdess": 0}
    assert by_corpus["emotion"].count().to_dict() == {"meld": 4, "mosei": 0, "mosi": 0, "ravdess": 48}
    acted = table[table["corpus"] == "ravdess"]
    assert set(acted["emotion"]) == {"neutral", "joy", "sadness", "anger", "fear", "disgust", "surprise"}
    assert set(acted["emotion_ravdess"]) >= {"calm", "happiness"}, "what was mapped is gone"
    task = Task(name="emotion", kind="classification", column="emotion", classes=("joy", "anger", "neutral"))
    assert set(task.targets(table)[(table["corpus"] == "mosi").to_numpy()]) == {-1}
    sentiment = Task(name="sentiment", kind="regression", column="sentiment")
    assert np.isnan(sentiment.targets(table)[(table["corpus"] == "meld").to_numpy()]).all()


def test_all_are_named_with_licence_and_counts_and_findings_keep_their_corpus(folder: Path):
    report = examine(read(folder, ALL))
    text = report.to_markdown()
    for told in (
        "mosi: CMU-MOSI",
        "ravdess: CC BY-NC-SA 4.0",
        "meld: GPL-3.0",
        "mosei: CMU-MOSEI, 3 train, 1 valid, 1 test",
    ):
        assert told in text, told
    kinds = {(finding.kind, finding.message.partition(":")[0]) for finding in report.findings}
    assert {
        ("repaired_text", "meld"),
        ("counts", "mosei"),
        ("expected_counts", "ravdess"),
        ("no_media", "mosi"),
    } <= kinds
    assert not any(kind == "mixed_labels" for kind, _ in kinds)


def test_two_languages_of_labels_under_one_name_are_told(folder: Path):
    unmapped = {"meld": ALL["meld"], "ravdess": {"reader": "ravdess", "options": {"held_out": 1}}}
    lines = {
        "train": ["1,Ha,R,joy,positive,0,0,,,,", "2,Oh,R,sadness,negative,0,1,,,,"],
        "dev": ["1,Hi,J,neutral,neutral,0,0,,,,"], "test": ["1,Hm,J,fear,negative,0,0,,,,"],
    }  # fmt: skip
    meld(folder / "meld", lines)
    (found,) = [one for one in read(folder, unmapped).findings if one.kind == "mixed_labels"]
    assert "meld alone: joy" in found.examples[0]
    assert "happiness" in found.examples[1]


def test_all_that_is_missing_is_named_at_once_or_left_out_and_told(folder: Path):
    more = {
        **ALL,
        "sims": {"reader": "label_csv"},
        "iemocap": {"reader": "iemocap", "options": {"path": "/no/iemocap"}},
    }
    with pytest.raises(InputError) as caught:
        read(folder, more)
    assert f"sims: there is nothing at {folder / 'sims'}" in str(caught.value)
    assert "iemocap: there is nothing at /no/iemocap" in str(caught.value)
    corpus = read(folder, more, missing="leave_out")
    assert set(corpus.utterances["corpus"]) == set(ALL)
    (told,) = [one for one in corpus.findings if one.kind == "left_out_corpus"]
    assert (told.severity, told.message) == ("warning", "left out: sims, iemocap")
    with pytest.raises(InputError, match="nothing at /no/iemocap"):
        read(folder, {"iemocap": more["iemocap"]}, missing="leave_out")


def test_problems_of_all_are_told_together_and_nothing_stays(folder: Path):
    (folder / "mosi/label.csv").write_text(CLIPS.replace("2.0", "many"), encoding="utf-8")
    (folder / "meld/test_sent_emo.csv").unlink()
    with pytest.raises(InputError) as caught:
        read(folder, ALL)
    assert "mosi, " in str(caught.value)
    assert "'many' is not a number" in str(caught.value)
    assert "meld, " in str(caught.value)
    assert not list((folder / "out").rglob("*")) if (folder / "out").exists() else True


def test_numbers_and_words_do_not_share_a_column(folder: Path):
    meld_names = {"sentiment": {"column": "emotion", "space": "meld", "to": "polarity"}}
    with pytest.raises(InputError, match="'sentiment' holds numbers in mosi and words in meld"):
        read(folder, {"mosi": ALL["mosi"], "meld": {"reader": "meld", "labels": meld_names}})


def word_times(folder: Path, name: str) -> None:
    entry = {"v1_1": {"words": [["I", 0.0, 0.2], ["love", 0.2, 0.4], ["it", 0.4, 0.6]]}}
    pd.Series({"utterances": entry}).to_json(folder / name / "sidecar.json")


def test_a_stream_that_comes_with_one_corpus_has_no_step_elsewhere(folder: Path):
    word_times(folder, "mosi")
    corpus = read(folder, {"mosi": ALL["mosi"], "meld": ALL["meld"]})
    (stream,) = corpus.streams.values()
    assert list(stream.ragged.ids) == list(corpus.utterances["utterance_id"])
    assert stream.ragged["mosi.v1_1"].shape[0] == 3
    assert int(stream.ragged.lengths.sum()) == 3
    assert {path.name for path in (folder / "out").iterdir()} == {f"{stream.name}.safetensors"}


def test_streams_of_two_corpora_are_one_if_they_were_made_alike(folder: Path):
    word_times(folder, "mosi")
    word_times(folder, "mosei")
    both = {"mosi": ALL["mosi"], "mosei": ALL["mosei"]}
    (stream,) = read(folder, both).streams.values()
    assert int(stream.ragged.lengths.sum()) == 6
    made = CorpusSettings(reader="label_csv", options={"path": folder / "mosi"}).read(folder / "alone").streams
    assert stream.provenance == next(iter(made.values())).provenance


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"split": {"scheme": "hold_out"}}, "each corpus keeps its own split"),
        ({"options": {"corpora": {"a.b": {"reader": "meld"}}}}, "holds a point"),
        (
            {"options": {"corpora": {"u": {"reader": "union", "options": {"corpora": {"m": {"reader": "meld"}}}}}}},
            "no union",
        ),
        ({"options": {"corpora": {}}}, "at least 1"),
        ({"options": {"corpora": {"m": {"reader": "melt"}}}}, "Did you mean 'meld'"),
        ({"options": {"corpora": {"m": {"reader": "meld", "options": {"medium": 1}}}}}, "medium"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path: Path, given: dict, told: str):
    options = {"path": tmp_path, "corpora": {"meld": {"reader": "meld"}}, **given.get("options", {})}
    with pytest.raises(ValidationError, match=told):
        CorpusSettings(reader="union", options=options, split=given.get("split"))


def test_a_path_of_a_corpus_is_meant_from_the_folder_unless_it_is_whole(tmp_path: Path):
    corpora = {"a": {"reader": "meld"}, "b": {"reader": "meld", "options": {"path": "x"}},
               "c": {"reader": "meld", "options": {"path": "/y"}}}  # fmt: skip
    settings = CorpusSettings(reader="union", options={"path": "data", "corpora": corpora})
    from demeanor.corpora.union import UnionSettings

    found = UnionSettings.model_validate(settings.options).corpora
    assert [found[name].options["path"] for name in "abc"] == ["data/a", "data/x", "/y"]
    assert [found[name].options["name"] for name in "abc"] == ["a", "b", "c"]
