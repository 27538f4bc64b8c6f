"""Every format is read back by the library of those who use it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from demeanor.data.errors import InputError
from demeanor.timeline.formats import read_spans, read_timeline, write_timeline
from demeanor.timeline.table import Timeline, milliseconds
from tests.timeline.examples import EMOTION, SENTIMENT, timeline


def written(tmp_path: Path, name: str, made: Timeline) -> Path:
    path = tmp_path / name
    write_timeline(made, path)
    return path


@pytest.mark.parametrize("tasks", [(SENTIMENT, EMOTION), (EMOTION,)])
@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_a_whole_timeline_comes_back_as_it_was(tmp_path, suffix, tasks):
    made = timeline(tasks)
    assert read_timeline(written(tmp_path, f"x{suffix}", made)) == made


@pytest.mark.parametrize(
    "suffix", [".json", ".csv", ".parquet", ".audformat.csv", ".vtt", ".TextGrid", ".eaf", ".rttm"]
)
def test_every_format_gives_its_spans_to_the_millisecond(tmp_path, suffix):
    made = timeline()
    spans = read_spans(written(tmp_path, f"x{suffix}", made))
    assert [(milliseconds(span.start), milliseconds(span.end)) for span in spans] == [
        (123, 2001), (1500, 19999), (19999, 20000)
    ]  # fmt: skip
    speaker = "bob_smith" if suffix == ".rttm" else "bob smith"
    assert [span.speaker for span in spans] == ["ann", speaker, ""]
    if suffix != ".rttm":
        assert spans[0].text == 'She said "no" # twice & <left>.'
        assert spans[2].text is None


def test_pandas_reads_the_csv(tmp_path):
    table = pd.read_csv(written(tmp_path, "x.csv", timeline((SENTIMENT,))), comment="#")
    assert table["start"].tolist() == [0.123, 1.5, 1.5, 19.999]
    assert table["text"][0] == 'She said "no" # twice & <left>.'
    assert table["sentiment"].tolist()[:3] == [-1.25, 0.1, 0.2]
    assert table["answered"].tolist() == [True, True, True, False]
    assert table["low"][0] == -1.75
    assert [word["word"] for word in json.loads(table["word_times"][0])] == ['"She', "said", "没有", "left."]
    table = pd.read_parquet(written(tmp_path, "x.parquet", timeline()))
    assert table["low_sentiment"][0] == -1.75
    assert dict(table["word_times"][0][0]) == {
        "word": '"She', "start": 0.05, "end": 0.4, "confidence": 0.25
    }  # fmt: skip
    assert list(table["word_times"][1]) == []


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_a_timeline_without_times_of_words_is_read_as_well(tmp_path, suffix):
    made = timeline()
    silent = made.with_spans([replace(span, word_times=()) for span in made.spans])
    assert read_timeline(written(tmp_path, f"x{suffix}", silent)) == silent


def test_audformat_reads_its_table(tmp_path):
    audformat = pytest.importorskip("audformat")
    table = audformat.utils.read_csv(written(tmp_path, "x.audformat.csv", timeline()))
    assert audformat.is_segmented_index(table)
    assert table.index.get_level_values("file").unique().tolist() == ["clips/interview.mp4"]
    assert table.index.get_level_values("start")[0] == pd.Timedelta(milliseconds=123)
    assert table.index.get_level_values("end")[1] == pd.Timedelta(milliseconds=19999)


def test_webvtt_reads_the_cues(tmp_path):
    webvtt = pytest.importorskip("webvtt")
    cues = list(webvtt.read(written(tmp_path, "x.vtt", timeline())))
    assert (cues[0].start, cues[0].end) == ("00:00:00.123", "00:00:02.001")
    assert cues[0].voice == "ann"
    assert "sentiment -1.25, emotion anger 50%" in cues[0].text


def test_pympi_reads_elan_and_praat(tmp_path):
    pympi = pytest.importorskip("pympi")
    eaf = pympi.Elan.Eaf(str(written(tmp_path, "x.eaf", timeline())))
    assert set(eaf.get_tier_names()) == {
        name for who in ("ann", "bob smith", "speech") for name in (who, f"{who} | sentiment", f"{who} | emotion")
    } | {"ann | word times"}
    assert eaf.get_annotation_data_for_tier("ann") == [(123, 2001, 'She said "no" # twice & <left>.')]
    said = [(123, 400, '"She'), (400, 750, "said"), (1900, 1901, "没有")]
    assert eaf.get_annotation_data_for_tier("ann | word times") == said
    assert eaf.tiers["ann | word times"][2]["PARENT_REF"] == "ann"
    assert [entry[2] for entry in eaf.get_ref_annotation_data_for_tier("ann | emotion")] == ["anger"]
    assert [label[0][0][0] for label in eaf.get_cv_entries("emotion").values()] == list(EMOTION.classes)
    grid = pympi.Praat.TextGrid(str(written(tmp_path, "x.TextGrid", timeline())))
    names = [name for _, name in grid.get_tier_name_num()]
    assert names[:3] == ["ann", "ann | word times", "ann | sentiment"]
    words = [entry for entry in grid.get_tier("ann | word times").get_all_intervals() if entry[2]]
    assert [(milliseconds(start), milliseconds(end)) for start, end, _ in words] == [times[:2] for times in said]
    assert (0.123, 2.001, "-1.25") in list(grid.get_tier("ann | sentiment").get_all_intervals())


def test_files_of_other_programs_are_read_as_spans(tmp_path):
    pympi = pytest.importorskip("pympi")
    eaf = pympi.Elan.Eaf(author="somebody")
    eaf.remove_tier("default")
    eaf.add_tier("A")
    eaf.add_annotation("A", 250, 1750, "hello")
    eaf.to_file(str(tmp_path / "o.eaf"))
    grid = pympi.Praat.TextGrid(xmin=0, xmax=3)
    grid.add_tier("A").add_interval(0.25, 1.75, "hello")
    for name, mode in (("long.TextGrid", "normal"), ("short.TextGrid", "short")):
        grid.to_file(str(tmp_path / name), mode=mode)
    (tmp_path / "wide.TextGrid").write_text((tmp_path / "long.TextGrid").read_text("utf-8"), "utf-16")
    (tmp_path / "o.vtt").write_text("WEBVTT\n\n00:00.250 --> 00:01.750 align:start\n<v A>hello</v>\n", "utf-8")
    (tmp_path / "o.csv").write_text("onset;offset;speaker;text\n0,25;1,75;A;hello\n", "utf-8")
    (tmp_path / "o.rttm").write_text(";; a comment\nSPEAKER x 1 0.25 1.5 <NA> <NA> A <NA> <NA>\n", "utf-8")
    for name in ("o.eaf", "long.TextGrid", "short.TextGrid", "wide.TextGrid", "o.vtt", "o.csv", "o.rttm"):
        (span,) = read_spans(tmp_path / name)
        assert (span.start, span.end, span.speaker) == (0.25, 1.75, "A"), name
        assert name == "o.rttm" or span.text == "hello"


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        ("a.csv", "start,end\n2,1\nx,3\n-1,2\n1,2\n", 3),
        ("a.csv", "first,second\n1,2\n", 2),
        ("a.rttm", "SPEAKER x 1 a 1\nSPEAKER x 1 3 0 <NA> <NA> A <NA> <NA>\n", 2),
        ("a.vtt", "no subtitles", 1),
        ("a.vtt", "WEBVTT\n\n00:02.000 --> 00:01.000\nx\n", 1),
        ("a.eaf", "<!DOCTYPE x [<!ENTITY a 'b'>]><ANNOTATION_DOCUMENT/>", 1),
        ("a.eaf", "<html/>", 1),
        ("a.TextGrid", 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1\n<exists>\n3\n"IntervalTier"\n', 1),
        ("a.json", '{"header": {}}', 1),
        ("a.parquet", "no parquet", 1),
        ("a.docx", "x", 1),
    ],
)
def test_what_is_wrong_is_listed_and_nothing_is_raised_but_that(tmp_path, name, content, count):
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(InputError) as caught:
        read_spans(tmp_path / name)
    assert len(caught.value.problems) == count


def test_a_timeline_that_contradicts_itself_is_refused(tmp_path):
    content = timeline().as_dict()
    content["spans"][0]["end"] = 0.0
    content["spans"][1]["span"] = "u0001"
    content["spans"][0]["word_times"][1]["end"] = 0.2
    del content["spans"][3]["answers"]["emotion"]
    (tmp_path / "x.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(InputError) as caught:
        read_timeline(tmp_path / "x.json")
    assert len(caught.value.problems) == 5
