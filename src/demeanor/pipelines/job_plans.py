"""What a run will train, known before it begins: so that workers need not wait until Kedro's runner asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

if TYPE_CHECKING:
    from demeanor.data.examples import Examples
    from demeanor.training.distributed.workshop import Job, Plan

Function = TypeVar("Function", bound=Callable[..., Any])
PLAN, LONG = "jobs_of", "takes_long"
#: Inputs that are there before any node runs, as parameters are.
FOLDERS = ("checkpoints",)


def planned(function: Function, jobs_of: Callable[..., Sequence[Job]], long: bool = False) -> Function:
    """A node's function whose jobs `jobs_of` names, given the same arguments. Jobs that are `long` are begun first."""
    setattr(function, PLAN, jobs_of)
    setattr(function, LONG, long)
    return function


def plans(pipeline: Pipeline, catalog: DataCatalog) -> list[Plan]:
    """The plans of all nodes that, besides parameters and work folders, read nothing but the development examples."""
    nodes = [node for node in pipeline.nodes if hasattr(node.func, PLAN) and _from_examples(node)]
    # A long job that is begun last leaves all other workers idle until it ends.
    nodes.sort(key=lambda node: not getattr(node.func, LONG))
    return [_plan(node, catalog) for node in nodes]


def _from_examples(node: Node) -> bool:
    first, *others = node.inputs
    return first == "development" and all(name.startswith("params:") or name in FOLDERS for name in others)


def _plan(node: Node, catalog: DataCatalog) -> Plan:
    parameters = [catalog.load(name) for name in node.inputs[1:]]
    return partial(_jobs, getattr(node.func, PLAN), parameters)


def _jobs(jobs_of: Callable[..., Sequence[Job]], parameters: list[Any], development: Examples) -> Sequence[Job]:
    return jobs_of(development, *parameters)
