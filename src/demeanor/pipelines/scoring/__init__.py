"""The scoring pipeline."""

from demeanor.pipelines.scoring.pipeline import create_pipeline

__all__ = ["create_pipeline"]
