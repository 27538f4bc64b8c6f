"""The door as its callers see it: rows and uploads in, answers out, and refusals that say why and repeat nothing."""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import logging
import os
import signal
import wave
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from demeanor.data.bundle import Bundle
from demeanor.inference.describe import records_of
from demeanor.inference.extraction import Extraction
from demeanor.inference.model import TrainedModel
from demeanor.inference.transcripts import Transcript
from demeanor.server import job_routes
from demeanor.server.app import create_app
from demeanor.server.batching import Batcher, Waiting, answers
from demeanor.server.desk import Ticket
from demeanor.server.engine import Engine
from demeanor.server.keys import VARIABLE, Keys
from demeanor.server.metrics import Metrics
from demeanor.server.refusals import CODES, Refusal
from demeanor.timeline.table import Span
from tests.server.conftest import CLIPS, as_served, on_loop

ROWS = [
    {"text": "what a lovely day"},
    {"text": "so do I", "dialogue": "call", "turn": 1, "speaker": "B"},
    {"text": "I like it", "dialogue": "call", "turn": 0, "speaker": "A"},
    {"video_bytes": base64.b64encode(CLIPS[0].read_bytes()).decode("ascii"), "text": "it was awful"},
    {"video_bytes": "bm8gZmlsbQ=="},
]


def sound(seconds: float, rate: int = 8000) -> bytes:
    """A tone in a wav file."""
    samples = (8000 * np.sin(np.arange(int(seconds * rate)) * 0.3)).astype("<i2")
    held = io.BytesIO()
    with wave.open(held, "wb") as handle:
        handle.setnchannels(1)
        handle.setsampwidth(2)
        handle.setframerate(rate)
        handle.writeframes(samples.tobytes())
    return held.getvalue()


def post(door, rows, **more):
    return door.post("/v1/predict", json={"dataframe_records": rows}, **more)


def refusal(response, code: str) -> dict:
    body = response.json()
    assert set(body) == {"code", "message", "request_id"}
    assert (body["code"], response.status_code) == (code, CODES[code])
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def test_the_answers_are_those_of_the_model_byte_for_byte(door, bundle_folder):
    answered = post(door, ROWS)
    assert answered.status_code == 200
    with as_served():
        offline = records_of(TrainedModel.load(bundle_folder).score(ROWS))
    assert json.dumps(answered.json()["predictions"]) == json.dumps(offline)
    assert answered.json()["model"] == {"name": "fusion", "alias": None, "version": None}
    assert [row["modalities"] for row in offline] == ["text", "text", "text", "audio+text+vision", ""]


@pytest.mark.parametrize("without", [(), ("audio",)])
def test_requests_that_are_answered_together_get_what_each_gets_alone_byte_for_byte(door, without):
    """Rows of several lengths, dialogues of the same name, and a row without an answer among them."""
    served = door.app.state.engine.shelf.all[0]
    read = [Extraction(served.card)(rows) for rows in (ROWS[:3], ROWS[4:], ROWS[1:2], ROWS[3:4], ROWS[2:3])]
    alone = [answers(served, without, [each])[0] for each in read]
    together = answers(served, without, read)
    assert [json.dumps(records_of(table)) for table in together] == [json.dumps(records_of(table)) for table in alone]
    assert [len(table) for table in together] == [3, 1, 1, 1, 1]
    assert together[1]["problem"][0]
    assert list(together[0]["utterance_id"]) == ["row_0", "row_1", "row_2"]
    explained = [answers(served, without, some, explained=True)[0] for some in (read[:1], read)]
    assert json.dumps(records_of(explained[0])) == json.dumps(records_of(explained[1]))


