"""The pipelines by name, each in the namespace of its name, which `kedro viz` shows as a box that opens."""

from __future__ import annotations

from kedro.pipeline import Pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """Name -> pipeline; `__default__` is all five in order, `tuning` and `scoring` are asked for by name."""
    from demeanor.pipelines import (
        evaluation,
        feature_engineering,
        fusion_training,
        ingestion,
        representation_learning,
        scoring,
        tuning,
    )

    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "feature_engineering": feature_engineering.create_pipeline(),
        "representation_learning": representation_learning.create_pipeline(),
        "fusion_training": fusion_training.create_pipeline(),
        "evaluation": evaluation.create_pipeline(),
    }
    asked_for = {"tuning": tuning.create_pipeline(), "scoring": scoring.create_pipeline()}
    return {**pipelines, **asked_for, "__default__": sum(pipelines.values(), Pipeline([]))}
