"""IEMOCAP: the golden parser, a toy release written by hand, folds, and what can be missing."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest

from demeanor.corpora.iemocap import EXPECTED, EXPECTED_BY_SESSION, IemocapReader, IemocapSettings, all_folds
from demeanor.corpora.iemocap_files import parse_evaluation, parse_transcription
from demeanor.data.errors import InputError
from tests.parity.golden import golden_file

EMOTIONS = ("ang", "hap", "exc", "sad", "neu", "fru", "xxx")


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(golden_file("tab_fusion", "e_misc.json").read_text())


def test_golden_parser(golden):
    case = golden["parser"]
    turns = parse_evaluation(case["emo_text"])
    found = [
        {"start": t.start, "end": t.end, "id": t.name, "v": t.valence, "a": t.activation, "d": t.dominance,
         "emotion": t.emotion, "emo_evo": [list(votes) for votes in t.votes]}
        for t in turns
    ]  # fmt: skip
    assert found == case["emotions_full"]
    assert parse_transcription(case["transcription_text"]) == case["transcriptions"]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\n\n\n"])
def test_all_turns_whatever_the_ending(golden, ending):
    assert len(parse_evaluation(golden["parser"]["emo_text"].rstrip("\n") + ending)) == 4


def test_speaker_folds_are_those_of_the_golden_file(golden):
    order = [held[0] + 1 for _, held in golden["kfold"]["folds"]]
    assert [options["held_out"] for options in all_folds("speaker")] == [n for n in order for _ in "FM"]
    assert len(all_folds("session")) == 5


def release(root: Path, sessions=(1, 2, 3, 4, 5), sentences=True) -> Path:
    """Two dialogues a session of seven turns each, the speakers in turn; the files are not in the order of time."""
    for session in sessions:
        for which in ("impro01", "script01_1"):
            dialogue = f"Ses{session:02d}F_{which}"
            folder = root / f"Session{session}" / "dialog"
            blocks, lines = [], []
            for n, emotion in enumerate(EMOTIONS):
                turn = f"{dialogue}_{'FM'[n % 2]}{n:03d}"
                start, end = 10.0 + 3 * n, 12.5 + 3 * n
                blocks.append(
                    f"[{start:.4f} - {end:.4f}]\t{turn}\t{emotion}\t[2.5000, 3.0000, 3.5000]\n"
                    "C-E1:\tAnger; Neutral;\t()\nC-F1:\tOther;\t(because: [1.0 - 2.0])\n"
                    "A-E1:\tval 2; act 3; dom  3;\t()\n"
                )
                lines.append(f"{turn} [{start:08.4f}-{end:08.4f}]: Words of: turn {n}. \xe9")
                if sentences:
                    sound = root / f"Session{session}" / "sentences" / "wav" / dialogue / f"{turn}.wav"
                    sound.parent.mkdir(parents=True, exist_ok=True)
                    with wave.open(str(sound), "wb") as handle:
                        handle.setparams((1, 2, 16000, 0, "NONE", ""))
                        handle.writeframes(b"\0\0" * 160)
            lines.append("M: [LAUGHTER]")
            for name, content in (
                ("EmoEvaluation", "% header\n\n" + "\n".join(reversed(blocks))),
                ("transcriptions", "\n".join(lines)),
            ):
                path = folder / name / f"{dialogue}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode("latin-1"))
                (folder / name / f"._{dialogue}.txt").write_bytes(b"\0\5\x16\7junk")
            (folder / "EmoEvaluation" / "Categorical").mkdir(exist_ok=True)
            (folder / "wav").mkdir(exist_ok=True)
            (folder / "wav" / f"{dialogue}.wav").write_bytes(b"")
    return root


def read(root: Path, **settings):
    return IemocapReader().read(IemocapSettings(path=root, **settings), root / "out")


def test_release(tmp_path):
    corpus = read(release(tmp_path / "IEMOCAP_full_release"))
    table = corpus.utterances.set_index("utterance_id")
    assert len(table) == 70
    turn = table.loc["Ses01F_impro01_M001"]
    assert turn["emotion"] == "happiness"
    assert turn["turn"] == 1
    assert turn["speaker"] == "Ses01_M"
    assert turn["text"] == "Words of: turn 1. é"
    assert (turn["valence"], turn["activation"], turn["dominance"]) == (2.5, 3.0, 3.5)
    assert turn["media"] == "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M001.wav"
    assert turn["scenario"] == "improvised"
    assert table["emotion"].isna().sum() == 10
    assert table["speaker"].nunique() == 10
    assert set(table.loc[table["session"] == "Session5", "split"]) == {"test"}
    assert set(table.loc[table["session"] != "Session5", "split"]) == {"train", "valid"}
    assert table.groupby("dialogue")["split"].nunique().max() == 1
    message = next(finding.message for finding in corpus.findings if finding.kind == "expected_counts")
    assert f"Session1: 10 instead of {EXPECTED_BY_SESSION[1]}" in message
    assert f"anger: 10 instead of {EXPECTED['anger']}" in message


def test_found_one_folder_below_and_without_sentences(tmp_path):
    release(tmp_path / "IEMOCAP_full_release", sentences=False)
    table = read(tmp_path).utterances.set_index("utterance_id")
    turn = table.loc["Ses02F_script01_1_F002"]
    assert turn["media"] == "Session2/dialog/wav/Ses02F_script01_1.wav"
    assert (turn["start"], turn["end"]) == (16.0, 18.5)


@pytest.mark.parametrize(("turns", "count"), [("all", 70), ("four", 50), ("six", 60)])
def test_which_turns(tmp_path, turns, count):
    table = read(release(tmp_path / "r"), turns=turns).utterances
    assert len(table) == count
    assert table.groupby("dialogue")["turn"].max().tolist() == [count // 10 - 1] * 10


def test_speaker_protocol(tmp_path):
    root = release(tmp_path / "r")
    for options in all_folds("speaker"):
        table = read(root, **options).utterances
        held = table["session"] == f"Session{options['held_out']}"
        assert set(table.loc[~held, "split"]) == {"train"}
        by_speaker = table[held].groupby("speaker")["split"].unique()
        other = "M" if options["test_speaker"] == "F" else "F"
        assert by_speaker[f"Ses{options['held_out']:02d}_{options['test_speaker']}"].tolist() == ["test"]
        assert by_speaker[f"Ses{options['held_out']:02d}_{other}"].tolist() == ["valid"]


def test_the_validation_dialogues_do_not_depend_on_the_turns_kept(tmp_path):
    root = release(tmp_path / "r")
    kept = read(root, turns="four", valid=0.3).utterances
    every = read(root, valid=0.3).utterances
    for split in ("train", "valid", "test"):
        dialogues = set(kept.loc[kept["split"] == split, "dialogue"])
        assert dialogues == set(every.loc[every["split"] == split, "dialogue"])


def test_what_is_missing_is_listed(tmp_path):
    root = release(tmp_path / "r")
    (root / "Session1" / "dialog" / "transcriptions" / "Ses01F_impro01.txt").unlink()
    for path in (root / "Session2" / "dialog" / "EmoEvaluation").glob("*.txt"):
        path.unlink()
    with pytest.raises(InputError) as caught:
        read(root)
    assert len(caught.value.problems) == 2
    with pytest.raises(InputError, match="no Session1"):
        read(tmp_path / "r" / "Session3")
    partial = release(tmp_path / "p", sessions=(1, 2))
    with pytest.raises(InputError, match="Session5 is not there"):
        read(partial)
    corpus = read(partial, held_out=2)
    assert "missing_sessions" in {finding.kind for finding in corpus.findings}
