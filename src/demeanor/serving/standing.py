"""Who answers: the rule by which a new version of a registered model becomes the champion or stands beside it.

A version is promoted where there is no champion yet, or where it is not worse than the champion on validation of the
same data: clip by clip where the champion's weights are at hand (the mean difference decides, its interval is stated),
else by the scores in the tags. Anything else makes it the challenger and leaves the champion where it is: a worse
version, and one whose data are not the champion's, for scores of different clips say nothing about which model is the
better one. Whoever trained on more or better clips knows that, and says so with `demeanor promote`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from demeanor.evaluation.metrics import not_worse
from demeanor.evaluation.paired import Difference

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


@dataclass(frozen=True)
class Judged:
    """What a version is judged by: a validation metric, its value, and the hash of the data behind it."""

    metric: str
    value: float
    data_hash: str

    @property
    def tags(self) -> dict[str, str]:
        """What later versions compare themselves with."""
        return {"data_hash": self.data_hash, f"valid_{self.metric}": f"{self.value:.6g}"}


@dataclass(frozen=True)
class Standing:
    """The alias of a new version and why it has it."""

    alias: str
    reason: str


def standing(
    judged: Judged, champion: str | None, tags: Mapping[str, str], paired: Difference | str = "not tried"
) -> Standing:
    """Where a new version stands beside the version `champion`, which has these tags; None where there is none yet.

    paired  the new version's metric minus the champion's on the same validation clips, or why that is not known

    Values are compared by the six digits that tags hold, so that the same training repeated is not called worse.
    """
    if champion is None:
        return Standing(CHAMPION, "there was no champion")
    theirs, known = tags.get(f"valid_{judged.metric}"), tags.get("data_hash")
    if theirs is None or known is None:
        return Standing(CHALLENGER, f"version {champion} has no validation {judged.metric} to compare with")
    if known != judged.data_hash:
        return Standing(
            CHALLENGER,
            f"version {champion} was trained on other data ({known}, now {judged.data_hash}), so validation scores do "
            "not compare",
        )
    if isinstance(paired, Difference):
        worse = not not_worse(paired.metric, round(paired.mean, 6), 0.0)
        said = paired.describe("this version", f"version {champion}")
        return Standing(CHALLENGER if worse else CHAMPION, f"{'worse' if worse else 'not worse'} on validation, {said}")
    own = judged.tags[f"valid_{judged.metric}"]
    between = (
        f"validation {judged.metric} {own}, version {champion} has {theirs} on the same data, by their scores alone, "
        f"not clip by clip: {paired}"
    )
    if not_worse(judged.metric, float(own), float(theirs)):
        return Standing(CHAMPION, f"not worse: {between}")
    return Standing(CHALLENGER, f"worse: {between}")
