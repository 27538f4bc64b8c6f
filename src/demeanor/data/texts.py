"""Text as people really have it: any of the usual encodings, marks at the beginning, characters that nobody sees.

One function decides which encoding a file has and another whether a text says anything. Readers of corpora, extractors
and serving ask these two and nothing else.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demeanor.data.errors import InputError

MOST_BYTES = 1 << 27
"""bytes of a table that are read: 128 MiB, ten times the largest transcript table of the field"""
MOST_TRANSCRIPT_BYTES = 1 << 22
"""bytes of a transcript beside a clip: 4 MiB, a long novel"""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Language -> encodings that its texts have where they are not Unicode, and the letters that tell them apart.
LEGACY: dict[str, tuple[tuple[str, ...], str]] = {
    "zh": (("gb18030", "big5"), r"[\u4e00-\u9fff]"),
    "ja": (("cp932", "euc_jp"), r"[\u3040-\u30ff\u4e00-\u9fff]"),
    "ko": (("cp949",), r"[\uac00-\ud7a3]"),
    **dict.fromkeys(("ru", "uk", "bg", "be", "sr", "mk"), (("cp1251",), r"[\u0400-\u04ff]")),
    **dict.fromkeys(("pl", "cs", "sk", "hu", "ro", "hr", "sl", "sq"), (("cp1250",), r"[^\W\d_]")),
    "el": (("cp1253",), r"[\u0370-\u03ff]"),
    "tr": (("cp1254",), r"[^\W\d_]"),
    "he": (("cp1255",), r"[\u0590-\u05ff]"),
    "ar": (("cp1256",), r"[\u0600-\u06ff]"),
    "fa": (("cp1256",), r"[\u0600-\u06ff]"),
    **dict.fromkeys(("et", "lv", "lt"), (("cp1257",), r"[^\W\d_]")),
    "vi": (("cp1258",), r"[^\W\d_]"),
    "th": (("cp874",), r"[\u0e00-\u0e7f]"),
}
WESTERN = "cp1252"
#: Characters that make up a good part of any Chinese text, and of no other.
CHINESE = frozenset("的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之")
#: What stands in a column of numbers where there is none.
NO_NUMBER = frozenset({"", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "-"})
#: Letters and symbols by their category that have no shape of their own: fillers, a blank, a placeholder.
SHAPELESS = frozenset("\u115f\u1160\u3164\uffa0\u2800\ufffc")


@dataclass(frozen=True)
class Text:
    """What a file says. `encoding` is one of Python's names; `guessed` where neither a mark nor UTF-8 told it."""

    content: str
    encoding: str
    guessed: bool = False


def read_text(path: Path | str, language: str = "en", most_bytes: int = MOST_BYTES) -> Text:
    """The text of a file with `\\n` at line ends. InputError where it is too large or no text in a known encoding."""
    path = Path(path)
    size = path.stat().st_size
    if size > most_bytes:
        raise InputError(
            str(path), [f"{size / 2**20:.0f} MiB, more than the {most_bytes / 2**20:.0f} MiB that are read"]
        )
    return decode(path.read_bytes(), str(path), language)