def test_a_request_that_is_alone_does_not_wait_for_others(door):
    """Where a worker has another in hand, it waits; the wait is a minute here."""
    served = door.app.state.engine.shelf.all[0]
    read = Extraction(served.card)(ROWS[:1])

    async def gathered(expected: bool) -> int:
        batcher = Batcher(16, 60.0, Metrics(), lambda: expected)
        future = asyncio.get_running_loop().create_future()
        for _ in range(2):
            batcher.put(Waiting(read, Ticket(served, (), None, 1e9, future)))
        gathering = asyncio.ensure_future(batcher._gather())
        done, _ = await asyncio.wait({gathering}, timeout=0.2)
        gathering.cancel()
        return len(gathering.result()) if done else 0

    assert asyncio.run(gathered(False)) == 2  # who is there goes along
    assert asyncio.run(gathered(True)) == 0


def test_what_was_recognised_is_told_by_requests_that_shared_a_pass(door):
    served = door.app.state.engine.shelf.all[0]
    read = Extraction(served.card)(ROWS[:1])
    heard = replace(
        read, heard={read.ids[0]: Transcript("good morning", source="recognised by a test")}, given=frozenset()
    )
    given, recognised = answers(served, (), [read, heard])
    assert (given["transcript"][0], given["transcript_source"][0]) == ("", "given")
    assert (recognised["transcript"][0], recognised["transcript_source"][0]) == ("good morning", "recognised by a test")


def test_an_answer_is_explained_where_that_is_asked_for(door, bundle_folder):
    with as_served():
        offline = records_of(TrainedModel.load(bundle_folder).score(ROWS[:1], explained=True))
    explained = post(door, ROWS[:1], params={"explain": "true"})
    assert json.dumps(explained.json()["predictions"]) == json.dumps(offline)
    assert {"baseline", "contribution_text", "conflict"} <= set(offline[0])
    form = door.post("/v1/predict", files={"text": (None, ROWS[0]["text"]), "explain": (None, "true")})
    assert form.json()["predictions"][0]["contribution_text"] == pytest.approx(offline[0]["contribution_text"])
    refusal(post(door, ROWS[:1], params={"explain": "secret"}), "bad_request")


def test_a_model_that_never_did_without_a_modality_refuses_to_explain(door):
    model = copy(door.app.state.engine.shelf.all[0])
    card = model.card.model_copy(update={"protocol": {"training": {"modality_dropout": 0.0}}})
    model.bundle = Bundle(card, model.bundle.tensors)
    assert model.described()["explains"] is False
    with pytest.raises(Refusal, match="modality_dropout") as error:
        on_loop(door, door.app.state.engine.answer, model, ROWS[:1], (), 5.0, True)
    assert error.value.code == "not_explainable"


def test_an_upload_is_a_row_of_its_content(door):
    form = door.post("/v1/predict", files={"file": ("x.mp4", CLIPS[0].read_bytes())}, data={"text": "it was awful"})
    (answer,) = form.json()["predictions"]
    assert answer["sentiment"] == post(door, [ROWS[3]]).json()["predictions"][0]["sentiment"]
    heard = door.post("/v1/predict?without=text,vision", files={"file": CLIPS[0].read_bytes()}, data={"text": "bad"})
    assert heard.json()["predictions"][0]["modalities"] == "audio"
    nothing = door.post("/v1/predict?without=text", data={"text": "bad"}, files=[("text", (None, "worse"))])
    assert all("nothing in it that this model reads" in row["problem"] for row in nothing.json()["predictions"])
    refusal(door.post("/v1/predict?without=text,audio,vision", files={"text": (None, "bad")}), "bad_request")
    assert list(Path(door.app.state.uploads).iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"content": b"{secret", "headers": {"content-type": "application/json"}}, "bad_request"),
        ({"content": b"secret", "headers": {"content-type": "text/plain"}}, "unsupported_media_type"),
        ({"content": b"--", "headers": {"content-type": "multipart/form-data"}}, "bad_request"),
        ({"content": b"--x\r\nsecret", "headers": {"content-type": "multipart/form-data; boundary=x"}}, "bad_request"),
        ({"data": {"secret": "secret"}, "files": {"file": b"secret"}}, "bad_request"),
        ({"files": {"secret": b"secret"}}, "bad_request"),
        ({"json": {"dataframe_records": [{"text": "secret"}]}, "params": {"without": "secret"}}, "bad_request"),
        ({"json": {"dataframe_records": [{"text": "secret"}]}, "params": {"model": "secret"}}, "unknown_model"),
        ({"json": {"dataframe_records": [{}] * 21}}, "too_large"),
        ({"content": b"secret" * 400_000, "headers": {"content-type": "application/json"}}, "too_large"),
        ({"files": {"file": b"secret" * 400_000}}, "too_large"),
        ({"files": {"file": sound(21)}}, "recording_too_long"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_code_and_without_its_content(door, arguments, code, caplog):
    with caplog.at_level(logging.INFO):
        refused = door.post("/v1/predict", **arguments)
    assert "secret" not in refusal(refused, code)["message"]
    assert "secret" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("demeanor")
    )
    assert list(Path(door.app.state.uploads).iterdir()) == []


