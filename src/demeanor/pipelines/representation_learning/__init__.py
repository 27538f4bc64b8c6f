"""The representation_learning pipeline."""

from demeanor.pipelines.representation_learning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
