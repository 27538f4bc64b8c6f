"""Your own recordings: csv, parquet, no manifest at all, and everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from demeanor.corpora.folder import FolderReader, FolderSettings
from demeanor.data.errors import InputError


def write(folder: Path, text: str, name="manifest.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, **settings):
    return FolderReader().read(FolderSettings(path=folder, **settings), folder / "out")


def kinds(corpus) -> set[str]:
    return {finding.kind for finding in corpus.findings}


def test_everything_given(tmp_path):
    folder = write(
        tmp_path / "f",
        "id;text;audio;video;split;dialogue;turn;speaker;start;end;language;sentiment;mood\n"
        "a;hello;a.wav;a.mp4;train;d;2;anna;1,5;3;de;0,5;joy\n"
        "b;;b.wav;;dev;d;1;ben;;;;-1;anger\n"
        "c 1;bye;;;test;;;;;;;;\n",
    )
    table = read(folder).utterances.set_index("utterance_id")
    assert table.loc["a", ["media", "split", "turn", "speaker", "start", "end", "language"]].tolist() == [
        "a.mp4", "train", 1, "anna", 1.5, 3.0, "de"
    ]  # fmt: skip
    assert table.loc["b", ["media", "split", "turn", "language"]].tolist() == ["b.wav", "valid", 0, "en"]
    assert table.loc["c_1", "dialogue"] == "c_1"
    assert table["sentiment"].tolist()[:2] == [0.5, -1.0]
    assert table["mood"].tolist()[:2] == ["joy", "anger"]
    assert table[["sentiment", "mood"]].isna().sum().tolist() == [1, 1]


def test_least(tmp_path):
    corpus = read(write(tmp_path / "f", "id,text\n1,hello\n2,bye\n"))
    assert corpus.counts == {"train": 0, "valid": 0, "test": 2}
    assert "no_labels" in kinds(corpus)


def test_labels_without_a_split(tmp_path):
    rows = "\n".join(f"{n},x,{n % 3},speaker{n // 10}" for n in range(60))
    corpus = read(write(tmp_path / "f", f"id,text,score,speaker\n{rows}\n"))
    table = corpus.utterances
    assert all(count > 0 for count in corpus.counts.values())
    assert table.groupby("speaker")["split"].nunique().max() == 1
    assert "own_split" in kinds(corpus)
    again = read(tmp_path / "f").utterances
    assert again["split"].tolist() == table["split"].tolist()


def test_parquet(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    table = pd.DataFrame({"id": [1, 2], "video": ["a.mp4", None], "text": ["x", "y"], "score": [1.5, None],
                          "split": ["train", "test"]})  # fmt: skip
    table.to_parquet(folder / "manifest.parquet")
    found = read(folder).utterances
    assert found["utterance_id"].tolist() == ["1", "2"]
    assert found["media"].isna().tolist() == [False, True]
    assert found["score"].isna().tolist() == [False, True]
    (folder / "manifest.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(InputError, match="parquet"):
        read(folder)


def test_no_manifest(tmp_path):
    folder = tmp_path / "f"
    (folder / "day one").mkdir(parents=True)
    (folder / "day one" / "a.mp4").write_bytes(b"x")
    (folder / "day one" / "a.txt").write_text("what is said\n")
    (folder / "b.wav").write_bytes(b"x")
    (folder / "notes.pdf").write_bytes(b"x")
    table = read(folder).utterances.set_index("utterance_id")
    assert table["media"].to_dict() == {"b": "b.wav", "day_one_a": "day one/a.mp4"}
    assert table.loc["day_one_a", "text"] == "what is said"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,text\n1,x\n", "no column 'id'"),
        ("id,words\n1,x\n", "none of the columns text, audio, video"),
        ("id,video\n1,../../etc/passwd\n", "leads out of the folder in row 2"),
        ("id,video\n1,/etc/passwd\n", "leads out of the folder"),
        ("id,video\n1,C:\\\\clip.mp4\n", "leads out of the folder"),
        ("id,text\n1,x\n1,y\n", "stands once more in row 3"),
        ("id,text\n..,x\n", "no usable id"),
        ("id,text,video\n1,,\n", "neither text nor a recording"),
        ("id,text,start\n1,x,-1\n", "start before 0"),
        ("id,text,start,end\n1,x,3,2\n", "not after its start"),
        ("id,text,start\n1,x,soon\n", "no number for start"),
        ("id,text,split\n1,x,trian\n", "Did you mean 'train'"),
        ("id,text\n", "no"),
    ],
)
def test_problems(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "f", text))


def test_range_and_named_labels(tmp_path):
    folder = write(tmp_path / "f", "id,text,score,split,note\n1,x,9,train,abc\n2,y,1,test,def\n")
    with pytest.raises(InputError, match="score outside \\[0, 5\\] in row 2"):
        read(folder, low=0, high=5)
    with pytest.raises(InputError, match=r"no label column 'scor'.*Did you mean 'score'"):
        read(folder, labels=("scor",))
    assert "note" not in read(folder, labels=("score",)).utterances
    with pytest.raises(InputError, match=r"no manifest 'x\.csv'"):
        read(folder, manifest="x.csv")
    (folder / "manifest.csv").unlink()
    with pytest.raises(InputError, match="neither a manifest"):
        read(folder)
