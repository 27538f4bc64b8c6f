"""`demeanor doctor` on an environment, and on whatever lies at a path: each format is known by its looks."""

from __future__ import annotations

import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from demeanor.__main__ import main
from demeanor.corpora import READERS, find_reader
from demeanor.corpora.base import Reader
from demeanor.corpora.guessing import guess_reader, settings_for
from demeanor.data.errors import InputError
from tests.features.media_samples import voice, write_recording
from tests.project import DEMO, PROJECT

LABEL_CSV = "video_id,clip_id,text,label,mode\nv,1,hello,1.0,train\nv,2,bye,-1.0,valid\nw,1,well,0.0,test\n"
MANIFEST = "id,text,mood\na,hello,joy\nb,bye,anger\n"
MELD = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\nHi,Ann,joy,positive,0,0\n"


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def write(path: Path, content: str | bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"id": ["a"], "text": ["hello"]}).to_parquet(path)
    return path


def tarred(file: Path) -> None:
    with tarfile.open(file.with_name("clips.tar"), "w") as archive:
        archive.add(file, file.name)
    file.unlink()


#: what lies at a path -> (how it is made, what is given, the reader that knows it)
LOOKS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "label.csv in a folder": (lambda f: write(f / "label.csv", LABEL_CSV), ".", "label_csv"),
    "label.csv itself": (lambda f: write(f / "label.csv", LABEL_CSV), "label.csv", "label_csv"),
    "its columns under another name": (lambda f: write(f / "all.csv", LABEL_CSV), "all.csv", "label_csv"),
    "semicolons, one id column": (lambda f: write(f / "t.csv", "id;text;mode\nv_1;hi;train"), "t.csv", "label_csv"),
    "label.csv beside clips": (
        lambda f: (write(f / "label.csv", LABEL_CSV), write(f / "Raw/v/1.mp4")), ".", "label_csv",
    ),
    "a manifest": (lambda f: write(f / "manifest.csv", MANIFEST), ".", "folder"),
    "a manifest of another name": (lambda f: write(f / "mine.tsv", MANIFEST.replace(",", "\t")), "mine.tsv", "folder"),
    "a parquet manifest": (lambda f: parquet(f / "mine.parquet"), "mine.parquet", "folder"),
    "bare clips": (lambda f: write(f / "deep/down/a.mp4"), ".", "folder"),
    "a tar file of clips": (lambda f: tarred(write(f / "1.mp4")), "clips.tar", "shards"),
    "one recording": (lambda f: write(f / "a.wav"), "a.wav", "folder"),
    "actors": (lambda f: write(f / "Actor_12/03-01-06-01-02-01-12.wav"), ".", "ravdess"),
    "actors' manifest": (lambda f: write(f / "manifest.csv", "path,speaker,emotion\na.wav,1,sad\n"), ".", "ravdess"),
    "one of MELD's tables": (lambda f: write(f / "dev_sent_emo.csv", MELD), "dev_sent_emo.csv", "meld"),
    "MELD": (lambda f: (write(f / "dev_sent_emo.csv", MELD), write(f / "train/dia0_utt0.mp4")), ".", "meld"),
    "IEMOCAP": (
        lambda f: (write(f / "Session1/dialog/EmoEvaluation/a.txt"), write(f / "Session1/sentences/wav/a.wav")),
        ".", "iemocap",
    ),
    "IEMOCAP one folder down": (
        lambda f: write(f / "IEMOCAP_full_release/Session1/dialog/EmoEvaluation/a.txt"), ".", "iemocap",
    ),
    "sequences": (lambda f: write(f / "words.csd"), ".", "cmu_sdk"),
    "one sequence": (lambda f: write(f / "words.csd"), "words.csd", "cmu_sdk"),
    "a feature file": (lambda f: write(f / "u.pkl", pickle.dumps({"train": {}})), "u.pkl", "mmsa_pickle"),
    "the only one in a folder": (lambda f: write(f / "u.pkl", pickle.dumps({"train": {}})), ".", "mmsa_pickle"),
    "a damaged feature file": (lambda f: write(f / "u.pkl", b"\x80\x04nothing"), "u.pkl", "mmsa_pickle"),
    "nine parts": (lambda f: write(f / "d.pkl", pickle.dumps(tuple({} for _ in range(9)))), ".", "multilogue_pickle"),
    "utterance features": (
        lambda f: (write(f / "mosi_utt.csv", "id\n"), write(f / "mosi_utt.npz")), ".", "mosi_utterances",
    ),
}  # fmt: skip


@pytest.mark.parametrize("look", LOOKS)
def test_a_format_is_known_by_its_looks(look: str, tmp_path: Path):
    make, given, reader = LOOKS[look]
    make(tmp_path)
    found, options = guess_reader(tmp_path / given)
    assert found == reader
    assert settings_for(tmp_path / given).reader == reader
    assert Path(options["path"]).is_relative_to(tmp_path)


