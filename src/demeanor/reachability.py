"""Does anything answer at the tracking store's address? Asked for a few seconds before a run relies on it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from demeanor.data.errors import InputError

SQLITE = "sqlite:///"
SECONDS = 3.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
VARIABLE, SETTING = "MLFLOW_TRACKING_URI", "tracking_uri of conf/base/mlflow.yml (or of the environment's)"
#: Unless they are set: a server that has gone costs seconds, not the six minutes of MLflow's own seven retries.
MODEST = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def require_answer(uri: str, writing: bool = False) -> None:
    """InputError, which names the setting, if nothing answers at `uri`, or if a run that is `writing` could not write.

    Addresses of kinds that are not known here are left to MLflow.
    """
    problem = problem_of(uri, writing)
    if problem:
        source = VARIABLE if os.environ.get(VARIABLE) else SETTING
        local = uri.startswith(SQLITE)
        advice = "Name a file that can be written." if local else "Start the server there, or name another address."
        raise InputError(f"MLflow at {readable(uri)}, from {source}", [problem], advice)


def problem_of(uri: str, writing: bool = False) -> str:
    """What is wrong with the address, or nothing."""
    if uri.startswith(SQLITE):
        return _file_problem(Path(uri.removeprefix(SQLITE)), writing)
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return _server_problem(uri)
    kind = parts.scheme.partition("+")[0]
    if kind in PORTS and parts.hostname:
        return _port_problem(parts.hostname, parts.port or PORTS[kind])
    return ""


def readable(uri: str) -> str:
    """The address without a password that it may hold."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _file_problem(path: Path, writing: bool) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "this is a folder, not a database"
    if writing:
        # SQLite writes its journal beside the file, so the folder must be writable as well.
        closed = [place for place in (path, path.parent) if place.exists() and not os.access(place, os.W_OK)]
        if closed:
            return f"permission to write {closed[0]} is denied"
    return ""


def _server_problem(uri: str) -> str:
    import requests

    # Any answer will do, also that the page is not there or that a password is wanted: MLflow knows what to do then.
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=(SECONDS, SECONDS), stream=True).close()
    except requests.exceptions.SSLError:
        return ""
    except requests.exceptions.Timeout:
        return f"nothing answers there within {SECONDS:.0f} s"
    except (requests.exceptions.RequestException, ValueError) as error:
        return f"nothing answers there ({reason_of(error)})"
    return ""


def _port_problem(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        return f"nothing answers there ({reason_of(error)})"
    return ""


def reason_of(error: BaseException) -> str:
    """The system's own words at the bottom of nested errors, or the first line of what there is."""
    text = str(error).lower()
    for phrase in ("connection refused", "name or service not known", "temporary failure in name resolution",
                 "no route to host", "network is unreachable", "invalid url", "connection reset"):  # fmt: skip
        if phrase in text:
            return phrase
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 160 else f"{lines[0][:157]}..."
