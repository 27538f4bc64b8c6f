"""Timelines over HTTP: 202 and a number, a process that makes it, results in four formats, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from demeanor.server import results
from demeanor.server.job_routes import spans_of
from demeanor.server.jobs import Jobs
from demeanor.server.metrics import Metrics
from demeanor.server.refusals import Refusal
from demeanor.server.settings import ServerSettings
from tests.server.conftest import CLIPS
from tests.server.test_door import refusal, sound

SPANS = [
    {"start": 0.1, "end": 0.9, "speaker": "A", "text": "what a lovely day"},
    {"start": 1.0, "end": 1.5, "speaker": "B", "text": "it was awful"},
]


def begun(door, content: bytes | None = None, spans=SPANS, **more):
    files = {"file": ("x.mp4", CLIPS[0].read_bytes() if content is None else content)}
    data = {} if spans is None else {"spans": json.dumps(spans)}
    return door.post("/v1/timeline", files=files, data=data, **more)


def ended(door, job: dict) -> dict:
    for _ in range(1200):
        now = door.get(f"/v1/jobs/{job['id']}").json()
        if now["state"] not in ("queued", "running"):
            return now
        time.sleep(0.05)
    raise AssertionError("the timeline was not made within a minute")


def test_a_timeline_from_its_recording_to_four_formats_and_away(door):
    answered = begun(door, params={"explain": "true"})
    job = answered.json()
    assert (answered.status_code, answered.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    refusal(door.get(f"/v1/jobs/{job['id']}/timeline"), "job_not_done")
    now = ended(door, job)
    assert (now["state"], now["progress"], now["error"]) == ("done", 1.0, None)
    made = door.get(now["downloads"]["json"])
    spans = made.json()["spans"]
    assert [(span["start"], span["speaker"], span["text"]) for span in spans] == [
        (span["start"], span["speaker"], span["text"]) for span in SPANS
    ]
    assert all(set(span["answers"]["sentiment"]["contributions"]) == {"audio", "text", "vision"} for span in spans)
    assert made.json()["header"]["medium"] == ""
    assert str(door.app.state.uploads) not in made.text
    table = pd.read_csv(io.StringIO(door.get(now["downloads"]["csv"]).text), comment="#")
    assert list(table["speaker"]) == ["A", "B"]
    where = f"/v1/jobs/{job['id']}/timeline"
    assert door.get(where, headers={"accept": "text/vtt"}).text.startswith("WEBVTT")
    assert b"ANNOTATION_DOCUMENT" in door.get(now["downloads"]["eaf"]).content
    refusal(door.get(where, params={"format": "secret"}), "bad_request")
    refusal(door.get(where, headers={"accept": "image/png"}), "not_acceptable")
    (folder,) = door.app.state.uploads.iterdir()
    assert [path.name for path in folder.iterdir()] == ["result.json"]  # the recording itself is gone
    door.delete(f"/v1/jobs/{job['id']}")
    refusal(door.get(f"/v1/jobs/{job['id']}"), "unknown_job")
    assert list(Path(door.app.state.uploads).iterdir()) == []


def test_what_runs_can_be_cancelled_what_dies_says_so_and_what_is_no_recording_too(door):
    """One after the other in one process each: the third is queued while the first runs."""
    jobs = door.app.state.jobs
    dies, cancelled, unreadable = begun(door).json(), begun(door).json(), begun(door, b"secret").json()
    assert door.get(f"/v1/jobs/{unreadable['id']}").json()["ahead"] == 2
    assert door.delete(f"/v1/jobs/{cancelled['id']}").json()["state"] == "cancelled"
    while jobs.process is None:
        time.sleep(0.01)
    os.kill(jobs.process.pid, signal.SIGKILL)
    now = ended(door, dies)
    assert (now["state"], now["error"]["code"]) == ("failed", "extraction_crashed")
    now = ended(door, unreadable)
    assert (now["state"], now["error"]["code"]) == ("failed", "recording_unreadable")
    assert "secret" not in json.dumps(now)
    for job in (dies, unreadable):
        door.delete(f"/v1/jobs/{job['id']}")
    running = begun(door).json()
    while jobs.process is None:
        time.sleep(0.01)
    door.delete(f"/v1/jobs/{running['id']}")
    while jobs.process is not None or list(Path(door.app.state.uploads).iterdir()):
        time.sleep(0.01)
    refusal(door.get(f"/v1/jobs/{running['id']}"), "unknown_job")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"json": {}}, "unsupported_media_type"),
        ({"files": {"file": (None, "secret")}}, "bad_request"),
        ({"files": {"file": b"secret"}, "data": {"text": "secret"}}, "bad_request"),
        ({"files": {"file": b"secret"}, "data": {"spans": "secret"}}, "bad_request"),
        ({"files": {"file": b"secret"}, "data": {"spans": '[{"start": 2, "end": 1}]'}}, "bad_request"),
        ({"files": {"file": b"secret"}, "data": {"spans": '[{"start": "secret", "end": 1}]'}}, "bad_request"),
        ({"files": {"file": b"secret"}, "data": {"speakers": "secret"}}, "bad_request"),
        ({"files": {"file": b"secret"}, "data": {"language": "secret"}}, "bad_request"),
        ({"files": {"file": b"secret"}, "params": {"explain": "secret"}}, "bad_request"),
        ({"files": {"file": b"secret"}, "params": {"model": "secret"}}, "unknown_model"),
        ({"files": {"file": b"secret" * 700_000}}, "too_large"),
    ],
)
def test_what_is_no_timeline_is_refused_and_leaves_nothing(door, arguments, code):
    assert "secret" not in refusal(door.post("/v1/timeline", **arguments), code)["message"]
    assert list(Path(door.app.state.uploads).iterdir()) == []


def test_as_many_wait_as_may_and_results_go_with_time(tmp_path):
    jobs = Jobs(ServerSettings(jobs=1, results=1, result_seconds=60.0), Metrics())
    first = jobs.open({}, tmp_path)
    with pytest.raises(Refusal, match="try again later"):
        jobs.open({}, tmp_path)
    first.state, first.ended = "done", time.monotonic()
    second = jobs.open({}, tmp_path)
    second.state, second.ended = "done", time.monotonic() - 61
    third = jobs.open({}, tmp_path)
    assert list(tmp_path.iterdir()) == [third.folder]  # the first was one too many, the second too old


def test_the_callers_favourite_format():
    assert results.chosen(None, "text/html, application/xml;q=0.9, */*;q=0.8") == "eaf"
    assert results.chosen(None, "") == "json"
    assert results.chosen("vtt", "image/png") == "vtt"


def test_spans_have_the_parts_that_they_may_have():
    assert spans_of('[{"start": 0, "end": 1.5}]')[0].end == 1.5
    for wrong in ("[]", "{}", '[{"start": 0}]', '[{"start": 0, "end": true}]', '[{"start": 0, "end": 1, "x": 1}]'):
        with pytest.raises(Refusal, match="takes a list"):
            spans_of(wrong)


def test_a_recording_that_is_longer_than_it_may_be(tmp_path):
    from demeanor.server.timelines import length_of

    path = tmp_path / "long"
    path.write_bytes(sound(3.0))
    assert length_of(path, 10.0) == pytest.approx(3.0, abs=0.01)
    with pytest.raises(Refusal, match="longer than 2 s") as error:
        length_of(path, 2.0)
    assert error.value.code == "recording_too_long"
