"""Sound as it is stored, and openSMILE's descriptors of it.

openSMILE and the features made with it may be used for research only, not in products (audEERING's research
licence); every stream made here says so in its provenance. `features/spectral.py` holds a set without that limit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Literal, cast

import numpy as np

from demeanor.data.settings import Settings
from demeanor.features.base import SAMPLE_RATE, Clip, Extractor, to_int16

OPENSMILE_LICENCE = (
    "openSMILE research licence (audEERING): non-commercial; it covers the software and features made with it"
)
#: Below this openSMILE's frame stack gives no value at all.
SHORTEST = 0.06
#: Held while openSMILE works: its log and the table of its components are the whole process'.
_SMILING = Lock()


def smile_of(feature_set: str, level: str) -> Any:
    """The library's extractor of one set and level, both by their names.

    To write its own name into its parameters it would read the metadata of every installed package, for a second; told
    beforehand what it looks for, it reads none.
    """
    import opensmile
    from audobject.core import utils

    getattr(utils, "PACKAGES_DISTRIBUTIONS", {}).setdefault("opensmile", ["opensmile"])
    return opensmile.Smile(
        feature_set=getattr(opensmile.FeatureSet, feature_set),
        feature_level=getattr(opensmile.FeatureLevel, level),
    )


def both_levels(feature_set: str) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What gives descriptors ("lld") and functionals ("func") of samples in one pass: openSMILE computes both anyway.

    Values are those of two passes; a level that openSMILE gives nothing for is empty.

    Samples [samples] at 16 kHz become [frames, descriptors] and [1, functionals].
    """
    from opensmile.core.config import config

    smile = smile_of(feature_set, "Functionals")
    root = Path(smile.default_config_root)
    options = {
        **smile._options(),
        "sink": str(root / config.EXTERNAL_OUTPUT_MULTI_CONFIG),
        "source": str(root / config.EXTERNAL_INPUT_CONFIG),
        "sinkLevelLLD": "lld",
        "sinkLevelFunc": "func",
        "sampleRate": SAMPLE_RATE,
        "nBits": 16,
    }

    def run(waveform: np.ndarray) -> dict[str, np.ndarray]:
        rows: dict[str, list[np.ndarray]] = {"lld": [], "func": []}
        engine = smile._smile(options=options)
        for level, made in rows.items():
            engine.external_sink_set_callback_ex(f"extsink{level}", smile._sink_callback(made, [], []))
        samples = (waveform * np.float32(32768)).astype(np.int16)
        engine.external_audio_source_write_data(config.EXTERNAL_SOURCE_COMPONENT, samples.tobytes())
        engine.external_audio_source_set_eoi(config.EXTERNAL_SOURCE_COMPONENT)
        engine.run()
        engine.free()
        return {level: np.vstack(made or [np.zeros(0)]).astype(np.float32) for level, made in rows.items()}

    return run


class Waveform(Extractor):
    """`audio.waveform`: the samples themselves, [T, 1] int16, mono, 16 kHz; absent where silent or not recorded."""

    name = "waveform"
    stream = "audio.waveform"
    reads = frozenset({"audio"})
    unit = "sample"
    licence = "that of the recording"
    dtype = np.int16

    @property
    def version(self) -> str:
        return "1"

    @property
    def dimension(self) -> int:
        return 1

    @property
    def rate(self) -> float:
        return float(SAMPLE_RATE)

    def extract_clip(self, clip: Clip) -> np.ndarray:
        waveform = clip.audible
        return self.absent if waveform is None else to_int16(waveform)[:, None]

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start


class OpenSmileSettings(Settings):
    """`features`: which of openSMILE's sets.

    eGeMAPSv02 has 25 low-level descriptors and 88 functionals, GeMAPSv01b 18 and 62, ComParE_2016 65 and 6373,
    emobase 26 and 988. `deltas` adds as many again to the descriptors of the latter two; the GeMAPS sets have none.
    """

    features: Literal["eGeMAPSv02", "GeMAPSv01b", "emobase", "ComParE_2016"] = "eGeMAPSv02"


class DescriptorSettings(OpenSmileSettings):
    """Those of openSMILE, and whether first differences come with the descriptors."""

    deltas: bool = False


