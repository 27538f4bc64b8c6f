"""`/v1/live`: who may open a session, and how each of them ends. The protocol: docs/serving.md."""

from __future__ import annotations

import asyncio
import json
import time
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketDisconnect

from demeanor.server.doorkeeper import identity_of
from demeanor.server.engine import Engine
from demeanor.server.keys import Keys, key_of
from demeanor.server.refusals import Refusal
from demeanor.server.rows import left_out

if TYPE_CHECKING:
    from demeanor.server.live import Hello, Session
    from demeanor.timeline.hearing import Hearing

ROUTE = "/v1/live"
#: Close codes: of RFC 6455 where it has one, else this and the HTTP status of the refusal (4401, 4404, 4429, ...).
DONE, GOING_AWAY, FAULT, REFUSED = 1000, 1001, 1011, 4000
#: Seconds for the first message.
FIRST = 10.0


def add(app: FastAPI, engine: Engine, keys: Keys) -> None:
    """Add the route."""

    @app.websocket(ROUTE)
    async def live(socket: WebSocket) -> None:
        identity = identity_of(socket.headers)
        facts: dict[str, Any] = {}
        begun = time.perf_counter()
        code, why = DONE, "gone"
        try:
            await socket.accept()
            session = await _opened(socket, engine, keys, identity, facts)
            try:
                await session.run()
            finally:
                _leave(engine)
                facts.update(windows=session.windows, sound_seconds=round(session.sound.seconds, 1))
            why = session.reason
            code = GOING_AWAY if why == "draining" else DONE
        except WebSocketDisconnect:
            why = "gone"
        except Refusal as refusal:
            code, why = REFUSED + refusal.status, refusal.code
            await _said(socket, refusal, identity)
        except Exception as error:
            engine.metrics.log_unforeseen(error, "a live session")
            code, why = FAULT, "internal"
            await _said(socket, Refusal("internal", "the server has failed"), identity)
        if why != "gone":
            await _closed(socket, code, why)
        engine.metrics.live_ends.labels(why).inc()
        engine.metrics.note(
            request_id=identity, method="WEBSOCKET", route=ROUTE, status=code, reason=why,
            milliseconds=round(1000 * (time.perf_counter() - begun), 1), **facts,
        )  # fmt: skip


async def _opened(socket: WebSocket, engine: Engine, keys: Keys, identity: str, facts: dict[str, Any]) -> Session:
    """A session that has a place, and whose caller knows it; Refusal for whoever may not have one."""
    from demeanor.server.live import Session

    _require_own_page(socket)
    hello = await _first(socket)
    if not keys.allow(key_of(socket.headers) or hello.key):
        raise Refusal("unauthorised", "a key is needed: Authorization: Bearer KEY, or `key` in the first message")
    engine.require_ready()
    engine.require_open()
    model = engine.shelf.get(hello.model)
    if model.card.kind != "predicts":
        raise Refusal("bad_request", "this model embeds: it gives no answers")
    hello = hello.model_copy(update={"without": left_out(hello.without)})
    model.view(hello.without)
    if hello.explain:
        model.require_explainable()
    settings = engine.settings
    if engine.live >= settings.live_sessions:
        raise Refusal("queue_full", f"{settings.live_sessions} live sessions are open; try again later", 10)
    engine.live += 1
    try:
        engine.metrics.live_sessions.set(engine.live)
        facts.update(model=model.name, version=model.version)
        recognises = model.model.extraction.transcriber.able and "text" not in hello.without
        session = Session(socket, engine, model, hello, await asyncio.to_thread(_hearing), recognises)
        await session.tell(
            "ready", request_id=identity, model=model.called(), voice_activity=session.hearing.name,
            words=recognises, sample_rate=hello.sample_rate, window=hello.window, step=hello.step,
            delay=settings.live_delay, seconds=settings.live_seconds, message_bytes=settings.live_message_bytes,
        )  # fmt: skip
    except BaseException:
        _leave(engine)
        raise
    return session


def _leave(engine: Engine) -> None:
    engine.live -= 1
    engine.metrics.live_sessions.set(engine.live)


def _require_own_page(socket: WebSocket) -> None:
    """A browser lets any page open a socket to any host, and says which page it is: only this server's own may."""
    origin = socket.headers.get("origin")
    if origin and urlsplit(origin).netloc != socket.headers.get("host"):
        raise Refusal("forbidden", "a page of another host may not open a session here")


async def _first(socket: WebSocket) -> Hello:
    from demeanor.server.live import Hello

    try:
        message = await asyncio.wait_for(socket.receive(), FIRST)
    except TimeoutError:
        raise Refusal("idle", f"no first message within {FIRST:g} s") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", DONE))
    return Hello.of(message)


@cache
def _hearing() -> Hearing:
    """The detector of timelines, warm: its first window costs what all later ones do not."""
    import numpy as np

    from demeanor.features.clip import SAMPLE_RATE
    from demeanor.timeline.planning import hearing_of

    hearing = hearing_of("auto")
    hearing.detector(0.1 * np.sin(np.arange(SAMPLE_RATE, dtype=np.float32)), SAMPLE_RATE)
    return hearing


async def _said(socket: WebSocket, refusal: Refusal, identity: str) -> None:
    """Why the session ends, where anybody still listens."""
    try:
        await socket.send_text(json.dumps({"type": "error", **refusal.body(identity)}))
    except (WebSocketDisconnect, RuntimeError):
        return


async def _closed(socket: WebSocket, code: int, why: str) -> None:
    try:
        await socket.close(code, why)
    except (WebSocketDisconnect, RuntimeError):
        return
