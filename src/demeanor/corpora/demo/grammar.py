"""Sentences whose wording carries a wanted sentiment: a small English grammar with graded words.

Every phrase has a value on the sentiment scale. `compose` draws many candidate sentences and keeps one whose
value is near the wanted one, so that the words say what the text view of a clip says, no more and no less.
No contractions, digits or hyphens: each word is one token for the synthesiser and in the word times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demeanor.corpora.demo.lexicon import (
    ADJECTIVES,
    INTENSIFIERS,
    NEGATED,
    OPENERS,
    SARCASTIC,
    TAILS,
    TOPICS,
    VERBS,
)

MINIMUM_WORDS = 5
_CANDIDATES = 120
_TOLERANCE = 0.25
_TAIL_SHARE = 0.75
_NEGATED_SHARE = 0.22


@dataclass(frozen=True)
class Sentence:
    """A sentence, the value of its words in [-3, 3], and the form that made it."""

    text: str
    value: float
    form: str

    @property
    def words(self) -> list[str]:
        """The words as they are spoken, without punctuation; one per space-separated piece of the text."""
        return [piece.strip(",.!?") for piece in self.text.split()]


def compose(
    value: float,
    emotion: str,
    marker: bool,
    topic: str,
    maximum_words: int,
    random: np.random.Generator,
) -> Sentence:
    """A sentence of `MINIMUM_WORDS` to `maximum_words` words about `topic` that sounds like `value` and `emotion`.
    ValueError where no sentence is as short as that.

    With `marker` it is sarcastic on its surface: pleased words behind "oh great", "yeah right" and the like.
    """
    candidates = []
    for _ in range(_CANDIDATES):
        candidate = _candidate(value, emotion, marker, topic, random)
        if MINIMUM_WORDS <= len(candidate.words) <= maximum_words:
            candidates.append(candidate)
    if not candidates:
        raise ValueError(f"the grammar has no sentence of at most {maximum_words} words on '{topic}'")
    errors = np.array([abs(candidate.value - value) for candidate in candidates])
    good = np.flatnonzero(errors <= max(_TOLERANCE, errors.min() + 1e-9))
    return candidates[int(random.choice(good))]


def _candidate(value: float, emotion: str, marker: bool, topic: str, random: np.random.Generator) -> Sentence:
    noun = _pick(TOPICS[topic], random)
    if marker:
        text, strength = _pick(SARCASTIC, random)
        adjective, adjective_value = _graded(ADJECTIVES, 2.2, random)
        total = strength if "{adjective}" not in text else 0.5 * (strength + adjective_value)
        return _finish(text.format(noun=noun, adjective=adjective), total, "sarcastic")
    if random.random() < _NEGATED_SHARE:
        text, total = _pick(NEGATED, random)
        clause, form = text.format(noun=noun), "negated"
    else:
        clause, total, form = *_plain_clause(value, noun, random), "plain"
    if random.random() < _TAIL_SHARE:
        tails = [(tail, tail_value) for tail, tail_value in TAILS[emotion] if abs(tail_value - value) < 1.6]
        if tails:
            tail, tail_value = _pick(tails, random)
            clause, total = f"{clause}, {tail}", 0.6 * total + 0.4 * tail_value
    opener = _pick(OPENERS, random) if random.random() < 0.2 else ""
    return _finish(f"{opener} {clause}".strip(), total, form)


def _plain_clause(value: float, noun: str, random: np.random.Generator) -> tuple[str, float]:
    adjective, adjective_value = _graded(ADJECTIVES, value, random)
    # Extreme words take no "very" or "rather".
    allowed = [pair for pair in INTENSIFIERS if abs(adjective_value) < 3 or pair[0] in ("", "really", "so")]
    intensifier, factor = _pick(allowed, random)
    described = f"{intensifier} {adjective}".strip()
    strong = adjective_value * factor
    verb, verb_value = _graded(VERBS, value, random)
    article_for = adjective if intensifier == "so" else described
    article = "an" if article_for[0] in "aeiou" else "a"
    # "a so dull book" is no English; "such" takes the place of "so" in front of a noun.
    named = f"such {article} {adjective}" if intensifier == "so" else f"{article} {described}"
    clauses = (
        (f"the {noun} was {described}", strong),
        (f"this {noun} is {described}", strong),
        (f"we had {named} {noun}", strong),
        (f"it was {named} {noun}", strong),
        (f"I think the {noun} is {described}", strong),
        (f"I {verb} this {noun}", verb_value),
        (f"we {verb} the {noun}", verb_value),
        (f"I {verb} this {adjective} {noun}", 0.5 * (verb_value + adjective_value)),
        (f"we {verb} that {adjective} {noun}", 0.5 * (verb_value + adjective_value)),
        (f"my friends {verb} the {noun}", verb_value),
    )
    return clauses[int(random.integers(len(clauses)))]


def _graded(table: dict[float, tuple[str, ...]], value: float, random: np.random.Generator) -> tuple[str, float]:
    """A word whose level is near `value`; near rather than nearest, so that wording varies."""
    levels = np.array(sorted(table))
    weights = np.exp(-0.5 * ((levels - value) / 0.6) ** 2)
    level = float(levels[random.choice(len(levels), p=weights / weights.sum())])
    return _pick(table[level], random), level


def _pick(options, random: np.random.Generator):
    return options[int(random.integers(len(options)))]


def _finish(text: str, value: float, form: str) -> Sentence:
    return Sentence(text[0].upper() + text[1:] + ".", float(np.clip(value, -3, 3)), form)
