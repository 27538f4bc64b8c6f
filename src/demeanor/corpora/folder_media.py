"""The recordings of one's own folder: those that a manifest names, or all that lie there with their transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from demeanor.corpora.base import Finding
from demeanor.corpora.paths import MediaFolder, Recording, leads_out, why_unsafe
from demeanor.corpora.recordings import recording_findings, unsettled
from demeanor.data.errors import InputError
from demeanor.data.texts import MOST_TRANSCRIPT_BYTES, read_text, spoken

TRANSCRIPT = ".txt"


def scan(
    root: Path, language: str, follow_links: bool, findings: list[Finding], alone: Path | None = None
) -> pd.DataFrame:
    """Columns id, media, audio and text of every recording below the folder, or of the one recording `alone` in it;
    a .txt beside it is its transcript.

    Files of one name are one utterance. What is odd goes to `findings`.
    """
    finder = MediaFolder(root)
    recordings: dict[str, Recording] = {}
    rows: list[dict[str, str]] = []
    transcripts = _Transcripts(root, language, follow_links)
    below = () if alone else root.rglob("*")
    folders = sorted({path.parent for path in below if path.is_file() and not path.name.startswith(".")}) or [root]
    for folder in folders:
        place = "" if folder == root else folder.relative_to(root).as_posix()
        for stem, one in finder.all(place).items():
            name = f"{place}/{stem}" if place else stem
            if stem.startswith(".") or one.media is None:
                continue
            if alone and alone.name not in (Path(file).name for file in (one.media, one.sound) if file):
                continue
            recordings[name] = one
            texts = finder.beside(place, stem, TRANSCRIPT)
            text = transcripts.read([folder / file for file in texts])
            rows.append({"id": name, "media": one.media, "audio": one.sound or "", "text": text})
    findings += [*recording_findings(recordings, {}), *transcripts.findings()]
    rows.sort(key=lambda row: row["media"])
    return pd.DataFrame(rows, columns=["id", "media", "audio", "text"], dtype=object)


class _Transcripts:
    """Reads transcripts, and remembers what was odd about them."""

    def __init__(self, root: Path, language: str, follow_links: bool):
        self.root, self.language, self.follow_links = root, language, follow_links
        self.encodings: dict[str, list[str]] = {}
        self.unread: list[str] = []
        self.unclear: list[str] = []
        self.linked: list[str] = []

    def read(self, paths: list[Path]) -> str:
        """What is said; nothing where there is no transcript, or none that can be read, or several."""
        if len(paths) > 1:
            self.unclear.append(self._name(paths[0]))
        if len(paths) != 1:
            return ""
        path = paths[0]
        if not self.follow_links and leads_out(path, self.root):
            self.linked.append(self._name(path))
            return ""
        try:
            text = read_text(path, self.language, MOST_TRANSCRIPT_BYTES)
        except (InputError, OSError):
            self.unread.append(self._name(path))
            return ""
        if not text.encoding.startswith("utf-8"):
            self.encodings.setdefault(text.encoding, []).append(self._name(path))
        return spoken(text.content) or ""

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def findings(self) -> list[Finding]:
        others = [name for names in self.encodings.values() for name in names]
        read_as = ", ".join(f"{len(names)} as {encoding}" for encoding, names in sorted(self.encodings.items()))
        told: tuple[tuple[str, Any, str, list[str], str], ...] = (
            ("encoding", "note", f"transcripts that are not UTF-8 ({read_as})", others,
             "Look at a few; save them as UTF-8 if they look wrong."),
            ("unreadable_transcript", "warning", "transcripts that are no text or too large", self.unread,
             "Text counts as absent there; save them as UTF-8."),
            ("ambiguous_transcript", "warning", "recordings with several transcripts", self.unclear,
             "Text counts as absent there; leave one."),
            ("link_out", "warning", "transcripts that are links out of the folder", self.linked,
             "They are not read; put copies in their place."),
        )  # fmt: skip
        return [
            Finding(kind, severity, message, len(names), tuple(names[:3]), advice)
            for kind, severity, message, names, advice in told
            if names
        ]


def find_recordings(
    rows: list[dict[str, Any]], root: Path, where: str, findings: list[Finding], manifest: bool = True
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows with paths of files that are there, as far as what they say means one; utterance -> why it does not.

    Where there is no `manifest`, `scan` has told which utterances have their sound apart.
    InputError if no row has a clear one.
    """
    finder = MediaFolder(root)
    unclear: dict[str, str] = {}
    for column in ("media", "audio"):
        recordings: dict[str, Recording] = {}
        for row in rows:
            path = row.get(column)
            if path and why_unsafe(path) is None:
                recordings[row["utterance_id"]] = one = finder.file(path)
                row[column] = one.media or path
        unclear |= unsettled(recordings)
    apart = {row["utterance_id"]: Recording(row["media"], row["audio"]) for row in rows if row.get("audio")}
    findings += recording_findings(apart if manifest else {}, unclear)
    clear = [row for row in rows if row["utterance_id"] not in unclear]
    if rows and not clear:
        raise InputError(where, [f"{name}: {reason}" for name, reason in unclear.items()], "Name each file in full.")
    return clear, unclear
