"""Around a `kedro run` that trains: workers, as many as there are cores for."""

from __future__ import annotations

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from demeanor.data.progress import Progress, use_log_lines

#: Long to import and needed by every training; the workers do so while the run begins.
PRELOAD = (
    "demeanor.training.distributed.launch",
    "demeanor.evaluation.validation",
    "demeanor.training.pretraining.loop",
)


class WorkshopHooks:
    """Trainings that can go on side by side are done in worker processes; all end with the run."""

    def __init__(self) -> None:
        self._workshop: Any = None

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        from demeanor.pipelines.job_plans import plans

        planned = plans(pipeline, catalog)
        if not planned:
            return
        count = count_of(catalog)
        if count > 1:
            from demeanor.training.distributed import workshop

            self._workshop = workshop.Workshop(count, planned, PRELOAD)
            workshop.use(self._workshop)

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._close()

    @hook_impl
    def on_pipeline_error(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._workshop is not None:
            from demeanor.training.distributed import workshop

            workshop.use(None)
            self._workshop.close()
            self._workshop = None


def count_of(catalog: DataCatalog) -> int:
    """The parameter `workers`, at most as many as most machines have memory for."""
    from demeanor.data.processors import available_cores
    from demeanor.pipelines.ingestion.nodes import worker_count
    from demeanor.training.distributed.workshop import MOST

    workers = worker_count(catalog.load("params:workers") if "params:workers" in catalog else "auto")
    return min(available_cores() if workers == "auto" else workers, MOST)


class NodeProgress:
    """A node that takes longer than some seconds and says nothing itself is named."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    @hook_impl
    def after_context_created(self) -> None:
        use_log_lines()

    @hook_impl
    def before_node_run(self, node: Any) -> None:
        self._end()
        self._progress = Progress(node.name.replace(".", ": "), unit="")
        self._progress.__enter__()

    @hook_impl
    def after_node_run(self) -> None:
        self._end()

    @hook_impl
    def on_node_error(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None
