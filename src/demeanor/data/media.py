"""What is known of a recording before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class MediaProbe:
    """The outcome of opening one recording.

    duration  seconds; None where the file could not be opened
    silent    True if the audio track never rises above the noise floor; None where that was not looked at
    face      True if a face was found in the frames looked at; None where that was not looked at
    error     why the recording cannot be used, in one line; None for a sound file
    broken    modality -> why it cannot be decoded, in one line, where the rest of the recording is sound
    remarks   what a reader should know of how it was read; keys of checks.REMARKS
    tracks    names of further tracks, which are not read
    """

    duration: float | None = None
    has_audio: bool = False
    has_video: bool = False
    silent: bool | None = None
    face: bool | None = None
    error: str | None = None
    broken: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    tracks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
