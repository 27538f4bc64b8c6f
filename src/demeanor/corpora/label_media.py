"""The recordings beside `label.csv`: `Raw/<video_id>/<clip_id>.mp4`, or all of them in one folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from demeanor.corpora.base import Finding
from demeanor.corpora.paths import MediaFolder, Recording
from demeanor.corpora.recordings import recording_findings, unsettled
from demeanor.data.errors import InputError

MEDIA_FOLDERS = ("Raw", "raw", "wav", "Wav", "media")


def with_media(
    clips: pd.DataFrame, root: Path, folder: str | None, where: str
) -> tuple[pd.DataFrame, dict[str, Recording], list[Finding], dict[str, str]]:
    """The clips whose recording is clear, what was found for each, findings, and utterance -> why one is set aside.

    `clips` has utterance_id, video_id and clip_id; `where` is the table, for errors. InputError if no clip is left.
    """
    ids = clips["utterance_id"]
    recordings = dict(zip(ids, find_media(root, folder, clips["video_id"], clips["clip_id"]), strict=True))
    if not any(one.media or one.ambiguous for one in recordings.values()):
        message = "there are no recordings beside the table: text alone can be used"
        return clips, recordings, [Finding("no_media", "note", message, len(clips))], {}
    pairs = zip(ids, clips["video_id"], clips["clip_id"], strict=True)
    unclear = unsettled(recordings, {name: (f"{v}/{c}", f"{v}_{c}", f"{v}$_${c}") for name, v, c in pairs})
    clear = clips[~ids.isin(list(unclear))].copy()
    if clear.empty:
        raise InputError(where, [f"{name}: {reason}" for name, reason in unclear.items()], "Give every clip one file.")
    return clear, recordings, recording_findings(recordings, unclear), unclear


def find_media(root: Path, folder: str | None, videos: Iterable[str], clips: Iterable[str]) -> list[Recording]:
    """Each clip's recording.

    Where the media folder exists but a clip is not in it, the path where it was expected is given, so that the doctor
    reports a missing file; nothing for all where there is no media folder. InputError if their folder is not there.
    """
    finder = MediaFolder(root)
    names = (folder,) if folder else MEDIA_FOLDERS
    present = next((places[0] for name in names if (places := finder.folder(name))), None)
    if present is None:
        if folder:
            raise InputError(str(root), [f"there is no folder '{folder}' for the recordings"])
        return [Recording() for _ in videos]
    recordings: list[Recording] = []
    for video, clip in zip(videos, clips, strict=True):
        one = finder.find(f"{present}/{video}", [clip])
        if not one.media and not one.ambiguous:
            one = finder.find(present, [f"{video}_{clip}", f"{video}$_${clip}"])
        if not one.media and not one.ambiguous:
            one = Recording(media=f"{present}/{video}/{clip}.mp4")
        recordings.append(one)
    return recordings
