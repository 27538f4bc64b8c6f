"""The sound of recordings: one channel (mixing.py), 16 kHz by soxr's high-quality resampler, as floats.

A frame stands where its timestamp says; what is missing between two is silence, what was there already is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32

from demeanor.features.limits import LIMITS, TIMED
from demeanor.features.media import (
    Clock,
    MediaError,
    MediaInfo,
    Source,
    audio_stream,
    decoded,
    described,
    name_of,
    opened,
    seek,
)
from demeanor.features.mixing import Mixer
from demeanor.features.spool import Spool
from demeanor.features.structure import cut_short, missing_share

#: Below this share of what a file declares, what could be decoded does not stand for the recording.
LEAST_SHARE = 0.5
#: Seconds that a timestamp may lie beside the end of the sound before it. Live recorders write times that shake by 20
#: to 30 ms, and moving every frame would put a click at each; a syllable is four times as long.
TOLERANCE = 0.05
#: Samples a second that hold all tones that features look at.
FULL_RATE = 16_000
#: Containers whose duration FFmpeg works out from the bytes that are there.
CAPPED = frozenset({"wav", "w64", "avi"})
#: Samples of silence that are handed out at once.
BLOCK = 65_536
#: Bytes of mixed sound that are held in memory until it is known that they may be handed out: 17 minutes.
HELD = 64 << 20


@dataclass(frozen=True, eq=False)
class Heard:
    """
    samples  mono in [-1, 1], None where the recording has no sound track
    remarks  of cancelling_channels (the louder one was taken), silent_channels (they do not count), sound_gaps (silent
             now), mixed_sound_formats (the sample rate or the channels change), mixed_down (of more than two channels),
             low_sampling_rate (below FULL_RATE), sound_ends_early (less than half of what the file declares),
             sound_breaks_off (the file goes on, but nothing after that place can be read)
    tracks   names of the tracks that are not read
    """

    samples: Float32[np.ndarray, " samples"] | None
    remarks: tuple[str, ...] = ()
    tracks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """A sound track heard through without being kept: its loudest sample (None: no track or nothing in it),
    and remarks as of `Heard`."""

    peak: float | None
    remarks: tuple[str, ...] = ()


def stream_audio(
    source: Source, start: float = 0.0, end: float | None = None
) -> Iterator[tuple[int, Float32[np.ndarray, " samples"]]]:
    """(sample rate, mono samples) block by block at the recording's own rate; nothing where there is no audio.

    Times count from the start of the container, so that sound that begins later than the picture is preceded by
    zeros, as it is in a player.
    """
    with opened(source) as container:
        yield from _Track(container, name_of(source), start, end).blocks()


def stream_samples(
    source: Source, rate: int = 16_000, start: float = 0.0, end: float | None = None, channel: int | None = None
) -> Iterator[Float32[np.ndarray, " samples"]]:
    """As `stream_audio`, at `rate`; of one `channel` alone, counted from 0, where one is named.

    Without one, what has several channels is heard through first, to know which of them are to be mixed: nearly always
    all, and then what was mixed meanwhile is handed out, from memory or (beyond HELD bytes) from a temporary file.
    Only what needs another mix is decoded again.
    """
    only: tuple[int, ...] | None = None if channel is None else (channel,)
    if channel is None:
        with opened(source) as container, Spool(HELD) as spool:
            track = _Track(container, name_of(source), start, end)
            blocks = resampled(track.blocks(), rate)
            stream = audio_stream(container)
            if stream is None or stream.channels == 1:
                yield from blocks
                return
            for block in blocks:
                spool.keep(block)
            only = track.mixer.cancelled or track.mixer.recorded
            if only is None and spool.whole:
                yield from spool.blocks()
                return
    with opened(source) as container:
        yield from resampled(_Track(container, name_of(source), start, end, only).blocks(), rate)


def stream_container(container: Any, label: str, rate: int = 16_000) -> Iterator[Float32[np.ndarray, " samples"]]:
    """As `stream_samples`, of a container that is open already, such as one that comes through a pipe: all its
    channels, for it cannot be heard twice."""
    yield from resampled(_Track(container, label, 0.0, None).blocks(), rate)


class _Track:
    """One pass over the default sound track of an open container."""

    def __init__(self, container: Any, label: str, start: float, end: float | None, only: Sequence[int] | None = None):
        self.container, self.label, self.start, self.end = container, label, start, end
        self.mixer = Mixer(only)
        self.remarks: set[str] = set()
        self.rate = 0
        self.missing = 0.0

    def blocks(self) -> Iterator[tuple[int, Float32[np.ndarray, " samples"]]]:
        container = self.container
        stream = audio_stream(container)
        if stream is None:
            return
        clock = Clock(container, stream)
        seek(container, self.start, clock.origin)
        position: int | None = None
        follow, behind = True, False
        broken_off = partial(self.remarks.add, "sound_breaks_off")
        with closing(decoded(container, stream, self.label, broken_off)) as frames:
            for frame in frames:
                if frame.sample_rate != self.rate:
                    if position is not None:
                        position = round(position * frame.sample_rate / self.rate)
                        self.remarks.add("mixed_sound_formats")
                        # Bare streams count time in units of their first rate.
                        follow = container.format.name in TIMED
                    self._set_rate(frame.sample_rate)
                skip = 0
                if position is None:
                    position = self._begin(clock(frame, None))
                    yield from self._silence(0, position)
                else:
                    time = clock(frame, position / self.rate) if follow else None
                    drift = 0 if time is None else round(time * self.rate) - position
                    if drift > self.tolerance:
                        self.remarks.add("sound_gaps")
                        self._count_gap(drift / self.rate)
                        yield from self._silence(position, position + drift)
                        position += drift
                    elif drift < (0 if behind else -self.tolerance):
                        skip = -drift
                    # What overlaps by more than one frame is cut off to its end, not to within the tolerance.
                    behind = skip >= frame.samples
                for samples in self.mixer(frame):
                    block = samples[skip:]
                    skip = max(skip - len(samples), 0)
                    begin, stop = max(self.first - position, 0), len(block)
                    if self.last is not None:
                        stop = min(stop, self.last - position)
                    position += len(block)
                    if begin < stop:
                        yield self.rate, block[begin:stop]
                if self.last is not None and position >= self.last:
                    return

    def _set_rate(self, rate: int) -> None:
        if not rate:
            raise MediaError(f"{self.label}: its audio has no sample rate")
        self.rate, self.tolerance = rate, round(TOLERANCE * rate)
        self.first = round(self.start * rate)
        self.last = None if self.end is None else round(self.end * rate)

    def _count_gap(self, seconds: float) -> None:
        """Silence costs its writer nothing, and whoever reads it as much as sound."""
        self.missing += seconds
        if self.missing > LIMITS.gaps:
            raise MediaError(f"{self.label}: its timestamps leave more than {LIMITS.gaps / 3600:g} h without sound")

    def _begin(self, time: float | None) -> int:
        """Where the first frame stands; a little before the start is the codec's run-up and counts as the start."""
        if time is not None and time > self.start + LIMITS.seconds:
            raise MediaError(f"{self.label}: its sound begins {time / 3600:.1f} h after its start; its times are wrong")
        position = 0 if time is None else round(time * self.rate)
        return max(position, 0) if position >= -self.tolerance else position

    def _silence(self, begin: int, stop: int) -> Iterator[tuple[int, Float32[np.ndarray, " samples"]]]:
        """Zeros for what of the span lies between two places."""
        begin = max(begin, self.first)
        stop = stop if self.last is None else min(stop, self.last)
        for place in range(begin, stop, BLOCK):
            yield self.rate, np.zeros(min(BLOCK, stop - place), np.float32)


