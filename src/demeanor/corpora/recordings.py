"""What the files of a corpus are to its utterances: found, found twice, meant by two, or not to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from demeanor.corpora.base import Corpus, Finding
from demeanor.corpora.paths import Recording, leads_out
from demeanor.data.errors import InputError
from demeanor.data.remote import RemoteFile

MEDIA_COLUMNS = ("media", "audio")


def unsettled(
    recordings: Mapping[str, Recording], names: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, str]:
    """Utterance -> why nobody can tell which recording is meant.

    A file that two utterances mean belongs to the one whose name it bears (`names`, utterance -> ends of a path without
    its suffix), if it bears the name of one of them, and to none otherwise. Where utterances are spans of recordings,
    several may share one: then `names` is None.
    """
    reasons = {
        name: f"several recordings could be meant ({', '.join(one.ambiguous[:3])})"
        for name, one in recordings.items()
        if one.ambiguous
    }
    if names is None:
        return reasons
    claimed = Counter(one.media for one in recordings.values() if one.media)
    for name, one in recordings.items():
        if one.media and claimed[one.media] > 1 and not _bears(one.media, names[name]):
            reasons[name] = f"its recording is another utterance's as well ({one.media})"
    return reasons


def _bears(path: str, names: tuple[str, ...]) -> bool:
    bare = "/" + str(PurePosixPath(path).with_suffix("")).removesuffix("-edited")
    return any(bare.endswith(f"/{name}") for name in names)


def recording_findings(recordings: Mapping[str, Recording], reasons: Mapping[str, str]) -> list[Finding]:
    """Findings about what `unsettled` tells, and about utterances of several files."""
    findings = []
    pairs = [name for name, one in recordings.items() if one.sound]
    others = [one.unused[0] for one in recordings.values() if one.unused]
    if reasons:
        findings.append(
            Finding("ambiguous_media", "error", "which recording is meant cannot be told", len(reasons),
                    tuple(f"{name}: {reason}" for name, reason in list(reasons.items())[:3]),
                    "They are left out; give every clip one file, with the name that the table has.")
        )  # fmt: skip
    if pairs:
        findings.append(
            Finding("sound_apart", "note", "pictures and sound lie in two files", len(pairs),
                    tuple(pairs[:3]), "The pictures of the video and the sound of the audio file are read.")
        )  # fmt: skip
    if others:
        findings.append(
            Finding("several_files", "warning", "more files of the same name lie there", len(others),
                    tuple(others[:3]), "They are not read.")
        )  # fmt: skip
    return findings


def require_inside(path: Path, root: Path, follow_links: bool) -> Path:
    """`path`, or an InputError if a link leads it out of the corpus folder `root`."""
    if not follow_links and leads_out(path, root):
        raise InputError(
            str(path), ["is a link that leads out of the corpus folder, which is not read"],
            "Put a copy in its place, or set the reader's `follow_links: true` if you made the link yourself.",
        )  # fmt: skip
    return path


def without_links(corpus: Corpus) -> Corpus:
    """The corpus without utterances whose recording is a link, or lies in a linked folder, that leads out of it."""
    table = corpus.utterances
    folders: dict[Path, bool] = {}
    reason = "recording is reached by a link that leads out of the corpus folder"
    aside: list[str] = []
    for column in (name for name in MEDIA_COLUMNS if name in table):
        for name, path in zip(table["utterance_id"], table[column], strict=True):
            if isinstance(path, str) and RemoteFile.parse(path) is None:
                place = corpus.root / path
                if place.parent not in folders:  # most files share theirs, and following every one takes seconds
                    folders[place.parent] = leads_out(place.parent, corpus.root)
                outside = folders[place.parent] or (place.is_symlink() and leads_out(place, corpus.root))
                aside += [str(name)] if outside else []
    advice = "It is not read. Set the reader's `follow_links: true` if you made the links yourself."
    return _without(corpus, aside, "link_out", reason, advice)


def without_addresses(corpus: Corpus) -> Corpus:
    """The corpus without utterances whose recording is named by an address: a table of somebody else's would decide
    where this machine connects to."""
    aside: list[str] = []
    for column in (name for name in MEDIA_COLUMNS if name in corpus.utterances):
        for name, path in zip(corpus.utterances["utterance_id"], corpus.utterances[column], strict=True):
            aside += [str(name)] if isinstance(path, str) and RemoteFile.parse(path) else []
    reason = "recording lies at an address"
    return _without(corpus, aside, "address", reason, "Nothing is fetched. Set the reader's `remote: true` to do so.")


def _without(corpus: Corpus, aside: list[str], kind: str, reason: str, advice: str) -> Corpus:
    """The corpus without the utterances `aside`, which a finding names."""
    if not aside:
        return corpus
    names = dict.fromkeys(aside, reason)
    finding = Finding(kind, "error", reason, len(names), tuple(names)[:3], advice)
    table = corpus.utterances
    remaining = table[~table["utterance_id"].isin(list(names))].reset_index(drop=True)
    return replace(
        corpus, utterances=remaining, findings=(*corpus.findings, finding), set_aside={**corpus.set_aside, **names}
    )
