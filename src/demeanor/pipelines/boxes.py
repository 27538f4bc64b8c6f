"""Namespaces: what `kedro viz` shows as a box that opens."""

from __future__ import annotations

from collections.abc import Iterable

from kedro.pipeline import Pipeline


def boxed(pipeline: Pipeline, name: str, outputs: Iterable[str]) -> Pipeline:
    """`pipeline` in the namespace `name`; its inputs, its parameters and `outputs` keep their names.

    Every other dataset becomes `name.<dataset>` and lies inside the box.
    """
    free = pipeline.inputs()
    parameters = {entry for entry in free if entry.startswith("params:")}
    return Pipeline(
        pipeline,
        namespace=name,
        inputs=free - parameters,
        outputs=set(outputs),
        parameters={entry: entry for entry in parameters},
    )
