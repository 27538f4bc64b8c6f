"""The numbers of the door, each with its reason."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from demeanor.data.processors import available_cores
from demeanor.data.settings import Settings


class ServerSettings(Settings):
    """All limits are per process of the server. Bytes, seconds, rows."""

    workers: int = Field(default_factory=available_cores, ge=1, description="processes that decode and extract")
    queue: int = Field(default=64, ge=1, description="requests that wait; one more is answered 429")
    deadline: float = Field(default=30.0, gt=0, description="seconds after which nobody waits for an answer any more")
    extraction_seconds: float = Field(default=20.0, gt=0, description="that a worker may take for one request")
    extraction_bytes: int = Field(default=2 << 30, ge=64 << 20, description="that a worker may allot beyond its start")
    batch_rows: int = Field(default=16, ge=1, description="rows that the model is given at once")
    batch_wait: float = Field(default=0.010, ge=0, description="seconds that the first of them waits for the others")
    request_rows: int = Field(default=256, ge=1, description="rows of one request")
    predict_bytes: int = Field(default=25 << 20, ge=1, description="of a request to /v1/predict, as others promise")
    timeline_bytes: int = Field(default=2 << 30, ge=1, description="of a recording for /v1/timeline, kept on disk")
    recording_seconds: float = Field(default=300.0, gt=0, description="of sound in one request to /v1/predict")
    timeline_seconds: float = Field(default=4 * 3600.0, gt=0, description="of sound in one recording for a timeline")
    job_seconds: float = Field(default=4 * 3600.0, gt=0, description="that a timeline may take once it runs")
    job_bytes: int = Field(default=4 << 30, ge=64 << 20, description="that its process may allot beyond its model")
    jobs: int = Field(default=8, ge=1, description="timelines that wait or run; one more is answered 429")
    results: int = Field(default=64, ge=1, description="finished timelines that are kept for their callers")
    result_seconds: float = Field(default=3600.0, gt=0, description="that a finished timeline is kept")
    live_sessions: int = Field(default=4, ge=1, description="live sessions at once; one more is refused")
    live_seconds: float = Field(default=600.0, gt=0, description="of sound in one live session")
    live_idle: float = Field(default=30.0, gt=0, description="seconds without sound after which a session ends")
    live_message_bytes: int = Field(default=64 << 10, ge=2, description="of one message: 2 s at 16 kHz")
    live_delay: float = Field(default=2.0, gt=0, description="seconds from a window's end to its answer, promised")
    poll: float = Field(default=10.0, gt=0, description="seconds between two looks for a new champion")
    notice: float = Field(default=1.0, ge=0, description="seconds between 'not ready' and the end of listening")
    drain: float = Field(default=30.0, ge=0, description="seconds that open requests get when the server stops")
    uploads: Path | None = Field(default=None, description="folder for recordings while they are read")
    threads: int = Field(default=1, ge=1, description="of the model")
