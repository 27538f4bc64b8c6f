"""Validation data of features that have seen their labels: made as unreliable as such features are where they have not.

Some corpora come with features whose extractors were trained on the labels of the train split. Whatever is held out of
that split is then predicted almost without error, so that validation says nothing about what will hold on test. Here
a share of the validation vectors is replaced by those of other utterances (swap noise): a share s lowers the accuracy a
of a two-class model to about (1 - s) a + s / 2, and so can be set for the accuracy that is known of unseen data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from demeanor.corpora.base import Corpus, Finding
from demeanor.data.errors import InputError, nearest
from demeanor.data.ragged import Ragged
from demeanor.data.stream import SUFFIX, Stream


def add_swap_noise(corpus: Corpus, shares: Mapping[str, float], output: Path, seed: int = 1) -> Corpus:
    """In each stream of `shares` (stream -> share from 0 to 1) that share of the valid split's utterances takes the
    sequence of another one of the valid split. Train and test are left alone. Files go to `output`. InputError for
    streams that the corpus lacks and shares outside [0, 1]."""
    problems = [
        f"there is no stream '{name}'.{nearest(name, corpus.streams)}" for name in shares if name not in corpus.streams
    ]
    problems += [
        f"a share of {share} for '{name}' does not lie in [0, 1]"
        for name, share in shares.items()
        if not 0 <= share <= 1
    ]
    if problems:
        raise InputError("valid_swap_noise", problems, "Name streams that come with the corpus.")
    table = corpus.utterances
    valid = table.loc[table["split"] == "valid", "utterance_id"].to_numpy()
    streams, summary = dict(corpus.streams), []
    for number, (name, share) in enumerate(sorted(shares.items())):
        generator = np.random.default_rng([seed, number])
        count = round(share * len(valid))
        taking = generator.permutation(len(valid))[:count]
        # One of the others, never itself.
        giving = (taking + generator.integers(1, max(len(valid), 2), count)) % max(len(valid), 1)
        stream = corpus.streams[name]
        sequences = {key: np.array(values) for key, values in zip(stream.ragged.ids, stream.ragged, strict=True)}
        given = {valid[to]: sequences[valid[of]] for to, of in zip(taking, giving, strict=True)}
        ragged = Ragged.from_sequences({**sequences, **given}, stream.dimension, stream.ragged.dtype.type)
        note = f"{count} of {len(valid)} sequences of the valid split are another utterance's"
        made = Stream(name, ragged, stream.provenance.model_copy(update={"notes": note}))
        path = output / f"{name}{SUFFIX}"
        made.save(path)
        streams[name] = Stream.load(path)
        summary.append(f"{name} {share:.0%}")
    finding = Finding(
        "valid_swap_noise", "note", f"validation vectors taken from other utterances: {', '.join(summary)}"
    )
    return replace(corpus, streams=streams, findings=(*corpus.findings, finding))
