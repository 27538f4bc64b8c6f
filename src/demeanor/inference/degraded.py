"""What trained models say of recordings that were made worse: degraded, extracted again, scored with every set of
modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from demeanor.data.calibration import subset_name
from demeanor.data.errors import InputError
from demeanor.data.examples import Examples
from demeanor.data.provenance import Provenance
from demeanor.data.stream import Stream
from demeanor.evaluation.attribution import every_subset
from demeanor.evaluation.conformal import confidences, presence_names
from demeanor.evaluation.robustness import modality_ablation
from demeanor.evaluation.trust import risen_confidence
from demeanor.features import extractor_from
from demeanor.features.clip import Clip
from demeanor.features.clips import clips_of
from demeanor.features.degrading import Degradation, Surroundings
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.inference.model import TrainedModel
from demeanor.inference.presence import presence


@dataclass(frozen=True)
class Degraded:
    """Clips of one split, to be made worse.

    examples   the clips that are scored, with their streams as they are
    clips      the same as recordings, in the same order
    around     the split's other clips, and the seed
    work       folder for what is extracted; what is there from a run that was stopped is not made again
    processes  that extract
    """

    examples: Examples
    clips: Sequence[Clip]
    around: Surroundings
    work: Path
    processes: int = 1

    @classmethod
    def of(
        cls, examples: Examples, ids: Sequence[str], root: Path | str, work: Path, seed: int = 0, processes: int = 1
    ) -> Degraded:
        """Those of `examples` that are named; `root` is the folder of their recordings. InputError where none is
        named."""
        if not ids:
            raise InputError("robustness", ["there is no clip to score"])
        every = clips_of(examples.utterances, root, examples.streams)  # conversations need all of their turns
        by_id = {clip.utterance_id: clip for clip in every}
        chosen = examples.select(ids)
        speakers = dict(zip(chosen.ids, chosen.utterances["speaker"], strict=True))
        clips = [by_id[name] for name in ids]
        return cls(chosen, clips, Surroundings(clips, seed, speakers), work, processes)

    def streams(self, makers: Mapping[str, Provenance], kind: Degradation, level: float) -> dict[str, Stream]:
        """Those of `makers` (stream -> who made it) that read what changes, extracted from the clips at that level.

        ProvenanceError for a stream that cannot be made here from a recording, InputError as of `extract_streams`.
        """
        requests = {}
        for name, provenance in makers.items():
            extractor = extractor_from(provenance, name)
            if extractor.reads & kind.reads:
                requests[name] = StreamRequest(extractor=extractor.name, parameters=extractor.options())
        if not requests:
            return {}
        output = self.work / "streams" / f"{kind.name}_{level:g}"
        worse = kind(self.clips, level, self.around)
        return extract_streams(worse, requests, self.work / "cache", output, self.processes, progress=False)[0]


def curves(
    models: Mapping[str, TrainedModel], degraded: Degraded, kind: Degradation, level: float | None, resamples: int = 500
) -> pd.DataFrame:
    """What each model is worth at one level of a degradation (None: the clips as they are), a row per model and set of
    its modalities, of those models that read what is made worse.

    Columns: model, task, kind, level (NaN for clean), those of demeanor.evaluation.robustness.modality_ablation but for
    its drops; confidence, the mean over clips of a calibrated model's; and surer_without, with all modalities, the
    share of cases in which taking one away raises the confidence (demeanor.evaluation.trust.surer_without).
    """
    reading = {name: model for name, model in models.items() if kind.modality in model.modalities}
    makers = {stream: value.provenance for model in reading.values() for stream, value in model.card.raw_inputs.items()}
    made = {} if level is None else degraded.streams(makers, kind, level)
    examples = Examples.of(degraded.examples.utterances, {**degraded.examples.streams, **made})
    rows = []
    for name, model in reading.items():
        table = scored(model, examples, resamples)
        place = {"model": name, "task": model.task.name, "kind": kind.name}
        rows.append(table.assign(**place, level=np.nan if level is None else level))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def scored(model: TrainedModel, examples: Examples, resamples: int) -> pd.DataFrame:
    """The columns of `curves` that one model gives."""
    card, task = model.card, model.task
    subsets = every_subset(model.modalities)
    outputs = model.outputs(examples, subsets)
    named = {subset_name(chosen): values for chosen, values in zip(subsets, outputs, strict=True)}

    def predict(chosen: Sequence[tuple[str, ...]]) -> list[np.ndarray]:
        return [named[subset_name(subset)] for subset in chosen]

    target = task.targets(examples.utterances)
    table = modality_ablation(task, predict, target, model.modalities, resamples=resamples)
    table = table.drop(columns=[column for column in table if "_drop" in str(column)])
    if card.calibration is None:
        return table
    present = presence(card.inputs, examples, card.representations)
    sure = []
    for subset in table["modalities"]:
        left = set(subset.split(" + "))
        names = presence_names({name: here & (name in left) for name, here in present.items()})
        chosen = confidences(task, named[subset_name(left)].astype(np.float64), card.calibration, names)
        sure.append(float(chosen.mean()))
    table["confidence"] = sure
    whole = table["present"] == len(model.modalities)
    risen = risen_confidence(task, named, present, card.calibration) if len(model.modalities) > 1 else np.nan
    return table.assign(surer_without=np.where(whole, risen, np.nan))
