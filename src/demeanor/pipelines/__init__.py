"""The five pipelines: nodes.py and pipeline.py each, thin."""
