"""What is known of a recording before anything is computed from it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isnan, nan
from typing import Any

from demeanor.data.ids import Ids

#: Remark -> what is said of how a recording was read, and what to do.
REMARKS = {
    "cancelling_channels": (
        "the channels of the sound cancel each other, so the louder one is taken",
        "One of them was recorded with the wrong polarity; nothing is lost.",
    ),
    "silent_channels": (
        "channels of the sound are silent and left out of the mix",
        "A microphone was plugged in on one side; nothing is lost.",
    ),
    "sound_gaps": (
        "parts of the sound are missing, by its own timestamps",
        "They are silent here, so that what follows stays in its place.",
    ),
    "mixed_sound_formats": (
        "the sample rate or the number of channels changes within the sound",
        "Each part is converted by itself; listen whether they belong together.",
    ),
    "mixed_down": (
        "more than two channels are mixed into one",
        "Each counts by its place, and the subwoofer not at all; without known places all count alike.",
    ),
    "low_sampling_rate": (
        "the sound has fewer than 16000 samples a second, as on a telephone: its high tones are not there",
        "Nothing can bring them back; models that learnt from fuller sound may be misled.",
    ),
    "several_faces": (
        "the OpenFace table beside the recording holds several faces",
        "One of them is read, the surest; setting `face` of openface_csv names another by its face_id.",
    ),
    "sound_breaks_off": (
        "the file goes on after the sound breaks off: what follows cannot be read",
        "Parts that do not fit were joined, of one and two channels perhaps; convert them to one format before.",
    ),
    "sound_ends_early": (
        "the sound ends before half of the recording",
        "What there is of it is used; look whether the microphone was switched off.",
    ),
}
#: Those of the pictures; the others are of the sound.
OF_PICTURES = frozenset({"several_faces"})
#: Those that nothing need be done about.
HARMLESS = frozenset({"silent_channels", "mixed_sound_formats", "mixed_down", "low_sampling_rate"})


def remarked(remarks: Iterable[str], tracks: Sequence[str] = ()) -> list[str]:
    """What an answer says of how its recording was read; `tracks`: names of those that were not."""
    passed_over = [f"there are further tracks, which are not read: {', '.join(tracks)}"] if tracks else []
    return [*passed_over, *(REMARKS[remark][0] for remark in remarks)]


@dataclass(frozen=True, slots=True)
class MediaProbe:
    """The outcome of opening one recording.

    duration  seconds; None where the file could not be opened
    silent    True if the audio track never rises above the noise floor; None where that was not looked at
    face      True if a face was found in the frames looked at; None where that was not looked at
    error     why the recording cannot be used, in one line; None for a sound file
    broken    modality -> why it cannot be decoded, in one line, where the rest of the recording is sound
    remarks   what a reader should know of how it was read; keys of REMARKS
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
        """Its values by column, as the table of probes has them."""
        return asdict(self)


class Probes(Mapping[str, MediaProbe]):
    """Utterance id -> what was found. Of a million recordings nearly all are alike but for their length, so each is a
    number of seconds and one of the few kinds."""

    def __init__(self, found: Iterable[tuple[str, MediaProbe]] = ()):
        seconds, kinds = array("d"), array("l")
        known: dict[tuple[Any, ...], int] = {}
        self._kinds: list[MediaProbe] = []

        def names() -> Iterator[str]:
            for name, probe in found:
                kind = replace(probe, duration=None)
                values = tuple(getattr(kind, slot) for slot in kind.__slots__ if slot != "broken")
                number = known.setdefault((*values, *probe.broken.items()), len(known))
                if number == len(self._kinds):
                    self._kinds.append(kind)
                seconds.append(nan if probe.duration is None else probe.duration)
                kinds.append(number)
                yield name

        self._ids = Ids(names())
        self._seconds, self._of = seconds, kinds

    def __getitem__(self, name: str) -> MediaProbe:
        place = self._ids.place(name)
        if place is None:
            raise KeyError(name)
        seconds = self._seconds[place]
        return replace(self._kinds[self._of[place]], duration=None if isnan(seconds) else seconds)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
