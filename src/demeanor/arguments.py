"""What is typed on a command line: paths that begin with `~`, and words that are no numbers although they look so."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import click

#: Options of a corpus that are texts whatever they look like.
TEXTS_OF_CORPORA = ("path", "name", "language", "table", "media", "sidecar", "manifest", "folds", "corpus")


class HomePath(click.Path):
    """A path that may begin with `~`: no shell replaces it after `=`, or within quotation marks."""

    def __init__(self, **settings: Any):
        super().__init__(**{"path_type": Path, **settings})

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The path with `~` replaced; click calls it."""
        return super().convert(os.path.expanduser(value), parameter, context)


def keeping_text(option: click.Parameter) -> click.Parameter:
    """Kedro's `--params`, with names, paths and languages of a corpus as they were typed: no number (007), no `no`."""
    option, read = copy.copy(option), option.callback
    assert read is not None

    def kept(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        made = read(context, parameter, value)
        for item in value.split(",") if isinstance(value, str) else ():
            key, _, text = item.partition("=")
            *parents, name = key.strip().split(".")
            if parents == ["corpus", "options"] and name in TEXTS_OF_CORPORA:
                made["corpus"]["options"][name] = text.strip()
        return made

    option.callback = kept
    return option
