"""representation_learning: development -> self-supervised representations -> embeddings -> linear probe."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.boxes import boxed
from demeanor.pipelines.representation_learning import nodes


def create_pipeline() -> Pipeline:
    pipeline = Pipeline(
        [
            Node(
                nodes.pretrain_representations,
                ["development", "params:representations", "params:checkpoints"],
                ["representations", "representation_history"],
                name="pretrain_representations",
                tags="tracked",
            ),
            Node(
                nodes.embed_development,
                ["development", "representations"],
                "representation_streams",
                name="embed_development",
            ),
            Node(
                nodes.probe_representations,
                ["development", "representation_streams", "representations", "params:tasks"],
                "probe",
                name="probe_representations",
                tags="tracked",
            ),
        ]
    )
    return boxed(pipeline, "representation_learning", ["representations"])
