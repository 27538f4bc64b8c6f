"""One normal form of names, by which files are matched to what tables call them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

#: Suffixes of what is opened (features/limits.py names the formats), the usual ones first: of two files with one stem
#: the earlier kind is taken.
VIDEO_SUFFIXES = (
    ".mp4", ".mkv", ".avi", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".flv", ".3gp", ".3g2", ".wmv", ".asf", ".ts",
    ".mts", ".m2ts", ".m2t", ".vob", ".ogv", ".ogm", ".mxf", ".f4v", ".qt", ".divx", ".dv", ".rm", ".rmvb", ".mpe",
    ".m1v", ".m2v", ".mj2", ".mk3d", ".nut", ".y4m", ".wtv", ".dav", ".3gpp", ".ismv", ".mpv", ".ivf", ".obu", ".h264",
    ".264", ".hevc", ".h265", ".265",
)  # fmt: skip
AUDIO_SUFFIXES = (
    ".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac", ".aiff", ".aif", ".aifc", ".amr", ".caf", ".wma", ".au",
    ".snd", ".oga", ".spx", ".mka", ".mp2", ".mpa", ".m4b", ".3ga", ".ac3", ".eac3", ".ec3", ".dts", ".ape", ".wv",
    ".tta", ".w64", ".awb", ".ra", ".sph", ".nist", ".gsm", ".voc", ".mpc", ".tak", ".shn", ".rf64", ".wave", ".f4a",
    ".weba", ".mpga", ".adts", ".loas", ".latm", ".thd", ".mlp", ".qcp", ".dss", ".ds2", ".oma", ".aa3",
)  # fmt: skip
MEDIA_SUFFIXES = VIDEO_SUFFIXES + AUDIO_SUFFIXES


def normal_form(name: str) -> str:
    """`name` as it is compared: 1, 01, 0001, 1.0 and 1,0 are one number, wherever in a name they stand, and a name that
    is 1E+03 is 1000, which a spreadsheet makes of it.

    Accents are one character however they were stored (macOS parts them), letters are small, separators of either kind
    and white space are underscores, characters that nobody sees are left out. In `82_7645`, which is 82.7645 s in
    MOSEI's table, the zeros of the fraction count.
    """
    text = unicodedata.normalize("NFC", name)
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf").strip().casefold()
    text = unicodedata.normalize("NFC", re.sub(r"[\s/\\]+", "_", text))
    if re.fullmatch(r"[0-9]([.,][0-9]+)?e\+?[0-9]{1,2}", text):
        number = Decimal(text.replace(",", "."))
        text = str(int(number)) if number == int(number) else text
    if re.fullmatch(r"[0-9]+[._][0-9]+", text) and not re.fullmatch(r"[0-9]+\.0+", text):
        whole, _, part = text.replace("_", ".").partition(".")
        return f"{whole.lstrip('0') or 0}.{part}"
    text = re.sub(r"(?<=[0-9])(?:\.0+|,0)(?![0-9])", "", text)  # 1,0 where a spreadsheet has decimal commas
    return re.sub(r"(?<![0-9])(?<![0-9][._])0+(?=[0-9])", "", text)


class Index:
    """Names by their normal form: each is compared once, however many are looked for."""

    def __init__(self, names: Iterable[str]):
        self.names = tuple(names)
        self._exact = frozenset(self.names)
        self._forms: dict[str, list[str]] = {}
        for name in self.names:
            self._forms.setdefault(normal_form(name), []).append(name)

    def matching(self, wanted: str) -> Sequence[str]:
        """Those of the names that `wanted` means: itself if it is there, else all of the same normal form."""
        return [wanted] if wanted in self._exact else self._forms.get(normal_form(wanted), [])


def leads_out(path: Path, root: Path) -> bool:
    """Does a link on the way lead `path` out of the folder `root`? The folder itself may be a link."""
    return not path.resolve().is_relative_to(root.resolve())
