"""One live session: sound comes, windows of it are scored one after the other, and whoever speaks is told at once.

A window that is still waiting when the next one is complete is left out: an answer that is near is worth more than all
of them late.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from demeanor.data.settings import Settings
from demeanor.server.engine import Engine
from demeanor.server.live_sound import Sound, Window
from demeanor.server.models import Served
from demeanor.server.refusals import Refusal
from demeanor.timeline.hearing import Hearing
from demeanor.timeline.scoring import answer_of

#: Of a window whose words were not recognised because its answer would have come late.
LEFT_OUT = "left out"


class Hello(Settings):
    """The first message of a session."""

    type: str = Field(pattern="^start$")
    sample_rate: int = Field(default=16_000, ge=8_000, le=48_000, description="samples a second, 16 bits, one channel")
    window: float = Field(default=10.0, ge=1.0, le=15.0, description="seconds that an answer is made from")
    step: float = Field(default=3.0, ge=1.0, le=15.0, description="seconds from one answer to the next")
    model: str | None = Field(default=None, max_length=200, description="NAME or NAME@ALIAS; the first by default")
    without: tuple[str, ...] = Field(default=(), max_length=8, description="modalities that are treated as not given")
    explain: bool = Field(default=False, description="with contributions and conflict")
    language: str = Field(default="en", pattern="^[A-Za-z]{2,3}$", description="ISO 639-1 code of what is said")
    key: str | None = Field(default=None, max_length=1000, description="where no header of the handshake holds it")

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Hello:
        """Refusal bad_request for a message that is none; its fields are named, what they hold is not repeated."""
        try:
            made = cls.model_validate(json.loads(message.get("text") or ""))
        except ValidationError as error:
            known = sorted({str(part["loc"][0]) for part in error.errors() if part["loc"]} & set(cls.model_fields))
            told = f"wrong in it: {', '.join(known)}" if known else "it holds a field that is not understood"
            raise Refusal("bad_request", f"the first message must say how the sound comes; {told}") from None
        except (ValueError, RecursionError):
            raise Refusal(
                "bad_request", 'the first message must be JSON: {"type": "start", "sample_rate": ...}'
            ) from None
        if made.step > made.window:
            raise Refusal("bad_request", "`step` may not be longer than `window`: something would be heard by nobody")
        return made


@dataclass
class Session:
    """
    recognises   words are recognised for its windows, where there is time
    reason       why no more sound is read: stopped, gone, limit, draining; empty while it comes
    """

    socket: WebSocket
    engine: Engine
    model: Served
    hello: Hello
    hearing: Hearing
    recognises: bool = False
    windows: int = 0
    reason: str = ""
    _next: Window | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _skipped: list[Window] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sound = Sound(self.hello.sample_rate, self.hello.window, self.hello.step)

    async def run(self) -> None:
        """Until the caller stops, the server does, or a limit is reached. Refusal for what the caller does wrong."""
        answering = asyncio.create_task(self._answer())
        try:
            await self._listen(answering)
            if self.reason != "gone":
                if (rest := self.sound.rest()) is not None:
                    self._put(rest)
                self._arrived.set()
                await answering
                await self.tell("end", reason=self.reason, seconds=round(self.sound.seconds, 3), windows=self.windows)
        except WebSocketDisconnect:
            self.reason = "gone"
        finally:
            _drop(answering)

    async def tell(self, kind: str, **what: Any) -> None:
        """One message to the caller."""
        await self.socket.send_text(json.dumps({"type": kind, **what}))

    async def _listen(self, answering: asyncio.Task[None]) -> None:
        """Read sound; `reason` says why that has ended. What goes wrong with the answers is raised here."""
        settings = self.engine.settings
        closing = asyncio.create_task(self.engine.closing.wait())
        end = time.monotonic() + settings.live_seconds + settings.live_idle
        try:
            while not self.reason:
                receiving = asyncio.create_task(self.socket.receive())
                done, _ = await asyncio.wait(
                    {receiving, closing, answering}, timeout=settings.live_idle, return_when=asyncio.FIRST_COMPLETED
                )
                if receiving not in done:
                    _drop(receiving)
                if answering in done:
                    answering.result()
                if closing in done:
                    self.reason = "draining"
                elif receiving in done:
                    self._take(receiving.result())
                else:
                    raise Refusal("idle", f"no sound for {settings.live_idle:g} s")
                if self.sound.seconds >= settings.live_seconds or time.monotonic() > end:
                    self.reason = self.reason or "limit"
        finally:
            _drop(closing)

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.disconnect":
            self.reason = "gone"
        elif (content := message.get("bytes")) is not None:
            if len(content) > self.engine.settings.live_message_bytes:
                raise Refusal("too_large", f"a message has more than {self.engine.settings.live_message_bytes} bytes")
            for window in self.sound.add(content):
                self._put(window)
        elif _is_stop(message.get("text") or ""):
            self.reason = "stopped"
        else:
            raise Refusal("bad_request", 'after the first message comes sound in binary ones, or {"type": "stop"}')

    def _put(self, window: Window) -> None:
        if self._next is not None:
            self._skipped.append(self._next)
        self._next = window
        self._arrived.set()

    async def _answer(self) -> None:
        """Score what is there, the newest window first, until no more sound comes."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            skipped, self._skipped = self._skipped, []
            window, self._next = self._next, None
            for each in skipped:
                self.engine.metrics.live_windows.labels("skipped").inc()
                await self.tell("skipped", start=each.start, end=each.end)
            if window is not None:
                await self._score(window)
            if self.reason and self._next is None:
                return

    async def _score(self, window: Window) -> None:
        told: dict[str, Any] = {"start": window.start, "end": window.end, "voice": True, "answers": {}, "text": None}
        told |= {"modalities": [], "problem": "", "code": None, "words": ""}
        try:
            told |= await self._scored(window)
        except Refusal as refusal:
            told |= {"problem": refusal.message, "code": refusal.code}
        delay = time.monotonic() - window.came
        outcome = "refused" if told["code"] else "answered" if told["voice"] else "silent"
        self.engine.metrics.live_windows.labels(outcome).inc()
        self.engine.metrics.live_delay.observe(delay)
        self.windows += 1
        await self.tell("window", **told, delay=round(delay, 3))

    async def _scored(self, window: Window) -> dict[str, Any]:
        if not await asyncio.to_thread(lambda: self.hearing.detector(window.samples, window.rate)):
            return {"voice": False}
        row = {"utterance_id": f"{window.end:.3f}", "audio_bytes": window.wav, "language": self.hello.language.lower()}
        table = await self._with_words(row, window) if self.recognises else None
        words = "" if not self.recognises else "recognised" if table is not None else LEFT_OUT
        if table is None:
            begun = time.monotonic()
            table = await self._asked(row, words=False)
            self.engine.recognitions.pace.answered(time.monotonic() - begun, words=False)
        if words == LEFT_OUT:
            self.engine.metrics.live_wordless.inc()
        return {**await asyncio.to_thread(_told, table, self.model), "words": words}

    async def _with_words(self, row: Mapping[str, Any], window: Window) -> Any:
        """The table of answers with words, or None where it would come too late with them."""
        recognitions = self.engine.recognitions
        waited = time.monotonic() - window.came
        patience = recognitions.pace.patience(waited, self.engine.settings.live_delay)
        if patience <= 0:
            return None
        return await recognitions.within(patience, lambda: self._asked(row, words=True))

    async def _asked(self, row: Mapping[str, Any], words: bool) -> Any:
        return await self.engine.answer(
            self.model, [row], self.hello.without, explained=self.hello.explain, words=words
        )


def _told(table: Any, model: Served) -> dict[str, Any]:
    """The row's answer as a span of a timeline has it."""
    from demeanor.inference.describe import records_of

    (record,) = records_of(table)
    answer = answer_of(record, model.card.task)
    return {
        "answers": {model.card.task.name: asdict(answer)},
        "text": record.get("transcript") or None,
        "modalities": [part for part in str(record["modalities"] or "").split("+") if part],
        "problem": str(record["problem"] or ""),
    }


def _drop(task: asyncio.Task[Any]) -> None:
    """End a task whose outcome is of no use any more."""
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    task.cancel()


def _is_stop(text: str) -> bool:
    try:
        return json.loads(text) == {"type": "stop"}
    except (ValueError, RecursionError):
        return False
