"""The five pipelines, named one by one: Kedro then imports only what is asked for."""

from __future__ import annotations

from kedro.pipeline import Pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """Name -> pipeline; `__default__` is all five in order."""
    from demeanor.pipelines import (
        evaluation,
        feature_engineering,
        fusion_training,
        ingestion,
        representation_learning,
    )

    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "feature_engineering": feature_engineering.create_pipeline(),
        "representation_learning": representation_learning.create_pipeline(),
        "fusion_training": fusion_training.create_pipeline(),
        "evaluation": evaluation.create_pipeline(),
    }
    return {**pipelines, "__default__": sum(pipelines.values(), Pipeline([]))}
