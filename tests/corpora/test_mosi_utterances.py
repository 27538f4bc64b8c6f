"""MOSI's utterance-level features: a toy folder, the real one, and what can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demeanor.corpora.base import CorpusSettings
from demeanor.corpora.mosi_utterances import MosiUtterancesReader, MosiUtterancesSettings
from demeanor.data.errors import InputError

HEADER = "id,video_id,clip_id,text,label_bin,label,split_bclstm,split_std,row,transcript_row"
ROWS = (
    "a_2,a,2,SECOND,1,0.5,train,train,0,0",
    "a_1,a,1,FIRST,0,-2.0,train,test,1,1",
    "b_1,b,1,OTHER,1,,test,train,2,2",
)


def toy(folder: Path, ids=("a_2", "a_1", "b_1"), rows=ROWS, **arrays) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mosi_utt.csv").write_text("\n".join([HEADER, *rows, ""]))
    content = {
        key: np.arange(3.0 * width).reshape(3, width) for key, width in (("text", 100), ("audio", 73), ("video", 100))
    }
    np.savez(folder / "mosi_utt.npz", id=np.array(ids), **(content | arrays))
    return folder


def read(folder: Path):
    return MosiUtterancesReader().read(MosiUtterancesSettings(path=folder), folder.parent / "out")


def test_toy(tmp_path):
    corpus = read(toy(tmp_path / "m"))
    table = corpus.utterances.set_index("utterance_id")
    assert table.loc["a_2", "turn"] == 1
    assert table["split"].to_dict() == {"a_2": "train", "a_1": "train", "b_1": "test"}
    assert table["polarity"].to_dict() == {"a_2": "positive", "a_1": "negative", "b_1": "positive"}
    assert np.isnan(table.loc["b_1", "sentiment"])
    np.testing.assert_array_equal(corpus.streams["audio.functionals"].ragged["a_1"], np.arange(73.0, 146)[None])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ("a_1", "a_2", "b_1")}, "ids are not those"),
        ({"audio": np.zeros((3, 74))}, "'audio' has the shape"),
        ({"rows": tuple(row.replace("train,0", "dev,0") for row in ROWS), "ids": ("a_2", "a_1", "b_1")}, None),
        ({"rows": (ROWS[0].replace(",1,0.5,", ",2,0.5,"), *ROWS[1:])}, "'2' is no split or polarity"),
    ],
)
def test_problems(tmp_path, changes, message):
    folder = toy(tmp_path / "m", **changes)
    if message is None:  # the other split column is not looked at
        assert read(folder).counts["train"] == 2
        return
    with pytest.raises(InputError, match=message):
        read(folder)


def test_damaged_arrays(tmp_path):
    folder = toy(tmp_path / "m")
    content = (folder / "mosi_utt.npz").read_bytes()
    (folder / "mosi_utt.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a readable npz"):
        read(folder)
    np.savez(folder / "mosi_utt.npz", text=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError):
        read(folder)


def test_real(shared_data, tmp_path):
    settings = CorpusSettings(
        reader="mosi_utterances",
        options={"path": shared_data / "mosi_utterances"},
        split={"scheme": "hold_out", "by": "dialogue", "shares": (0.85, 0.15, 0.0), "file": tmp_path / "split.json"},
    )
    corpus = settings.read(tmp_path / "out")
    table = corpus.utterances
    assert len(table) == 2199
    assert table["dialogue"].nunique() == 93
    assert corpus.counts["test"] == 752
    assert corpus.counts["train"] + corpus.counts["valid"] == 1447
    assert 0.1 < corpus.counts["valid"] / 1447 < 0.2
    assert table.groupby("dialogue")["split"].nunique().max() == 1
    known = table["sentiment"].notna()
    assert known.sum() == 2195
    assert ((table["sentiment"] >= 0) == (table["polarity"] == "positive"))[known].all()
    assert {name: stream.dimension for name, stream in corpus.streams.items()} == {
        "text.sentence": 100, "audio.functionals": 73, "vision.functionals": 100
    }  # fmt: skip
    assert settings.read(tmp_path / "again").utterances["split"].tolist() == table["split"].tolist()
