"""Files are matched to utterances by one normal form; what cannot be told is said, not guessed."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from demeanor.corpora.base import CorpusSettings
from demeanor.corpora.doctor import examine, require_share
from demeanor.corpora.folder import FolderReader, FolderSettings
from demeanor.corpora.label_csv import LabelCsvReader, LabelCsvSettings
from demeanor.corpora.paths import MediaFolder
from demeanor.data.errors import InputError
from demeanor.data.names import MEDIA_SUFFIXES, normal_form

NFD = unicodedata.normalize("NFD", "Café_é")


def lay(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at by a reader")
    return root


def label_csv(root: Path, rows: list[tuple[str, str]], *files: str, **settings):
    lay(root, *files)
    lines = [f"{video},{clip},said {n},1,train" for n, (video, clip) in enumerate(rows)]
    (root / "label.csv").write_text("video_id,clip_id,text,label,mode\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return LabelCsvReader().read(LabelCsvSettings(path=root, **settings), root / "out")


@pytest.mark.parametrize(
    ("table", "file"),
    [
        ("1.0", "1"), ("1.0", "0001"), ("1,0", "01"), ("0001", "1"), ("1", "001"), ("01", "1"), ("0", "000"),
        ("clip_01", "clip_1"),
        ("Clip1", "clip1"), ("café", unicodedata.normalize("NFD", "café")), ("a\u200bb", "ab"), ("a b", "a_b"),
        ("1e3", "1000"), ("1,00E+03", "1000"), ("12.50", "12_50"), ("dia01_utt2", "dia1_utt02"),
    ],
)  # fmt: skip
def test_one_normal_form(table: str, file: str):
    assert normal_form(table) == normal_form(file)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "10"),
        ("82_7645", "82_07645"),
        ("1", "1.5"),
        ("a1", "b1"),
        ("10", "1"),
        ("1,000", "1"),
        ("1e-3", "1"),
        ("1.55e1", "15"),
    ],
)
def test_what_is_not_the_same(one: str, other: str):
    assert normal_form(one) != normal_form(other)


def test_a_table_as_a_spreadsheet_or_a_person_leaves_it(tmp_path: Path):
    lay(tmp_path, "Raw/a/7.mp4", "Raw/a/8.mp4", "Raw/b/1.mp4")
    lines = [
        "Video_ID,\u200bClip_ID ,TEXT,Label,Mode",
        'a,="007",x,"-1,5",train',
        'a,"=""8""",y,2,train',
        "b,01.MOV,z,0,test",
    ]
    (tmp_path / "label.csv").write_text("\n".join(lines), encoding="utf-8")
    table = LabelCsvReader().read(LabelCsvSettings(path=tmp_path), tmp_path / "out").utterances
    assert table["utterance_id"].tolist() == ["a_007", "a_8", "b_01.MOV"]
    assert table["media"].tolist() == ["Raw/a/7.mp4", "Raw/a/8.mp4", "Raw/b/1.mp4"]
    assert table["sentiment"].tolist() == [-1.5, 2.0, 0.0]
    (tmp_path / "label.csv").write_text("\n".join([*lines, 'a,9,x,"1,500",train']), encoding="utf-8")
    with pytest.raises(InputError, match="'1,500' is not a number in row 5"):
        LabelCsvReader().read(LabelCsvSettings(path=tmp_path), tmp_path / "out")


def test_clips_find_their_recordings(tmp_path: Path):
    rows = [("v", "1.0"), ("v", "0002"), ("w", "3"), ("7.0", "4"), ("Café_é", "5")]
    files = ["Raw/v/0001.MP4", "Raw/v/2.mp4", "Raw/w/003.Mkv", "Raw/007/4.mp4", f"Raw/{NFD}/5.mp4"]
    table = label_csv(tmp_path, rows, *files).utterances.set_index("utterance_id")
    assert table["media"].to_dict() == dict(zip(["v_1.0", "v_0002", "w_3", "7.0_4", "Café_é_5"], files, strict=True))