def decode(content: bytes, where: str, language: str = "en") -> Text:
    """UTF-8, -16 and -32 with a mark, UTF-8 and UTF-16 without one, else the encoding that fits `language` (ISO 639-1).

    Shift-JIS and GB18030 are recognised whatever the language, where the text is plainly Japanese or Chinese.
    InputError for what is no text, or in none of these encodings.
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            result = _decoded(content, encoding)
            if result is None:
                raise InputError(where, [f"begins with the mark of {encoding}, but is damaged"], "Save it as UTF-8.")
            return Text(result, encoding)
    if b"\0" in content:
        unmarked = _unmarked_utf_16(content)
        if unmarked is None:
            raise InputError(where, ["this is not a text file"])
        return Text(_decoded(content, unmarked) or "", unmarked, guessed=True)
    plain_text = _decoded(content, "utf-8")
    if plain_text is not None:
        return Text(plain_text, "utf-8")
    tried = _candidates(language)
    decoded = {encoding: text for encoding in tried if (text := _decoded(content, encoding)) is not None}
    for encoding, plain in (("cp932", _plainly_japanese), ("gb18030", _plainly_chinese)):
        asian = None if language in LEGACY else _decoded(content, encoding)
        if asian is not None and plain(asian):
            return Text(asian, encoding, guessed=True)
    if not decoded:
        raise InputError(where, [f"the text is in none of utf-8, {', '.join(tried)}"], "Save it as UTF-8.")
    letters = re.compile(LEGACY[language][1] if language in LEGACY else r"[^\W\d_]")
    encoding = max(decoded, key=lambda name: _share(decoded[name], letters.match))
    return Text(decoded[encoding], encoding, guessed=True)


def _candidates(language: str) -> tuple[str, ...]:
    own = LEGACY.get(language, ((), ""))[0]
    return (*own, WESTERN)


def _decoded(content: bytes, encoding: str) -> str | None:
    """None where it does not fit. A mark in the middle, left by files that were put together, is no character."""
    try:
        text = content.decode(encoding)
    except UnicodeError:
        return None
    return text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n")


def _unmarked_utf_16(content: bytes) -> str | None:
    """UTF-16 without its mark has a zero in one half of its bytes wherever there is a space or a line end."""
    even, odd = content[0::2].count(0), content[1::2].count(0)
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    text = _decoded(content, encoding)
    if text is None or min(even, odd) > max(even, odd) // 10:
        return None
    control = re.search(r"[\x00-\x08\x0b\x0e-\x1f\ufffe\uffff]", text)
    strange = any(unicodedata.category(letter) in ("Cn", "Co", "Cs") for letter in text[: 1 << 16])
    return None if control or strange else encoding


def _share(text: str, belongs: Callable[[str], object]) -> float:
    """Share of the characters beyond ASCII that belong."""
    others = [letter for letter in text[: 1 << 20] if letter > "\x7f"]
    return sum(bool(belongs(letter)) for letter in others) / len(others) if others else 0.0


def _plainly_japanese(text: str) -> bool:
    """No text is Japanese without kana, and nothing else looks like two of five of its characters."""
    kana = re.compile(r"[\u3041-\u30ff\u3001\u3002]")
    return _share(text, kana.match) >= 0.4 and _share(text, re.compile(r"[\u3000-\u9fff\uff00-\uffef]").match) >= 0.95


def _plainly_chinese(text: str) -> bool:
    common = _share(text, CHINESE.__contains__)
    return (
        common >= 0.1
        and _share(text, re.compile(r"[\u2010-\u2030\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]").match) >= 0.95
    )


def says_no_number(text: object) -> bool:
    """Is this a word that stands where a number is missing?"""
    return isinstance(text, str) and text.strip().lower() in NO_NUMBER


def has_content(text: object) -> bool:
    """Is a letter, digit, sign or symbol left that somebody could see? An emoji is one.

    White space, control characters, byte order marks, joiners, zero-width spaces, fillers and combining marks without
    anything to stand on are nothing; neither is what is no string.
    """
    return isinstance(text, str) and any(_visible(letter) for letter in text)


def _visible(letter: str) -> bool:
    if "!" <= letter <= "~":
        return True
    category = unicodedata.category(letter)
    if category[0] in "LNSP":
        return letter not in SHAPELESS
    # Emoji and letters that are younger than Python's table of characters; every plane's last two are none.
    return category == "Cn" and 0x1F000 <= ord(letter) < 0xE0000 and ord(letter) & 0xFFFE != 0xFFFE


def spoken(text: object) -> str | None:
    """`text` without white space around it, or None where nothing is left of it that somebody could see."""
    return text.strip() if isinstance(text, str) and has_content(text) else None
