"""Which branches fusion_training has: the list `branches` of the parameters, one name each.

Pipelines are code and parameters are configuration; Kedro loads the parameters first, so a hook hands the list over
before any pipeline is made. Commands that load no parameters (`kedro registry list`) read the base environment.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from demeanor.data.errors import InputError

_selected: tuple[str, ...] | None = None


def select(names: Iterable[str]) -> bool:
    """Use these branches from now on; True if they differ from those in use."""
    global _selected  # noqa: PLW0603 - Kedro's pipeline registry takes no arguments
    chosen = (names,) if isinstance(names, str) else tuple(names)
    if not chosen:
        raise InputError("parameter 'branches'", ["it is empty"], "Name at least one branch, for example late_fusion.")
    changed = chosen != _selected
    _selected = chosen
    return changed


def selected() -> tuple[str, ...]:
    """Names of the branches in use."""
    if _selected is None:
        select(_branches_of_base())
    assert _selected is not None
    return _selected


def _branches_of_base() -> list[str]:
    import yaml
    from kedro.utils import find_kedro_project

    project = find_kedro_project(Path.cwd())
    path = Path(project or ".") / "conf" / "base" / "parameters_fusion_training.yml"
    if not path.is_file():
        raise InputError(str(path), ["not found"], "Run the command in the project's folder.")
    return yaml.safe_load(path.read_text(encoding="utf-8"))["branches"]
