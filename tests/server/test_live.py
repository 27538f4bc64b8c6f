"""Live sessions: what is said on the socket from the first message to the last, who gets none, and how each ends."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from starlette.websockets import WebSocketDisconnect

from demeanor.analyser import BundleScorer
from demeanor.data.bundle import Bundle
from demeanor.inference.transcripts import Transcriber
from demeanor.server import live_routes, live_sound
from demeanor.server.keys import Keys
from demeanor.server.live_pace import Pace, Recognitions
from demeanor.server.live_sound import Sound
from demeanor.server.refusals import CODES, Refusal
from demeanor.timeline.hearing import energy
from demeanor.timeline.live import follow
from tests.server.conftest import as_served, on_loop
from tests.timeline.examples import RATE, silence, voice, write_wav

START = {"type": "start", "window": 2.0, "step": 1.0}


@pytest.fixture(autouse=True)
def by_loudness(monkeypatch):
    monkeypatch.setattr(live_routes, "_hearing", energy)


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def sent(socket, content: bytes, size: int = 8000) -> None:
    for place in range(0, len(content), size):
        socket.send_bytes(content[place : place + size])


@contextmanager
def limits(door, **numbers):
    engine = door.app.state.engine
    former = engine.settings
    engine.settings = former.model_copy(update=numbers)
    try:
        yield
    finally:
        engine.settings = former


def ended(socket) -> tuple[list[dict], int, str]:
    """What still comes, the close code and its reason."""
    told = []
    try:
        while True:
            told.append(json.loads(socket.receive_text()))
    except WebSocketDisconnect as end:
        return told, end.code, end.reason


def refused(door, first, code: str, **handshake) -> dict:
    """The error that a first message gets; the socket is closed with 4000 and its status."""
    with door.websocket_connect("/v1/live", **handshake) as socket:
        socket.send_text(first if isinstance(first, str) else json.dumps(first))
        (error,), closed, reason = ended(socket)
    assert (error["type"], error["code"], closed, reason) == ("error", code, 4000 + CODES[code], code)
    assert error["request_id"]
    return error


def test_windows_and_answers_are_those_of_demeanor_live(door, bundle_folder, tmp_path):
    samples = np.concatenate([voice(2.0), silence(2.0), voice(0.6)])
    recording = write_wav(tmp_path / "all.wav", samples)
    scorer = BundleScorer({"fusion": Bundle.load(bundle_folder)}, transcribe=False)
    with as_served():
        expected = list(follow(recording, scorer, energy(), window=2.0, step=1.0, wait=lambda _: None, patience=1.0))
    with recording.open("rb") as file:
        content = file.read()[44:]
    with door.websocket_connect("/v1/live") as socket:
        socket.send_json(START)
        ready = socket.receive_json()
        assert (ready["type"], ready["delay"], ready["sample_rate"]) == ("ready", 2.0, RATE)
        found, second = [], 2 * RATE
        for place in range(0, len(content), second):  # the next second once the one before is answered
            sent(socket, content[place : place + second])
            if len(content) - place >= second:
                found.append(socket.receive_json())
        socket.send_json({"type": "stop"})
        rest, code, reason = ended(socket)
    assert (code, reason) == (1000, "stopped")
    assert rest[-1] == {"type": "end", "reason": "stopped", "seconds": 4.6, "windows": 5}
    found += rest[:-1]
    assert [(one["start"], one["end"], one["voice"]) for one in found] == [
        (pytest.approx(one.start), one.end, one.voice) for one in expected
    ]
    assert [one["voice"] for one in found] == [True, True, True, False, True]
    for one, other in zip(found, expected, strict=True):
        assert one["delay"] < 30
        if other.voice:
            assert one["answers"]["sentiment"]["value"] == other.answers["sentiment"].value
            assert one["modalities"] == ["audio"]
    text = door.get("/metrics").text
    assert 'demeanor_live_windows_total{outcome="silent"} 1.0' in text
    assert 'demeanor_live_ends_total{reason="stopped"} 1.0' in text
    assert "demeanor_live_sessions 0.0" in text


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("secret", "bad_request"),
        ("[" * 100_000, "bad_request"),
        ({"type": "secret"}, "bad_request"),
        ({"type": "start", "secret": 1}, "bad_request"),
        ({"type": "start", "sample_rate": 4000}, "bad_request"),
        ({"type": "start", "window": 2, "step": 3}, "bad_request"),
        ({"type": "start", "without": ["secret"]}, "bad_request"),
        ({"type": "start", "without": ["text", "audio", "vision"]}, "bad_request"),
        ({"type": "start", "model": "secret"}, "unknown_model"),
    ],
)
def test_a_first_message_that_opens_nothing_is_refused_without_its_content(door, first, code):
    assert "secret" not in refused(door, first, code)["message"]
    assert door.app.state.engine.live == 0


def test_a_page_of_another_host_may_not_open_a_session(door):
    refused(door, START, "forbidden", headers={"origin": "https://elsewhere.example"})
    with door.websocket_connect("/v1/live", headers={"origin": "http://testserver"}) as socket:
        socket.send_json(START)
        assert socket.receive_json()["type"] == "ready"


def test_keys_are_asked_for_on_the_socket_too(door, monkeypatch):
    """In a header, or in the first message: a page in a browser can set no header of a socket."""
    (route,) = [route for route in door.app.routes if getattr(route, "path", "") == "/v1/live"]
    keys = next(cell for cell in route.endpoint.__closure__ if isinstance(cell.cell_contents, Keys))
    monkeypatch.setattr(keys.cell_contents, "_digests", Keys(("a" * 16,))._digests)
    refused(door, START, "unauthorised")
    assert "bbbb" not in refused(door, {**START, "key": "b" * 16}, "unauthorised")["message"]
    for first, headers in (({**START, "key": "a" * 16}, {}), (START, {"authorization": "Bearer " + "a" * 16})):
        with door.websocket_connect("/v1/live", headers=headers) as socket:
            socket.send_json(first)
            assert socket.receive_json()["type"] == "ready"


def test_one_session_more_than_may_be_open_is_refused_and_a_place_that_is_left_is_free(door):
    with limits(door, live_sessions=1):
        with door.websocket_connect("/v1/live") as socket:
            socket.send_json(START)
            assert socket.receive_json()["type"] == "ready"
            refused(door, START, "queue_full")
        while door.app.state.engine.live:  # the first has hung up
            time.sleep(0.01)
        with door.websocket_connect("/v1/live") as socket:
            socket.send_json(START)
            assert socket.receive_json()["type"] == "ready"


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([b"x"], "bad_request"),
        (["secret"], "bad_request"),
        ([bytes(70_000)], "too_large"),
        ([bytes(64_000)] * 4, "too_fast"),
        ([], "idle"),
    ],
)
def test_a_session_that_is_not_kept_to_ends_with_a_code(door, messages, code):
    """8 s of sound come at once, where 5 may."""
    with limits(door, live_idle=0.3), door.websocket_connect("/v1/live") as socket:
        socket.send_json({"type": "start"})
        for message in messages:
            socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(message)
        told, closed, reason = ended(socket)
    assert (told[0]["type"], told[-1]["code"]) == ("ready", code)
    assert (closed, reason) == (4000 + CODES[code], code)
    assert "secret" not in json.dumps(told)
    assert door.app.state.engine.live == 0


def test_a_session_ends_at_its_longest_with_all_that_was_said(door):
    with limits(door, live_seconds=1.5), door.websocket_connect("/v1/live") as socket:
        socket.send_json(START)
        sent(socket, pcm(voice(1.6)))
        told, code, reason = ended(socket)
    assert (code, reason, told[-1]["reason"]) == (1000, "limit", "limit")
    assert told[-2]["end"] > 1.4


def test_a_server_that_stops_ends_sessions_with_their_last_answer(door):
    engine = door.app.state.engine
    with door.websocket_connect("/v1/live") as socket:
        socket.send_json(START)
        socket.receive_json()
        sent(socket, pcm(voice(0.5)))
        time.sleep(0.1)
        on_loop(door, engine.closing.set)
        try:
            told, code, reason = ended(socket)
        finally:
            on_loop(door, engine.closing.clear)
    assert (code, reason) == (1001, "draining")
    assert [one["type"] for one in told] == ["window", "end"]
    assert told[0]["answers"]["sentiment"]["answered"] is True


def test_a_window_that_would_come_late_gives_way_to_a_newer_one(door, monkeypatch):
    engine = door.app.state.engine
    answer = engine.answer

    async def slowly(*arguments, **more):
        await asyncio.sleep(0.5)
        return await answer(*arguments, **more)

    monkeypatch.setattr(engine, "answer", slowly)
    with door.websocket_connect("/v1/live") as socket:
        socket.send_json(START)
        sent(socket, pcm(voice(1.0)))
        time.sleep(0.2)  # the first is being scored
        sent(socket, pcm(voice(3.0)))
        socket.send_json({"type": "stop"})
        told, _, _ = ended(socket)
    assert [(one["type"], one.get("end")) for one in told] == [
        ("ready", None), ("window", 1.0), ("skipped", 2.0), ("skipped", 3.0), ("window", 4.0), ("end", None)
    ]  # fmt: skip


def test_words_that_would_make_an_answer_late_are_left_out_of_it_and_of_the_next_ones(door, monkeypatch):
    engine = door.app.state.engine
    answer, asked, heard = engine.answer, [], threading.Event()

    async def recognising(*arguments, words=True, **more):
        asked.append(words)
        while words and not heard.is_set():
            await asyncio.sleep(0.01)
        return await answer(*arguments, words=words, **more)

    monkeypatch.setattr(engine, "answer", recognising)
    monkeypatch.setattr(engine, "recognitions", on_loop(door, Recognitions, 1))
    monkeypatch.setattr(Transcriber, "able", True)
    with limits(door, live_delay=1.5), door.websocket_connect("/v1/live") as socket:
        socket.send_json(START)
        assert socket.receive_json()["words"] is True
        told = []
        for number in range(3):
            sent(socket, pcm(voice(1.0)))
            told.append(socket.receive_json())
            if number == 1:  # the words of the first window are there at last
                heard.set()
                while engine.recognitions.pace.whole < 1.0:
                    time.sleep(0.01)
    assert [(one["words"], one["modalities"], one["code"]) for one in told] == [("left out", ["audio"], None)] * 3
    # The second waited for its turn and was never asked, the third was not even tried: words take too long.
    assert asked == [True, False, False, False]
    assert "demeanor_live_wordless_total 3.0" in door.get("/metrics").text


def test_a_session_without_text_waits_for_no_words(door, monkeypatch):
    monkeypatch.setattr(Transcriber, "able", True)
    with door.websocket_connect("/v1/live") as socket:
        socket.send_json({**START, "without": ["text, vision"]})
        assert socket.receive_json()["words"] is False
        sent(socket, pcm(voice(1.0)))
        assert socket.receive_json()["words"] == ""


def test_answers_do_without_words_as_soon_as_these_are_known_to_take_too_long_and_try_them_again():
    pace = Pace()
    assert pace.patience(0.0, 2.0) == pytest.approx(1.6)
    for seconds in (0.5, 0.3):
        pace.answered(seconds, words=False)
    pace.answered(1.2, words=True)
    assert pace.patience(0.0, 2.0) == pytest.approx(1.56)
    assert pace.patience(0.5, 2.0) == 0  # what has waited that long comes too late with words
    pace.answered(3.0, words=True)
    tries = 0
    while pace.patience(0.0, 2.0) == 0:
        tries += 1
    assert 3 < tries < 20


def test_what_has_begun_to_be_recognised_goes_on_and_what_has_not_is_given_up():
    async def scene() -> tuple[list, list]:
        recognitions, ended = Recognitions(1), []

        async def ask(name: str, seconds: float) -> str:
            await asyncio.sleep(seconds)
            ended.append(name)
            return name

        found = await asyncio.gather(
            recognitions.within(0.05, lambda: ask("long", 0.3)), recognitions.within(0.05, lambda: ask("never", 0.0))
        )
        found.append(await recognitions.within(30.0, lambda: ask("after it", 0.0)))
        assert recognitions.pace.whole >= 0.3 - 0.05
        return found, ended

    assert asyncio.run(scene()) == ([None, None, "after it"], ["long", "after it"])


def test_a_window_that_is_not_answered_says_why_and_the_session_goes_on(door, monkeypatch):
    async def never(*arguments, **more):
        raise Refusal("queue_full", "too many wait")

    with door.websocket_connect("/v1/live") as socket:
        socket.send_json(START)
        socket.receive_json()
        with monkeypatch.context() as patched:
            patched.setattr(door.app.state.engine, "answer", never)
            sent(socket, pcm(voice(1.0)))
            assert socket.receive_json()["code"] == "queue_full"
        sent(socket, pcm(voice(1.0)))
        assert socket.receive_json()["code"] is None


def test_the_log_has_a_line_of_a_session_and_nothing_of_what_was_said(door, caplog):
    logger = logging.getLogger("demeanor.access")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    try:
        with door.websocket_connect("/v1/live", headers={"x-request-id": "abc-1"}) as socket:
            socket.send_json(START)
            sent(socket, pcm(voice(1.0)))
            socket.send_json({"type": "stop"})
            ended(socket)
        while not caplog.records:
            time.sleep(0.01)
    finally:
        logger.removeHandler(caplog.handler)
    line = json.loads(caplog.records[-1].getMessage())
    assert set(line) == {
        "time", "request_id", "method", "route", "status", "reason", "milliseconds", "model", "windows",
        "sound_seconds",
    }  # fmt: skip
    assert (line["request_id"], line["status"], line["reason"], line["windows"]) == ("abc-1", 1000, "stopped", 1)


def test_sound_is_kept_no_longer_than_a_window_needs_it(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(live_sound.time, "monotonic", lambda: float(next(clock)))
    sound = Sound(8000, 2.0, 1.0)
    windows = [window for _ in range(100) for window in sound.add(bytes(8000))]
    assert [(one.start, one.end) for one in windows] == [(max(0.0, end - 2.0), end) for end in range(1, 51)]
    assert all(len(one.content) == 2 * 8000 * (one.end - one.start) for one in windows)
    assert len(sound._held) <= 2 * 8000 * 2
    assert sound.rest() is None
    assert list(sound.add(bytes(2 * 2000))) == []
    rest = sound.rest()
    assert (rest.start, rest.end, sound.rest()) == (48.25, 50.25, None)
