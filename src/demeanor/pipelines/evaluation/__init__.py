"""The evaluation pipeline."""

from demeanor.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
