"""IEMOCAP's raw release: `SessionN/dialog/{transcriptions,EmoEvaluation,wav}` and `SessionN/sentences/wav`.

docs/systems/tab_fusion.md#iemocap. All turns of a dialogue are utterances, those without an agreed
emotion with a missing label, so that the context of a turn is what was really said before it. Merging labels is the
task's business: `merge: {excitement: happiness}` makes the usual four classes.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from demeanor.corpora.base import Corpus, Finding, Reader, ReaderSettings, require_path
from demeanor.corpora.cards import card_for
from demeanor.corpora.iemocap_files import EMOTIONS, parse_evaluation, parse_transcription, read_text, real_files
from demeanor.corpora.splits import Split, leave_one_out
from demeanor.data.errors import InputError
from demeanor.data.texts import spoken
from demeanor.data.utterances import make_table

SESSIONS = (1, 2, 3, 4, 5)
#: Kept by each setting; the published counts are those of "four" (docs/systems/tab_fusion.md#iemocap-counts).
CLASSES = {
    "four": ("anger", "happiness", "excitement", "sadness", "neutral"),
    "six": ("anger", "happiness", "excitement", "sadness", "neutral", "frustration"),
}
EXPECTED = {"anger": 1103, "happiness": 595, "excitement": 1041, "sadness": 1084, "neutral": 1708}
EXPECTED_BY_SESSION = {1: 1085, 2: 1023, 3: 1151, 4: 1031, 5: 1241}
NAME = re.compile(r"Ses(\d\d)([FM])_(\w+)_([FM])(\w+)")


class IemocapSettings(ReaderSettings):
    """
    turns      "all"; or only those labelled with one of the "four" (excitement included) or "six" classes
    protocol   "session": session `held_out` is tested, a share of the other sessions' dialogues is for validation;
               "speaker": of session `held_out`, `test_speaker` is tested and the other one is for validation (the ten
               runs of docs/systems/tab_fusion.md#iemocap-splits)
    held_out   1 to 5
    valid      share of the remaining dialogues for validation ("session" alone)
    seed       of that choice
    """

    name: str = "iemocap"
    turns: Literal["all", "four", "six"] = "all"
    protocol: Literal["session", "speaker"] = "session"
    held_out: int = Field(default=5, ge=1, le=5)
    test_speaker: Literal["F", "M"] = "F"
    valid: float = Field(default=0.1, gt=0, lt=1)
    seed: int = 1


class IemocapReader(Reader):
    """Gives `emotion` (ten names, missing where the evaluators did not agree), `valence`, `activation`, `dominance`,
    and the column `session`."""

    settings_type = IemocapSettings

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        found = path.is_dir() and (
            any(path.glob("Session[1-5]/dialog/EmoEvaluation")) or any(path.glob("*/Session[1-5]/dialog/EmoEvaluation"))
        )
        return {"path": path} if found else None

    def read(self, settings: IemocapSettings, output: Path) -> Corpus:
        root = find_release(settings.path)
        problems: list[str] = []
        rows: list[dict[str, Any]] = []
        for session in SESSIONS:
            folder = root / f"Session{session}"
            if folder.is_dir():
                rows += _session(folder, root, session, settings, problems)
        if not rows and not problems:
            problems.append("no session holds an evaluated turn")
        if problems:
            raise InputError(str(root), problems, "The release has SessionN/dialog/EmoEvaluation and transcriptions.")
        # Splits are made on all turns, so that they are the same whichever are kept.
        made = fold(make_table([dict(row, split="train") for row in rows], str(root)), settings)
        table = made.apply(make_table([dict(row, split="train") for row in rows], str(root)))
        if settings.turns != "all":
            table = table[table["emotion"].isin(CLASSES[settings.turns])].reset_index(drop=True)
            table["turn"] = table.groupby("dialogue")["turn"].rank(method="first").astype("int64") - 1
        return Corpus(settings.name, table, root, card_for("iemocap"), findings=tuple(_findings(table, root)))


def find_release(path: Path) -> Path:
    """The folder that holds the sessions: `path` itself or the one folder below it that does. InputError if there is
    none."""
    require_path(path, "folder")
    for candidate in (path, *sorted(child for child in path.iterdir() if child.is_dir())):
        if any((candidate / f"Session{n}").is_dir() for n in SESSIONS):
            return candidate
    raise InputError(str(path), ["there is no Session1 ... Session5"], "Point `path` at IEMOCAP_full_release.")


def _session(
    folder: Path, root: Path, session: int, settings: IemocapSettings, problems: list[str]
) -> list[dict[str, Any]]:
    evaluations = real_files(folder / "dialog" / "EmoEvaluation", ".txt")
    if not evaluations:
        problems.append(f"{folder.name}/dialog/EmoEvaluation holds no file")
    rows = []
    for path in evaluations:
        dialogue = path.stem
        transcription = folder / "dialog" / "transcriptions" / path.name
        said = (
            parse_transcription(read_text(transcription, root, settings.follow_links))
            if transcription.is_file()
            else {}
        )
        if not said:
            problems.append(f"{folder.name}/dialog/transcriptions/{path.name} is missing or holds no turn")
        evaluated = parse_evaluation(read_text(path, root, settings.follow_links))
        turns = sorted(evaluated, key=lambda turn: (turn.start, turn.end, turn.name))
        repeated = [name for name, count in Counter(turn.name for turn in turns).items() if count > 1]
        problems += [f"{folder.name}: turn {name} is evaluated twice" for name in repeated]
        for number, turn in enumerate(turns):
            match = NAME.fullmatch(turn.name)
            if match is None or int(match.group(1)) != session:
                problems.append(f"{folder.name}: '{turn.name}' is no turn of session {session}")
                continue
            media, start, end = _media(folder, root, dialogue, turn.name, turn.start, turn.end)
            rows.append({
                "utterance_id": turn.name, "corpus": settings.name, "dialogue": dialogue, "turn": number,
                "speaker": f"Ses{session:02d}_{match.group(4)}", "start": start, "end": end,
                "text": spoken(said.get(turn.name)), "language": settings.language, "media": media,
                "emotion": EMOTIONS.get(turn.emotion), "valence": turn.valence, "activation": turn.activation,
                "dominance": turn.dominance, "session": f"Session{session}",
                "scenario": "improvised" if "impro" in turn.name else "scripted",
            })  # fmt: skip
    return rows


def _media(
    folder: Path, root: Path, dialogue: str, turn: str, start: float, end: float
) -> tuple[str | None, float, float | None]:
    """The turn's own recording, or the dialogue's with the turn's span, or nothing."""
    own = folder / "sentences" / "wav" / dialogue / f"{turn}.wav"
    if own.is_file():
        return own.relative_to(root).as_posix(), 0.0, None
    whole = folder / "dialog" / "wav" / f"{dialogue}.wav"
    return (whole.relative_to(root).as_posix() if whole.is_file() else None), start, end


def fold(table: pd.DataFrame, settings: IemocapSettings) -> Split:
    """The split that the settings ask for. InputError if the session that is held out is not there."""
    held_out = f"Session{settings.held_out}"
    if held_out not in set(table["session"]):
        raise InputError(str(settings.path), [f"{held_out} is not there, but `held_out` asks for it"])
    if settings.protocol == "session":
        found = leave_one_out(table, "session", settings.seed, settings.valid)
        return next(split for split in found if split.made_by["left_out"] == held_out)
    ids, inside = table["utterance_id"], table["session"] == held_out
    tested = inside & table["speaker"].str.endswith(f"_{settings.test_speaker}")
    parts = {"train": tuple(ids[~inside]), "valid": tuple(ids[inside & ~tested]), "test": tuple(ids[tested])}
    made_by = {"scheme": "speaker", "session": held_out, "tested": settings.test_speaker}
    return Split(f"{held_out}_{settings.test_speaker}", parts, made_by)


def all_folds(protocol: Literal["session", "speaker"]) -> list[dict[str, Any]]:
    """Options of the reader for every run of a protocol: 5 sessions, or 10 speakers in the order of
    docs/systems/tab_fusion.md#iemocap-splits."""
    if protocol == "session":
        return [{"protocol": "session", "held_out": session} for session in SESSIONS]
    # The order in which scikit-learn's KFold(5, shuffle=True, random_state=2022) holds the sessions out.
    order = (3, 4, 1, 2, 5)
    return [
        {"protocol": "speaker", "held_out": session, "test_speaker": speaker} for session in order for speaker in "FM"
    ]


def _findings(table: pd.DataFrame, root: Path) -> list[Finding]:
    """The expected counts of the four-class setting, checked and reported."""
    absent = [f"Session{n}" for n in SESSIONS if not (root / f"Session{n}").is_dir()]
    findings = []
    if absent:
        findings.append(Finding("missing_sessions", "warning", f"{', '.join(absent)} not there", len(absent)))
    used = table[table["emotion"].isin(CLASSES["four"])]
    by_session = {n: int((used["session"] == f"Session{n}").sum()) for n in SESSIONS}
    by_emotion = {name: int((used["emotion"] == name).sum()) for name in EXPECTED}
    sessions = {f"Session{n}": (by_session[n], count) for n, count in EXPECTED_BY_SESSION.items()}
    emotions = {name: (by_emotion[name], count) for name, count in EXPECTED.items()}
    different = [
        f"{name}: {here} instead of {count}" for name, (here, count) in (sessions | emotions).items() if here != count
    ]
    if different:
        advice = "The full release has 5531 turns of the four classes; look for missing or changed files."
        findings.append(Finding("expected_counts", "warning", "; ".join(different), len(different), advice=advice))
    return findings
