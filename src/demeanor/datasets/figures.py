"""The dataset of a figure, by itself: matplotlib takes most of a second to import, and most runs draw nothing."""

from __future__ import annotations

from kedro.io.core import get_filepath_str
from kedro_datasets.matplotlib import MatplotlibDataset

from demeanor.datasets.files import Whole


class FigureFile(Whole, MatplotlibDataset):
    """matplotlib.MatplotlibDataset, saved whole; what is loaded is the content of the PNG file."""

    def load(self) -> bytes:
        """The file's bytes, as kedro viz and MLflow take a picture."""
        with self._fs.open(get_filepath_str(self._get_load_path(), self._protocol), "rb") as handle:
            return handle.read()