def test_every_reader_that_knows_its_own_has_a_look_here():
    """A reader may leave it to its user to name it; one that says what is its own is shown something of it."""
    silent = Reader.recognise.__func__
    knowing = {name for name in READERS if find_reader(name).recognise.__func__ is not silent}
    assert {reader for _, _, reader in LOOKS.values()} == knowing


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "is the format of no reader"),
        (["notes.pdf", "._a.mp4"], "is the format of no reader"),
        (["dev_sent_emo.csv", "words.csd"], "could be cmu_sdk or meld"),
    ],
)
def test_what_is_not_known_is_for_the_caller_to_say(tmp_path: Path, names: list[str], said: str):
    for name in names:
        write(tmp_path / name)
    with pytest.raises(InputError, match=said) as caught:
        guess_reader(tmp_path)
    assert "Name the reader: label_csv" in str(caught.value)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A reader's own corpus, outside any project: three rows, one recording of which is no recording."""
    folder = tmp_path / "my clips"
    write(folder / "label.csv", LABEL_CSV)
    shutil.copytree(DEMO / "Raw/synthetic_01", folder / "Raw/v", ignore=lambda _, names: set(names[1:]))
    shutil.move(next((folder / "Raw/v").iterdir()), folder / "Raw/v/1.mp4")
    write(folder / "Raw/v/2.mp4", "this is no film")
    (folder / "Raw/w").mkdir()
    write_recording(folder / "Raw/w/1.wav", voice(1.0), audio_codec="pcm_s16le")
    return folder


def listing(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_own_clips_are_examined_from_anywhere_and_nothing_is_written(clips: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    done = doctor("my clips")
    assert done.exit_code == 1, "a recording that cannot be read is an error"
    assert "# Doctor's report: my_clips" in done.output
    assert "1 train, 1 valid, 1 test" in done.output
    assert "* v_2: recording cannot be decoded" in done.output
    assert "v_1" not in done.output.split("## Set aside")[1]
    assert listing(tmp_path) == before
    assert Path.cwd() == tmp_path
    quick = doctor(str(clips / "label.csv"), "--quick", "--name", "mine")
    assert quick.exit_code == 0, "without opening them all recordings are there"
    assert "# Doctor's report: mine" in quick.output


def test_a_reader_and_its_options_can_be_named(clips: Path, monkeypatch):
    monkeypatch.chdir(clips.parent)
    told = doctor("my clips", "--reader", "folder", "--quick")
    assert "0 train, 0 valid, 3 test" in told.output
    table = clips / "label.csv"
    table.write_text(LABEL_CSV.replace("-1.0", "5"), encoding="utf-8")
    assert "outside [-3, 3]" in doctor("my clips", "--quick").output
    assert doctor("my clips", "--quick", "--option", "low=0", "--option", "high=5").exit_code == 0
    table.write_text(LABEL_CSV.replace(",label", ",other"), encoding="utf-8")
    assert doctor("my clips", "--quick").exit_code == 1
    assert doctor("my clips", "--quick", "--option", "labels=optional").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "There is no file or folder 'nowhere'"),
        (["my clips", "--reader", "label_cvs"], "Did you mean 'label_csv'"),
        (["my clips", "--option", "high"], "KEY=VALUE"),
        (["my clips", "--option", "high=1", "--option", "high=2"], "each key once"),
        (["my clips", "--option", "hihg=1"], "hihg"),
        (["my clips", "--option", "high=[1"], "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_said_without_a_traceback(clips: Path, monkeypatch, arguments: list[str], said: str):
    monkeypatch.chdir(clips.parent)
    done = doctor(*arguments)
    assert done.exit_code in (1, 2)
    assert said in done.output
    assert isinstance(done.exception, SystemExit)


def test_a_pickle_that_would_run_something_is_refused_by_name(tmp_path: Path):
    class Command:
        def __reduce__(self):
            return os.system, (f"touch '{tmp_path / 'ran'}'",)

    file = write(tmp_path / "features.pkl", pickle.dumps({"train": Command()}))
    done = doctor(str(file))
    assert done.exit_code == 1
    assert "system" in done.output
    assert not (tmp_path / "ran").exists()


def test_an_environment_is_meant_from_anywhere_in_the_project(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(PROJECT / "docs")
    done = doctor("demo", "--quick")
    assert done.exit_code == 0, done.output
    assert "# Doctor's report: demo-synthetic" in done.output
    assert "entries, all as they should be" in done.output
    monkeypatch.chdir(PROJECT)
    assert "Did you mean 'mosi'" in doctor("mossi").output
    assert "no environment of that name" in doctor("base").output, "what is the same for all is no environment"


def test_a_folder_called_like_an_environment_is_told_by_its_path(tmp_path: Path, monkeypatch):
    project = tmp_path / "project"
    for name in ("base", "demo"):
        shutil.copytree(PROJECT / "conf" / name, project / "conf" / name)
    shutil.copy(PROJECT / "pyproject.toml", project / "pyproject.toml")
    write(project / "demo/manifest.csv", "id,text\na,hello\nb,bye\n")
    monkeypatch.chdir(project)
    assert "Doctor's report: demo" in doctor("./demo", "--quick").output
    assert "data/01_raw/demo" in doctor("demo", "--quick").output, "the environment's corpus is not there"