@pytest.mark.parametrize(
    "suffix", ["3gp", "WMV", "ts", "aiff", "amr", "caf", "mts", "M2TS", "vob", "ogv", "wma", "aif"]
)
def test_suffixes_that_pyav_reads(tmp_path: Path, suffix: str):
    table = label_csv(tmp_path, [("v", "1")], f"Raw/v/1.{suffix}").utterances
    assert table.loc[0, "media"] == f"Raw/v/1.{suffix}"
    assert f".{suffix.lower()}" in MEDIA_SUFFIXES


def test_missing_names_what_lies_there(tmp_path: Path):
    rows = [("v", "1"), ("v", "interview"), ("x", "1")]
    corpus = label_csv(tmp_path, rows, "Raw/v/1.foo", "Raw/v/intervieww.mp4")
    report = examine(corpus)
    assert report.set_aside == {
        "v_1": "recording is missing (1.foo lies there and is not looked at)",
        "v_interview": "recording is missing (nearest is intervieww.mp4)",
        "x_1": "recording is missing (there is no folder Raw/x)",
    }
    (finding,) = [found for found in report.findings if found.kind == "missing_media"]
    assert finding.count == 3
    with pytest.raises(InputError, match=r"3 utterances: recording is missing, for example v_1 \(1\.foo lies there"):
        require_share(report, 0.05)


def test_what_cannot_be_told_is_set_aside(tmp_path: Path):
    rows = [("v", "01"), ("v", "2"), ("v", "02"), ("v", "3")]
    corpus = label_csv(tmp_path, rows, "Raw/v/1.mp4", "Raw/v/001.mp4", "Raw/v/2.mp4", "Raw/v/3.mp4")
    assert corpus.utterances["utterance_id"].tolist() == ["v_2", "v_3"]
    assert set(corpus.set_aside) == {"v_01", "v_02"}
    assert "Raw/v/001.mp4, Raw/v/1.mp4" in corpus.set_aside["v_01"]
    assert "another utterance's" in corpus.set_aside["v_02"]
    (finding,) = [found for found in corpus.findings if found.kind == "ambiguous_media"]
    assert finding.severity == "error"
    assert label_csv(tmp_path / "exact", [("v", "1"), ("v", "001")], "Raw/v/1.mp4", "Raw/v/001.mp4").set_aside == {}
    with pytest.raises(InputError, match="could be meant"):
        label_csv(tmp_path / "all", [("v", "01")], "Raw/v/1.mp4", "Raw/v/001.mp4")


def test_picture_and_sound_of_one_name(tmp_path: Path):
    names = ["Raw/v/1.mp4", "Raw/v/1.wav", "Raw/v/2.mkv", "Raw/v/2.mp4", "Raw/v/3.wav"]
    corpus = label_csv(tmp_path, [("v", "1"), ("v", "2"), ("v", "3")], *names)
    table = corpus.utterances.set_index("utterance_id")
    assert table["media"].tolist() == ["Raw/v/1.mp4", "Raw/v/2.mp4", "Raw/v/3.wav"]
    assert table["audio"].fillna("").tolist() == ["Raw/v/1.wav", "", ""]
    assert {"sound_apart": 1, "several_files": 1}.items() <= {f.kind: f.count for f in corpus.findings}.items()


def test_a_media_folder_lists_each_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lay(tmp_path, *(f"Raw/v/{n}.mp4" for n in range(20)))
    listed: list[Path] = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: (listed.append(path), iterdir(path))[1])
    finder = MediaFolder(tmp_path)
    assert all(finder.find("Raw/v", [f"{n:04d}"]).media == f"Raw/v/{n}.mp4" for n in range(20))
    assert len(listed) == 3


def manifest(root: Path, text: str, *files: str, name="manifest.csv", **settings):
    lay(root, *files)
    (root / name).write_text(text, encoding="utf-8")
    return FolderReader().read(FolderSettings(path=root, **settings), root / "out")


