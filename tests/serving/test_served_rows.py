"""The registered model behind MLflow's own server: odd rows among good ones, in every form that a request may have."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from demeanor.data.bundle import Bundle
from demeanor.data.cells import VARIABLE
from demeanor.data.examples import Examples
from demeanor.data.utterances import make_table
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.serving.mlflow_server import table_of_request
from demeanor.training.fit import fit
from demeanor.training.settings import BranchSettings, TrainingSettings
from tests.features.media_samples import faces, voice, write_recording
from tests.toy import SENTIMENT, toy_score

STREAMS = {
    "text.sentence": StreamRequest(extractor="hf_sentence", parameters={"model": "minilm"}),
    "audio.functionals": StreamRequest(extractor="opensmile_functionals"),
    "vision.frames": StreamRequest(extractor="face_descriptors", parameters={"fallback": "centre"}),
}
SECRET = "a transcript that is nobody's business"


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """A folder with recordings, one of them in a folder within, and one outside that a link leads to."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "root" / "inner").mkdir(parents=True)
    write_recording(folder / "root" / "a.mp4", voice(1.0), faces(10))
    write_recording(folder / "root" / "inner" / "b.mp4", voice(0.8), faces(8, mouth=2.0))
    write_recording(folder / "outside.mp4", voice(0.8), faces(8))
    (folder / "root" / "link.mp4").symlink_to(folder / "outside.mp4")
    return folder


@pytest.fixture(scope="module")
def bundle(media, tmp_path_factory) -> Bundle:
    place = tmp_path_factory.mktemp("features")
    rows = [
        {
            "utterance_id": f"u{n}", "corpus": "made", "split": "valid" if n > 3 else "train", "dialogue": f"d{n}",
            "turn": 0, "text": "what a lovely day" if n % 2 else "this is awful", "sentiment": 1.0 if n % 2 else -1.0,
            "media": "inner/b.mp4" if n % 2 else "a.mp4",
        }
        for n in range(6)
    ]  # fmt: skip
    table = make_table(rows)
    clips = clips_of(table, media / "root")
    streams, _ = extract_streams(clips, STREAMS, place / "cache", place / "out", 1, progress=False)
    settings = BranchSettings(
        system="late_fusion",
        streams={"text": "text.sentence", "audio": "audio.functionals", "vision": "vision.frames"},
        training=TrainingSettings(epochs=1, batch_size=4, threads=1),
    )
    return fit("fusion", settings, SENTIMENT, Examples.of(table, streams), 1, toy_score, progress=False).bundle


def served(bundle: Bundle, folder: Path) -> Any:
    """The MLflow model of a bundle, saved and loaded as MLflow does it."""
    from demeanor.serving import mlflow_model
    from demeanor.serving.packaging import signature_of

    bundle.save(folder / "bundle")
    mlflow.pyfunc.save_model(
        folder / "model",
        python_model=mlflow_model.__file__,
        artifacts={"bundle": str(folder / "bundle")},
        signature=signature_of(bundle.card),
    )
    return mlflow.pyfunc.load_model(str(folder / "model"))


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        return served(bundle, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def client(model) -> TestClient:
    from mlflow.pyfunc import scoring_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "false")
        return TestClient(scoring_server.init(model), raise_server_exceptions=False)


