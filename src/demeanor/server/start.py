"""The first second of `demeanor serve`: the fork server imports libraries while this process reads its models."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from demeanor.data.errors import MissingExtraError


def start(
    uris: Sequence[str],
    host: str,
    port: int,
    numbers: Mapping[str, Any],
    project: Callable[[], Path],
    champions: Callable[[], list[str]],
) -> None:
    """Serve models by address until a signal comes; without any, all champions of the project around the folder.

    numbers  of ServerSettings. DemeanorError where a model cannot be had, or where the extra `serve` is missing.
    """
    # Nobody who is asked over HTTP should ask the Hugging Face hub meanwhile, unless whoever starts the server says so.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from demeanor.data.fork_server import start_fork_server
    from demeanor.server.workers import PRELOADED

    start_fork_server(PRELOADED)
    try:
        from demeanor.server.command import serve
    except ImportError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "python_multipart", "prometheus_client"):
            raise
        raise MissingExtraError("demeanor serve", "serve") from None
    from demeanor.server.settings import ServerSettings

    settings = ServerSettings(**numbers)
    if not uris or any(uri.startswith(("models:", "runs:")) for uri in uris):
        from demeanor.tracking_store import connect_when_asked

        connect_when_asked(project())
    if not uris:
        uris = champions()
    serve(uris, host, port, settings)
