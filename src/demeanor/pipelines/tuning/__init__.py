"""The tuning pipeline."""

from demeanor.pipelines.tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