def ask(client: TestClient, body: Any, kind: str = "application/json") -> list[dict[str, Any]]:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    response = client.post("/invocations", content=content, headers={"Content-Type": kind})
    assert response.status_code == 200, response.text
    return json.loads(response.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["predictions"]


TURNS = [
    {"text": "Well.", "dialogue": "d", "turn": 0, "speaker": "ann"},
    {"text": "I like it.", "dialogue": "d", "turn": 1, "speaker": "bob"},
    {"text": "On its own."},
]


def forms(rows: list[dict]) -> dict[str, tuple[Any, str]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pd.DataFrame(rows, columns=names)
    data = [[row.get(name) for name in names] for row in rows]
    return {
        "records": ({"dataframe_records": rows}, "application/json"),
        "split": ({"dataframe_split": {"columns": names, "data": data}}, "application/json"),
        "instances": ({"instances": rows}, "application/json"),
        "inputs": (
            {"inputs": {name: [row.get(name) for row in rows] for name in names}},
            "application/json; charset=utf-8",
        ),
        "csv": (table.to_csv(index=False), "text/csv"),
        "semicolons": (table.to_csv(index=False, sep=";"), "text/csv"),
    }


@pytest.mark.parametrize("form", list(forms(TURNS)))
def test_any_column_may_be_missing_in_any_row(client, form):
    body, kind = forms(TURNS)[form]
    answers = ask(client, body, kind)
    assert [answer["problem"] for answer in answers] == ["", "", ""]
    assert all(math.isfinite(answer["sentiment"]) for answer in answers)


def test_tables_of_pandas_pass_the_signature(model):
    for table in (pd.DataFrame(TURNS), pd.DataFrame(TURNS).astype(object), pd.DataFrame({"text": ["a", None]})):
        answers = model.predict(table)
        assert len(answers) == len(table)
        assert list(answers["problem"].ne("")) == list(table["text"].isna())
    assert answers["sentiment"][1] is None


def test_words_that_pandas_takes_for_missing_are_words(client):
    answers = ask(client, "utterance_id,text\n1,None\n2,NA\n3,null\n4,nan\n5,\n", "text/csv")
    assert [answer["problem"] == "" for answer in answers] == [True, True, True, True, False]
    assert [answer["utterance_id"] for answer in answers] == ["1", "2", "3", "4", "5"]


ODD = {
    "a list as text": {"text": [SECRET]},
    "an object as text": {"text": {"a": SECRET}},
    "a list as turn": {"text": SECRET, "dialogue": "d", "turn": [1]},
    "words as turn": {"text": SECRET, "dialogue": "d", "turn": "abc"},
    "half a turn": {"text": SECRET, "turn": 1.5},
    "true as start": {"text": SECRET, "start": True},
    "infinite end": {"text": SECRET, "end": math.inf},
    "negative start": {"text": SECRET, "start": -1},
    "a start beyond integers": {"text": SECRET, "start": 1e300},
    "a number of too many digits": {"text": SECRET, "turn": 10**400},
    "end before start": {"text": SECRET, "start": 3, "end": 2},
    "a language of a page": {"text": SECRET, "language": SECRET * 50},
    "a speaker that is an object": {"text": SECRET, "speaker": {}},
    "a dialogue that is a list": {"text": SECRET, "dialogue": []},
    "an id that is an object": {"text": SECRET, "utterance_id": {"a": SECRET}},
    "base64 where a path is expected": {"video": base64.b64encode(b"x" * 5000).decode()},
    "a null byte": {"audio": f"{SECRET}\0"},
    "a folder": {"video": "/tmp"},
    "a file of the server": {"video": "/etc/passwd"},
    "no base64": {"video_bytes": f"{SECRET}!"},
    "no recording": {"video_bytes": base64.b64encode(SECRET.encode()).decode()},
    "an empty recording": {"audio_bytes": base64.b64encode(b"x").decode()},
    "nothing": {},
    "only what nobody knows": {"vdeo": SECRET},
}


def test_an_odd_row_has_its_own_problem_and_the_good_ones_are_answered_in_order(client, caplog):
    rows: list[Any] = []
    for row in ODD.values():
        rows += [row, {"text": "I like it."}]
    answers = ask(client, {"dataframe_records": rows})
    assert len(answers) == len(rows)
    good = ask(client, {"dataframe_records": [{"text": "I like it."}]})[0]["sentiment"]
    for name, odd, answer in zip(ODD, answers[::2], answers[1::2], strict=True):
        assert odd["problem"], name
        assert odd["sentiment"] is None, name
        assert answer["problem"] == "", name
        assert answer["sentiment"] == pytest.approx(good, abs=1e-5), name
    assert SECRET not in json.dumps([answer["problem"] for answer in answers])
    assert "passwd" not in json.dumps(answers)
    assert SECRET not in caplog.text


def test_numbers_may_be_written_as_text_and_names_as_numbers(client):
    answers = ask(
        client, {"dataframe_records": [{"text": "a", "dialogue": 1, "turn": "3", "utterance_id": 7, "speaker": 2.0}]}
    )
    assert (answers[0]["problem"], answers[0]["utterance_id"]) == ("", "7")


def test_ids_used_again_get_a_number_and_turns_used_again_their_order(client):
    rows = [{"utterance_id": name, "text": "I like it.", "dialogue": "d", "turn": 1} for name in ("a", "a", "a_2", "a")]
    answers = ask(client, {"dataframe_records": rows})
    assert [answer["utterance_id"] for answer in answers] == ["a", "a_3", "a_2", "a_4"]
    assert all(answer["problem"] == "" for answer in answers)


def test_half_a_character_is_answered(client):
    answers = ask(client, '{"dataframe_records": [{"utterance_id": "\\ud83d", "text": "fine \\ud83d"}]}')
    assert answers[0]["problem"] == ""


def test_content_in_base64_of_any_kind(client, media):
    content = (media / "root" / "a.mp4").read_bytes()
    plain = base64.b64encode(content).decode()
    rows = [
        {"video_bytes": plain}, {"video_bytes": base64.urlsafe_b64encode(content).decode().rstrip("=")},
        {"video_bytes": f"data:video/mp4;base64,{plain}"}, {"audio_bytes": plain, "audio": "C:\\fakepath\\a.mp4"},
        {"text": "no recording"},
    ]  # fmt: skip
    answers = ask(client, {"dataframe_records": rows})
    assert [answer["modalities"] for answer in answers] == ["audio+vision"] * 3 + ["audio", "text"]


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [("cp1252", ""), ("cp1252", "; charset=utf-8"), ("utf-16", ""), ("utf-16-le", "; charset=UTF-16LE"),
     ("utf-8-sig", ""), ("cp1252", "; charset=ISO-8859-1"), ("gb18030", "; charset=gb18030")],
)  # fmt: skip
def test_a_table_in_a_body_is_read_as_one_on_disk(client, encoding, charset):
    body = "sep=;\r\nutterance_id;text;start;\r\n007;NA;0,5;\r\n;;;\r\n7.0;schön;;\r\nwide;a;b;;c\r\nNone;null;x;\r\n"
    rows = table_of_request(
        body.replace("schön", "好" if encoding == "gb18030" else "schön").encode(encoding), f"text/csv{charset}"
    )
    assert rows["utterance_id"].tolist()[:2] == ["007", "7.0"]
    assert rows["text"].tolist()[:2] == ["NA", "好" if encoding == "gb18030" else "schön"]
    assert rows["start"].tolist()[0] == 0.5
    if encoding == "cp1252" and not charset:
        answers = ask(client, body.encode(encoding), "text/csv")
        assert [bool(answer["problem"]) for answer in answers] == [False, False, True, True]
        assert "more cells than the header" in answers[2]["problem"]
        assert [answer["modalities"] for answer in answers] == ["text", "text", "", ""]


def test_records_and_rows_of_another_shape_have_their_own_problem(client):
    records = ask(client, {"dataframe_records": [{"text": "a"}, 3, None, ["b"]]})
    assert [answer["modalities"] for answer in records] == ["text", "", "", ""]
    assert all("no object" in answer["problem"] for answer in records[1:])
    split = ask(client, {"dataframe_split": {"columns": ["text", "turn"], "data": [["a", 1], ["b"], "c"]}})
    assert all("a cell for every column" in answer["problem"] for answer in split[1:])


def test_requests_without_rows_and_bodies_without_sense(client):
    for body in ({"dataframe_records": []}, {"dataframe_split": {"columns": ["text"], "data": []}}, {"inputs": {}}):
        assert ask(client, body) == []
    assert ask(client, "text\n", "text/csv") == []
    bodies = [
        SECRET, f'{{"dataframe_records": [{{"text": "{SECRET}"', "[" * 100_000, "[]", "{}", '{"dataframe_records": 3}',
        '{"dataframe_split": {"columns": 3, "data": []}}', '{"inputs": {"text": ["a"], "turn": [1, 2]}}', b"\xff\xfe",
        '{"dataframe_records": [' + "1," * 1_100_000 + "1]}",
    ]  # fmt: skip
    for body in bodies:
        response = client.post("/invocations", content=body, headers={"Content-Type": "application/json"})
        assert 400 <= response.status_code < 500, response.text[:200]
        assert SECRET not in response.text
        assert "Traceback" not in response.text
        assert response.json()["message"]
    assert client.post("/invocations", content=b"x", headers={"Content-Type": "image/png"}).status_code == 415


def test_a_row_may_name_no_file_of_the_server(client, media):
    path = media / "root" / "a.mp4"
    answers = ask(client, {"dataframe_records": [{"video": str(path)}, {"video": str(media / "nowhere.mp4")}]})
    assert VARIABLE in answers[0]["problem"]
    assert answers[0]["problem"] == answers[1]["problem"], "the answer must not tell whether a file is there"


def test_the_folder_that_the_server_was_started_with_is_as_far_as_a_row_reaches(bundle, media, tmp_path, monkeypatch):
    from demeanor.serving.mlflow_model import DemeanorModel

    monkeypatch.setenv(VARIABLE, str(media / "root"))
    bundle.save(tmp_path / "bundle")
    model = DemeanorModel()
    model.load_context(SimpleNamespace(artifacts={"bundle": str(tmp_path / "bundle")}))
    inside = ["a.mp4", str(media / "root" / "a.mp4"), "inner/../inner/b.mp4"]
    outside = ["../outside.mp4", str(media / "outside.mp4"), "link.mp4", "/etc/passwd", "inner/../../outside.mp4"]
    absent = ["nowhere.mp4", "inner", "x" * 255]
    answers = model.predict(None, pd.DataFrame({"video": inside + outside + absent}))
    said = list(answers["problem"])
    assert said[:3] == ["", "", ""]
    assert set(said[3:8]) == {"`video` names a file outside the folder of recordings"}
    assert set(said[8:]) == {"`video` names no file in the folder of recordings"}
    (media / "root" / "broken.mp4").write_text("no film", encoding="utf-8")
    told = model.predict(None, pd.DataFrame({"video": ["broken.mp4"]}))["problem"][0]
    assert "`video`" in told
    assert str(media) not in told


def test_what_the_first_request_needs_is_there_once_the_model_is_loaded(model, monkeypatch):
    """Nothing heavy is imported and no extractor is built by a request: loading has asked for every modality."""
    import sys

    from demeanor.inference import extraction
    from demeanor.serving.warming import first_rows

    def build(*_):
        raise AssertionError("an extractor is built by a request")

    monkeypatch.setattr(extraction, "extractor_from", build)
    row, before = first_rows()[0], set(sys.modules)
    answers = model.predict(pd.DataFrame([row]))
    assert (answers["problem"][0], answers["modalities"][0]) == ("", "audio+text+vision")
    heavy = ("torch", "transformers", "librosa", "numba", "cv2", "opensmile", "av")
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in heavy}


def test_the_signature_names_every_column_and_refuses_none(bundle):
    from demeanor.data.raw_rows import COLUMNS
    from demeanor.serving.packaging import signature_of

    inputs = signature_of(bundle.card).inputs
    assert inputs.input_names() == list(COLUMNS)
    assert not inputs.required_input_names()


def test_answers_hold_null_and_never_nan():
    from demeanor.inference.describe import records_of, without_nan

    table = pd.DataFrame({"a": [1.0, np.nan, np.inf], "b": ["x", None, np.nan], "c": [[1.0, np.nan], None, []]})
    assert records_of(table) == [
        {"a": 1.0, "b": "x", "c": [1.0, None]}, {"a": None, "b": None, "c": None}, {"a": None, "b": None, "c": []}
    ]  # fmt: skip
    assert json.dumps(records_of(table), allow_nan=False)
    assert without_nan(table)["a"].tolist() == [1.0, None, None]
    assert without_nan(pd.DataFrame({"a": [1.0, 2.0]}))["a"].dtype == np.float64
