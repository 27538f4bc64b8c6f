"""Voice spans to turns to utterances to windows: the rules by which a recording is cut.

An utterance lasts .25 to 15 s, crosses no silence of half a second, no change of speaker and no end of a sentence. A
stretch without any such place that lasts longer stays one utterance, and is measured in windows of at most 10 s, one
every 3 s (the interval that Hume's API publishes).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pydantic import Field

from demeanor.data.settings import Settings
from demeanor.timeline.given import GivenSpan
from demeanor.timeline.table import to_millisecond

SENTENCE_ENDS = ".?!\u2026\u3002\uff1f\uff01"
CLOSING = "\"')]}\u201d\u2019\u00bb"


class SegmentSettings(Settings):
    """All in seconds."""

    shortest: float = Field(default=0.25, gt=0, description="what is shorter is no utterance")
    longest: float = Field(default=15.0, gt=0, description="of an utterance that is scored as a whole")
    silence: float = Field(default=0.5, gt=0, description="that ends an utterance")
    window: float = Field(default=10.0, gt=0, description="longest window inside a longer utterance")
    step: float = Field(default=3.0, gt=0, description="from the end of one window to that of the next")


DEFAULTS = SegmentSettings()


@dataclass(frozen=True)
class TimedWord:
    """A word as it is said; start and end in seconds from the start of the recording. `speaker`, where it is known
    from whose channel it was heard, is the only one whose turns it can belong to."""

    text: str
    start: float
    end: float
    confidence: float | None = None
    speaker: str = ""

    @property
    def ends_sentence(self) -> bool:
        """Whether punctuation, inside closing quotes or brackets or not, ends a sentence after it."""
        return self.text.strip().rstrip(CLOSING).endswith(tuple(SENTENCE_ENDS))


@dataclass(frozen=True)
class Segment:
    """An utterance: seconds, who speaks, its words, and how much of it is spoken over, as a share of its length."""

    start: float
    end: float
    speaker: str = ""
    text: str | None = None
    words: tuple[TimedWord, ...] = ()
    overlap: float = 0.0

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


def turns_of(voice: Sequence[GivenSpan], speakers: Sequence[GivenSpan]) -> list[GivenSpan]:
    """Stretches with a voice and the one who speaks: what of each speaker's spans has a voice in it.

    Where nobody said who speaks, the voice's spans are the turns; where a speaker's spans hold no voice at all they are
    taken as they are, for whoever listed them heard more than a detector.
    """
    if not speakers:
        return list(voice)
    turns: list[GivenSpan] = []
    for span in speakers:
        parts = [
            replace(span, start=max(span.start, heard.start), end=min(span.end, heard.end))
            for heard in voice
            if heard.end > span.start and heard.start < span.end
        ]
        turns += parts or [span]
    return sorted(turns, key=lambda turn: (turn.start, turn.end))


def utterances_of(
    turns: Sequence[GivenSpan], words: Sequence[TimedWord] = (), settings: SegmentSettings = DEFAULTS
) -> list[Segment]:
    """Turns joined over short pauses and cut at ends of sentences; in order of their starts."""
    joined = _joined(turns, settings)
    spoken = _words_of(joined, words)
    found = []
    for turn, own in zip(joined, spoken, strict=True):
        pieces = _cut(turn, own, settings)
        found += [piece for piece in pieces if piece.seconds >= settings.shortest - 1e-9]
    return with_overlaps(sorted(found, key=lambda piece: (piece.start, piece.end)))


def _joined(turns: Sequence[GivenSpan], settings: SegmentSettings) -> list[GivenSpan]:
    """A speaker's own stretches become one where less than the silence lies between and nobody else begins there."""
    joined: list[GivenSpan] = []
    last: dict[str, int] = {}
    for turn in sorted(turns, key=lambda turn: (turn.start, turn.end)):
        place = last.get(turn.speaker)
        before = None if place is None else joined[place]
        changed = before is not None and any(
            other.speaker != turn.speaker and before.start < other.start and other.end > before.end
            for other in joined[(place or 0) + 1 :]
        )
        if before is not None and place is not None and not changed and turn.start - before.end < settings.silence:
            joined[place] = replace(before, end=max(before.end, turn.end))
        else:
            last[turn.speaker] = len(joined)
            joined.append(turn)
    return joined


def _words_of(turns: Sequence[GivenSpan], words: Sequence[TimedWord]) -> list[list[TimedWord]]:
    """Every word goes to the turn that it lies in most; of turns that overlap, to the one that began last."""
    spoken: list[list[TimedWord]] = [[] for _ in turns]
    starts = [turn.start for turn in turns]
    for word in sorted(words, key=lambda word: word.start):
        upto = bisect_left(starts, word.end)
        near = [n for n in range(max(0, upto - 16), upto) if not word.speaker or turns[n].speaker == word.speaker]
        shares = [(min(word.end, turns[n].end) - max(word.start, turns[n].start), n) for n in near]
        best = max(shares, default=(0.0, -1))
        if best[0] > 0 or (best[1] >= 0 and word.start - turns[best[1]].end < 0.3):
            spoken[best[1]].append(word)
    return spoken


