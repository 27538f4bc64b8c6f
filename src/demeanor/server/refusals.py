"""Why a request is not answered: stable codes for programs, a sentence for people, never the caller's content."""

from __future__ import annotations

from typing import Any

from demeanor.data.errors import DemeanorError

#: Code -> HTTP status. Codes are a promise: one that is here keeps its meaning.
CODES: dict[str, int] = {
    "bad_request": 400,
    "unauthorised": 401,
    "forbidden": 403,
    "not_found": 404,
    "unknown_model": 404,
    "unknown_job": 404,
    "method_not_allowed": 405,
    "idle": 408,
    "job_not_done": 409,
    "not_acceptable": 406,
    "too_large": 413,
    "recording_too_long": 413,
    "unsupported_media_type": 415,
    "not_explainable": 422,
    "recording_unreadable": 422,
    "extraction_crashed": 422,
    "extraction_out_of_memory": 422,
    "extraction_timeout": 422,
    "queue_full": 429,
    "too_fast": 429,
    "client_closed_request": 499,
    "internal": 500,
    "not_ready": 503,
    "draining": 503,
    "deadline_exceeded": 504,
    "storage_full": 507,
}


class Refusal(DemeanorError):
    """A request that gets no answer. `retry_after`: whole seconds after which another try makes sense."""

    def __init__(self, code: str, message: str, retry_after: int | None = None):
        self.code, self.message, self.retry_after = code, message, retry_after
        self.status = CODES[code]
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.retry_after)

    def body(self, request_id: str) -> dict[str, str]:
        """What is sent: code, message, request_id."""
        return {"code": self.code, "message": self.message, "request_id": request_id}

    def headers(self) -> dict[str, str]:
        """Of the response; a key is asked for where one is missing."""
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return {**found, "WWW-Authenticate": "Bearer"} if self.code == "unauthorised" else found
