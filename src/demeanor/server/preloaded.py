"""Imports for the fork server alone: loaded once, shared by all workers, so that a new one is soon there."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

import av  # noqa: F401
import cv2  # noqa: F401
import pandera.pandas
import pandera.typing  # noqa: F401
import torch  # noqa: F401

import demeanor.features.media
import demeanor.features.sound
import demeanor.inference.extraction
import demeanor.server.extraction
import demeanor.server.lengths  # noqa: F401

#: What the usual extractors load when they are first asked; a wheel that is not installed is not missed here. Not
#: transformers, which takes longer than all of these together: the packaged MiniLM does without it, and workers import
#: it themselves for a model that reads another encoder.
for _name in ("opensmile", "scipy.signal"):
    with suppress(ImportError):
        import_module(_name)
