"""The feature pickles of the MMSA family: MOSI, MOSEI, CH-SIMS and CH-SIMS v2, aligned or not.

docs/systems/self_mm.md#pickle: `{"train": S, "valid": S, "test": S}`, each S a dict of columns of
equal length. The values cannot be made again from a recording (how the columns of MOSI were chosen is not known), and
the streams say so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from demeanor.corpora.base import Corpus, Finding, Reader, ReaderSettings
from demeanor.corpora.cards import card_for
from demeanor.corpora.imported import StreamFolder, to_float32
from demeanor.corpora.label_csv import clip_order
from demeanor.corpora.mmsa_columns import SPLITS, Columns, read_columns
from demeanor.corpora.paths import as_identifier
from demeanor.corpora.safe_pickle import LoadedPickle, load
from demeanor.data.provenance import Provenance
from demeanor.data.utterances import make_table

CHUNK_BYTES = 1 << 26
#: SHA-1 of the files as published (docs/systems/self_mm.md#checksums).
PUBLISHED_SHA1 = {
    ("mosi", "unaligned"): "5da0b8440fc5a7c3a457859af27458beb993e088",
    ("mosi", "aligned"): "5c62b896619a334a7104c8bef05d82b05272c71c",
    ("mosei", "unaligned"): "db3e2cff4d706a88ee156981c2100975513d4610",
    ("mosei", "aligned"): "ef49589349bc1c2bc252ccc0d4657a755c92a056",
    ("sims", "unaligned"): "a00c73e92f66896403c09dbad63e242d5af756f8",
}
#: (audio, vision) columns of the published files.
WIDTHS = {"mosi": (5, 20), "mosei": (74, 35), "sims": (33, 709)}
STREAMS = {
    "text_bert": ("text.tokens", "token", np.int32),
    "text": ("text.words", "word piece", np.float32),
    "audio": ("audio.frames", "frame", np.float32),
    "vision": ("vision.frames", "frame", np.float32),
}


class MmsaPickleSettings(ReaderSettings):
    """
    low, high    range of the labels
    padding      "trim" stores each sequence up to its true length; "keep" stores the padded array as it is, which
                 models need that read the padding (MMSA's LF-DNN and TFN)
    non_finite   "zero": NaN and infinities of audio and vision become 0; "reference": -inf of audio alone, as MMSA
                 does; "keep": nothing is changed
    text_states  store the frozen BERT states (`text`) as `text.words` too; they are most of the file
    check_hash   compare the file's SHA-1 with the published one, where there is one for `corpus`
    corpus       mosi, mosei, sims or simsv2: hash, licence and published counts; None takes `name`
    """

    low: float = -3.0
    high: float = 3.0
    padding: Literal["trim", "keep"] = "trim"
    non_finite: Literal["zero", "reference", "keep"] = "zero"
    text_states: bool = True
    check_hash: bool = True
    corpus: str | None = None


class MmsaPickleReader(Reader):
    """Reads such a file within little more than its own size in memory; what it writes is memory-mapped."""

    settings_type = MmsaPickleSettings

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        """Any pickle but a tuple: one that is damaged or refused gets its message from `read`."""
        from demeanor.corpora.guessing import holds_a_tuple, the_pickle

        file = the_pickle(path)
        return {"path": file} if file is not None and not holds_a_tuple(file) else None

    def read(self, settings: MmsaPickleSettings, output: Path) -> Corpus:
        loaded = load(settings.path)
        where = str(settings.path)
        columns, findings = read_columns(loaded.content, where, settings.low, settings.high)
        findings += _hash_findings(settings, columns)
        table = make_table(_rows(columns, settings), where)
        with StreamFolder.open(output) as folder:
            changed = _write_streams(columns, settings, folder, loaded)
        findings += [
            Finding("repaired", "note", f"{count} values of {name} that were NaN or infinite became 0", count,
                    advice="This is what `non_finite` of the reader says.")
            for name, count in changed.items() if count
        ]  # fmt: skip
        return Corpus(
            name=settings.name, utterances=table, root=settings.path.parent,
            card=card_for(settings.corpus or settings.name), streams=folder.streams, findings=tuple(findings),
        )  # fmt: skip


def _rows(columns: Columns, settings: MmsaPickleSettings) -> list[dict[str, Any]]:
    """One row per utterance in the order train, valid, test; turns follow the clips' numbers within a recording."""
    rows: list[dict[str, Any]] = []
    clips: dict[str, list[tuple[tuple[int, float, str], int]]] = {}
    for split in SPLITS:
        part = columns.splits[split]
        for n, (video, clip) in enumerate(part.names):
            row: dict[str, Any] = {
                "utterance_id": _identifier(video, clip), "corpus": settings.name, "split": split,
                "dialogue": as_identifier(video), "language": settings.language,
                "text": (part.raw_text[n] or None) if part.raw_text else None,
            }  # fmt: skip
            row |= {name: float(values[n]) for name, values in part.labels.items()}
            if part.annotations:
                row["annotation"] = part.annotations[n]
            clips.setdefault(row["dialogue"], []).append((clip_order(clip), len(rows)))
            rows.append(row)
    for members in clips.values():
        for turn, (_, n) in enumerate(sorted(members)):
            rows[n]["turn"] = turn
    return rows


def _identifier(video: str, clip: str) -> str:
    """As in the label.csv of the same corpus, so that the two can be joined."""
    return as_identifier(f"{video}_{clip}" if clip else video)


def _write_streams(
    columns: Columns, settings: MmsaPickleSettings, folder: StreamFolder, loaded: LoadedPickle
) -> dict[str, int]:
    """Stream after stream, in pieces whose pages are given back; returns how many values were repaired."""
    wanted = [key for key in STREAMS if key in columns.widths and (key != "text" or settings.text_states)]
    total = len(wanted) * sum(len(part.names) for part in columns.splits.values())
    changed: dict[str, int] = {}
    with tqdm(total=total, desc=f"importing {settings.name}", unit="sequence", disable=None) as bar:
        for key in wanted:
            name, _, dtype = STREAMS[key]
            width = 1 if key == "text_bert" else columns.widths[key]
            writer = folder.add(name, width, provenance_of(key, settings, columns.aligned), dtype)
            changed[name] = 0
            for split in SPLITS:
                part = columns.splits[split]
                sequences = _sequences(part.arrays[key], part.lengths[key], key, settings, loaded)
                for n, sequence, repaired in sequences:
                    writer.append(_identifier(*part.names[n]), sequence)
                    changed[name] += repaired
                    bar.update()
    return changed


def _sequences(
    array: np.ndarray, lengths: np.ndarray | None, key: str, settings: MmsaPickleSettings, loaded: LoadedPickle
) -> Iterator[tuple[int, np.ndarray, int]]:
    """(row, sequence [T, D], repaired values), read in pieces of some 64 MB."""
    step = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        chunk = np.asarray(array[start : start + step])
        if key == "text_bert":
            yield from ((start + n, tokens, 0) for n, tokens in enumerate(_tokens(chunk, settings.padding)))
            continue
        values = to_float32(chunk)
        loaded.forget_pages()
        for n, sequence in enumerate(values):
            end = len(sequence) if settings.padding == "keep" or lengths is None else int(lengths[start + n])
            piece = sequence[:end]
            yield start + n, piece, _repair(piece, key, settings.non_finite)


def _tokens(triples: np.ndarray, padding: str) -> Iterator[np.ndarray]:
    """Token ids [T, 1] out of [n, 3, L] triples of ids, attention mask and segments."""
    for ids, mask, _ in triples:
        known = ids.astype(np.int32)
        yield (known if padding == "keep" else known[mask > 0])[:, None]


def _repair(piece: np.ndarray, key: str, how: str) -> int:
    """Repair in place; how many values were changed (docs/systems/self_mm.md#cleaning)."""
    if how == "keep" or key == "text" or (how == "reference" and key != "audio"):
        return 0
    bad = np.isneginf(piece) if how == "reference" else ~np.isfinite(piece)
    count = int(bad.sum())
    if count:
        piece[bad] = 0.0
    return count


def provenance_of(key: str, settings: MmsaPickleSettings, aligned: bool) -> Provenance:
    """The maker's card of the stream that a column of the file becomes."""
    parameters: dict[str, Any] = {
        "column": key, "aligned": aligned, "padding": settings.padding, "non_finite": settings.non_finite,
        "corpus": settings.corpus or settings.name,
    }  # fmt: skip
    if key == "text_bert":
        parameters = {"tokenizer": "bert-base-chinese" if settings.language == "zh" else "bert-base-uncased"}
    elif key == "text":
        parameters["encoder"] = "bert-base-chinese" if settings.language == "zh" else "bert-base-uncased"
    return Provenance(
        extractor="mmsa_pickle", version="1", parameters=parameters, unit=STREAMS[key][1], recomputable=False,
        licence="research use, as the corpus",
        notes="Imported from a feature file; it cannot be recomputed from a recording.",
    )  # fmt: skip


def _hash_findings(settings: MmsaPickleSettings, columns: Columns) -> list[Finding]:
    """A warning that says what differs if the file is not the published one."""
    corpus = settings.corpus or settings.name
    kind = "aligned" if columns.aligned else "unaligned"
    published = PUBLISHED_SHA1.get((corpus, kind))
    if published is None or not settings.check_hash:
        return []
    with open(settings.path, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha1").hexdigest()
    if digest == published:
        return []
    facts = []
    for key, width in zip(("audio", "vision"), WIDTHS[corpus], strict=True):
        if columns.widths.get(key) != width:
            facts.append(f"{key} has {columns.widths.get(key, 'no')} columns instead of {width}")
    for split, count in card_for(corpus).published.items():
        if len(columns.splits[split].names) != count:
            facts.append(f"{split} has {len(columns.splits[split].names)} utterances instead of {count}")
    differs = "; ".join(facts) or "its shapes are those of the published file, so that values or their storage differ"
    return [
        Finding("other_file", "warning",
                f"SHA-1 {digest} is not that of the published {kind} {corpus} file ({published}): {differs}",
                advice="Scores on it need not compare with published ones; say which file was used.")
    ]  # fmt: skip
