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

from demeanor.data.places import anchored

logger = logging.getLogger(__name__)

TRACKED = "tracked"
"""Tag of the nodes whose pipelines open an MLflow run."""
REPORTING = "08_reporting"
"""Layer whose files are kept with the run that made them."""


class BranchHooks:
    """Hands the parameters' `branches` to the pipeline registry."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        from kedro.framework.project import PACKAGE_NAME, pipelines

        from demeanor.pipelines import branches

        # Not `context.params`: that would check all parameters against the pipelines of the base environment, and
        # remember the outcome, so that branches which only this environment has stayed unchecked dicts.
        parameters = context.config_loader["parameters"]
        if parameters.get("branches") is not None and branches.select(parameters):
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
        self._run: Any = None
        self._monitor: Any = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        if self._context is None or not pipeline.only_nodes_with_tags(TRACKED).nodes:
            return
        import mlflow

        from demeanor import tracking
        from demeanor.evaluation.environment import code_revision, this_machine
        from demeanor.training import tracking as training_tracking

        project = Path(self._context.project_path)
        settings = self._context.config_loader["mlflow"]
        tracking.connect(project, settings.get("tracking_uri"))
        experiment = tracking.choose_experiment(settings["experiment"], project)
        name = " ".join(run_params.get("pipeline_names") or [run_params.get("pipeline_name") or "all"])
        self._run = mlflow.start_run(
            experiment_id=experiment,
            run_name=name,
            log_system_metrics=bool(settings.get("system_metrics", True)),
            tags={
                "code_revision": code_revision(project),
                **{f"machine.{key}": str(value) for key, value in this_machine().as_dict().items()},
            },
        )
        tracker = tracking.MlflowTracker(self._run.info.run_id, experiment)
        tracker.log_parameters(self._context.params)
        training_tracking.use(tracker)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        if self._run is not None:
            self._log_reports(pipeline, catalog)
        self._end("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        self._end("FAILED")

    def _log_reports(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Figures and tables that this run made, and the packages that it ran with, as artifacts of the run."""
        from importlib.metadata import distributions

        from mlflow import MlflowClient

        client, run_id = MlflowClient(), self._run.info.run_id
        for name in sorted(pipeline.all_outputs()):
            path = Path(getattr(catalog.get(name), "_filepath", "") or "")
            if REPORTING in path.parts and path.is_file():
                client.log_artifact(run_id, str(path), "reporting")
        packages = sorted(f"{found.metadata['Name']}=={found.version}" for found in distributions())
        client.log_text(run_id, "\n".join(packages) + "\n", "environment/packages.txt")

    def _end(self, status: str) -> None:
        if self._run is None:
            return
        import mlflow

        from demeanor.training import tracking as training_tracking

        training_tracking.use(None)
        mlflow.end_run(status)
        self._run = None


class SummaryHooks:
    """After a run that evaluated: the table of systems, the champion, and where to look next."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        made = pipeline.all_outputs()
        if any(name.endswith("_bundles") for name in made):
            # Finished trainings were kept so that a killed run need not repeat them; this run is complete.
            self._forget_checkpoints(catalog)
        if "summary" in made:
            sys.stdout.write("\n" + str(catalog.load("summary")) + "\n")
            sys.stdout.flush()

    def _forget_checkpoints(self, catalog: DataCatalog) -> None:
        folder = anchored(catalog.load("params:checkpoints"))
        if folder.is_dir():
            shutil.rmtree(folder)
