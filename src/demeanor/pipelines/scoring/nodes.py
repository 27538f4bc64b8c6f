"""Recordings in, a table of answers out."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from demeanor.data.settings import Settings

logger = logging.getLogger(__name__)


class ScoringSettings(Settings):
    """`models`: addresses in the registry or folders of bundles; none: all champions."""

    models: tuple[str, ...] = ()
    processes: int = Field(default=0, ge=0, description="0: one per core")
    resume: str = Field(description="where a run that is stopped keeps its answers, until all are there")


def score_recordings(recordings: Any, settings: ScoringSettings) -> pd.DataFrame:
    """One row per recording of a Collection, the caller's own columns first; see demeanor.timeline.collection."""
    from demeanor.analyser import BundleScorer, Demeanor, champion_addresses
    from demeanor.data.processors import available_cores
    from demeanor.timeline.collection import score_collection

    demeanor = Demeanor(*(settings.models or champion_addresses()))
    done = score_collection(
        recordings, demeanor.scorer, Path(settings.resume), make=partial(BundleScorer, demeanor.bundles),
        processes=settings.processes or available_cores(),
    )  # fmt: skip
    logger.info("%s", done)
    return done.table
