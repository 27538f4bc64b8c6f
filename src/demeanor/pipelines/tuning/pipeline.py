"""tuning: development -> trials of one or more branches -> the environment <corpus>_tuned. Not part of the main job."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.tuning import nodes


def create_pipeline() -> Pipeline:
    """One node."""
    return Pipeline(
        [
            Node(
                nodes.tune_branches,
                ["development", "params:tuning", "params:tasks", "checkpoints", "parameters"],
                ["tuning_trials", "tuned_environment"],
                name="tune_branches",
                tags=["tracked", "training"],
            )
        ]
    )
