"""Kedro datasets for the nouns, and the usual ones with whole-or-nothing saving; all take paths and fsspec's URLs."""

from typing import TYPE_CHECKING, Any

from demeanor.datasets.files import CSVFile, FoundFacts, JSONFile, ParquetFile, TextFile, YAMLFile
from demeanor.datasets.folders import (
    BranchesFolder,
    BundlesFolder,
    ExamplesFolder,
    RecordingsToScore,
    RepresentationsFolder,
    StreamsFolder,
    WorkFolder,
)

if TYPE_CHECKING:
    from demeanor.datasets.figures import FigureFile

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


def __getattr__(name: str) -> Any:
    """FigureFile is imported when a catalog asks for it: a run that draws nothing starts without matplotlib."""
    if name != "FigureFile":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from demeanor.datasets.figures import FigureFile

    return FigureFile
