"""Typed parameters: frozen, validated before anything runs, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all parameter classes.

    Kedro validates parameters against the type at a node's signature before the first node runs, so a
    misspelt or impossible value fails within seconds instead of after the features are made. A number where a name is
    meant is its text: YAML and `--params` make a number of the corpus called 2024.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=False, protected_namespaces=(), coerce_numbers_to_str=True
    )

    #: Settings that came later, each with the value at which all is as it was before: there they are not told, so that
    #: what was made before them is known again.
    later: ClassVar[Mapping[str, Any]] = {}

    def as_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON and for MLflow."""
        given = self.model_dump(mode="json")
        return {name: value for name, value in given.items() if name not in self.later or value != self.later[name]}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}: how nested settings appear in MLflow."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
