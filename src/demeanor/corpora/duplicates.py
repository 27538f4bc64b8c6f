"""The doctor's question whether the test is unseen: what stands in several splits of a corpus."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pandas as pd

from demeanor.corpora.base import Corpus, Finding
from demeanor.corpora.checks import SPEEDS
from demeanor.data.files import sha256_of_file
from demeanor.data.ragged import Ragged
from demeanor.data.remote import RemoteFile, located

#: Of an alphabet, words that a transcript has at least to be compared; of other scripts, twice as many signs.
UNIQUE_WORDS = 4


def duplicates(corpus: Corpus, hash_media: bool) -> list[Finding]:
    """The same transcript, recording or audio features in several splits."""
    table = corpus.utterances
    text = table["text"].fillna("").str.lower().str.replace(r"\W+", " ", regex=True).str.strip()
    # "yes" and "thank you" stand in every split of every corpus and prove nothing.
    long = text.str.count(" ") + 1 >= UNIQUE_WORDS
    long |= (table["language"].isin(SPEEDS)) & (text.str.len() >= 2 * UNIQUE_WORDS)
    long &= text.duplicated(keep=False)
    groups = {"duplicate_text": ("transcript", _groups(zip(text[long], table.loc[long, "utterance_id"], strict=True)))}
    if hash_media:
        groups["duplicate_media"] = ("recording", _groups(_media_hashes(corpus)))
    for name, stream in corpus.streams.items():
        if stream.modality == "audio":
            groups[f"duplicate_{name}"] = (f"sequence of {name}", _groups(_sequence_hashes(stream.ragged)))
    findings = []
    several = {name for _, found in groups.values() for names in found for name in names}
    rows = table[table["utterance_id"].isin(several)] if several else table.iloc[:0]
    split = dict(zip(rows["utterance_id"], rows["split"], strict=True))
    for kind, (what, found) in groups.items():
        across = [names for names in found if len({split[name] for name in names if name in split}) > 1]
        if across:
            concerned = sum(len(names) for names in across)
            findings.append(
                Finding(kind, "warning", f"the same {what} stands in several splits ({len(across)} of them)",
                        concerned, tuple(" = ".join(names[:2]) for names in across[:3]),
                        "The test is no longer unseen; remove them from train or say so.")
            )  # fmt: skip
    return findings


def _groups(pairs: Any) -> list[list[str]]:
    groups: dict[Any, list[str]] = defaultdict(list)
    for key, name in pairs:
        groups[key].append(name)
    return [names for names in groups.values() if len(names) > 1]


def _media_hashes(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """(hash, utterance id) of recordings that are one utterance each; a file of a size of its own is not read."""
    table = corpus.utterances
    alone = table["media"].notna() & ~table["media"].duplicated(keep=False)
    sizes: dict[int, list[tuple[str, Any]]] = defaultdict(list)
    for name, path in zip(table.loc[alone, "utterance_id"], table.loc[alone, "media"], strict=True):
        place = located(corpus.root, path)
        if isinstance(place, RemoteFile):
            continue
        try:
            size = place.stat().st_size if place.is_file() else 0
        except OSError:  # `media` tells of it
            continue
        if size:
            sizes[size].append((name, place))
    for members in sizes.values():
        for name, place in members if len(members) > 1 else ():
            try:
                digest = sha256_of_file(place)
            except OSError:  # likewise
                continue
            yield digest, name


def _sequence_hashes(ragged: Ragged) -> Iterator[tuple[bytes, str]]:
    lengths = ragged.lengths
    repeated = pd.Series(lengths).duplicated(keep=False)
    for n, name in enumerate(ragged.ids):
        if repeated[n] and lengths[n]:
            yield hashlib.blake2b(ragged[n].tobytes(), digest_size=16).digest(), name
