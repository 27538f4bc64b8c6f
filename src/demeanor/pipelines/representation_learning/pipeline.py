"""representation_learning: development -> self-supervised representations -> embeddings -> linear probe."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from demeanor.pipelines.job_plans import planned
from demeanor.pipelines.representation_learning import nodes


def create_pipeline() -> Pipeline:
    """Pretrain, embed, probe."""
    return Pipeline(
        [
            Node(
                planned(nodes.pretrain_representations, nodes.pretraining_jobs, long=True),
                ["development", "params:representations", "checkpoints"],
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
                ["probe", "probe_text"],
                name="probe_representations",
                tags="tracked",
            ),
            Node(
                nodes.register_representations,
                ["representations", "params:registered_representations", "utterances", "media_root"],
                "representation_registration",
                name="register_representations",
                tags="tracked",
            ),
            Node(
                nodes.sweep_representations,
                ["development", "params:representations", "params:sweep", "params:tasks"],
                ["sweep", "sweep_costs"],
                name="sweep_representations",
                tags="tracked",
            ),
        ],
        namespace="representation_learning",
        inputs={"development", "utterances", "media_root", "checkpoints"},
        outputs={"representations"},
        parameters={"representations", "registered_representations", "sweep", "tasks"},
    )
