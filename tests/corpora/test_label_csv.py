"""The general reader: toy trees in the field's layout, the public label tables, and everything that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from demeanor.corpora import READERS, find_reader
from demeanor.corpora.base import CorpusSettings
from demeanor.corpora.label_csv import LabelCsvReader, LabelCsvSettings, clip_order
from demeanor.data.errors import InputError

HEADER = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"
ROWS = (
    "vid_b,10,the tenth,2.5,2,1,3,Positive,train",
    "vid_b,2,the second,-1.5,-1,-2,0,Negative,train",
    'vid_a,1,"one, with a comma",0,0,0,0,Neutral,valid',
    "vid_c,3,drei Äpfel,1,1,1,1,Positive,test",
)


def write(folder: Path, rows=ROWS, header=HEADER, encoding="utf-8", media="Raw", names=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "label.csv").write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    for name in names if names is not None else ("vid_b/10.mp4", "vid_b/2.mp4", "vid_a/1.mp4", "vid_c/3.mp4"):
        path = folder / media / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at by the reader")
    return folder


def read(folder: Path, **settings):
    return LabelCsvReader().read(LabelCsvSettings(path=folder, **settings), folder / "out")


def test_reads_the_layout(tmp_path):
    corpus = read(write(tmp_path / "c"), name="toy")
    table = corpus.utterances.set_index("utterance_id")
    assert corpus.counts == {"train": 2, "valid": 1, "test": 1}
    assert list(table.index) == ["vid_a_1", "vid_b_2", "vid_b_10", "vid_c_3"]
    assert table.loc["vid_b_10", "turn"] == 1
    assert table.loc["vid_b_2", "turn"] == 0
    assert table.loc["vid_b_10", "dialogue"] == "vid_b"
    assert table.loc["vid_b_10", "media"] == "Raw/vid_b/10.mp4"
    assert (corpus.root / table.loc["vid_c_3", "media"]).is_file()
    assert table.loc["vid_a_1", "text"] == "one, with a comma"
    labels = ["sentiment", "sentiment_text", "sentiment_audio", "sentiment_vision"]
    assert table.loc["vid_b_10", labels].tolist() == [2.5, 2.0, 1.0, 3.0]
    assert table.loc["vid_b_10", "annotation"] == "Positive"


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators(tmp_path, separator):
    rows = [f"v{separator}1{separator}well, well{separator}1,5{separator}train"]
    header = separator.join(["video_id", "clip_id", "text", "label", "mode"])
    table = read(write(tmp_path / "c", rows, header, names=["v/1.mp4"])).utterances
    assert table.loc[0, "text"] == "well, well"
    assert table.loc[0, "sentiment"] == 1.5
    assert "sentiment_text" not in table


@pytest.mark.parametrize(
    ("encoding", "noted"), [("utf-8-sig", False), ("utf-16", False), ("cp1252", True), ("utf-8", False)]
)
def test_encodings(tmp_path, encoding, noted):
    corpus = read(write(tmp_path / "c", encoding=encoding))
    assert "drei Äpfel" in set(corpus.utterances["text"])
    assert ("encoding" in {finding.kind for finding in corpus.findings}) is noted


def test_chinese_table_with_padded_clips_and_missing_unimodal_labels(tmp_path):
    rows = ["video_0001,1,我觉得这个电影很好看,0.8,0.6,,,x,train", "video_0001,12,一点都不好,-0.6,-0.8,,,x,valid"]
    folder = write(tmp_path / "c", rows, encoding="gb18030", media="raw",
                   names=["video_0001/0001.mp4", "video_0001/0012.mkv"])  # fmt: skip
    table = read(folder, language="zh", low=-1, high=1).utterances
    assert table["text"].tolist() == ["我觉得这个电影很好看", "一点都不好"]
    assert table["media"].tolist() == ["raw/video_0001/0001.mp4", "raw/video_0001/0012.mkv"]
    assert table["sentiment_text"].tolist() == [0.6, -0.8]
    assert "sentiment_audio" not in table


def test_flat_media_edited_files_and_missing_ones(tmp_path):
    names = ["vid_b/10.mp4", "vid_b/10-edited.mp4", "vid_a_1.webm", "vid_b/._2.mp4"]
    table = read(write(tmp_path / "c", names=names)).utterances.set_index("utterance_id")
    assert table.loc["vid_b_10", "media"] == "Raw/vid_b/10-edited.mp4"
    assert table.loc["vid_a_1", "media"] == "Raw/vid_a_1.webm"
    assert table.loc["vid_b_2", "media"] == "Raw/vid_b/2.mp4"  # the doctor finds that it is not there


def test_text_only(tmp_path):
    corpus = read(write(tmp_path / "c", names=[]))
    assert corpus.utterances["media"].isna().all()
    assert "no_media" in {finding.kind for finding in corpus.findings}


def test_clip_order_reads_start_times():
    assert sorted(["10,0", "2,0"], key=clip_order) == ["2,0", "10,0"]
    clips = ["82_7645", "119_919", "4_84", "13_6315", "119_92"]
    assert sorted(clips, key=clip_order) == ["4_84", "13_6315", "82_7645", "119_919", "119_92"]
    assert sorted(["clip10", "clip9", "2"], key=clip_order) == ["2", "clip9", "clip10"]


def test_single_id_column_and_dev(tmp_path):
    folder = write(tmp_path / "c", ["a_b_3,hello,1,dev", "x$_$2,hi,0,train"], "id,text,label,mode", names=[])
    table = read(folder).utterances
    assert table["utterance_id"].tolist() == ["a_b_3", "x_2"]
    assert table["dialogue"].tolist() == ["a_b", "x"]
    assert table["split"].tolist() == ["valid", "train"]


def test_sidecar(tmp_path):
    folder = write(tmp_path / "c")
    entries = {
        "vid_b_10": {"speaker": "s1", "emotion": "joy", "words": [["the", 0.1, 0.3], ["tenth", 0.4, 0.9]]},
        "vid_b_2": {"speaker": "s2", "emotion": "neutral", "words": []},
    }
    (folder / "sidecar.json").write_text(json.dumps({"made_by": "hand", "utterances": entries}), encoding="utf-8")
    corpus = read(folder)
    table = corpus.utterances.set_index("utterance_id")
    assert table.loc["vid_b_10", "speaker"] == "s1"
    assert table.loc["vid_b_2", "emotion"] == "neutral"
    stream = corpus.streams["text.word_times"]
    assert stream.provenance.alignment == "corpus"
    np.testing.assert_allclose(stream.ragged["vid_b_10"], [[0.1, 0.3], [0.4, 0.9]], rtol=1e-6)
    assert stream.ragged.lengths.sum() == 2
    assert set(stream.ragged.ids) == set(table.index)


def test_sidecar_problems_are_listed(tmp_path):
    folder = write(tmp_path / "c")
    broken = {"vid_b_10": {"turn": 0, "words": [["x", 2.0, 1.0]]}, "vid_b_2": 7}
    (folder / "sidecar.json").write_text(json.dumps({"utterances": broken}), encoding="utf-8")
    with pytest.raises(InputError, match="sidecar") as caught:
        read(folder)
    assert len(caught.value.problems) == 3


def test_every_problem_at_once_with_its_row(tmp_path):
    rows = [
        "v,1,fine,1,,,,,train", "v,1,again,1,,,,,train", "../x,2,out,1,,,,,train", "v,3,big,9,,,,,train",
        "v,4,none,,,,,,train", "v,5,word,good,,,,,train", "v,6,split,1,,,,,trian", "v,7,unimodal,1,-4,,,,train",
    ]  # fmt: skip
    with pytest.raises(InputError) as caught:
        read(write(tmp_path / "c", rows, names=[]))
    text = str(caught.value)
    for piece in (
        "v_1 is listed a second time in row 3", "'../x' leads out of the corpus folder in row 4",
        "9.0 is outside [-3, 3] in row 5", "label is missing (empty or NaN) in row 6",
        "'good' is not a number in row 7",
        "'trian' is no split in row 8", "Did you mean 'train'?", "label_T -4.0 is outside", "bad_rows",
    ):  # fmt: skip
        assert piece in text
    assert not (tmp_path / "c" / "out").exists()
    corpus = read(tmp_path / "c", bad_rows="set_aside")
    assert corpus.utterances["utterance_id"].tolist() == ["v_1"]
    assert len(corpus.set_aside) == 7


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("video_id,clip_id,text,labels,mode", "v,1,x,1,train", "no column 'label' .*Did you mean 'labels'"),
        ("video_id,clip_id,text,label,modus", "v,1,x,1,train", "no column 'mode' .*Did you mean 'modus'"),
        ("video_id,clip_id,text,label,text,mode", "v,1,x,1,y,train", "column 'text' appears twice"),
        ("video_id,clip_id,text,label,mode", "v,1,a,b,1,train", "more cells than the header"),
    ],
)
def test_columns(tmp_path, header, row, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "c", [row], header, names=[]))


@pytest.mark.parametrize("content", [b"", b"\n\n", bytes(range(256)) * 8])
def test_not_a_table(tmp_path, content):
    (tmp_path / "label.csv").write_bytes(content)
    with pytest.raises(InputError):
        read(tmp_path)


def test_labels_may_be_optional(tmp_path):
    folder = write(tmp_path / "c", ["v,1,x,,test", "v,2,y,1,train"], "video_id,clip_id,text,label,mode", names=[])
    table = read(folder, labels="optional").utterances
    assert table["sentiment"].isna().tolist() == [True, False]


def test_letters(tmp_path):
    folder = write(tmp_path / "c", ["v,1,I LOVED IT,1,,,,,train", "v,2,,1,,,,,train"], names=[])
    assert read(folder, letters="sentence").utterances["text"].iloc[0] == "I loved it"
    assert read(folder).utterances["text"].iloc[0] == "I LOVED IT"


def test_mmml_drops_its_six_clips(tmp_path):
    rows = ["94ULum9MYX0,2,x,1,,,,,train", "94ULum9MYX0,3,x,1,,,,,train"]
    folder = write(tmp_path / "c", rows, names=[])
    assert len(read(folder).utterances) == 2
    assert read(folder, drop_mmml=True).utterances["utterance_id"].tolist() == ["94ULum9MYX0_3"]


@pytest.mark.parametrize(
    ("folder", "counts"),
    [("mosi_labels", (1281, 229, 685)), ("mosei_labels", (16274, 1861, 4653))],
)
def test_public_tables(shared_data, tmp_path, folder, counts):
    corpus = LabelCsvReader().read(LabelCsvSettings(path=shared_data / folder, name=folder[:-7]), tmp_path)
    assert tuple(corpus.counts.values()) == counts
    assert corpus.utterances["sentiment"].between(-3, 3).all()


def test_registry():
    for name in READERS:
        reader = find_reader(name)
        assert reader.settings_type.model_fields["path"].is_required()
    with pytest.raises(InputError, match="Did you mean 'label_csv'"):
        find_reader("label_cvs")


def test_options_are_checked_with_the_parameters(tmp_path):
    with pytest.raises(ValidationError, match="separators"):
        CorpusSettings(reader="label_csv", options={"path": tmp_path, "separators": ";"})
    settings = CorpusSettings(reader="label_csv", options={"path": str(write(tmp_path / "c"))})
    assert settings.read(tmp_path / "out").counts["train"] == 2