def decode_audio(
    source: Source, start: float = 0.0, end: float | None = None, rate: int = 16_000
) -> Float32[np.ndarray, " samples"] | None:
    """Mono samples of the seconds `start` to `end` at `rate`, or None where the recording has no audio track.

    MediaError where nothing of it can be decoded, where the file was cut short and less than half of the span is left,
    and where more than LIMITS.seconds would have to be held.
    """
    return listen(source, start, end, rate).samples


def listen(source: Source, start: float = 0.0, end: float | None = None, rate: int = 16_000) -> Heard:
    """As `decode_audio`, with what there is to remark."""
    only: tuple[int, ...] | None = None
    chosen = ""
    while True:
        with opened(source) as container:
            information = described(container, name_of(source))
            if not information.has_audio:
                return Heard(None, tracks=information.passed_over)
            track = _Track(container, name_of(source), start, end, only)
            samples = _collected(resampled(track.blocks(), rate), _guess(information, start, end, rate), track.label)
        if only is None:
            only, chosen = _which(track.mixer)
            if only is not None:
                continue
        track.remarks |= {chosen} - {""}
        if 0 < track.rate < FULL_RATE:
            track.remarks.add("low_sampling_rate")
        seconds = len(samples) / rate
        if _is_short(source, information, seconds, start, end):
            track.remarks.add("sound_ends_early")
        return Heard(samples, tuple(sorted(track.remarks)), information.passed_over)


