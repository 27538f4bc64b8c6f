"""One utterance as extractors see it: its words, its sound and pictures, and which content decides their values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from demeanor.data.files import sha256_of, sha256_of_file
from demeanor.data.ragged import Ragged
from demeanor.data.remote import RemoteError, RemoteFile, content_of
from demeanor.data.texts import has_content

#: Samples per second of every waveform inside Demeanor.
SAMPLE_RATE = 16_000
#: A recording whose loudest sample stays below this holds no voice: the audio modality is absent.
SILENCE = 1e-4
#: Samples that are converted at once.
CONVERTED = 1 << 20
#: What a clip holds for its own process alone.
HELD = ("waveform", "film", "_samples_digest")
#: How recordings are decoded; counts up when the same file gives other samples or pictures than before, so that what
#: was extracted from them is made again.
DECODING = 2


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a transcript; start and end in seconds from the start of the utterance.

    confidence  of a recogniser, between 0 and 1; None where the word was given
    """

    text: str
    start: float
    end: float
    confidence: float | None = None


@dataclass(frozen=True, eq=False)
class Clip:
    """One utterance as extractors see it: small enough to be sent to a worker process, media decoded on demand.

    text       transcript, None where there is none
    words      times of `text.split()`, None where unknown
    media      path, address or content of a recording; the utterance is its seconds `start` to `end` (None: to its end)
    sound      path or address of a recording whose sound takes the place of that of `media`, over the same seconds
    recorded   [T] int16 or float samples at 16 kHz, used instead of the audio of `media`
    stored     file of the stream `audio.waveform`, which holds the samples under `utterance_id`
    alignment  where word times came from: corpus, ctc, uniform
    dialogue   transcripts of all turns of its dialogue in order, of which this one is number `turn`
    speakers   who says each of them, None where unknown; empty: nothing is known
    notes      what a reader of an answer should know of how the recording was read; grows while that is done (see
               `note`), and copies of a clip share it
    """

    utterance_id: str
    text: str | None = None
    language: str = "en"
    words: tuple[Word, ...] | None = None
    media: Path | bytes | RemoteFile | None = None
    start: float = 0.0
    end: float | None = None
    recorded: np.ndarray | None = field(default=None, repr=False)
    stored: Path | None = None
    alignment: str = ""
    dialogue: tuple[str | None, ...] = field(default=(), repr=False)
    turn: int = 0
    speakers: tuple[str | None, ...] = field(default=(), repr=False)
    sound: Path | RemoteFile | None = None
    notes: dict[str, None] = field(default_factory=dict, repr=False)

    def note(self, text: str) -> None:
        """Have an answer to this clip say so, in a few words and once."""
        self.notes[text] = None

    @property
    def spoken(self) -> str | None:
        """The transcript, or None where it has no visible character."""
        return self.text if has_content(self.text) else None

    @cached_property
    def waveform(self) -> Float32[np.ndarray, " samples"] | None:
        """Mono samples in [-1, 1) at 16 kHz, or None where nothing was recorded.

        Values lie on the 16-bit grid, so that a clip gives the same features whether it is decoded now or was
        stored as `audio.waveform` (int16) before. MediaError where the recording cannot be read.
        """
        samples = self._samples()
        if samples is None or len(samples) == 0:
            return None
        values = samples.astype(np.float32)
        values *= np.float32(1 / 32768)  # a power of two: exact, and quicker than dividing
        return values

    @property
    def audible(self) -> Float32[np.ndarray, " samples"] | None:
        """`waveform`, or None where it is silent throughout (peak below 1e-4)."""
        waveform = self.waveform
        return None if waveform is None or float(np.abs(waveform).max()) < SILENCE else waveform

    def _samples(self) -> np.ndarray | None:
        """[T] int16."""
        if self.recorded is not None:
            return to_int16(self.recorded.reshape(-1))
        if self.stored is not None:
            return np.asarray(_store(self.stored)[self.utterance_id]).reshape(-1)
        recording = self.media if self.sound is None else self.sound
        if recording is None:
            return None
        source = content_of(recording)
        from demeanor.data.media import remarked
        from demeanor.features.sound import listen

        heard = listen(source, self.start, self.end, SAMPLE_RATE)
        self.notes.update(dict.fromkeys(remarked(heard.remarks, heard.tracks)))
        return None if heard.samples is None else to_int16(heard.samples)

    def frames(self, rate: float | None = None, longest_side: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """(seconds from the start of the utterance, RGB image [height, width, 3]) one by one; none without video."""
        media = self.media
        if media is None:
            return iter(())
        film = self.__dict__.get("film")
        if film is not None:
            return film.frames(rate, longest_side)
        from demeanor.features.media import decode_frames

        return decode_frames(content_of(media), self.start, self.end, rate, longest_side, self.note)

    def at_hand(self, pictures: bool) -> Clip:
        """A copy for several extractors in turn: its sound, and with `pictures` its frames (up to film.HELD bytes), are
        decoded once for all of them and held until the copy is let go. Sound that was decoded before, to hear its
        words, is not decoded again."""
        copy = replace(self)
        if "waveform" in self.__dict__:
            copy.__dict__["waveform"] = self.waveform
        copy.__dict__["film"] = None
        if pictures and self.media is not None:
            from demeanor.features.film import Film

            copy.__dict__["film"] = Film(content_of(self.media), self.start, self.end, self.note)
        return copy

    def without_cache(self) -> Clip:
        """A copy that holds no decoded samples; a clip that is `at_hand` stays so: whoever made it lets it go."""
        return self if "film" in self.__dict__ else replace(self)

    def only(self, reads: frozenset[str]) -> Clip:
        """A copy without what an extractor reading `reads` does not see: lighter to send."""
        if "dialogue" not in reads:
            return replace(self, dialogue=(), turn=0, speakers=())
        return self if "speakers" in reads or not self.speakers else replace(self, speakers=())

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in HELD}

    def content(self, reads: frozenset[str]) -> str:
        """Hash of all of this clip that an extractor reading `reads` can see.

        OSError where the system does not let its recording be read: who asks sets this clip aside, and this one alone.
        """
        parts: list[Any] = []
        if "text" in reads:
            parts += ["text", self.text, self.language]
        if "words" in reads:
            words = None if self.words is None else [[word.text, word.start, word.end] for word in self.words]
            parts += ["words", words, self.alignment]
        if "dialogue" in reads:
            parts += ["dialogue", _dialogue_digest(self.dialogue), self.turn]
        if "speakers" in reads:
            parts += ["speakers", _dialogue_digest(self.speakers)]
        if "audio" in reads and (self.recorded is not None or self.stored is not None):
            parts += ["samples", self._samples_digest]
        elif "audio" in reads:
            parts += ["audio", *self._content_of(self.media if self.sound is None else self.sound)]
        if "video" in reads:
            parts += ["video", *self._content_of(self.media)]
        return sha256_of(parts)

    @cached_property
    def _samples_digest(self) -> str:
        """Hash of the samples that are at hand: every stream of sound asks for it, some several times. Of those in the
        store it was noted when they were written."""
        if self.recorded is None and self.stored is not None:
            noted = _store(self.stored).digest(self.utterance_id)
            if noted is not None:
                return noted
        return _digest(np.ascontiguousarray(self._samples()))

    def _content_of(self, recording: Path | bytes | RemoteFile | None) -> list[Any]:
        if recording is None:
            return [None]
        if isinstance(recording, RemoteFile):
            try:
                return [recording.identity(), self.start, self.end, DECODING]
            except RemoteError:  # told when it is to be read
                return ["missing", str(recording)]
        if isinstance(recording, bytes):
            return [_digest(recording), self.start, self.end, DECODING]
        if not recording.is_file():
            return ["missing", str(recording)]
        status = recording.stat()
        digest = _file_digest(str(recording), status.st_size, status.st_mtime_ns)
        return [digest, self.start, self.end, DECODING]


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] to the nearest 16-bit values; 16-bit samples pass unchanged."""
    if samples.dtype == np.int16:
        return samples
    values = np.empty(samples.shape, np.int16)
    for start in range(0, len(samples), CONVERTED):  # a copy of a whole long recording would be twice its size
        part = samples[start : start + CONVERTED].astype(np.result_type(samples.dtype, np.float32))
        with np.errstate(over="ignore"):  # what is beyond all numbers is clipped like everything that is too loud
            part *= 32768.0  # exact: a power of two
        values[start : start + CONVERTED] = np.clip(np.rint(part, out=part), -32768, 32767, out=part)
    return values


def _digest(content: bytes | np.ndarray) -> str:
    import hashlib

    return hashlib.sha256(content.data if isinstance(content, np.ndarray) else content).hexdigest()


@lru_cache(maxsize=64)
def _dialogue_digest(transcripts: tuple[str | None, ...]) -> str:
    """Hash of a dialogue, which all its turns share: a corpus may be one dialogue of thousands."""
    return sha256_of(transcripts)


@lru_cache(maxsize=65536)
def _file_digest(path: str, size: int, modified: int) -> str:
    """Hash of a file; many utterances of one long recording share it."""
    return sha256_of_file(path)


def _store(path: Path) -> Ragged:
    """The stream that holds samples, as it is on disk now."""
    return _stored(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _stored(path: str, modified: int) -> Ragged:
    return Ragged.load(path)
