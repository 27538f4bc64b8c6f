"""Who made a stream, how, from what, and under which licence."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from demeanor.data.errors import ProvenanceError
from demeanor.data.files import sha256_of
from demeanor.data.settings import Settings


class Provenance(Settings):
    """The maker's card of a stream, stored beside its values and inside every model trained on them.

    Two streams may stand in for each other only if their `fingerprint` is equal; licence, description and
    column names are for readers and do not enter it.
    """

    extractor: str = Field(description="name of the extractor, or of the file format for imported streams")
    version: str = Field(description="version of the library or file that decides the values")
    parameters: dict[str, Any] = Field(default_factory=dict, description="all that changes the values")
    rate: float | None = Field(default=None, description="frames per second; None where steps are not regular")
    unit: str = Field(default="", description="what one step is: frame, word, token, utterance, sample")
    weights_sha256: str | None = Field(default=None, description="hash of pretrained weights, if any")
    licence: str = Field(default="unknown", description="licence of the extractor and what it allows")
    recomputable: bool = Field(default=True, description="can these features be made from a recording?")
    alignment: str = Field(default="", description="where word times came from: corpus, ctc, uniform")
    notes: str = ""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of all that changes the values: not the licence, notes or `recomputable`."""
        values = self.model_dump(mode="json", exclude={"licence", "notes", "recomputable"})
        return sha256_of(values)[:16]

    def differences(self, other: Provenance) -> list[str]:
        """Lines 'field: mine here, theirs there' for all that enters the fingerprint."""
        mine, theirs = self._flat(), other._flat()
        lines = []
        for key in sorted(mine.keys() | theirs.keys()):
            if mine.get(key) != theirs.get(key):
                lines.append(f"{key}: {mine.get(key)!r} expected, {theirs.get(key)!r} found")
        return lines

    def require(self, other: Provenance, stream: str) -> None:
        """Raise ProvenanceError unless `other` was made in the same way as this."""
        if self.fingerprint != other.fingerprint:
            listed = "\n".join(f"  - {line}" for line in self.differences(other))
            raise ProvenanceError(
                f"stream '{stream}' was made in another way than the model was trained on:\n{listed}\n"
                "Make the features again with the settings above, or train the model on these."
            )

    def _flat(self) -> dict[str, Any]:
        values = self.model_dump(mode="json", exclude={"licence", "notes", "recomputable"})
        parameters = values.pop("parameters")
        return {**values, **{f"parameters.{key}": value for key, value in parameters.items()}}
