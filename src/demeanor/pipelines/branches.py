"""Which branches fusion_training has, and which of them read representations: what the parameters' `branches` say.

A pipeline has a node for each branch, so its shape follows the parameters. Kedro loads these first, and a hook hands
them over before any pipeline is made (demeanor.hooks.BranchHooks). Where no session has loaded any (`kedro registry
list`), they are those of the default environment, read by the project's own loader; without a configuration there are
no branches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from demeanor.data.errors import InputError, nearest

#: Modality of the streams that representation_learning makes.
REPRESENTATION = "representation"


@dataclass(frozen=True)
class Selection:
    """names of the enabled branches, those of them that read a stream `representation.<name>`, and what is joined of
    them: name -> its members, in pairs."""

    names: tuple[str, ...] = ()
    embedded: frozenset[str] = frozenset()
    joined: tuple[tuple[str, tuple[str, ...]], ...] = ()


_selection: Selection | None = None


def select(parameters: Mapping[str, Any]) -> bool:
    """Use the parameters' `branches` from now on; True if that changes the pipelines.

    Raises InputError if none is there, none is enabled, one is not a mapping, or one names a corpus that is not there.
    """
    global _selection  # noqa: PLW0603 - Kedro's pipeline registry takes no arguments
    selection = selection_of(parameters)
    changed = selection != _selection
    _selection = selection
    return changed


def selection_of(parameters: Mapping[str, Any]) -> Selection:
    """The enabled branches of `parameters`; InputError as for `select`."""
    advice = "It maps names to settings, for example late_fusion: {system: late_fusion, streams: {text: text.words}}."
    branches = parameters.get("branches")
    if not isinstance(branches, Mapping):
        raise InputError("parameter 'branches'", ["it is no mapping of branches"], advice)
    wrong = [f"'{name}' is no mapping" for name, settings in branches.items() if not isinstance(settings, Mapping)]
    if wrong:
        raise InputError("parameter 'branches'", wrong, advice)
    names = enabled(branches)
    if not names:
        raise InputError("parameter 'branches'", ["none of them is enabled"], "Name at least one branch.")
    _check_corpora(parameters, {name: branches[name] for name in names})
    embedded = frozenset(name for name in names if _reads_embeddings(branches[name]))
    return Selection(names, embedded, _joined(parameters.get("joined") or {}, names, branches))


def _joined(
    joined: Mapping[str, Any], names: tuple[str, ...], branches: Mapping[str, Any]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The enabled entries of `joined` with their members: branches, or what is itself joined; InputError for one whose
    members are not all trained, or which is a member of its own."""
    advice = "It maps names to what is joined, for example experts: {task: emotion, members: [words, voice]}."
    if not isinstance(joined, Mapping) or not all(isinstance(value, Mapping) for value in joined.values()):
        raise InputError("parameter 'joined'", ["it is no mapping of mappings"], advice)
    made: dict[str, tuple[str, ...]] = {}
    problems = []
    known = (*names, *enabled(joined))
    for name in enabled(joined):
        members = joined[name].get("members")
        if not isinstance(members, list | tuple):
            problems.append(f"'{name}' lists no members")
            continue
        problems += [f"'{name}' is the name of a branch, too"] if name in branches else []
        for member in map(str, members):
            if member in known:
                continue
            if member in branches or member in joined:
                problems.append(
                    f"'{member}' is not enabled: joined.{name} needs it, unless joined.{name}.enabled=false."
                )
            else:
                problems.append(f"'{member}', a member of '{name}', is no branch.{nearest(member, known)}")
        made[name] = tuple(map(str, members))
    try:
        TopologicalSorter(made).prepare()
    except CycleError as error:
        problems.append(f"{' needs '.join(reversed(error.args[1]))}: one of them has to come first")
    if problems:
        raise InputError("parameter 'joined'", problems, advice)
    return tuple(made.items())


def _check_corpora(parameters: Mapping[str, Any], branches: Mapping[str, Mapping[str, Any]]) -> None:
    """InputError where a branch names a corpus that `corpus` does not: what a union leaves out and what is misspelt
    would look alike once the corpora are read."""
    corpus = parameters.get("corpus")
    options = corpus.get("options") if isinstance(corpus, Mapping) else None
    if not isinstance(options, Mapping) or not ("corpora" in options or "name" in options):
        return  # whatever else is wrong with it is told by its reader's settings
    known = [str(name) for name in options.get("corpora") or [options.get("name")]]
    problems = [
        f"{branch} names '{name}'.{nearest(str(name), known)}"
        for branch, settings in branches.items()
        for name in settings.get("corpora") or ()
        if name not in known
    ]
    if problems:
        advice = "They are those of the parameter corpus.options.corpora, or, of one alone, its name."
        raise InputError("corpora of the branches", problems, advice)


def enabled(branches: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the branches that are trained: all but those that say `enabled: false`.

    branches  name -> settings, as mappings or as what Kedro has made of them
    """
    return tuple(str(name) for name, settings in branches.items() if bool(_given(settings, "enabled", True)))


def streams_read(branches: Mapping[str, Any]) -> frozenset[str]:
    """Names of the streams that the enabled ones of `branches` (as for `enabled`) read."""
    return frozenset(
        str(stream) for name in enabled(branches) for stream in (_given(branches[name], "streams", None) or {}).values()
    )


def _given(settings: Any, name: str, default: Any) -> Any:
    return settings.get(name, default) if isinstance(settings, Mapping) else getattr(settings, name)


def _reads_embeddings(settings: Mapping[str, Any]) -> bool:
    streams = settings.get("streams")
    return isinstance(streams, Mapping) and any(
        str(name).partition(".")[0] == REPRESENTATION for name in streams.values()
    )


def selected() -> Selection:
    """The branches in use, which of them read representations, and what is joined of them. Where no session has handed
    them over, the whole configuration is read for it: ask once."""
    return _of_default_environment() if _selection is None else _selection


def _of_default_environment() -> Selection:
    from kedro.utils import find_kedro_project

    from demeanor.configuration import ARGUMENTS, loader_of

    conf = Path(find_kedro_project(Path.cwd()) or ".") / "conf"
    if not (conf / ARGUMENTS["base_env"]).is_dir():
        return Selection()  # an installed wheel: its configuration lies wherever `--conf-source` says
    return selection_of(loader_of(conf)["parameters"])
