"""Where relative paths are meant from: the project's root, whatever folder a command was typed in.

Kedro anchors the paths of its catalog there. Those among the parameters (a corpus, caches, folders) are anchored here,
by a hook that names the root (demeanor.hooks.PathHooks) and a type that asks for it. Nobody's working folder changes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

ROOT = "DEMEANOR_PROJECT_ROOT"
"""Environment variable with the root: worker processes, however they are started, inherit it."""


def use_root(folder: Path | str | None) -> str | None:
    """Relative paths are meant from `folder` from now on (None: from the working folder); what it was before."""
    before = os.environ.get(ROOT)
    if folder is None:
        os.environ.pop(ROOT, None)
    else:
        os.environ[ROOT] = str(Path(folder).resolve())
    return before


def anchored(path: Path | str) -> Path:
    """`path` with `~` or a variable at its beginning (`$HOME`, `${DATA}`) replaced and, if it is relative, joined to
    the project's root where one is known."""
    path = expanded(re.sub(r"^\$(\w+|\{\w+\})(?=$|[/\\])", _value_of, str(path)))
    root = os.environ.get(ROOT)
    return Path(root) / path if root and not path.is_absolute() else path


def _value_of(variable: re.Match[str]) -> str:
    return os.environ.get(variable[1].strip("{}"), variable[0])


def expanded(path: Path | str) -> Path:
    """`path` with a leading `~` replaced; as it is where nobody of that name has a home folder."""
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def from_root(path: Path | str) -> str:
    """The inverse of `anchored`, for what is stored: a project that is moved keeps working."""
    path, root = Path(path), os.environ.get(ROOT)
    inside = root and path.is_absolute() and path.is_relative_to(root)
    return path.relative_to(root).as_posix() if root and inside else str(path)


def cache_folder() -> Path:
    """Where what is converted once is kept for all projects: `$DEMEANOR_CACHE`, or `~/.cache/demeanor`."""
    return expanded(os.environ.get("DEMEANOR_CACHE") or Path.home() / ".cache" / "demeanor")


def _as_text(path: object) -> object:
    """`--params` makes a number of a folder called 2024."""
    return str(path) if isinstance(path, int | float) and not isinstance(path, bool) else path


#: A path among the parameters.
ProjectPath = Annotated[Path, BeforeValidator(_as_text), AfterValidator(anchored)]
