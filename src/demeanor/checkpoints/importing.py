"""One door for every foreign checkpoint: `demeanor import-checkpoint SYSTEM FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.data.errors import InputError

if TYPE_CHECKING:
    from demeanor.checkpoints.speech_tokens import SpeechTokens
    from demeanor.data.bundle import Bundle

#: System with an importer of its own -> the options that it takes; all others are imported by their published names.
OPTIONS: dict[str, tuple[str, ...]] = {
    "conv_autoencoder": ("modalities", "force", "order"),
    "mmml": ("variant", "corpus", "tokenizer"),
    "tab_fusion": (),
}
BY_NAMES = ("published", "settings", "widths", "aligned")
SPELLED = {"settings": "set"}


def import_checkpoint(system: str, path: Path | str, **options: Any) -> Bundle | SpeechTokens:
    """A foreign checkpoint of a system as a bundle; `options` are its importer's own, empty ones are left out.

    TAB fusion's are no bundle but what its extractor and its speech branch read. Raises InputError for a system
    without an importer, for options that say nothing about it, and for a file that is none of its checkpoints.
    """
    given = {name: value for name, value in options.items() if value}
    if system not in OPTIONS:
        from demeanor.checkpoints.published import import_published, importable

        known = importable()
        if system not in known:
            have = ", ".join([*OPTIONS, *known])
            raise InputError("import-checkpoint", [f"there is no importer for '{system}'"], f"There is: {have}.")
        refuse_strange(system, given, BY_NAMES)
        return import_published(system, path, **given)
    refuse_strange(system, given, OPTIONS[system])
    if system == "tab_fusion":
        from demeanor.checkpoints.speech_tokens import import_speech_tokens

        return import_speech_tokens(path)
    if system == "mmml":
        from demeanor.checkpoints.mmml import import_mmml

        return import_mmml(path, **given)
    from demeanor.checkpoints.conv_autoencoder import import_conv_autoencoder

    return import_conv_autoencoder(path, **given)


def refuse_strange(system: str, given: dict[str, Any], taken: tuple[str, ...]) -> None:
    """InputError for options that the system's importer does not take."""
    strange = [f"--{SPELLED.get(name, name)} says nothing about {system}" for name in given if name not in taken]
    if strange:
        flags = ", ".join(f"--{SPELLED.get(name, name)}" for name in taken)
        raise InputError("import-checkpoint", strange, f"It takes {flags}." if taken else "It takes no option.")
