"""Raw corpus in; checked utterances, streams that come with it, and the doctor's report out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from demeanor.corpora.base import Corpus, CorpusSettings
from demeanor.corpora.doctor import DoctorSettings, Report, examine, require_share
from demeanor.data.errors import InputError
from demeanor.data.media import MediaProbe
from demeanor.data.settings import Settings
from demeanor.data.stream import Stream
from demeanor.features.recognition import RecognitionSettings

logger = logging.getLogger(__name__)

WAVEFORM = "audio.waveform"
FRAMES_LOOKED_AT = 4


class SpeechRecognition(Settings):
    """`whisper`: the model that writes missing transcripts and its settings; None: what has no text has none."""

    whisper: RecognitionSettings | None = None


def read_corpus(settings: CorpusSettings, folder: str) -> Corpus:
    """Read what is on disk; streams that come with the corpus are written to `folder`."""
    return settings.read(Path(folder))


def probe_media(corpus: Corpus) -> dict[str, MediaProbe]:
    """Open every recording once: utterance id -> what was found. Corpora without media give nothing."""
    table = corpus.utterances[corpus.utterances["media"].notna()]
    paths = {
        str(name): corpus.root / str(media) for name, media in table[["utterance_id", "media"]].itertuples(index=False)
    }
    # Decoding releases the interpreter's lock, so threads are enough.
    with ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(probe_one, paths.values()), strict=True))


def probe_one(path: Path) -> MediaProbe:
    """What one file holds; a file that cannot be read is a probe with an error, not an exception.

    Sound and picture are tried each by itself: one that is broken leaves the other.
    """
    from demeanor.features.base import SILENCE
    from demeanor.features.media import MediaError, probe
    from demeanor.features.sound import survey

    broken: dict[str, str] = {}
    remarks: tuple[str, ...] = ()
    silent = face = None
    try:
        info = probe(path)
    except MediaError as error:
        return MediaProbe(error=_one_line(error))
    if info.has_audio:
        try:
            heard = survey(path)
        except MediaError as error:
            broken["audio"] = _one_line(error)
        else:
            remarks, silent = heard.remarks, None if heard.peak is None else heard.peak < SILENCE
    if info.has_video:
        try:
            face = _shows_face(path, FRAMES_LOOKED_AT / info.duration if info.duration else None)
        except MediaError as error:
            broken["vision"] = _one_line(error)
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


def _shows_face(path: Path, rate: float | None) -> bool:
    import cv2

    from demeanor.features.faces import find_face
    from demeanor.features.media import decode_frames

    pictures = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for _, image in decode_frames(path, rate=rate))
    return any(find_face(picture) is not None for picture in pictures)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def examine_corpus(
    corpus: Corpus, probes: dict[str, MediaProbe], settings: DoctorSettings
) -> tuple[Report, dict[str, Any], str]:
    """The doctor's report: as an object, as JSON, and as text."""
    report = examine(corpus, settings, probes)
    for finding in report.findings:
        told = logger.warning if finding.severity != "note" else logger.info
        told("%s: %s", finding.kind, finding.message)
    return report, report.to_json(), report.to_markdown()


def keep_usable(corpus: Corpus, report: Report, settings: DoctorSettings) -> pd.DataFrame:
    """The utterances without those set aside; an error if these are more than `bad_share` allows."""
    require_share(report, settings.bad_share)
    for name, reason in report.set_aside.items():
        logger.warning("set aside: %s: %s", name, reason)
    table = corpus.utterances
    return table[~table["utterance_id"].isin(list(report.set_aside))].reset_index(drop=True)


def recognise_speech(corpus: Corpus, usable: pd.DataFrame, settings: SpeechRecognition) -> pd.DataFrame:
    """The utterances with transcripts of what was said where the corpus has none, if a recogniser is named."""
    if settings.whisper is None:
        return usable
    from demeanor.features.clips import clips_of
    from demeanor.features.recognition import fill_transcripts

    table = fill_transcripts(usable, clips_of(usable, corpus.root), settings.whisper)
    written = int(table["transcript"].str.startswith("recognised").fillna(False).sum())
    logger.info("%d of %d transcripts were recognised by %s", written, len(table), settings.whisper.model)
    return table


def decode_audio_tracks(
    corpus: Corpus, utterances: pd.DataFrame, folder: str, cache: str, workers: str
) -> tuple[dict[str, Stream], str]:
    """All audio as 16 kHz mono in one stream, beside the streams that came with the corpus.

    Also the corpus' folder, which later pipelines decode the video from.
    """
    streams: dict[str, Stream] = dict(corpus.streams)
    if utterances["media"].notna().any():
        streams |= waveforms(corpus, utterances, folder, cache, workers)
    return streams, str(corpus.root)


def worker_count(workers: str) -> int | Literal["auto"]:
    """The parameter `workers`, a number or auto."""
    text = str(workers)
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise InputError("parameter 'workers'", [f"'{workers}' is neither auto nor a number from 1"])
    return int(text)


def waveforms(corpus: Corpus, utterances: pd.DataFrame, folder: str, cache: str, workers: str) -> Mapping[str, Stream]:
    from demeanor.features.clips import clips_of
    from demeanor.features.engine import StreamRequest, extract_streams

    clips = clips_of(utterances, corpus.root)
    request = {WAVEFORM: StreamRequest(extractor="waveform")}
    made, _ = extract_streams(clips, request, Path(cache), Path(folder), worker_count(workers))
    return made
