"""Many recordings at once: a folder or a list in, a table of answers out, the caller's columns and order kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from demeanor.data.errors import InputError, nearest
from demeanor.data.files import sha256_of, write_atomically
from demeanor.data.progress import Progress
from demeanor.data.raw_rows import COLUMNS
from demeanor.features.limits import SUFFIXES
from demeanor.timeline.scoring import Scorer, score_all
from demeanor.timeline.sides import SideFiles

#: Rows that are scored together and kept together.
TOGETHER = 16
#: What lists call the column of recordings, the likeliest first; `video` and `audio` are names of rows to score.
NAMES = ("video", "audio", "file", "path", "recording", "media")
TABLES = (".csv", ".tsv", ".txt")
OUTPUTS = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class Collection:
    """`table`: the caller's own columns, in order. `rows`: what is scored of each, in the same order."""

    table: pd.DataFrame
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Done:
    """The table of answers, how many rows have none, and what this run did: its rows, and seconds of work and of
    recording; rows that an earlier run had answered are not among them."""

    table: pd.DataFrame
    failed: int
    scored: int
    seconds: float
    recorded: float

    def __str__(self) -> str:
        lines = [f"{len(self.table)} rows, {self.failed} without an answer (see column `problem`)"]
        if self.seconds > 0:
            fast = f"{self.scored / self.seconds:.2f} rows a second"
            fast += f", {self.recorded / self.seconds:.1f} times real time" if self.recorded else ""
            lines.append(f"{self.seconds:.1f} s: {fast}")
        return "\n".join(lines)


def collection_of(source: Path) -> Collection:
    """Every recording below a folder in the order of their paths, or the rows of a list; InputError for neither."""
    if source.is_dir():
        return _of_folder(source)
    if not source.is_file():
        raise InputError(str(source), ["there is no such folder or list"])
    return _of_list(source)


def _of_folder(folder: Path) -> Collection:
    found = sorted(
        path for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )  # fmt: skip
    if not found:
        raise InputError(str(folder), ["there is no recording in it, nor below it"])
    names = [path.relative_to(folder).as_posix() for path in found]
    rows = [{"utterance_id": name, "video": str(path)} for name, path in zip(names, found, strict=True)]
    return Collection(pd.DataFrame({"file": names}), rows)


def _of_list(path: Path) -> Collection:
    from demeanor.data.delimited import read_delimited

    found = read_delimited(path, (*COLUMNS, *NAMES))
    named = [name for name in NAMES if name in found.names]
    if not named and "text" not in found.names:
        known = (*NAMES, "text")
        problem = f"there is no column of recordings, nor of texts.{nearest(found.names[0], known)}"
        raise InputError(str(path), [problem], f"One of these is expected: {', '.join(known)}.")
    table = pd.DataFrame(found.records, columns=found.names, dtype=object)
    rows = []
    for number, cells in enumerate(found.records):
        given = dict(zip(found.names, cells, strict=True))
        row: dict[str, Any] = {name: given[name] for name in COLUMNS if given.get(name, "").strip()}
        # The sound of `audio` takes the place of the film's own, as in every other table.
        recordings = {name: _placed(given[name].strip(), path.parent) for name in named if given[name].strip()}
        row |= {name: recordings[name] for name in ("video", "audio") if name in recordings}
        if recordings and not {"video", "audio"} & set(recordings):
            row["video"] = next(iter(recordings.values()))
        rows.append({"utterance_id": f"row_{number + 1}", **row})
    return Collection(table, rows)


def _placed(text: str, folder: Path) -> str:
    """A path as it is written, or from the folder of the list, with separators of either kind.

    Whether it can be read is the row's own matter.
    """
    for place in (Path(text), folder / text, Path(text.replace("\\", "/")), folder / text.replace("\\", "/")):
        try:
            if place.exists():
                return str(place)
        except (OSError, ValueError):  # a name that the system cannot have
            return text
    return text


def predict_collection(
    source: Path,
    scorer: Scorer,
    output: Path,
    *,
    make: Callable[[], Scorer] | None = None,
    processes: int = 1,
    together: int = TOGETHER,
) -> Done:
    """Score everything in `source` and write `output` (.csv, .parquet, .json), whole or not at all.

    InputError where there is nothing to score, or where the output cannot be; see `score_collection`.
    """
    if output.suffix.lower() not in OUTPUTS:
        raise InputError(output.name, [f"no table is written as '{output.suffix}'.{nearest(output.suffix, OUTPUTS)}"])

    def write(table: pd.DataFrame) -> None:
        with write_atomically(output) as temporary:
            _write(table, temporary, output.suffix.lower())

    given = collection_of(source)
    return score_collection(given, scorer, output, make=make, processes=processes, together=together, write=write)


