"""Settings as they were published: data beside each system, chosen in conf by `model: {published: mosi}`.

A system's module, or that of its settings, ends with `PUBLISHED`: name in the registry -> Published. What a corpus'
block says are the defaults of a branch (model, training, streams, normalise); what the branch says itself wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from demeanor.data.errors import nearest

KEY = "published"


@dataclass(frozen=True)
class Published:
    """Published settings of a system.

    source  where they stand
    blocks  corpus -> defaults of a branch
    names   beginning of a published weight's name -> of ours; empty where a module of its own reads the checkpoints
    """

    source: str
    blocks: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str] = field(default_factory=dict)

    def branch(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a branch: `given`, whose model says `published: <corpus>`, laid over that corpus' block.

        Raises ValueError if nothing was published for the corpus.
        """
        model = dict(given["model"])
        corpus = str(model.pop(KEY))
        if corpus not in self.blocks:
            have = ", ".join(self.blocks)
            raise ValueError(f"nothing is published for '{corpus}', only for {have}.{nearest(corpus, self.blocks)}")
        return merged(self.blocks[corpus], {**given, "model": model})


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` over `defaults`, mapping by mapping."""
    made = dict(defaults)
    for name, value in given.items():
        former = made.get(name)
        both = isinstance(former, Mapping) and isinstance(value, Mapping)
        made[name] = merged(former, value) if both else value  # type: ignore[arg-type]
    return made


#: What MMSA's programs do for every system and corpus.
MMSA_TRAINING = {
    "seeds": (1111, 1112, 1113, 1114, 1115), "epochs": 100, "patience": 8, "selection": "loss", "optimiser": "adam",
    "clip_norm": None,
}  # fmt: skip
MMSA = (
    "what MMSA 2.2.1 from PyPI prints for get_config_regression(<model>, <corpus>). SIMSv2 is only in its git version; "
    "where docs/systems has no values of it, those of SIMS stand in. The published systems take padding for data; "
    "`reference: true` in `model` does so, too."
)
FRAMES = {"text": "text.words", "audio": "audio.frames", "vision": "vision.frames"}
ENGLISH, CHINESE = "bert-base-uncased", "bert-base-chinese"
ENCODERS = {"mosi": ENGLISH, "mosei": ENGLISH, "sims": CHINESE, "simsv2": CHINESE}


def mmsa(
    model: Mapping[str, Any] = {}, training: Mapping[str, Any] = {}, *, fine_tunes: bool = False, source: str = MMSA,
    names: Mapping[str, str] = {}, **corpora: Mapping[str, Any],
) -> Published:  # fmt: skip
    """Published settings of a system of the MMSA family, on its feature files.

    model, training  what is the same for all corpora; each of `corpora` adds its own
    fine_tunes       BERT is trained along, from tokens, in place of reading frozen states
    """
    if "sims" in corpora:
        corpora.setdefault("simsv2", corpora["sims"])
    blocks: dict[str, Mapping[str, Any]] = {}
    for corpus, own in corpora.items():
        tokens = {"streams": {**FRAMES, "text": "text.tokens"}, "model": {"encoder": ENCODERS[corpus]}}
        shared = {"streams": FRAMES, "normalise": False, "model": model, "training": {**MMSA_TRAINING, **training}}
        blocks[corpus] = merged(merged(shared, tokens if fine_tunes else {}), own)
    return Published(source, blocks, names)
