"""Paths that come out of files: they may not lead out of the corpus folder, and they find what is meant by them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from demeanor.data.names import AUDIO_SUFFIXES, MEDIA_SUFFIXES, VIDEO_SUFFIXES, Index, leads_out, normal_form
from demeanor.data.places import expanded

__all__ = ["AUDIO_SUFFIXES", "MEDIA_SUFFIXES", "VIDEO_SUFFIXES", "MediaFolder", "Recording", "leads_out"]


def why_unsafe(relative: str) -> str | None:
    """Why a path from a manifest, table or archive is refused; None if it stays inside its folder.

    The check is on the text alone, for both kinds of separators, so that it holds on every system. Whether a link on
    the disk leads out is looked at where files are read.
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


def within(path: str, root: Path) -> str:
    """A path of a table as it is meant below the folder `root`, with the separators that every system reads.

    A whole one (or one from the home folder, `~`) that lies below `root` is cut to what follows it; any other stays,
    and `why_unsafe` refuses it.
    """
    path = path.strip()
    whole = expanded(path)
    if whole.is_absolute():
        inside = (folder for folder in (root.absolute(), root.resolve()) if whole.is_relative_to(folder))
        path = next((str(whole.relative_to(folder)) for folder in inside), path)
    return path.replace("\\", "/")


@dataclass(frozen=True)
class Recording:
    """What was found for one utterance, as paths relative to the corpus folder.

    media      the recording; None where there is none
    sound      a file of the same name with sound alone, which takes the place of the video's
    unused     other files of the same name
    ambiguous  files of which each might be meant; then `media` is None
    """

    media: str | None = None
    sound: str | None = None
    unused: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()


