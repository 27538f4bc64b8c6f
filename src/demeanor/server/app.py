"""The routes: what is asked and answered over HTTP. Their promises: docs/serving.md, /openapi.json."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from demeanor import __version__
from demeanor.server import intake, job_routes, live_routes, page, rows
from demeanor.server.doorkeeper import Doorkeeper, refused
from demeanor.server.engine import Engine
from demeanor.server.jobs import Jobs
from demeanor.server.keys import Keys
from demeanor.server.metrics import TEXT
from demeanor.server.openapi import ANSWERS, PREDICT, QUERY, described
from demeanor.server.refusals import Refusal
from demeanor.server.settings import ServerSettings

#: Codes of errors that the router itself raises.
ROUTER_CODES = {404: "not_found", 405: "method_not_allowed"}
#: Beginning of the names of folders for recordings while they are read.
PREFIX = "demeanor-serve-"


def create_app(engine: Engine, keys: Keys | None = None) -> FastAPI:
    """The application around an engine, which lives as long as the application does."""
    settings = engine.settings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=settings.uploads))
        app.state.uploads = folder
        jobs = app.state.jobs = Jobs(settings, engine.metrics)
        await engine.start()
        jobs.start()
        try:
            yield
        finally:
            await jobs.stop()
            await engine.stop()
            shutil.rmtree(folder, ignore_errors=True)

    app = FastAPI(
        title="Demeanor",
        version=__version__,
        description="Sentiment and emotion from words, voice and face.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from a foreign host
        redoc_url=None,
    )
    app.add_middleware(Doorkeeper, engine=engine, keys=keys or Keys())

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> Response:
        return refused(refusal, request.scope)

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        code = ROUTER_CODES.get(error.status_code, "bad_request")
        message = {"not_found": "there is nothing at this address", "method_not_allowed": "not by this method"}
        return refused(Refusal(code, message.get(code, "the request cannot be read")), request.scope)

    _health(app, engine)
    _page(app)

    @app.get("/v1/model", summary="A model's card, and the others", openapi_extra=QUERY, responses=ANSWERS)
    async def model(request: Request) -> JSONResponse:
        chosen = engine.shelf.get(request.query_params.get("model"))
        known = [each.called() for each in engine.shelf.all]
        return JSONResponse(
            {**chosen.described(), "models": known, "limits": limits_of(settings), "examples": page.listed()}
        )

    @app.post("/v1/predict", summary="Answers for rows or uploads", openapi_extra=PREDICT, responses=ANSWERS)
    async def predict(request: Request) -> JSONResponse:
        engine.require_ready()
        chosen = engine.shelf.get(request.query_params.get("model"))
        without = rows.left_out(request.query_params.getlist("without"))
        given, explained = await _rows_of(request, app.state.uploads, settings)
        request.scope["demeanor.facts"].update(rows=len(given), model=chosen.name, version=chosen.version)
        patience = patience_of(request, settings.deadline)
        answer = asyncio.ensure_future(engine.answer(chosen, given, without, patience, explained))
        table = await unless_gone(request, answer)
        answers = await asyncio.to_thread(rows.records, table)
        return JSONResponse(
            {
                "predictions": answers,
                "model": chosen.called(),
                "request_id": request.scope["demeanor.id"],
            }
        )

    job_routes.add(app, engine)
    live_routes.add(app, engine, keys or Keys())
    app.openapi = lambda: described(app, keys)  # type: ignore[method-assign]
    return app


def _page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        content, headers = page.page()
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    @app.get("/microphone.js", include_in_schema=False)
    async def microphone() -> Response:
        return Response(page.microphone(), media_type="text/javascript; charset=utf-8")

    @app.get("/v1/examples/{name}.mp4", summary="A drawn recording", response_class=Response)
    async def example(name: str) -> Response:
        return Response(await asyncio.to_thread(page.film, name), media_type="video/mp4")


def _health(app: FastAPI, engine: Engine) -> None:
    @app.get("/health/live", summary="Is the process alive?", include_in_schema=True)
    async def live() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @app.get("/health/ready", summary="Would a request be answered?", responses={503: {"description": "Not now."}})
    async def ready(request: Request) -> Response:
        engine.require_ready()
        engine.require_open()
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(engine.measure(), media_type=TEXT)


async def _rows_of(request: Request, uploads: Path, settings: ServerSettings) -> tuple[list[dict[str, Any]], bool]:
    """Raw rows of a request's body, whichever way it brings them, and whether their answers shall be explained (by the
    query, or by a field of a form); Refusal where there are none."""
    kind = intake.media_type(request)
    told: list[str] = []
    if kind == "multipart/form-data":
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=uploads))
        try:
            form = await intake.read_form(request, settings.predict_bytes, folder)
            told = form.fields.pop("explain", [])
            given = await asyncio.to_thread(rows.of_form, form)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    else:
        body = await intake.whole_body(request, settings.predict_bytes)
        given = await asyncio.to_thread(rows.of_body, body, request.headers.get("content-type", ""))
    if len(given) > settings.request_rows:
        raise Refusal("too_large", f"the request has more than {settings.request_rows} rows")
    return given, rows.switched(told, request.query_params.get("explain"), "explain")


def patience_of(request: Request, longest: float) -> float:
    """Seconds that the caller waits: of `Prefer: wait=N` (RFC 7240), never more than the server's own."""
    for part in request.headers.get("prefer", "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.strip().isdigit():
            return min(float(value), longest)
    return longest


async def unless_gone(request: Request, answer: asyncio.Future[Any]) -> Any:
    """The answer; it is given up, and its work dropped if it has not begun, once the caller has hung up: a
    Refusal."""

    async def gone() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.25)

    watch = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Refusal("client_closed_request", "the caller has hung up")
        return await answer
    finally:
        watch.cancel()
        answer.cancel()


def limits_of(settings: ServerSettings) -> dict[str, float]:
    """What a page or a program wants to know before it sends."""
    names = (
        "predict_bytes",
        "timeline_bytes",
        "recording_seconds",
        "timeline_seconds",
        "request_rows",
        "deadline",
        "live_seconds",
        "live_delay",
    )
    return {name: getattr(settings, name) for name in names}
