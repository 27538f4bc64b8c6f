"""The fusion_training pipeline."""

from demeanor.pipelines.fusion_training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
