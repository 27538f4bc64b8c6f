"""Figures of trust, slices, planted truth and the report, on answers whose quality is known."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from demeanor.data.calibration import CalibrationSettings, probabilities
from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.evaluation.conformal import fit_calibration
from demeanor.evaluation.curves import risk_coverage_figure
from demeanor.evaluation.planted import carrier_agreement, flag_quality
from demeanor.evaluation.report import Section, html_report, html_table, with_section
from demeanor.evaluation.slices import groups_of, slice_table
from demeanor.evaluation.trust import confidence_curve, selective_curve, surer_without, trust
from demeanor.features.audio import Waveform
from demeanor.features.face_mesh import FaceMesh
from demeanor.features.measures import measured

CLASSES = Task(name="e", kind="classification", column="e", classes=("a", "b", "c"))
NUMBER = Task(name="s", kind="regression", column="s")


def too_sure(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two seeds' logits [2, n, 3], three times too large; labels; names of modalities."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(n, 3))
    target = (generator.random((n, 1)) > probabilities(CLASSES, logits).cumsum(axis=1)).sum(axis=1)
    return np.stack([3 * logits, 3 * logits]), target, np.full(n, "text", dtype=object)


@pytest.fixture(scope="module")
def fitted():
    logits, target, _ = too_sure(800, 0)
    there = {"text": np.ones(800, bool)}
    return fit_calibration(CLASSES, {"text": logits}, there, target, [1, 2], CalibrationSettings(), "valid")


def test_calibration_mends_what_is_too_sure(fitted):
    logits, target, names = too_sure(800, 1)
    found = trust(CLASSES, logits, target, names, fitted)
    assert found["n"] == 800
    assert found["raw_ECE"] > 0.1
    assert found["ECE"] < 0.05
    assert found["Brier"] < found["raw_Brier"]
    assert found["NLL"] < found["raw_NLL"]
    assert found["coverage_low"] < 0.9 < found["coverage_high"] + 0.03
    assert (found["calibrated_on"], found["wrong_on_validation"]) == (800, pytest.approx(found["wrong"], abs=0.05))
    assert found["expected_low"] < found["coverage"] < found["expected_high"]
    assert np.isnan(found["design_effect"]), "nobody said what belongs together"
    wider = trust(CLASSES, logits, target, names, fitted, np.arange(800) // 2, np.bincount(target) / 800)
    assert 1 <= wider["design_effect"] < 1.3
    assert wider["coverage_in_mix"] == pytest.approx(found["coverage"])
    assert found["coverage_at_risk_0.1"] <= found["coverage_at_risk_0.2"] <= 1
    assert found["AUGRC"] < found["AURC"] < found["wrong"]
    curve = confidence_curve(CLASSES, logits, target, names, fitted)
    filled = curve[curve["n"] > 100]
    assert (filled["accuracy"] - filled["confidence"]).abs().max() < 0.1
    drawn = risk_coverage_figure({"one": selective_curve(CLASSES, logits, target, names, fitted)}, title="t")
    assert drawn.axes[0].lines
    assert not risk_coverage_figure({}).axes[0].lines


def test_slices_score_stated_groups_and_count_small_ones(fitted):
    logits, target, names = too_sure(200, 2)
    table = pd.DataFrame(
        {
            "speaker": ["ann"] * 100 + ["bob"] * 80 + ["cy"] * 20,
            "language": "en",
            "start": 0.0,
            "end": np.linspace(1, 9, 200),
            "text": "one two",
        }
    )
    target = np.where(np.arange(200) < 100, target, (target + 1) % 3)  # bob's and cy's labels are wrong ones
    found = slice_table(CLASSES, logits, target, table, names, fitted, resamples=100).set_index(["slice", "group"])
    assert found.loc[("all", "all"), "n"] == 200
    assert np.isnan(found.loc[("speaker", "cy"), "wrong"])
    assert found.loc[("speaker", "bob"), "worst"]
    assert found.loc[("speaker", "bob"), "wrong"] > found.loc[("speaker", "ann"), "wrong"]
    assert found.loc[("speaker", "bob"), "coverage"] < 0.8
    assert "language" not in found.index.get_level_values("slice")  # one group is no slice
    assert len(set(groups_of(table, names)["length"])) == 3


def test_slices_are_made_of_every_stated_column_and_of_what_is_measured(fitted):
    logits, target, names = too_sure(120, 4)
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{n}" for n in range(120)], "speaker": "ann", "language": "en", "start": 0.0, "end": 1.0,
            "text": "one", "intensity": ["normal", "strong"] * 60, "age": np.arange(120) % 40,
            "take": np.arange(120) % 2, "e": "a", "valence_e": 1.0,
        }
    )  # fmt: skip
    face = np.where(np.arange(120) < 40, 0.0, np.linspace(0.1, 1, 120))
    measures = {"loudness": np.where(np.arange(120) < 3, np.nan, np.linspace(-50, -10, 120)), "face_share": face}
    found = groups_of(table, names, measures, labels={"valence_e", "e"})
    assert {"intensity", "age", "take", "loudness", "face_share"} <= set(found)
    assert not {"e", "valence_e", "utterance_id", "start"} & set(found)
    assert set(found["intensity"]) == {"normal", "strong"}
    assert set(found["take"]) == {"0", "1"}
    assert len(set(found["age"])) == 3
    assert set(found["loudness"][:3]) == {""}
    assert found["loudness"][-1].startswith("over -")
    assert set(found["face_share"][:40]) == {"no face"}
    made = slice_table(CLASSES, logits, target, table, names, fitted, 50, measures, {"valence_e"})
    assert {"intensity", "loudness", "face_share"} <= set(made["slice"])
    assert made.groupby("slice")["worst"].sum().drop("all").max() == 1
    assert made.groupby("slice")["n"].sum()["loudness"] == 117


def test_loudness_and_share_of_the_face_are_read_from_streams():
    tone = np.rint(32767 * np.sin(np.arange(1600) / 5)).astype(np.int16)[:, None]
    quiet = (tone // 10).astype(np.int16)
    sound = {"loud": tone, "quiet": quiet, "none": tone[:0]}
    mesh = FaceMesh({"rate": 5})
    seen = np.zeros((4, mesh.dimension), np.float32)
    seen[:3, mesh.names.index("presence")] = 1
    streams = {
        "audio.waveform": Stream(
            "audio.waveform", Ragged.from_sequences(sound, 1, np.int16), Waveform({}).provenance()
        ),
        "vision.frames": Stream(
            "vision.frames",
            Ragged.from_sequences({"loud": seen, "quiet": seen[:0], "none": seen}, mesh.dimension, np.float32),
            Provenance(extractor="face_mesh", version="1", unit="frame", parameters={"rate": 5.0}),
        ),
    }
    found = measured(streams)
    assert found["loudness"][0] == pytest.approx(-3.01, abs=0.05)
    assert found["loudness"][0] - found["loudness"][1] == pytest.approx(20, abs=0.1)
    assert np.isnan(found["loudness"][2])
    assert found["face_share"].tolist() == [0.75, 0.0, 0.75]
    assert measured({}) == {}


def test_losing_a_modality_should_not_make_surer(fitted):
    logits, _, names = too_sure(50, 3)
    whole = logits[0]
    left = np.array(["text"] * 40 + [""] * 10, dtype=object)
    assert surer_without(CLASSES, whole, [(2 * whole, left)], names, fitted) > 0.5
    assert surer_without(CLASSES, whole, [(whole / 2, left)], names, fitted) == 0
    assert np.isnan(surer_without(CLASSES, whole, [(whole, np.full(50, "", dtype=object))], names, fitted))


def test_attributions_against_the_planted_truth_by_hand():
    truth = {"text": [2.0, 0.1, 1.0, -3.0], "audio": [0.5, 1.0, 0.2, 0.4]}
    made = {"text": [1.0, 0.2, 0.1, -2.0], "audio": [0.3, 0.9, 0.5, 0.1]}
    found = carrier_agreement(made, truth)
    assert (found["n"], found["agreement"], found["chance"]) == (4, 0.75, 0.75)
    assert found["spearman"] == pytest.approx((0.8 + 0.4) / 2)
    flags = flag_quality([1.5, 0.2, 2.0, 0.1], [True, False, False, False])
    assert (flags["planted"], flags["flagged"], flags["precision"], flags["recall"]) == (1, 2, 0.5, 1.0)
    assert flags["AUROC"] == pytest.approx(2 / 3)
    assert np.isnan(flag_quality([0.1], [False])["recall"])


def test_the_report_is_one_file_that_fetches_nothing_and_escapes_what_it_is_told():
    table = pd.DataFrame({"branch": ["<b>"], "x_y": [0.12345], "n": [3], "gone": [np.nan], "worst": [True]})
    figure = risk_coverage_figure({})
    text = html_report("A & B", [Section("Part", ["1 < 2"], {"how": table}, {"drawn": figure})])
    assert text.startswith("<!DOCTYPE html>")
    assert "<title>A &amp; B</title>" in text
    assert "1 &lt; 2" in text
    assert "data:image/png;base64," in text
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    cells = html_table(table)
    assert '<td class="words">&lt;b&gt;</td><td>0.123</td><td>3</td><td>-</td><td>yes</td>' in cells


def test_a_section_is_added_to_a_report_and_takes_the_place_of_its_former_self():
    page = html_report("A", [Section("One", ["first"]), Section("Two", ["second"])])
    more = with_section(
        with_section(page, Section("Noise & all", ["old words"])), Section("Noise & all", ["new words"])
    )
    assert "old words" not in more
    assert more.count("<h2>Noise &amp; all</h2>") == more.count(">Noise &amp; all</a>") == 1
    assert more.index("second") < more.index("new words") < more.index("</body>")
    assert 'href="#noise___all"' in more
    assert 'id="noise___all"' in more
    with pytest.raises(InputError, match="no page"):
        with_section("<p>something else</p>", Section("Noise"))