class MediaFolder:
    """Finds recordings by what tables call them, whatever the suffix; each folder is listed once, not probed per clip.

    A name that is there is taken; else files of the same normal form (demeanor.data.names), if they all have one stem.
    Of several files with one stem the picture comes from the video and the sound from the audio file;
    `X-edited.mp4`, which MMML's preparation writes beside a damaged `X.mp4`, wins over it
    (docs/systems/mmml.md#edited-clips).
    """

    def __init__(self, root: Path):
        self.root = root
        self._listed: dict[str, tuple[list[str], list[str]]] = {}
        self._folders: dict[str, Index] = {}
        self._stems: dict[str, tuple[Index, dict[str, list[str]]]] = {}
        self._hints = 0

    def find(self, folder: str, stems: Sequence[str]) -> Recording:
        """The recording in `folder` of the first of `stems` that has one; a stem may bring a suffix, of any kind."""
        folders = self.folder(folder)
        if len(folders) > 1:
            return Recording(ambiguous=tuple(folders))
        for stem in stems if folders else ():
            index, files = self._recordings(folders[0])
            bare = PurePosixPath(stem)
            matches = index.matching(stem)
            if not matches and bare.suffix.lower() in MEDIA_SUFFIXES:
                matches = index.matching(bare.stem)
            if len(matches) > 1:
                return Recording(ambiguous=tuple(_joined(folders[0], files[name][0]) for name in matches))
            if matches:
                return self._chosen(folders[0], files[matches[0]])
        return Recording()

    def all(self, folder: str) -> dict[str, Recording]:
        """Every recording in `folder` by its stem."""
        return {stem: self._chosen(folder, names) for stem, names in self._recordings(folder)[1].items()}

    def beside(self, folder: str, stem: str, suffix: str) -> list[str]:
        """Files in `folder` with `suffix`, in any case, that belong to a recording called `stem`."""
        names = {name[: -len(suffix)]: name for name in self._names(folder)[0] if name.lower().endswith(suffix)}
        return [names[found] for found in Index(names).matching(stem)]

    def file(self, path: str) -> Recording:
        """The file that a manifest's `path` (with slashes) means: itself, or the one of the same normal form.

        A path without a suffix, or whose file is not there, finds a recording of another suffix as well only where
        it has none of its own.
        """
        if (self.root / path).is_file():
            return Recording(media=path)
        parent, _, name = path.rpartition("/")
        folders = self.folder(parent)
        if len(folders) != 1:
            return Recording(ambiguous=tuple(folders))
        if PurePosixPath(name).suffix.lower() not in MEDIA_SUFFIXES:
            return self.find(parent, [name])
        matches = Index(self._names(folders[0])[0]).matching(name)
        if len(matches) > 1:
            return Recording(ambiguous=tuple(_joined(folders[0], one) for one in matches))
        return Recording(media=_joined(folders[0], matches[0])) if matches else Recording()

    def folder(self, folder: str) -> list[str]:
        """Folders that `folder` means, each part by its normal form; usually one."""
        folders = [""]
        for part in PurePosixPath(folder).parts:
            folders = [
                _joined(place, name) for place in folders for name in self._subfolders(place).matching(part)
            ]  # fmt: skip
        return folders

    def hint(self, path: str, taken: Set[str] = frozenset()) -> str:
        """What lies where `path` was looked for: ' (1.foo lies there and is not looked at)', or nothing.

        Files that are another utterance's (`taken`, relative to the root) are not what was meant.
        """
        self._hints += 1
        parent, _, name = path.rpartition("/")
        folders = self.folder(parent)
        if len(folders) != 1 or self._hints > 200:  # the nearest name costs time, and nobody reads the thousandth
            return "" if folders else f" (there is no folder {parent})"
        files = [name for name in self._names(folders[0])[0] if _joined(folders[0], name) not in taken]
        stem = normal_form(PurePosixPath(name).stem)
        same = [file for file in files if normal_form(PurePosixPath(file).stem) == stem]
        if same:
            known = PurePosixPath(same[0]).suffix.lower() in MEDIA_SUFFIXES
            return f" ({same[0]} lies there{'' if known else ' and is not looked at'})"
        close = difflib.get_close_matches(name, files[:2000], n=1)
        return f" (nearest is {close[0]})" if close else ""

    def _chosen(self, folder: str, names: Sequence[str]) -> Recording:
        videos = [name for name in names if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES]
        sounds = [name for name in names if name not in videos]
        media, sound = (videos[0], sounds[0] if sounds else None) if videos else (sounds[0], None)
        # A file that was repaired stands for the one beside it.
        unused = [name for name in names if name not in (media, sound) and not _edited(media)]
        return Recording(
            _joined(folder, media), _joined(folder, sound) if sound else None,
            tuple(_joined(folder, name) for name in unused),
        )  # fmt: skip

    def _recordings(self, folder: str) -> tuple[Index, dict[str, list[str]]]:
        """Stems, and the files of each, the one to take first."""
        if folder not in self._stems:
            files: dict[str, list[str]] = {}
            for name in self._names(folder)[0]:
                # macOS leaves "._name" files with the attributes of "name" in archives; they are not recordings.
                if PurePosixPath(name).suffix.lower() in MEDIA_SUFFIXES and not name.startswith("._"):
                    files.setdefault(PurePosixPath(name).stem.removesuffix("-edited"), []).append(name)
            for names in files.values():
                names.sort(
                    key=lambda name: (MEDIA_SUFFIXES.index(PurePosixPath(name).suffix.lower()), not _edited(name))
                )
            self._stems[folder] = Index(files), files
        return self._stems[folder]

    def _subfolders(self, folder: str) -> Index:
        if folder not in self._folders:
            self._folders[folder] = Index(self._names(folder)[1])
        return self._folders[folder]

    def _names(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the files and of the folders in `folder`, in order."""
        if folder not in self._listed:
            place = self.root / folder
            entries = sorted(place.iterdir()) if place.is_dir() else []
            folders = [entry.name for entry in entries if entry.is_dir()]
            known = set(folders)
            self._listed[folder] = ([entry.name for entry in entries if entry.name not in known], folders)
        return self._listed[folder]


def _edited(name: str) -> bool:
    return PurePosixPath(name).stem.endswith("-edited")


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
