"""scoring: recordings of one's own -> answers of the champions. Not part of the main job; made to be scheduled."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.scoring import nodes


def create_pipeline() -> Pipeline:
    """One node."""
    return Pipeline(
        [
            Node(
                nodes.score_recordings,
                ["recordings_to_score", "params:scoring"],
                "scored_recordings",
                name="score_recordings",
            )
        ]
    )