def _cut(turn: GivenSpan, words: Sequence[TimedWord], settings: SegmentSettings) -> list[Segment]:
    whole = Segment(turn.start, turn.end, turn.speaker, turn.text or _text(words), tuple(words))
    places = [_between(first, second) for first, second in pairwise(words) if first.ends_sentence]
    silent = [
        _between(first, second) for first, second in pairwise(words) if second.start - first.end >= settings.silence
    ]
    pieces = _at(whole, sorted({*places, *silent}), settings)
    return [part for piece in pieces for part in _shortened(piece, settings)]


def _between(first: TimedWord, second: TimedWord) -> float:
    return (first.end + max(second.start, first.end)) / 2


def _at(piece: Segment, places: Sequence[float], settings: SegmentSettings) -> list[Segment]:
    """The piece cut at those of the places that leave enough on both sides."""
    edges = [piece.start]
    for place in places:
        if place - edges[-1] >= settings.shortest and piece.end - place >= settings.shortest:
            edges.append(place)
    edges.append(piece.end)
    made = []
    for start, end in pairwise(edges):
        inside = tuple(word for word in piece.words if start <= (word.start + word.end) / 2 < end or len(edges) == 2)
        text = piece.text if len(edges) == 2 else _text(inside)
        made.append(Segment(start, end, piece.speaker, text, inside))
    return made


def _shortened(piece: Segment, settings: SegmentSettings) -> list[Segment]:
    """Cut at its longest pause until nothing is longer than `longest`; left whole where no pause is known."""
    if piece.seconds <= settings.longest or len(piece.words) < 2:
        return [piece]
    pauses = [(second.start - first.end, _between(first, second)) for first, second in pairwise(piece.words)]
    usable = [
        (pause, place) for pause, place in pauses
        if pause > 0.05 and place - piece.start >= settings.shortest and piece.end - place >= settings.shortest
    ]  # fmt: skip
    if not usable:
        return [piece]
    return [part for half in _at(piece, [max(usable)[1]], settings) for part in _shortened(half, settings)]


def with_words(pieces: Sequence[Segment], words: Sequence[TimedWord]) -> list[Segment]:
    """Pieces as they are, those without a text with the words said in them."""
    silent = [GivenSpan(piece.start, piece.end, piece.speaker) for piece in pieces if not piece.text]
    spoken = iter(_words_of(silent, words))
    made = []
    for piece in pieces:
        own = () if piece.text else tuple(next(spoken))
        made.append(replace(piece, text=piece.text or _text(own), words=own))
    return made


def _text(words: Sequence[TimedWord]) -> str | None:
    return " ".join(word.text.strip() for word in words) or None


def with_overlaps(pieces: Sequence[Segment]) -> list[Segment]:
    """The pieces, each with the share of it during which somebody else speaks as well.

    Somebody else is whoever has another name; where names are missing, whoever has another span.
    """
    longest = max((piece.seconds for piece in pieces), default=0.0)
    starts = [piece.start for piece in pieces]
    made = []
    for number, piece in enumerate(pieces):
        first, last = bisect_left(starts, piece.start - longest), bisect_left(starts, piece.end)
        others = sorted(
            (max(other.start, piece.start), min(other.end, piece.end))
            for place, other in enumerate(pieces[first:last], first)
            if place != number and other.end > piece.start
            and (other.speaker != piece.speaker or not piece.speaker)
        )  # fmt: skip
        covered, position = 0.0, piece.start
        for start, end in others:
            covered += max(end - max(start, position), 0.0)
            position = max(position, end)
        made.append(replace(piece, overlap=min(round(covered / piece.seconds, 4), 1.0) if piece.seconds > 0 else 0.0))
    return made


def windows_of(piece: Segment, settings: SegmentSettings = DEFAULTS) -> list[Segment]:
    """What of a longer utterance is scored: up to the last `window` seconds at every `step`, and at its end.

    None for an utterance that is scored as a whole.
    """
    if piece.seconds <= settings.longest:
        return []
    ends = []
    end = piece.start + settings.step
    while end < piece.end - settings.shortest:
        ends.append(end)
        end += settings.step
    ends.append(piece.end)
    made = []
    for end in ends:
        start = max(piece.start, end - settings.window)
        inside = tuple(word for word in piece.words if start <= (word.start + word.end) / 2 < end)
        made.append(
            Segment(to_millisecond(start), to_millisecond(end), piece.speaker, _text(inside), inside, piece.overlap)
        )
    return made
