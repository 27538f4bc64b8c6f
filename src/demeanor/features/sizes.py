"""What streams will take on disk, before hours go into making them: of a thousand hours, an encoder's frames are
hundreds of gigabytes, their statistics a few."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from demeanor.data.errors import InputError
from demeanor.features.base import Extractor

#: Extractor of frames -> the one that makes one step a clip of the same.
POOLED = {
    "hf_speech": "hf_speech_statistics", "opensmile_lld": "opensmile_functionals",
    "librosa_frames": "librosa_functionals",
}  # fmt: skip


def require_room(makers: Mapping[str, Extractor], seconds: float, most_gib: float) -> None:
    """InputError for streams (name -> its maker) with a step every so often of `seconds` of sound in all that would
    take more than `most_gib`: with what takes their place, or what lets them through."""
    problems, advice = [], []
    for name, extractor in makers.items():
        gib = (
            seconds * (extractor.rate or 0.0) * extractor.dimension * np.dtype(extractor.stored_dtype).itemsize / 2**30
        )
        if gib <= most_gib:
            continue
        problems.append(
            f"stream '{name}': {extractor.dimension} numbers {extractor.rate:g} times a second of "
            f"{seconds / 3600:,.0f} hours are {gib:,.0f} GiB, more than features.most_gib ({most_gib:g})"
        )
        if extractor.name in POOLED:
            advice.append(f"{POOLED[extractor.name]} makes one step a clip of what {extractor.name} makes.")
    if problems:
        ways = " ".join(dict.fromkeys(advice))
        raise InputError(
            "streams to extract", problems,
            f"{ways} `precision: float16` halves a stream; --params features.most_gib=N lets it through.".strip(),
        )  # fmt: skip