def test_a_manifest_made_on_windows(tmp_path: Path):
    text = "id;video;text\na;clips\\one.mp4;x\nb;Clips\\Sub\\TWO.MP4;y\nc;.\\clips\\three.mp4;z\n"
    corpus = manifest(tmp_path, text, "clips/one.mp4", "clips/sub/two.mp4", "clips/three.mp4", name="Manifest.CSV")
    assert [Path(path).as_posix() for path in corpus.utterances["media"]] == [
        "clips/one.mp4", "clips/sub/two.mp4", "clips/three.mp4"
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["C:\\clips\\a.mp4", "C:a.mp4", "\\\\server\\share\\a.mp4"])
def test_a_drive_is_refused_clearly(tmp_path: Path, path: str):
    with pytest.raises(InputError, match=r"a drive or a network share.* in row 2"):
        manifest(tmp_path, f"id;video\na;{path}\n")


def test_a_whole_path_counts_where_it_leads_into_the_folder(tmp_path: Path):
    lay(tmp_path, "mine/clips/c0.mp4", "other/c1.mp4")
    root = tmp_path / "mine"
    (tmp_path / "link").symlink_to(root)
    for written in (root / "clips/c0.mp4", tmp_path / "link/clips/c0.mp4"):
        (root / "manifest.csv").write_text(f"id,video\na,{written}\n", encoding="utf-8")
        assert FolderReader().read(FolderSettings(path=tmp_path / "link"), tmp_path).utterances["media"].tolist() == [
            "clips/c0.mp4"
        ]
    for written in (tmp_path / "other/c1.mp4", root / "../other/c1.mp4"):
        (root / "manifest.csv").write_text(f"id,video\na,{written}\n", encoding="utf-8")
        with pytest.raises(InputError, match="leads out of the folder"):
            FolderReader().read(FolderSettings(path=root), tmp_path)


def test_a_manifest_path_is_found_by_its_normal_form_or_nobody_guesses(tmp_path: Path):
    text = "id,video\na,clips/01.mp4\nb,clips/2\nc,clips/3.mp4\n"
    files = ("clips/1.MP4", "clips/2.mov", "clips/03.mp4", "clips/003.mp4")
    corpus = manifest(tmp_path, text, *files)
    assert corpus.utterances["media"].tolist() == ["clips/1.MP4", "clips/2.mov"]
    assert list(corpus.set_aside) == ["c"]


def test_sound_apart_in_a_manifest(tmp_path: Path):
    text = "id,video,audio,text\na,a.mp4,a.wav,x\nb,b.mp4,,x\nc,,c.wav,x\nd,d.mp4,d.mp4,x\n"
    corpus = manifest(tmp_path, text, "a.mp4", "a.wav", "b.mp4", "c.wav", "d.mp4")
    assert {finding.kind: finding.count for finding in corpus.findings}["sound_apart"] == 1
    table = corpus.utterances
    assert table["media"].tolist() == ["a.mp4", "b.mp4", "c.wav", "d.mp4"]
    assert table["audio"].fillna("").tolist() == ["a.wav", "", "", ""]
    report = examine(manifest(tmp_path / "gone", text, "a.mp4", "b.mp4", "c.wav", "d.mp4"))
    assert list(report.set_aside) == ["a"]


def test_numbers_that_are_missing_do_not_make_a_label_of_names(tmp_path: Path):
    table = manifest(tmp_path, "id,text,score,word\n1,None,1.5,NA\n2,NA,NA,null\n3,null,\u22122,x\n").utterances
    assert table["text"].tolist() == ["None", "NA", "null"]
    assert table["score"].tolist()[::2] == [1.5, -2.0]
    assert table["word"].tolist() == ["NA", "null", "x"]


