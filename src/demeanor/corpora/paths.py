"""Paths that come out of files: they may not lead out of the corpus folder."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".flv")
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac")
MEDIA_SUFFIXES = VIDEO_SUFFIXES + AUDIO_SUFFIXES


def why_unsafe(relative: str) -> str | None:
    """Why a path from a manifest, table or archive is refused; None if it stays inside its folder.

    The check is on the text alone, for both kinds of separators, so that it holds on every system. A folder that is
    itself a symbolic link, put there by the owner of the corpus, is allowed.
    """
    if not relative or not relative.strip():
        return "is empty"
    if "\0" in relative:
        return "contains a null character"
    posix, windows = PurePosixPath(relative), PureWindowsPath(relative)
    if posix.is_absolute() or windows.drive or windows.root:
        return "is absolute"
    if ".." in posix.parts or ".." in windows.parts:
        return "leads out of the corpus folder"
    return None


def why_unsafe_name(name: str) -> str | None:
    """As `why_unsafe`, for something that must be one plain file or folder name."""
    reason = why_unsafe(name)
    if reason is None and re.search(r"[/\\]", name):
        return "contains a path separator"
    if reason is None and name == ".":
        return "is not a name"
    return reason


def as_identifier(text: str) -> str:
    """`text` usable as an utterance id and as a file name: white space and separators become underscores."""
    return re.sub(r"[\s/\\]+", "_", text.strip())


class MediaFolder:
    """Finds recordings by their stem, whatever the suffix; each folder is listed once, not probed per clip.

    Of several files with one stem the video wins over the audio; `X-edited.mp4`, which MMML's preparation writes
    beside a damaged `X.mp4`, wins over it (MMML, section 2.1 of the system's specification).
    """

    def __init__(self, root: Path):
        self.root = root
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, folder: str, stems: list[str]) -> str | None:
        """Path relative to the root of the first stem that has a recording in `folder`; None if none has."""
        names = self._names(folder)
        for stem in stems:
            if stem in names:
                return f"{folder}/{names[stem]}" if folder else names[stem]
        return None

    def _names(self, folder: str) -> dict[str, str]:
        if folder not in self._listed:
            place = self.root / folder
            found: dict[str, tuple[int, str]] = {}
            for path in sorted(place.iterdir()) if place.is_dir() else []:
                suffix = path.suffix.lower()
                # macOS leaves "._name" files with the attributes of "name" in archives; they are not recordings.
                if suffix not in MEDIA_SUFFIXES or path.name.startswith("._"):
                    continue
                edited = path.stem.endswith("-edited")
                stem = path.stem.removesuffix("-edited")
                rank = MEDIA_SUFFIXES.index(suffix) * 2 - edited
                if stem not in found or rank < found[stem][0]:
                    found[stem] = (rank, path.name)
            self._listed[folder] = {stem: name for stem, (_, name) in found.items()}
        return self._listed[folder]
