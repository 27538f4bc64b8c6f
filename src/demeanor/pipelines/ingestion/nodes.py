"""Raw corpus in; checked utterances, streams that come with it, and the doctor's report out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from demeanor.corpora.base import Corpus, CorpusSettings
from demeanor.corpora.doctor import DoctorSettings, Report, examine, require_share
from demeanor.data.errors import InputError, MissingExtraError
from demeanor.data.media import OF_PICTURES, MediaProbe, Probes
from demeanor.data.places import anchored, from_root
from demeanor.data.remote import RemoteFile, content_of, located
from demeanor.data.settings import Settings
from demeanor.data.stream import Stream
from demeanor.data.table_on_disk import on_disk
from demeanor.data.utterances import cells, names_in
from demeanor.features.recognition import RecognitionSettings

logger = logging.getLogger(__name__)

WAVEFORM = "audio.waveform"
FRAMES_LOOKED_AT = 4
#: Pictures at most, and of each second of a recording that does not say how long it is: a header may say anything.
MOST_FRAMES, FRAMES_A_SECOND = 16, 0.5
#: Recordings that are looked at together: as many results wait at once.
WAITING = 512


class SpeechRecognition(Settings):
    """`whisper`: the model that writes missing transcripts and its settings; None: what has no text has none."""

    whisper: RecognitionSettings | None = None


def read_corpus(settings: CorpusSettings, folder: str) -> Corpus:
    """Read what is on disk; streams that come with the corpus are written to `folder`."""
    return settings.read(anchored(folder))


def probe_media(corpus: Corpus) -> Probes:
    """Open every recording once: utterance id -> what was found. Corpora without media give nothing."""
    table = corpus.utterances
    probes = Probes(_probed(table, "media", corpus.root))
    if "audio" not in table:
        return probes
    sounds = Probes(_probed(table, "audio", corpus.root))
    both = ((name, with_sound(probe, sounds[name]) if name in sounds else probe) for name, probe in probes.items())
    return Probes(chain(both, ((name, sound) for name, sound in sounds.items() if name not in probes)))


def _probed(table: pd.DataFrame, column: str, root: Path) -> Iterator[tuple[str, MediaProbe]]:
    """In threads, which are enough as decoding releases the interpreter's lock; a block of recordings at a time."""
    from demeanor.data.processors import available_cores

    rows = zip(names_in(table), cells(table[column]), strict=True)
    named = ((name, str(place)) for name, place in rows if pd.notna(place))
    with ThreadPoolExecutor(available_cores() + 1) as pool:
        while block := list(islice(named, WAITING)):
            probes = pool.map(probe_one, [located(root, place) for _, place in block])
            yield from ((name, probe) for (name, _), probe in zip(block, probes, strict=True))


def with_sound(picture: MediaProbe, sound: MediaProbe) -> MediaProbe:
    """What a film is whose sound lies in another file: the one's picture and length, the other's sound."""
    broken = {name: why for name, why in picture.broken.items() if name != "audio"}
    broken |= {name: why for name, why in sound.broken.items() if name == "audio"}
    return replace(
        picture, has_audio=sound.has_audio, silent=sound.silent, error=picture.error or sound.error,
        broken=broken, tracks=picture.tracks + sound.tracks,
        remarks=(*sound.remarks, *(one for one in picture.remarks if one in OF_PICTURES)),
    )  # fmt: skip


def probe_one(place: Path | RemoteFile) -> MediaProbe:
    """What one file holds; a file that cannot be read is a probe with an error, not an exception.

    Sound and picture are tried each by itself: one that is broken leaves the other.
    """
    from demeanor.features.clip import SILENCE
    from demeanor.features.media import described, name_of, opened
    from demeanor.features.sound import survey

    broken: dict[str, str] = {}
    remarks: tuple[str, ...] = ()
    silent = face = None
    try:
        path = content_of(place)
        with opened(path) as container:
            info = described(container, name_of(path))
            try:
                heard = survey(container, info, path)
            except Exception as error:
                broken["audio"] = _one_line(error)
            else:
                remarks, silent = heard.remarks, None if heard.peak is None else heard.peak < SILENCE
    except MissingExtraError:
        raise
    except Exception as error:  # whatever one recording does to a decoder, the others are looked at
        return MediaProbe(error=_one_line(error))
    if info.has_video:
        try:
            face = _shows_face(path, FRAMES_LOOKED_AT / info.duration if info.duration else FRAMES_A_SECOND)
        except MissingExtraError:
            raise
        except Exception as error:
            broken["vision"] = _one_line(error)
        if isinstance(place, Path) and _several_faces_beside(place):
            remarks = (*remarks, "several_faces")
    if broken and len(broken) == info.has_audio + info.has_video:
        return MediaProbe(error=next(iter(broken.values())))
    return MediaProbe(
        info.duration,
        info.has_audio and "audio" not in broken,
        info.has_video and "vision" not in broken,
        silent,
        face,
        broken=broken,
        remarks=remarks,
        tracks=info.passed_over,
    )