def test_a_body_of_unknown_length_is_counted_while_it_is_read(door):
    sent = []

    def pieces():
        for _ in range(100):
            sent.append(1)
            yield b"x" * 100_000

    refusal(door.post("/v1/predict", content=pieces(), headers={"content-type": "text/csv"}), "too_large")


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/timeline"])
def test_a_disk_that_is_full_is_told_and_nothing_stays(door, monkeypatch, path):
    from demeanor.server.intake import _FormReader

    def flush(reader) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret")

    monkeypatch.setattr(_FormReader, "flush", flush)
    refused = door.post(path, files={"file": CLIPS[0].read_bytes()})
    assert "secret" not in refusal(refused, "storage_full")["message"]
    assert refused.headers["retry-after"] == "30"
    assert list(Path(door.app.state.uploads).iterdir()) == []


def test_a_form_of_many_pieces_is_read_as_one(door):
    whole = b"".join(
        [
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n', CLIPS[0].read_bytes(),
            b'\r\n--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nit was awful\r\n--x--\r\n',
        ]
    )  # fmt: skip
    pieces = (whole[place : place + 701] for place in range(0, len(whole), 701))
    answered = door.post("/v1/predict", content=pieces, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answered.json()["predictions"][0]["modalities"] == "audio+text+vision"


def test_a_row_may_name_no_file_of_the_server(door):
    (answer,) = post(door, [{"video": str(CLIPS[0])}]).json()["predictions"]
    assert answer["sentiment"] is None
    assert "may name none here" in answer["problem"]


def test_addresses_and_methods_that_are_not_there(door):
    refusal(door.get("/v1/secret"), "not_found")
    refusal(door.get("/v1/predict"), "method_not_allowed")


def test_the_number_of_a_request_is_the_callers_where_it_is_one(door):
    assert door.get("/health/live", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert door.get("/health/live", headers={"x-request-id": "a b<"}).headers["x-request-id"] != "a b<"


def test_the_access_log_is_json_without_content(door, caplog):
    logger = logging.getLogger("demeanor.access")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    try:
        post(door, [{"text": "secret"}])
    finally:
        logger.removeHandler(caplog.handler)
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["route"], line["status"], line["rows"], line["model"]) == ("/v1/predict", 200, 1, "fusion")
    assert "secret" not in caplog.records[-1].getMessage()


def test_the_documents_examples_work(door):
    document = door.get("/openapi.json").json()
    content = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    for example in content["application/json"]["examples"].values():
        assert post(door, []).status_code == 200
        assert door.post("/v1/predict", json=example["value"]).status_code == 200
    csv = content["text/csv"]["example"]
    answered = door.post("/v1/predict", content=csv, headers={"content-type": "text/csv"}).json()
    assert [row["utterance_id"] for row in answered["predictions"]] == ["first", "second"]
    form = {name: (None, value) for name, value in content["multipart/form-data"]["example"].items()}
    assert door.post("/v1/predict", files=form).status_code == 200
    schemas = document["components"]["schemas"]
    assert set(schemas["Span"]["properties"]) == {field.name for field in fields(Span)}
    assert schemas["Span"]["properties"]["word_times"]["items"] == {"$ref": "#/components/schemas/SpokenWord"}
    form = document["paths"]["/v1/timeline"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"file", *job_routes.FIELDS}
    named = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert named <= set(schemas), "every reference leads somewhere"
    assert set(document["paths"]) >= {"/v1/predict", "/v1/model", "/health/live", "/health/ready", "/metrics"}


def test_the_card_and_the_counts(door):
    card = door.get("/v1/model").json()
    assert (card["name"], card["modalities"]) == ("fusion", ["audio", "text", "vision"])
    assert card["limits"]["predict_bytes"] == 2_000_000
    post(door, [{"text": "hello"}])
    text = door.get("/metrics").text
    for name in (
        "demeanor_requests_total",
        "demeanor_queue_length",
        "demeanor_stage_seconds_bucket",
        "demeanor_model_info",
    ):
        assert name in text


def test_keys_are_asked_for_where_there_are_some(door, monkeypatch, settings):
    monkeypatch.setenv(VARIABLE, "a" * 16 + ", " + "b" * 16)
    from starlette.testclient import TestClient

    client = TestClient(create_app(Engine([], settings), Keys.of_environment()))  # its engine is never started
    refused = client.get("/v1/model")
    refusal(refused, "unauthorised")
    assert refused.headers["www-authenticate"] == "Bearer"
    refusal(client.get("/metrics", headers={"authorization": "Bearer " + "c" * 16}), "unauthorised")
    refusal(client.get("/v1/model", headers={"authorization": "Bearer " + "b" * 16}), "not_ready")
    refusal(client.get("/v1/model", headers={"x-api-key": "a" * 16}), "not_ready")
    assert client.get("/health/live").status_code == 200
    refusal(client.get("/health/ready"), "not_ready")


def test_a_short_key_is_refused_and_not_repeated(monkeypatch):
    from demeanor.data.errors import InputError

    monkeypatch.setenv(VARIABLE, "secret")
    with pytest.raises(InputError, match="fewer than 16") as error:
        Keys.of_environment()
    assert "secret" not in str(error.value)


def test_a_worker_that_dies_costs_one_request(door):
    worker = door.app.state.engine.workers[0]
    stop_worker(worker)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, door, [{"text": "hello"}])
        wait_for_call(door)
        os.kill(worker.process.pid, signal.SIGKILL)
        refusal(waiting.result(), "extraction_crashed")
    assert post(door, [{"text": "hello"}]).status_code == 200
    assert "demeanor_worker_restarts_total 1" in door.get("/metrics").text


