"""What every extractor has in common: a clip goes in, steps of a stream come out, and the maker is on record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from demeanor.data.errors import DemeanorError, InputError
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.settings import Settings
from demeanor.features.clip import SAMPLE_RATE, SILENCE, Clip, Word, to_int16

#: Name, beside an extractor's own settings, of how its values are stored; and the only value that it takes.
STORED, HALF = "stored", "float16"
#: Whoever writes an extractor finds here all that it needs.
__all__ = ["READS", "SAMPLE_RATE", "SILENCE", "Clip", "ExtractionError", "Extractor", "Word", "to_int16"]
READS = frozenset({"text", "audio", "video", "words", "dialogue", "speakers"})


class ExtractionError(DemeanorError):
    """One clip cannot be turned into features; the run goes on without it."""


class Extractor(ABC):
    """Turns clips into the steps of one stream.

    name       as in the registry and in provenance
    stream     the stream it usually makes
    reads      what of a clip it looks at: text, audio, video, words, dialogue, speakers (of its dialogue)
    unit       what one step is
    batched    True for encoders, which want many clips at once and run in the main process or on a cluster; False
               for extractors that treat each clip by itself, which run in worker processes
    apart      of an encoder: it treats each clip by itself all the same, whose values then depend on no other clip
    """

    name: ClassVar[str]
    stream: ClassVar[str]
    reads: ClassVar[frozenset[str]]
    unit: ClassVar[str]
    licence: ClassVar[str] = "Apache-2.0"
    batched: ClassVar[bool] = False
    apart: ClassVar[bool] = False
    dtype: ClassVar[type[np.generic]] = np.float32
    settings_type: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Settings | dict[str, Any] | None = None):
        self.settings: Any = settings if isinstance(settings, Settings) else self.settings_type(**(settings or {}))
        self.stored_dtype: type[np.generic] = self.dtype

    @property
    @abstractmethod
    def version(self) -> str:
        """Of the library that decides the values."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Width D of a step."""

    @property
    def rate(self) -> float | None:
        """Steps per second; None where they are not regular."""
        return None

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the weights that decide the values, None where there are none."""
        return None

    @property
    def encodes(self) -> bool:
        """Does it run a network over many clips at once, so that the last bits of a clip's values depend on the others?
        What is batched without weights splits texts and reads tables."""
        return self.batched and self.weights_sha256 is not None

    def facts(self) -> dict[str, Any]:
        """What decides values beside the settings, for example a vocabulary's hash; enters the provenance."""
        return {}

    @property
    def alignment(self) -> str:
        """How steps are placed in time, empty where nothing is aligned."""
        return ""

    def stored_as(self, precision: str) -> Extractor:
        """This extractor, its values stored in half precision ("float16"). InputError for another, or for values that
        are whole numbers."""
        problems = [] if precision == HALF else [f"values are stored as float32 or {HALF}, not as '{precision}'"]
        if not np.issubdtype(self.dtype, np.floating):
            problems.append(f"its values are whole numbers: they are not stored as {precision}")
        if problems:
            raise InputError(f"settings of extractor '{self.name}'", problems)
        self.stored_dtype = np.float16
        return self

    def options(self) -> dict[str, Any]:
        """What `find_extractor` makes this extractor of: its settings, and how its values are stored."""
        stored = {STORED: HALF} if self.stored_dtype == np.float16 else {}
        return {**self.settings.as_dict(), **stored}

    def as_stored(self, values: np.ndarray) -> np.ndarray:
        """[T, D] as they would be read from a stored stream of this extractor."""
        return values if self.stored_dtype == self.dtype else values.astype(self.stored_dtype).astype(self.dtype)

    def provenance(self) -> Provenance:
        """Who made a stream: extractor, version, settings, rate, weights and licence."""
        return Provenance(
            extractor=self.name,
            version=self.version,
            parameters={**self.options(), **self.facts()},
            rate=self.rate,
            unit=self.unit,
            weights_sha256=self.weights_sha256,
            licence=self.licence,
            alignment=self.alignment,
        )

    def extract(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """[T, D] for each clip; T is 0 where the modality is absent.

        Raises for a clip that cannot be read; a batched extractor is then asked again clip by clip.
        """
        return [self.extract_clip(clip) for clip in clips]

    def extract_clip(self, clip: Clip) -> np.ndarray:
        """[T, D] of one clip."""
        (values,) = self.extract([clip])
        return values

    def makes_too(self, other: Extractor) -> bool:
        """Does one pass over a clip give what `other` makes as well? Then `extract_both` does so."""
        return False

    def extract_both(self, clip: Clip, other: Extractor) -> tuple[np.ndarray, np.ndarray]:
        """[T, D] of one clip as `extract_clip` and `other.extract_clip` give it; only where `makes_too`."""
        raise NotImplementedError

    def companion(self, clip: Clip) -> str:
        """Hash of what this extractor reads beside the clip itself, for example a table made by another program."""
        return ""

    def cost(self, clip: Clip) -> float:
        """A cheap guess at the length of a clip; batched extractors see clips of similar cost together."""
        return float(len(clip.text or ""))

    def remark(self, ragged: Ragged) -> str:
        """What a reader should know about the finished stream, in one line; usually nothing."""
        return ""

    @property
    def absent(self) -> np.ndarray:
        """[0, D]."""
        return np.zeros((0, self.dimension), dtype=self.dtype)
