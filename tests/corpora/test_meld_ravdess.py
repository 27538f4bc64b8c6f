"""MELD and RAVDESS: toy trees, the real data where they are, and what can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from demeanor.corpora.doctor import examine
from demeanor.corpora.meld import MeldReader, MeldSettings, repair_text
from demeanor.corpora.ravdess import RavdessReader, RavdessSettings
from demeanor.data.errors import InputError

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
LINES = {
    "train": ['1,"Oh\x92s, well",Ross,joy,positive,0,0,1,1,"00:00:01,000","00:00:02,000"',
              '2,No.,Rachel,anger,negative,0,3,1,1,"00:00:03,000","00:00:04,000"'],
    "dev": ['1,Hi,Joey,neutral,neutral,0,0,1,1,"00:00:01,000","00:00:02,000"'],
    "test": ['1,Itâ€™s me,Ross,fear,negative,7,1,1,1,"00:00:01,000","00:00:02,000"'],
}  # fmt: skip


def meld(folder: Path, lines=LINES) -> Path:
    folder.mkdir(exist_ok=True)
    for split, rows in lines.items():
        (folder / f"{split}_sent_emo.csv").write_text("\n".join([HEADER, *rows, ""]), encoding="utf-8")
    return folder


def read_meld(folder: Path, **settings):
    return MeldReader().read(MeldSettings(path=folder, **settings), folder / "out")


def test_meld_text_only(tmp_path):
    corpus = read_meld(meld(tmp_path / "m"))
    table = corpus.utterances.set_index("utterance_id")
    assert corpus.counts == {"train": 2, "valid": 1, "test": 1}
    assert table.loc["train_dia0_utt0", "text"] == "Oh’s, well"
    assert table.loc["test_dia7_utt1", "text"] == "It’s me"
    assert table.loc["train_dia0_utt3", "turn"] == 1
    assert table.loc["train_dia0_utt3", ["speaker", "emotion", "polarity"]].tolist() == ["Rachel", "anger", "negative"]
    assert table.loc["train_dia0_utt0", "dialogue"] != table.loc["valid_dia0_utt0", "dialogue"]
    assert {finding.kind for finding in corpus.findings} == {"repaired_text", "no_media"}


def test_meld_with_clips(tmp_path):
    folder = meld(tmp_path / "m")
    for name in ("train_splits/dia0_utt0.mp4", "output_repeated_splits_test/dia7_utt1.mp4"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"x")
    corpus = read_meld(folder)
    table = corpus.utterances.set_index("utterance_id")
    assert table.loc["train_dia0_utt0", "media"] == "train_splits/dia0_utt0.mp4"
    assert table["media"].isna().sum() == 1
    assert examine(corpus).set_aside == {"train_dia0_utt3": "recording is missing"}
    assert read_meld(folder, media=False).utterances["media"].isna().all()


def test_meld_problems(tmp_path):
    lines = dict(LINES, dev=["1,Hi,Joey,neutrl,neutral,x,0,1,1,,", "2,Hi,Joey,neutral,meh,1,0,1,1,,"])
    folder = meld(tmp_path / "m", lines)
    (folder / "test_sent_emo.csv").unlink()
    with pytest.raises(InputError) as caught:
        read_meld(folder)
    text = str(caught.value)
    assert "no whole number for an id in row 2" in text
    assert "none of the seven in row 2" in text
    assert "none of the three in row 3" in text
    assert "test_sent_emo.csv: there is no such file" in text


def test_repair_text():
    assert repair_text("Y\x92know \x93what\x94\x85") == "Y’know “what”…"
    assert repair_text("â€œYesâ€\x9d") == "“Yes”"
    assert repair_text("château, naïve, 100 €") == "château, naïve, 100 €"


def test_real_meld(shared_data, tmp_path):
    corpus = MeldReader().read(MeldSettings(path=shared_data / "meld"), tmp_path)
    assert corpus.counts == {"train": 9989, "valid": 1109, "test": 2610}
    table = corpus.utterances
    assert table["emotion"].nunique() == 7
    assert set(table["polarity"]) == {"negative", "neutral", "positive"}
    assert not table["text"].str.contains("[\x80-\x9f]").any()
    kinds = {finding.kind for finding in examine(corpus).findings}
    assert {"speaker_leakage", "no_media"} <= kinds
    assert "counts" not in kinds


def ravdess(folder: Path, actors=6) -> Path:
    for actor in range(1, actors + 1):
        for emotion in range(1, 9):
            path = folder / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-01-02-01-{actor:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([actor, emotion]))
    (folder / "Actor_01" / "03-02-01-01-01-01-01.wav").write_bytes(b"sung")
    (folder / "Actor_01" / "notes.txt").write_text("x")
    return folder


def test_ravdess_by_names(tmp_path):
    corpus = RavdessReader().read(RavdessSettings(path=ravdess(tmp_path / "r"), held_out=1), tmp_path / "out")
    table = corpus.utterances
    assert len(table) == 48
    assert table.groupby("speaker")["split"].nunique().max() == 1
    assert set(table.loc[table["split"] == "test", "speaker"]) == {"Actor_06"}
    first = table.set_index("utterance_id").loc["03-01-05-01-02-01-04"]
    assert first[["emotion", "gender", "intensity"]].tolist() == ["anger", "female", "normal"]
    assert first["text"] == "Dogs are sitting by the door"
    assert (corpus.root / first["media"]).is_file()


def test_ravdess_in_the_folds_of_emobox(tmp_path):
    folder = ravdess(tmp_path / "r", actors=24)
    tested = []
    for fold in range(1, 7):
        table = RavdessReader().read(RavdessSettings(path=folder, emobox=fold), tmp_path / "out").utterances
        actors = {split: set(table.loc[table["split"] == split, "speaker"]) for split in ("train", "valid", "test")}
        assert {split: len(found) for split, found in actors.items()} == {"train": 16, "valid": 4, "test": 4}
        tested += sorted(actors["test"])
    assert sorted(tested) == [f"Actor_{actor:02d}" for actor in range(1, 25)]
    assert tested[:4] == ["Actor_01", "Actor_11", "Actor_20", "Actor_21"]
    with pytest.raises(InputError, match=r"fold 1 of EmoBox wants .*Actor_20"):
        RavdessReader().read(RavdessSettings(path=ravdess(tmp_path / "few"), emobox=1), tmp_path / "out")


def test_ravdess_manifest_problems(tmp_path):
    folder = ravdess(tmp_path / "r")
    (folder / "manifest.csv").write_text(
        "path,speaker,emotion\nActor_01/a.wav,1,angry\n../b.wav,2,sad\nActor_01/a.wav,3,glee\n"
    )
    with pytest.raises(InputError) as caught:
        RavdessReader().read(RavdessSettings(path=folder), tmp_path / "out")
    assert len(caught.value.problems) == 3
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="named like RAVDESS"):
        RavdessReader().read(RavdessSettings(path=tmp_path / "none"), tmp_path / "out")


def test_real_ravdess(shared_data, tmp_path):
    corpus = RavdessReader().read(RavdessSettings(path=shared_data / "ravdess_speech"), tmp_path)
    table = corpus.utterances
    assert len(table) == 960
    assert table["emotion"].value_counts().to_dict() == {
        name: 64 if name == "neutral" else 128
        for name in ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
    }
    assert table.groupby("speaker")["split"].nunique().max() == 1
    assert table.groupby("split")["gender"].nunique().tolist() == [2, 2, 2]
    assert all((corpus.root / media).is_file() for media in table["media"])


def test_ravdess_three_times_is_one_utterance(tmp_path):
    folder = tmp_path / "r"
    kinds = {1: ("01.mp4", "02.mp4", "03.wav"), 2: ("02.mp4", "03.wav"), 3: ("03.wav", "03.flac"), 4: ("02.mp4",)}
    for actor in range(1, 7):
        for name in kinds.get(actor, ("01.mp4",)):
            kind, suffix = name.split(".")
            path = folder / f"Actor_{actor:02d}" / f"{kind}-01-03-01-01-01-{actor:02d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    corpus = RavdessReader().read(RavdessSettings(path=folder, held_out=1), tmp_path / "out")
    table = corpus.utterances.set_index("speaker")
    assert len(table) == 6
    assert table.loc["Actor_01", "media"] == "Actor_01/01-01-03-01-01-01-01.mp4"
    assert table.loc["Actor_02", ["media", "audio"]].tolist() == [
        "Actor_02/02-01-03-01-01-01-02.mp4", "Actor_02/03-01-03-01-01-01-02.wav"
    ]  # fmt: skip
    assert table["audio"].notna().sum() == 1
    found = {finding.kind: finding for finding in corpus.findings}
    assert found["several_files"].count == 3


def test_ravdess_in_folders_of_any_name(tmp_path):
    for actor in range(1, 7):
        for folder in ("audio_speech_actors_01-24/Actor_01", "Video", "copies/deep/inside"):
            kind, suffix = ("02", "mp4") if folder == "Video" else ("03", "wav")
            path = tmp_path / folder / f"{kind}-01-03-01-01-01-{actor:02d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    (tmp_path / "Video" / "._02-01-03-01-01-02-01.mp4").write_bytes(b"left by macOS")
    table = RavdessReader().read(RavdessSettings(path=tmp_path, held_out=1), tmp_path / "out").utterances
    assert table["media"].tolist() == [f"Video/02-01-03-01-01-01-0{actor}.mp4" for actor in range(1, 7)]
    assert table["audio"].str.startswith("audio_speech").all()
