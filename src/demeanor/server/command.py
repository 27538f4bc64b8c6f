"""`demeanor serve`: the process around the application, its signals and its end."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn

from demeanor.data.errors import DemeanorError
from demeanor.server.app import create_app
from demeanor.server.engine import Engine
from demeanor.server.keys import Keys
from demeanor.server.metrics import write_access_log
from demeanor.server.settings import ServerSettings

logger = logging.getLogger("demeanor.server")

#: Seconds for live sessions to score what has come and to end.
FAREWELL = 5.0


class DrainingServer(uvicorn.Server):
    """Says that it is not ready before it stops listening, so that nothing is sent to a closed door."""

    def __init__(self, config: uvicorn.Config, engine: Engine, notice: float):
        super().__init__(config)
        self.engine, self.notice = engine, notice

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second one stops at once."""
        if self.engine.draining:
            super().handle_exit(sig, frame)
            return
        self.engine.draining = True
        asyncio.get_event_loop().call_soon_threadsafe(self._later)

    def _later(self) -> None:
        self._leaving = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        """Stop once whoever sends requests had time to notice, and once live sessions had time to say goodbye."""
        self.engine.closing.set()
        await asyncio.sleep(self.notice)
        end = time.monotonic() + FAREWELL
        while self.engine.live and time.monotonic() < end:
            await asyncio.sleep(0.05)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Models that could not be loaded end the process."""
        if self.engine.failure is not None:
            return True
        return await super().on_tick(counter)


def serve(uris: Sequence[str], host: str, port: int, settings: ServerSettings) -> None:
    """Answer until a signal comes. DemeanorError where a model cannot be loaded."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    logger.setLevel(logging.INFO)
    logging.getLogger("demeanor.server.engine").setLevel(logging.INFO)
    write_access_log()
    asyncio.run(_serve(uris, host, port, settings))


async def _serve(uris: Sequence[str], host: str, port: int, settings: ServerSettings) -> None:
    engine = Engine(uris, settings)
    app = create_app(engine, Keys.of_environment())
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False, date_header=True,
        timeout_graceful_shutdown=max(1, round(settings.drain)), limit_concurrency=None, lifespan="on",
        ws_max_size=settings.live_message_bytes, ws_per_message_deflate=False,
    )  # fmt: skip
    server = DrainingServer(config, engine, settings.notice)
    await server.serve()
    if engine.failure is not None:
        if isinstance(engine.failure, DemeanorError):
            raise engine.failure
        raise RuntimeError("the models could not be loaded") from engine.failure
    if not server.started:
        raise SystemExit(1)
