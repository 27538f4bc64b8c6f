"""IEMOCAP's text files: `dialog/EmoEvaluation/<dialogue>.txt` and `dialog/transcriptions/<dialogue>.txt`.

docs/systems/tab_fusion.md#iemocap-layout, #iemocap-labels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from demeanor.corpora.recordings import require_inside
from demeanor.data import texts
from demeanor.data.errors import InputError

#: Labels of the evaluators' agreement -> names; `xxx` is no agreement.
EMOTIONS = {
    "ang": "anger", "hap": "happiness", "exc": "excitement", "sad": "sadness", "neu": "neutral", "fru": "frustration",
    "sur": "surprise", "fea": "fear", "dis": "disgust", "oth": "other",
}  # fmt: skip
VOTES = {
    "anger": "ang", "happiness": "hap", "excited": "exc", "sadness": "sad", "neutral": "neu", "neutral state": "neu",
    "frustration": "fru", "surprise": "sur", "fear": "fea", "disgust": "dis", "other": "oth",
}  # fmt: skip
HEADER = re.compile(r"^\[(\d+\.\d+) - (\d+\.\d+)\]\t(\w+)\t(\w{3})\t\[([\d.]+), ([\d.]+), ([\d.]+)\]")
TURN = re.compile(r"^(Ses\d\d[FM]_\w+_([FM])\w+) \[([\d.]+)-([\d.]+)\]:\s?(.*)$")


@dataclass(frozen=True)
class Turn:
    """One evaluated turn: seconds within the dialogue, the agreed label (three letters), valence, activation and
    dominance on 1 to 5, and the categories of each evaluator."""

    name: str
    start: float
    end: float
    emotion: str
    valence: float
    activation: float
    dominance: float
    votes: tuple[tuple[str, ...], ...]


def parse_evaluation(text: str) -> list[Turn]:
    """The turns of an EmoEvaluation file in its order, however many newlines it ends with."""
    turns: list[Turn] = []
    header: re.Match | None = None
    votes: list[tuple[str, ...]] = []

    def finish() -> None:
        if header is not None:
            start, end, name, emotion, valence, activation, dominance = header.groups()
            numbers = (float(valence), float(activation), float(dominance))
            turns.append(Turn(name, float(start), float(end), emotion, *numbers, tuple(votes)))

    for line in text.splitlines():
        match = HEADER.match(line)
        if match:
            finish()
            header, votes = match, []
        elif header is not None and re.match(r"^C-\w+:", line):
            told = line.split("\t")[1] if "\t" in line else line.split(":", 1)[1]
            names = (part.strip().lower() for part in told.split(";"))
            votes.append(tuple(VOTES.get(name, "oth") for name in names if name))
    finish()
    return turns


def parse_transcription(text: str) -> dict[str, str]:
    """Turn -> what is said; lines that are no turn of the corpus (breathing, remarks) are left out."""
    sentences = {}
    for line in text.splitlines():
        match = TURN.match(line.strip())
        if match:
            sentences[match.group(1)] = match.group(5).strip()
    return sentences


def read_text(path: Path, root: Path, follow_links: bool = False) -> str:
    """The text of a file of the release at `root`, which is latin-1 where it is not ASCII."""
    require_inside(path, root, follow_links)
    try:
        return texts.read_text(path, most_bytes=texts.MOST_TRANSCRIPT_BYTES).content
    except InputError:
        if path.stat().st_size > texts.MOST_TRANSCRIPT_BYTES:
            raise
        return path.read_bytes().decode("latin-1")


def real_files(folder: Path, suffix: str) -> list[Path]:
    """Files of a folder in order, without the `._*` attribute files that the release contains."""
    return sorted(path for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
