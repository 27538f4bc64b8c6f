"""Which branches fusion_training has, and which of them read representations: what the parameters say of them.

Pipelines are code and parameters are configuration; Kedro loads the parameters first, so a hook hands them over before
any pipeline is made. Commands that load no parameters (`kedro registry list`) read the base environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demeanor.data.errors import InputError

#: Modality of the streams that representation_learning makes.
REPRESENTATION = "representation"


@dataclass(frozen=True)
class Selection:
    """names of the branches, and those of them that read a stream `representation.<name>`."""

    names: tuple[str, ...]
    embedded: frozenset[str]


_selection: Selection | None = None


def select(parameters: Mapping[str, Any]) -> bool:
    """Use the parameters' `branches` from now on; True if that changes the pipelines."""
    global _selection  # noqa: PLW0603 - Kedro's pipeline registry takes no arguments
    names = parameters["branches"]
    chosen = (names,) if isinstance(names, str) else tuple(names)
    if not chosen:
        raise InputError("parameter 'branches'", ["it is empty"], "Name at least one branch, for example late_fusion.")
    selection = Selection(chosen, frozenset(name for name in chosen if _reads_embeddings(parameters.get(name))))
    changed = selection != _selection
    _selection = selection
    return changed


def _reads_embeddings(settings: Any) -> bool:
    streams = settings.get("streams") if isinstance(settings, Mapping) else None
    return isinstance(streams, Mapping) and any(
        str(name).partition(".")[0] == REPRESENTATION for name in streams.values()
    )


def selected() -> tuple[str, ...]:
    """Names of the branches in use."""
    return _current().names


def reads_representations(branch: str) -> bool:
    """Does the branch need what representation_learning makes?"""
    return branch in _current().embedded


def _current() -> Selection:
    if _selection is None:
        select(_parameters_of_base())
    assert _selection is not None
    return _selection


def _parameters_of_base() -> dict[str, Any]:
    """As a session would read them; in an installed wheel the configuration lies wherever `--conf-source` says, and
    only a session knows that."""
    from kedro.config import OmegaConfigLoader
    from kedro.utils import find_kedro_project

    project = find_kedro_project(Path.cwd())
    conf = Path(project or ".") / "conf"
    if not (conf / "base").is_dir():
        raise InputError(str(conf), ["there is no configuration"], "Run the command in the project's folder.")
    return OmegaConfigLoader(str(conf), base_env="base", default_run_env="base")["parameters"]
