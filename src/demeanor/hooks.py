"""What surrounds a `kedro run`: the choice of branches, the MLflow run, the closing summary."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

logger = logging.getLogger(__name__)

TRACKED = "tracked"
"""Tag of the nodes whose pipelines open an MLflow run."""
REPORTING = "08_reporting"
"""Layer whose files are kept with the run that made them."""
BUNDLES = "_bundles"
"""Ending of the datasets that hold what a branch has trained."""


class BranchHooks:
    """Hands the parameters' `branches` to the pipeline registry."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        from kedro.framework.project import PACKAGE_NAME, pipelines

        from demeanor.pipelines import branches

        # Not `context.params`: that would check all parameters against the pipelines of the former environment, and
        # remember the outcome, so that branches which only this environment has stayed unchecked dicts.
        if branches.select(context.config_loader["parameters"]):
            pipelines.configure(f"{PACKAGE_NAME or 'demeanor'}.pipeline_registry")


class PathHooks:
    """Relative paths among the parameters are meant from the project's root, as those of the catalog are."""

    def __init__(self) -> None:
        self._before: str | None = None

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        from demeanor.data.places import use_root

        self._before = use_root(context.project_path)

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        self._restore()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        self._restore()

    def _restore(self) -> None:
        from demeanor.data.places import use_root

        use_root(self._before)


class TrackingHooks:
    """One MLflow parent run for each `kedro run` that trains, scores or registers something."""

    def __init__(self) -> None:
        self._context: KedroContext | None = None
        self._tracker: Any = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        if self._context is None or not pipeline.only_nodes_with_tags(TRACKED).nodes:
            return
        from demeanor import tracking, tracking_store
        from demeanor.data.files import disk_errors_told
        from demeanor.evaluation.environment import code_revision, this_machine

        project = Path(self._context.project_path)
        settings = self._context.config_loader["mlflow"]
        uri = tracking_store.connect(project, settings.get("tracking_uri"), writing=True)
        machine = {f"machine.{key}": str(value) for key, value in this_machine().as_dict().items()}
        with disk_errors_told(uri.removeprefix(tracking_store.SQLITE)):
            session = tracking.begin(
                project,
                settings["experiment"],
                " ".join(run_params.get("pipeline_names") or [run_params.get("pipeline_name") or "all"]),
                {"code_revision": code_revision(project), **machine},
                self._context.params,
                bool(settings.get("system_metrics", True)),
            )
        self._tracker = session.tracker

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        if self._tracker is None or self._context is None:
            return
        from demeanor.analyser import remember_champions

        self._log_reports(pipeline, catalog)
        self._end("FINISHED")
        remember_champions(Path(self._context.project_path))

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        from demeanor.stopping import asked_to_stop

        self._end("FAILED" if asked_to_stop() is None else "KILLED")

    def _log_reports(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Figures and tables that this run made, and the packages that it ran with, as artifacts of the run."""
        from importlib.metadata import distributions

        from demeanor.datasets.located import path_of

        for name in sorted(pipeline.all_outputs()):
            path = path_of(catalog.get(name))
            if path is not None and REPORTING in path.parts and path.is_file():
                self._tracker.log_artifacts(path, "reporting")
        packages = sorted(f"{package.metadata['Name']}=={package.version}" for package in distributions())
        self._tracker.log_text("\n".join(packages) + "\n", "environment/packages.txt")

    def _end(self, status: str) -> None:
        if self._tracker is not None:
            from demeanor import tracking

            self._tracker = None
            tracking.end(status)


class SummaryHooks:
    """After a run that evaluated: the table of systems, the champion, and where to look next."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        if "summary" in pipeline.all_outputs():
            sys.stdout.write("\n" + str(catalog.load("summary")) + "\n")
            sys.stdout.flush()


class CheckpointHooks:
    """Forgets the checkpoints of what a run has trained, once the run is complete.

    Finished trainings are kept until then, so that a killed run need not repeat them. Checkpoints of branches that this
    run did not train, and those of a tuning search, belong to other runs, which may go on from them.
    """

    def __init__(self) -> None:
        self._saved: set[str] = set()

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        self._saved = set()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        # A branch lies in the namespace fusion_training.
        name = dataset_name.rpartition(".")[2]
        if name.endswith(BUNDLES):
            self._saved.add(name.removesuffix(BUNDLES))

    @hook_impl
    def after_pipeline_run(self, catalog: DataCatalog) -> None:
        if not self._saved:
            return
        folder = Path(catalog.load("checkpoints"))
        for branch in sorted(self._saved):
            # By seed, not the branch's folder as a whole: a branch may be called as the folder of the tuning is.
            for seed in (folder / branch).glob("seed_*"):
                shutil.rmtree(seed)
        for place in (*(folder / branch for branch in self._saved), folder / "representation", folder):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
