"""The routes of timelines: 202 and a number, how far it is, the result in four formats, and its end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from demeanor.data.errors import InputError
from demeanor.server import intake, results, rows
from demeanor.server.engine import Engine
from demeanor.server.intake import Form
from demeanor.server.jobs import Jobs
from demeanor.server.openapi import ANSWERS, RESULT, TIMELINE
from demeanor.server.refusals import Refusal
from demeanor.timeline.given import GivenSpan, checked

#: Files and fields that the form of a timeline may have.
FILES, FIELDS = ("file", "audio", "video"), ("language", "spans", "speakers", "explain")
#: What a span of the field `spans` may say, and of which kind it is.
PARTS: dict[str, tuple[type, ...]] = {"start": (int, float), "end": (int, float), "speaker": (str,), "text": (str,)}


def add(app: FastAPI, engine: Engine) -> None:
    """Add the routes; `app.state` has `jobs` and `uploads` once the application lives."""
    settings = engine.settings

    def jobs() -> Jobs:
        return app.state.jobs

    @app.post(
        "/v1/timeline", status_code=202, summary="Who speaks when, and how", openapi_extra=TIMELINE, responses=ANSWERS
    )
    async def timeline(request: Request) -> JSONResponse:
        from demeanor.server.timelines import TimelineOrder

        engine.require_ready()
        engine.require_open()
        chosen = engine.shelf.get(request.query_params.get("model"))
        if chosen.card.kind != "predicts":
            raise Refusal("bad_request", "this model embeds: it gives no answers that a timeline could hold")
        without = rows.left_out(request.query_params.getlist("without"))
        chosen.view(without)
        if intake.media_type(request) != "multipart/form-data":
            raise Refusal("unsupported_media_type", "a timeline takes a form with a recording (multipart/form-data)")
        job = jobs().open(chosen.called(), app.state.uploads)
        try:
            form = await intake.read_form(request, settings.timeline_bytes, job.folder)
            options = options_of(form)
            explained = rows.switched(form.fields.get("explain", []), request.query_params.get("explain"), "explain")
            if explained:
                chosen.require_explainable()
            address = f"{chosen.name}@{chosen.address.alias or chosen.version or ''}".strip("@")
            order = TimelineOrder(
                form.files[0][1], job.result, address, chosen.bundle, without, explained,
                seconds=settings.timeline_seconds, memory=settings.job_bytes, **options,
            )  # fmt: skip
        except BaseException:
            jobs().remove(job)
            raise
        jobs().submit(job, order)
        request.scope["demeanor.facts"].update(model=chosen.name, version=chosen.version)
        return JSONResponse(jobs().described(job), 202, {"Location": f"/v1/jobs/{job.id}"})

    @app.get("/v1/jobs/{identity}", summary="How far a timeline is", responses=ANSWERS)
    async def progress(identity: str) -> JSONResponse:
        return JSONResponse(jobs().described(jobs().get(identity)))

    @app.delete("/v1/jobs/{identity}", summary="Cancel a timeline, or remove its result", responses=ANSWERS)
    async def cancel(identity: str) -> JSONResponse:
        job = jobs().get(identity)
        jobs().cancel(job)
        return JSONResponse(jobs().described(job))

    @app.get(
        "/v1/jobs/{identity}/timeline", summary="The timeline", openapi_extra=RESULT, responses=ANSWERS,
        response_class=Response,
    )  # fmt: skip
    async def result(identity: str, request: Request) -> Response:
        job = jobs().get(identity)
        if job.state != "done":
            raise Refusal("job_not_done", f"the timeline is {job.state}", 1 if job.open else None)
        kind = results.chosen(request.query_params.get("format"), request.headers.get("accept", ""))
        try:
            content = await asyncio.to_thread(results.rendered, job.result, kind)
        except OSError:
            raise Refusal("unknown_job", "there is no such timeline, or it is no longer kept") from None
        ending, media_type = results.ENDINGS[kind]
        headers = {"Content-Disposition": f'attachment; filename="timeline{ending}"', "Vary": "Accept"}
        return Response(content, media_type=media_type, headers=headers)


def options_of(form: Form) -> dict[str, Any]:
    """Fields of TimelineOrder that the form decides. Refusal where it holds anything but one recording and these."""
    unknown = set(form.fields) - set(FIELDS) | {name for name, _ in form.files} - set(FILES)
    if unknown or any(len(values) > 1 for values in form.fields.values()):
        raise Refusal(
            "bad_request",
            f"a timeline takes one file and once each of {', '.join(FIELDS)}; words of it come with their `spans`",
        )
    if len(form.files) != 1:
        raise Refusal("bad_request", "the form must hold one recording (`file`)")
    fields = {name: values[0] for name, values in form.fields.items() if values[0] != ""}
    speakers, language = fields.get("speakers"), fields.get("language", "en").lower()
    if speakers not in (None, "channels"):
        raise Refusal("bad_request", "`speakers` takes channels: everybody has a channel of their own")
    if not (language.isascii() and language.isalpha() and 2 <= len(language) <= 3):
        raise Refusal("bad_request", "`language` takes a code of ISO 639-1")
    spans = spans_of(fields["spans"]) if "spans" in fields else None
    if spans is not None and speakers is not None:
        raise Refusal("bad_request", "`spans` say who speaks; leave `speakers` out")
    return {"spans": spans, "channels": speakers is not None, "language": language}


def spans_of(text: str) -> tuple[GivenSpan, ...]:
    """Of JSON: [{"start": seconds, "end": seconds, "speaker": ..., "text": ...}, ...]. Refusal for anything else."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal("bad_request", "`spans` is no JSON") from None
    entries = given if isinstance(given, list) else []
    if not entries or not all(isinstance(entry, dict) and _fits(entry) for entry in entries):
        raise Refusal("bad_request", "`spans` takes a list of {start, end, speaker, text}; times are seconds")
    try:
        return tuple(checked([GivenSpan(**entry) for entry in entries], "spans"))
    except InputError as error:
        raise Refusal("bad_request", "; ".join(error.problems[:5])) from None


def _fits(entry: dict[str, Any]) -> bool:
    return {"start", "end"} <= set(entry) <= set(PARTS) and all(
        isinstance(value, PARTS[name]) and not isinstance(value, bool) for name, value in entry.items()
    )