def score_collection(
    given: Collection,
    scorer: Scorer,
    beside: Path | None = None,
    *,
    make: Callable[[], Scorer] | None = None,
    processes: int = 1,
    together: int = TOGETHER,
    write: Callable[[pd.DataFrame], None] | None = None,
) -> Done:
    """Answers for a collection.

    make    makes the scorer in other processes, for `processes` > 1
    beside  a run that is killed keeps its answers beside this path, and goes on when the same is asked again
    write   writes the table, before those answers are thrown away
    A row that cannot be read has no answer and its `problem`.
    """
    batches = _batches(given.rows, together)
    models = [model.as_dict() for model in scorer.headers]
    key = sha256_of([models, given.rows, [_state(row) for row in given.rows], together])
    kept = SideFiles(beside, key)
    missing = [number for number in range(len(batches)) if number not in kept.done]
    began = time.monotonic()
    with Progress("scoring", len(given.rows), "rows") as progress:
        progress.advance(sum(len(batches[number]) for number in kept.done))
        asked = [[given.rows[row] for row in batches[number]] for number in missing]
        for place, answers in score_all(asked, scorer, make, processes):
            kept.keep(missing[place], answers)
            progress.advance(len(asked[place]))
    seconds = time.monotonic() - began
    table = _table(given, scorer, batches, kept)
    if write is not None:
        write(table)
    kept.remove()
    scored = [row for number in missing for row in batches[number]]
    failed = int((table[_free("modalities", given.table)] == "").sum())
    return Done(table, failed, len(scored), seconds, _recorded([given.rows[row] for row in scored]))


def _batches(rows: Sequence[dict[str, Any]], together: int) -> list[list[int]]:
    """Places of rows; turns of one conversation stay together, however many they are."""
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(f"given {row['dialogue']}" if "dialogue" in row else f"alone {place}", []).append(place)
    batches: list[list[int]] = []
    for group in groups.values():
        if batches and len(batches[-1]) + len(group) <= together:
            batches[-1] += group
        else:
            batches.append(list(group))
    return batches


def _state(row: dict[str, Any]) -> list[float] | None:
    """What changes when a recording does."""
    try:
        status = Path(row.get("video") or row["audio"]).stat()
    except (KeyError, OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime]


def _table(given: Collection, scorer: Scorer, batches: list[list[int]], kept: SideFiles) -> pd.DataFrame:
    """The caller's columns, then those of each model; a name that the caller has already gets `demeanor_` before it."""
    table = given.table.copy()
    several = len(scorer.headers) > 1
    used: list[set[str]] = [set() for _ in given.rows]
    problems: list[dict[str, None]] = [{} for _ in given.rows]
    for number, model in enumerate(scorer.headers):
        records: list[dict[str, Any]] = [{} for _ in given.rows]
        for place, batch in enumerate(batches):
            for row, record in zip(batch, kept.done[place][number], strict=True):
                records[row] = record
        answers = pd.DataFrame(records).drop(columns=["utterance_id", "modalities", "problem"], errors="ignore")
        for name in answers:
            told = f"{name}_{model.task.name}" if several and name != model.task.name else str(name)
            table[_free(told, given.table)] = answers[name]
        for place, record in enumerate(records):
            used[place] |= {part for part in str(record["modalities"] or "").split("+") if part}
            problems[place] |= dict.fromkeys([str(record["problem"] or "")])
    table[_free("modalities", given.table)] = ["+".join(sorted(names)) for names in used]
    table[_free("problem", given.table)] = ["; ".join(filter(None, told)) for told in problems]
    return table


def _free(name: str, own: pd.DataFrame) -> str:
    return f"demeanor_{name}" if name in own else name


def _write(table: pd.DataFrame, path: Path, suffix: str) -> None:
    if suffix == ".csv":
        table.to_csv(path, index=False, lineterminator="\n")
    elif suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_json(path, orient="records", indent=1, force_ascii=False)


def _recorded(rows: Sequence[dict[str, Any]]) -> float:
    """Seconds of recording in these rows; of those that cannot be opened none."""
    from demeanor.features.media import MediaError, probe

    total = 0.0
    for row in rows:
        source = row.get("video") or row.get("audio")
        if not source:
            continue
        try:
            whole = probe(source).duration or 0.0
            start, end = float(row.get("start") or 0.0), float(row.get("end") or whole)
        except (MediaError, ValueError):
            continue
        total += max(min(end, whole) - start, 0.0)
    return total