def _which(mixer: Mixer) -> tuple[tuple[int, ...] | None, str]:
    """The channels to read where not all are to be mixed, and what is remarked of the mix (empty: nothing)."""
    if mixer.cancelled is not None:
        return mixer.cancelled, "cancelling_channels"
    if mixer.surround and mixer.recorded is None:
        return None, "mixed_down"
    return mixer.recorded, "" if mixer.recorded is None else "silent_channels"


def survey(container: Any, information: MediaInfo, source: Source) -> Survey:
    """The whole sound track of an open container in memory that does not grow with it; MediaError as by `decode_audio`.
    Who asks has opened and described it: that takes as long as hearing a second of it."""
    if not information.has_audio:
        return Survey(None)
    track = _Track(container, name_of(source), 0.0, None)
    peak, seconds = None, 0.0
    for rate, block in track.blocks():
        seconds += len(block) / rate
        peak = max(peak or 0.0, float(block.max()), -float(block.min()))
    only, chosen = _which(track.mixer)
    track.remarks |= {chosen} - {""}
    if only is not None:
        peak = max(peak or 0.0, float(np.sqrt(track.mixer.channels.max() / track.mixer.samples)))
    if 0 < track.rate < FULL_RATE:
        track.remarks.add("low_sampling_rate")
    if _is_short(source, information, seconds, 0.0, None):
        track.remarks.add("sound_ends_early")
    return Survey(peak, tuple(sorted(track.remarks)))


def _guess(information: MediaInfo, start: float, end: float | None, rate: int) -> int:
    """About how many samples there will be; a header may say anything, so at most an hour is taken on trust."""
    whole = (information.duration or 60.0) if end is None else end
    return round(min(max(whole - start, 0.0) + 0.1, 3600.0) * rate)


def _collected(blocks: Iterator[np.ndarray], guess: int, label: str) -> Float32[np.ndarray, " samples"]:
    """One array of all blocks, grown in place: the samples are never held twice."""
    held = np.empty(guess, np.float32)
    count = 0
    for block in blocks:
        if count + len(block) > len(held):
            if count > LIMITS.seconds * 16_000:
                raise MediaError(
                    f"{label}: more than {LIMITS.seconds / 3600:g} h of sound in one piece; cut it by start and end"
                )
            held.resize(max(count + len(block), count + count // 16 + 16_000), refcheck=False)
        held[count : count + len(block)] = block
        count += len(block)
    held.resize(count, refcheck=False)
    return held


def resampled(blocks: Iterator[tuple[int, np.ndarray]], rate: int) -> Iterator[Float32[np.ndarray, " samples"]]:
    """Blocks of (their sample rate, samples [n]) at one rate; the rate may change between them."""
    import soxr

    resampler: Any = None
    before = rate
    for own_rate, block in blocks:
        if own_rate != before:
            if resampler is not None:
                yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
                resampler = None
            before = own_rate
        if own_rate == rate:
            yield block
            continue
        if resampler is None:
            resampler = soxr.ResampleStream(own_rate, rate, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _is_short(source: Source, information: MediaInfo, seconds: float, start: float, end: float | None) -> bool:
    """Less than half of what was declared. An error where the file was cut short while it was copied: that must not
    pass for a short recording; but a sound track may well end before the picture, and a header may be wrong."""
    if information.duration is None:
        return False
    duration = information.duration
    if information.container in CAPPED:
        duration /= 1 - missing_share(source)
    wanted = (duration if end is None else min(end, duration)) - start
    if (wanted <= 1.0 or seconds >= LEAST_SHARE * wanted) and (seconds or wanted <= 0.1):
        return False
    if cut_short(source):
        raise MediaError(
            f"{name_of(source)}: {seconds:.2f} s of {wanted:.2f} s of its audio could be decoded; the file is damaged"
        )
    return wanted > 1.0