class _OpenSmile(Extractor):
    """What both levels share. NaN becomes 0; a clip shorter than 60 ms, or one that openSMILE gives no number for,
    has no such features and counts as absent, as does a silent one (peak below 1e-4)."""

    reads = frozenset({"audio"})
    licence = OPENSMILE_LICENCE
    settings_type: ClassVar[type[Settings]] = OpenSmileSettings
    level: ClassVar[str]

    @property
    def version(self) -> str:
        import opensmile

        return f"opensmile {opensmile.__version__}"

    @cached_property
    def _smile(self) -> Any:
        with _SMILING:
            return smile_of(self.settings.features, self.level)

    @cached_property
    def names(self) -> list[str]:
        """Of the columns, as openSMILE writes them."""
        return list(self._smile.feature_names)

    @property
    def dimension(self) -> int:
        return len(self.names)

    @cached_property
    def _both(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return both_levels(self.settings.features)

    def makes_too(self, other: Extractor) -> bool:
        """Descriptors and functionals of one set, without deltas, come from one pass."""
        plain = all(not getattr(one.settings, "deltas", False) for one in (self, other))
        levels = {getattr(one, "level", "") for one in (self, other)} == {"LowLevelDescriptors", "Functionals"}
        return isinstance(other, _OpenSmile) and levels and plain and self.settings.features == other.settings.features

    def extract_both(self, clip: Clip, other: Extractor) -> tuple[np.ndarray, np.ndarray]:
        waveform = clip.audible
        if waveform is None or len(waveform) < SHORTEST * SAMPLE_RATE:
            return self.absent, other.absent
        with _SMILING:
            levels = self._both(waveform)
        tables = {"LowLevelDescriptors": levels["lld"], "Functionals": levels["func"]}
        values = tables[self.level], tables[cast(_OpenSmile, other).level]
        return _finite(values[0], self.absent), _finite(values[1], other.absent)

    def _table(self, smile: Any, clip: Clip) -> np.ndarray | None:
        waveform = clip.audible
        if waveform is None or len(waveform) < SHORTEST * SAMPLE_RATE:
            return None
        with _SMILING:
            table = smile.process_signal(waveform, SAMPLE_RATE)
        values = table.to_numpy(dtype=np.float32, copy=True)
        return values if np.isfinite(values).any() else None

    def extract_clip(self, clip: Clip) -> np.ndarray:
        values = self._table(self._smile, clip)
        return self.absent if values is None else _finite(values, self.absent)

    def cost(self, clip: Clip) -> float:
        return (clip.end or 0.0) - clip.start


class OpenSmileDescriptors(_OpenSmile):
    """`audio.frames`: openSMILE low-level descriptors, [T, 25] float32 for eGeMAPSv02, 100 frames per second.

    Units are openSMILE's own (semitones from 27.5 Hz for pitch, dB for level differences, Hz for formants).
    """

    name = "opensmile_lld"
    stream = "audio.frames"
    unit = "frame"
    settings_type = DescriptorSettings
    level = "LowLevelDescriptors"

    @property
    def rate(self) -> float:
        return 100.0

    @cached_property
    def _deltas(self) -> Any:
        with _SMILING:
            return smile_of(self.settings.features, "LowLevelDescriptors_Deltas")

    @cached_property
    def names(self) -> list[str]:
        """Names of the columns, in their order."""
        more = list(self._deltas.feature_names) if self._has_deltas else []
        return list(self._smile.feature_names) + more

    @property
    def _has_deltas(self) -> bool:
        return self.settings.deltas and "GeMAPS" not in self.settings.features

    def extract_clip(self, clip: Clip) -> np.ndarray:
        values = super().extract_clip(clip) if not self._has_deltas else self._with_deltas(clip)
        return values

    def _with_deltas(self, clip: Clip) -> np.ndarray:
        plain, deltas = self._table(self._smile, clip), self._table(self._deltas, clip)
        if plain is None or deltas is None:
            return self.absent
        # The delta table runs some rows past the other's end.
        steps = min(len(plain), len(deltas))
        return np.nan_to_num(np.concatenate([plain[:steps], deltas[:steps]], axis=1), posinf=0.0, neginf=0.0)


class OpenSmileFunctionals(_OpenSmile):
    """`audio.functionals`: openSMILE statistics of a whole utterance, [1, 88] float32 for eGeMAPSv02."""

    name = "opensmile_functionals"
    stream = "audio.functionals"
    unit = "utterance"
    level = "Functionals"


def _finite(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """`values` with 0 for what is no number; `absent` where there is none at all."""
    if not np.isfinite(values).any():
        return absent
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