def _shows_face(path: Path | bytes, rate: float) -> bool:
    import cv2

    from demeanor.features.faces import find_face
    from demeanor.features.media import decode_frames

    with closing(decode_frames(path, rate=rate)) as frames:
        pictures = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for _, image in islice(frames, MOST_FRAMES))
        return any(find_face(picture) is not None for picture in pictures)


def _several_faces_beside(path: Path) -> bool:
    """Does a table of OpenFace lie beside the film that holds more than one face?"""
    table = path.with_suffix(".csv")
    if not table.is_file():
        return False
    from demeanor.features.openface import faces_in

    return faces_in(table) > 1


def _one_line(error: Exception) -> str:
    from demeanor.features.tasks import reason_of

    return " ".join(reason_of(error).split())


def examine_corpus(
    corpus: Corpus, probes: Mapping[str, MediaProbe], settings: DoctorSettings
) -> tuple[Report, dict[str, Any], str]:
    """The doctor's report: as an object, as JSON, and as text."""
    report = examine(corpus, settings, probes)
    for finding in report.findings:
        log = logger.warning if finding.severity != "note" else logger.info
        log("%s: %s", finding.kind, finding.message)
    return report, report.to_json(), report.to_markdown()


def keep_usable(corpus: Corpus, report: Report, settings: DoctorSettings) -> pd.DataFrame:
    """The utterances without those set aside; an error if these are more than `bad_share` allows."""
    require_share(report, settings.bad_share)
    for name, reason in report.set_aside.items():
        logger.warning("set aside: %s: %s", name, reason)
    table = corpus.utterances
    if not report.set_aside:
        return table.reset_index(drop=True)
    rows = np.flatnonzero(~table["utterance_id"].isin(list(report.set_aside)))
    return on_disk(table, rows).reset_index(drop=True)


def recognise_speech(
    corpus: Corpus, usable: pd.DataFrame, settings: SpeechRecognition
) -> tuple[pd.DataFrame, dict[str, Stream]]:
    """The utterances with transcripts of what was said where the corpus has none, if a recogniser is named; and the
    times of recognised words as stream `text.word_times`, unless the corpus brings its own."""
    if settings.whisper is None:
        return usable, {}
    from demeanor.features.clips import WORD_TIMES, clips_of
    from demeanor.features.recognition import fill_transcripts, word_times

    table, words = fill_transcripts(usable, clips_of(usable, corpus.root), settings.whisper)
    written = int(table["transcript"].str.startswith("recognised").fillna(False).sum())
    logger.info("%d of %d transcripts were recognised by %s", written, len(table), settings.whisper.model)
    if not words or WORD_TIMES in corpus.streams:
        return table, {}
    return table, {WORD_TIMES: word_times(list(table["utterance_id"]), words, settings.whisper)}


def decode_audio_tracks(
    corpus: Corpus, utterances: pd.DataFrame, recognised: dict[str, Stream], folder: str, cache: str, workers: str
) -> tuple[dict[str, Stream], str]:
    """All audio as 16 kHz mono in one stream, beside the streams that came with the corpus or from recognition.

    Also the corpus' folder, which later pipelines decode the video from.
    """
    streams: dict[str, Stream] = {**recognised, **corpus.streams}
    if utterances["media"].notna().any():
        streams |= waveforms(corpus, utterances, folder, cache, workers)
    return streams, from_root(corpus.root)


def worker_count(workers: str) -> int | Literal["auto"]:
    """The parameter `workers`, a number or auto. InputError for anything else."""
    text = str(workers)
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise InputError("parameter 'workers'", [f"'{workers}' is neither auto nor a number from 1"])
    return int(text)


def waveforms(corpus: Corpus, utterances: pd.DataFrame, folder: str, cache: str, workers: str) -> Mapping[str, Stream]:
    """The stream `audio.waveform`, decoded from the recordings [samples, 1]; what the cache has is not decoded anew."""
    from demeanor.features.clips import clips_of
    from demeanor.features.engine import StreamRequest, extract_streams

    clips = clips_of(utterances, corpus.root)
    request = {WAVEFORM: StreamRequest(extractor="waveform")}
    made, _ = extract_streams(clips, request, anchored(cache), anchored(folder), worker_count(workers))
    return made