def test_work_is_refused_or_dropped_while_a_worker_is_stuck(door):
    """Three may wait, the fourth is told when to come again; whoever's deadline passes meanwhile is not worked for."""
    worker = door.app.state.engine.workers[0]
    assert post(door, [{"text": "hello"}]).status_code == 200
    stop_worker(worker)
    with ThreadPoolExecutor(6) as pool:
        stuck = pool.submit(post, door, [{"text": "first"}])
        wait_for_call(door)
        short = [pool.submit(post, door, [{"text": "short"}], headers={"prefer": "wait=1"}) for _ in range(3)]
        while len(door.app.state.engine.desk) < 3:
            signal_free_sleep()
        full = post(door, [{"text": "too many"}])
        refusal(full, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
        for each in short:
            refusal(each.result(), "deadline_exceeded")
        refusal(stuck.result(), "extraction_timeout")
    assert post(door, [{"text": "hello"}]).status_code == 200
    assert on_loop(door, len, door.app.state.engine.desk) == 0


def stop_worker(worker) -> None:
    os.kill(worker.process.pid, signal.SIGSTOP)


def wait_for_call(door) -> None:
    """Until the ticket has left the queue for the worker."""
    for _ in range(40):
        signal_free_sleep()
    assert len(door.app.state.engine.desk) == 0


def signal_free_sleep() -> None:
    import time

    time.sleep(0.01)
