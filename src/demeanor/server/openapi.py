"""What /openapi.json says beyond what the routes say themselves: bodies with examples that work, errors, the key."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from demeanor.data.raw_rows import COLUMNS
from demeanor.server.keys import Keys
from demeanor.server.refusals import CODES
from demeanor.timeline.table import Header, Span

ROW = {
    "type": "object",
    "description": "Everything is optional in every row.",
    "properties": {
        name: {"type": "number" if name in ("start", "end", "turn") else "string", "description": what}
        for name, what in COLUMNS.items()
    },
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "words": {"summary": "A sentence", "value": {"dataframe_records": [{"text": "what a lovely day"}]}},
    "dialogue": {
        "summary": "Two turns of a conversation, split as MLflow's clients do it",
        "value": {
            "dataframe_split": {
                "columns": ["text", "dialogue", "turn", "speaker"],
                "data": [["How was it?", "call", 0, "A"], ["It was awful.", "call", 1, "B"]],
            }
        },
    },
}
CSV_EXAMPLE = "utterance_id,text\nfirst,what a lovely day\nsecond,this is awful\n"
PARAMETERS = [
    {
        "name": "model",
        "in": "query",
        "schema": {"type": "string"},
        "description": "NAME or NAME@ALIAS; the first by default",
    },
]
EXPLAIN = {
    "name": "explain", "in": "query", "schema": {"type": "boolean"},
    "description": "with baseline, contribution_<modality> and conflict; not every model can (`explains` of its card)",
}  # fmt: skip
QUERY: dict[str, Any] = {"parameters": PARAMETERS}
PREDICT: dict[str, Any] = {
    "parameters": [
        *PARAMETERS,
        {
            "name": "without", "in": "query", "style": "form", "explode": False,
            "description": "modalities that are treated as not recorded",
            "schema": {"type": "array", "items": {"type": "string", "enum": ["text", "audio", "vision"]}},
        },
        EXPLAIN,
        {
            "name": "Prefer", "in": "header", "schema": {"type": "string"}, "example": "wait=10",
            "description": "wait=N: seconds after which the answer is of no use",
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "One of these, as `mlflow models serve` takes them.",
                    "properties": {
                        "dataframe_records": {"type": "array", "items": ROW},
                        "dataframe_split": {"type": "object"},
                        "instances": {"type": "array", "items": ROW},
                        "inputs": {"type": "object"},
                    },
                },
                "examples": EXAMPLES,
            },
            "text/csv": {"schema": {"type": "string"}, "example": CSV_EXAMPLE},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "a recording, film or sound"},
                        "audio": {"type": "string", "format": "binary", "description": "sound instead of the film's"},
                        "text": {"type": "string"}, "start": {"type": "number"}, "end": {"type": "number"},
                        "language": {"type": "string"},
                    },
                },
                "example": {"text": "what a lovely day"},
            },
        },
    },
}  # fmt: skip
TIMELINE: dict[str, Any] = {
    "parameters": [*PARAMETERS, PREDICT["parameters"][1], EXPLAIN],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "a recording, film or sound"},
                        "language": {"type": "string", "description": "ISO 639-1 code of what is said"},
                        "speakers": {"type": "string", "enum": ["channels"]},
                        "explain": {"type": "boolean", "description": EXPLAIN["description"]},
                        "spans": {
                            "type": "string",
                            "description": "JSON: spans that are scored as they are; without it they are found",
                            "example": '[{"start": 0.5, "end": 2, "speaker": "A", "text": "what a lovely day"}]',
                        },
                    },
                },
            },
        },
    },
}
RESULT: dict[str, Any] = {
    "parameters": [
        {
            "name": "format", "in": "query", "schema": {"type": "string", "enum": ["json", "csv", "vtt", "eaf"]},
            "description": "instead of the header Accept",
        },
    ],
    "responses": {
        "200": {
            "description": "the timeline; as CSV a row per span, times of words as JSON text",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/TimelineResult"}},
                **{kind: {"schema": {"type": "string"}} for kind in ("text/csv", "text/vtt", "application/xml")},
            },
        },
    },
}  # fmt: skip
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["code", "message", "request_id"],
    "properties": {
        "code": {"type": "string", "enum": sorted(CODES)},
        "message": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "Not answered.", "content": {"application/json": {"schema": ERROR}}}
}


def described(app: FastAPI, keys: Keys | None) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document.setdefault("components", {}).setdefault("schemas", {}).update(_timeline_schemas())
        if keys is not None and keys.required:
            document.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _timeline_schemas() -> dict[str, Any]:
    """Of a finished timeline, from the classes that it is made of."""
    made: dict[str, Any] = {
        "TimelineResult": {
            "type": "object",
            "required": ["header", "spans"],
            "properties": {
                "header": {"$ref": "#/components/schemas/Header"},
                "spans": {"type": "array", "items": {"$ref": "#/components/schemas/Span"}},
            },
        }
    }
    for kind in (Header, Span):
        schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        made |= schema.pop("$defs", {}) | {kind.__name__: schema}
    return made