def test_times_that_are_missing_may_be_said_in_words(tmp_path: Path):
    rows = ["id,text,speaker,start,end,turn", "a,NA,None,NA,nan,null", "b,null,NA,0,1.5,-"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    table = FolderReader().read(FolderSettings(path=tmp_path), tmp_path / "out").utterances
    assert table[["text", "speaker"]].to_numpy().tolist() == [["NA", "None"], ["null", "NA"]]
    assert table["start"].tolist() == [0.0, 0.0]
    assert table["end"].isna().tolist() == [True, False]
    (tmp_path / "manifest.csv").write_text("id,text,start\na,x,soon\n")
    with pytest.raises(InputError, match="no number for start in row 2"):
        FolderReader().read(FolderSettings(path=tmp_path), tmp_path / "out")


def test_transcripts_of_any_editor(tmp_path: Path):
    said = {
        "a": "Schön!".encode("utf-16"), "b": "\ufeffhello".encode(), "c": "Das Café war schön".encode("cp1252"),
        "d": b"plain", "e": b"\xef\xbb\xbf", "f": b"\xff\xfe", "g": "\u200b \n".encode(), "h": bytes(range(256)),
        "i": "hallo".encode("utf-16-le"),
    }  # fmt: skip
    for name, content in said.items():
        lay(tmp_path, f"{name}.mp4")
        (tmp_path / f"{name}.{'TXT' if name == 'd' else 'txt'}").write_bytes(content)
    corpus = FolderReader().read(FolderSettings(path=tmp_path), tmp_path / "out")
    table = corpus.utterances.set_index("utterance_id")
    assert table["text"].fillna("").to_dict() == {
        "a": "Schön!", "b": "hello", "c": "Das Café war schön", "d": "plain", "e": "", "f": "", "g": "", "h": "",
        "i": "hallo",
    }  # fmt: skip
    found = {finding.kind: finding for finding in corpus.findings}
    assert found["encoding"].count == 4
    assert "1 as cp1252" in found["encoding"].message
    assert found["unreadable_transcript"].examples == ("h.txt",)


def test_clips_of_one_name_are_one_utterance(tmp_path: Path):
    lay(tmp_path, "a.mp4", "a.wav", "b/c.mov", "b/c.txt")
    corpus = FolderReader().read(FolderSettings(path=tmp_path), tmp_path / "out")
    assert corpus.utterances["utterance_id"].tolist() == ["a", "b_c"]
    assert corpus.utterances["audio"].fillna("").tolist() == ["a.wav", ""]


def test_links_that_lead_out_are_not_read(tmp_path: Path):
    outside, root = lay(tmp_path / "outside", "secret.txt", "x.mp4"), tmp_path / "corpus"
    lay(root, "a.mp4", "b.mp4")
    (root / "a.txt").symlink_to(outside / "secret.txt")
    (root / "c.mp4").symlink_to(outside / "x.mp4")
    (root / "inner.mp4").symlink_to("a.mp4")

    def read(**options):
        return CorpusSettings(reader="folder", options={"path": str(root), **options}).read(tmp_path / "out")

    corpus = read()
    table = corpus.utterances.set_index("utterance_id")
    assert set(table.index) == {"a", "b", "inner"}
    assert table["text"].isna().all()
    assert "leads out" in corpus.set_aside["c"]
    assert sum(finding.kind == "link_out" for finding in corpus.findings) == 2
    assert read(follow_links=True).utterances["text"].notna().sum() == 1
    linked = tmp_path / "linked"
    linked.symlink_to(root)  # the corpus itself may lie behind a link
    assert len(CorpusSettings(reader="folder", options={"path": str(linked)}).read(tmp_path / "out").utterances) == 3
    (root / "manifest.csv").symlink_to(outside / "secret.txt")
    with pytest.raises(InputError, match="link that leads out"):
        read()


def test_true_rows_and_separators_of_label_csv(tmp_path: Path):
    lines = ["sep=;", "video_id;clip_id;text;label;mode", 'v;1;"two', 'lines";0,5;train', "", "v;2;None;9,2;train"]
    (tmp_path / "label.csv").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    with pytest.raises(InputError, match=r"9\.2 is outside \[-3, 3\] in row 4"):
        LabelCsvReader().read(LabelCsvSettings(path=tmp_path), tmp_path / "out")
    table = LabelCsvReader().read(LabelCsvSettings(path=tmp_path, high=10), tmp_path / "out").utterances
    assert table["text"].tolist() == ["two\nlines", "None"]
