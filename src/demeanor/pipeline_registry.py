"""The pipelines, named one by one: Kedro then imports only what is asked for."""

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
    from demeanor.pipelines.boxes import boxed

    fusion = fusion_training.create_pipeline()
    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "feature_engineering": feature_engineering.create_pipeline(),
        "representation_learning": representation_learning.create_pipeline(),
        "fusion_training": fusion,
        "evaluation": evaluation.create_pipeline(),
    }
    boxes = {**pipelines, "fusion_training": boxed(fusion, "fusion_training", ["bundles"])}
    asked_for = {"tuning": tuning.create_pipeline(), "scoring": scoring.create_pipeline()}
    return {**pipelines, **asked_for, "__default__": sum(boxes.values(), Pipeline([]))}
