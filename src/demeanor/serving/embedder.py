"""A representation that answers for raw recordings: one vector per utterance."""

from __future__ import annotations

import pandas as pd

from demeanor.data.bundle import Bundle
from demeanor.inference.extraction import Extraction
from demeanor.inference.reach import EVERYWHERE, Reach
from demeanor.inference.recordings import Rows
from demeanor.representations.base import layout_of
from demeanor.representations.embedding import embed


class Embedder:
    """Embeds raw rows (see demeanor.inference.recordings.COLUMNS) with the bundle of a representation."""

    def __init__(self, bundle: Bundle, reach: Reach = EVERYWHERE):
        layout_of(bundle)  # an error for the bundle of anything else
        self.bundle = bundle
        self.extraction = Extraction(bundle.card, reach)

    def predict(self, rows: Rows) -> pd.DataFrame:
        """One row per input row, in order: utterance_id; embedding, a list of R numbers, None where there is none;
        modalities that were used; problem, why there is no embedding or what was left
        out of it, else empty."""
        read = self.extraction(rows)
        vectors = embed(self.bundle, read.examples).ragged
        values = [vectors[name].reshape(-1).astype(float).tolist() for name in read.examples.ids]
        complete = read.complete(pd.DataFrame({"embedding": pd.Series(values, dtype="object")}))
        known = complete["embedding"].notna()
        return complete.assign(embedding=complete["embedding"].where(known, None))
