"""Encodings that people's files have, and texts that only look like some."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from demeanor.data import texts
from demeanor.data.errors import InputError
from demeanor.data.texts import decode, has_content, read_text, spoken

GERMAN = "Das Café war schön, größer und süßer als 5 €.\nJa."
RUSSIAN = "Мне очень понравился этот фильм, он замечательный."
JAPANESE = "この映画はとても面白かったです。また見たいと思います。"
CHINESE = "我觉得这个电影很好看，他们都不喜欢。"
KOREAN = "이 영화는 정말 재미있었어요"


@pytest.mark.parametrize(
    ("text", "encoding", "language", "guessed"),
    [
        (GERMAN, "utf-8", "en", False),
        (GERMAN, "utf-8-sig", "en", False),
        (GERMAN, "utf-16", "en", False),
        (codecs.BOM_UTF16_BE.decode("utf-16-be") + GERMAN, "utf-16-be", "en", False),
        (GERMAN, "utf-32", "en", False),
        (GERMAN, "utf-16-le", "en", True),
        (GERMAN, "utf-16-be", "en", True),
        (f"id,text\n1,{JAPANESE}\n", "utf-16-le", "en", True),
        (GERMAN, "cp1252", "de", True),
        (RUSSIAN, "cp1251", "ru", True),
        (JAPANESE, "shift_jis", "en", True),
        (JAPANESE, "shift_jis", "ja", True),
        (JAPANESE, "euc_jp", "ja", True),
        (CHINESE, "gb18030", "zh", True),
        (CHINESE, "gb18030", "en", True),
        (KOREAN, "cp949", "ko", True),
        ("Zażółć gęślą jaźń", "cp1250", "pl", True),
    ],
)
def test_every_encoding_gives_the_text(text: str, encoding: str, language: str, guessed: bool):
    found = decode(text.replace("\n", "\r\n").encode(encoding), "file", language)
    assert found.content == text.removeprefix("\ufeff")
    assert found.guessed is guessed


def test_western_text_is_not_taken_for_another_language():
    for text in ("Ça va? Où êtes-vous né?", "Äpfel, Öl und Übermut", "El niño comió piñón", "naïve façade – “quoted”"):
        assert decode(text.encode("cp1252"), "file").content == text


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(256)) * 8,
        b"\xff\xfea",
        b"PK\x03\x04\0\0\0\0\x08\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\x81\x8d \x8f",
    ],
)
def test_what_is_no_text_is_said(content: bytes):
    with pytest.raises(InputError, match="file"):
        decode(content, "file")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x" * 100)
    with pytest.raises(InputError, match="MiB that are read"):
        read_text(tmp_path / "a.txt", most_bytes=99)


@pytest.mark.parametrize(
    "text",
    ["", " \t\n", "\u200b", "\ufeff", "\u200b\u200d\u2060 \u00ad", "\x00\x07", "\u0301", "\ufe0f", "\u3164", "\u2800",
     "\u202a\u202c", "\u2028", "\u00a0", "\ufffc", "\U000e0020", None, float("nan"), 3],
)  # fmt: skip
def test_nothing_that_anybody_could_see(text: object):
    assert not has_content(text)
    assert spoken(text) is None


@pytest.mark.parametrize("text", ["a", "7", "好", "🙂", "❤️", "👩‍👧", "€", "?!", "...", "\u200bjá", "\U0001fae8", "े आ"])
def test_something_that_somebody_could_see(text: str):
    assert has_content(text)


def test_the_table_and_serving_ask_the_same_question():
    import pandas as pd

    from demeanor.data.raw_rows import read_rows, utterances_of
    from demeanor.data.utterances import has_text
    from demeanor.features.base import Clip

    said = ["\u200b", "\ufeff", "   ", "None", "🙂"]
    assert has_text(pd.DataFrame({"text": [*said, None]})).tolist() == [False, False, False, True, True, False]
    served = utterances_of(read_rows([{"text": text} for text in said]))
    assert served["text"].isna().tolist() == [True] * 3 + [False] * 2
    assert [Clip("a", text).spoken for text in said] == [None, None, None, "None", "🙂"]


def test_limits_are_those_that_the_documentation_names():
    assert (texts.MOST_BYTES, texts.MOST_TRANSCRIPT_BYTES) == (128 << 20, 4 << 20)
