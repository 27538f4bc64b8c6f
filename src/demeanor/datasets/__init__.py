"""Kedro datasets for the nouns, and the usual ones with whole-or-nothing saving; all take paths and fsspec's URLs."""

from demeanor.datasets.files import CSVFile, FigureFile, FoundFacts, JSONFile, ParquetFile, TextFile, YAMLFile
from demeanor.datasets.folders import (
    BranchesFolder,
    BundlesFolder,
    ExamplesFolder,
    RecordingsToScore,
    RepresentationsFolder,
    StreamsFolder,
    WorkFolder,
)

__all__ = [
    "BranchesFolder",
    "BundlesFolder",
    "CSVFile",
    "ExamplesFolder",
    "FigureFile",
    "FoundFacts",
    "JSONFile",
    "ParquetFile",
    "RecordingsToScore",
    "RepresentationsFolder",
    "StreamsFolder",
    "TextFile",
    "WorkFolder",
    "YAMLFile",
]
