"""A trained model as one object: raw recordings, or features, in; outputs, embeddings or answers out."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from demeanor.data.bundle import Bundle, BundleCard
from demeanor.data.cells import EVERYWHERE, Reach
from demeanor.data.device import choose_device, several_threads
from demeanor.data.errors import InputError, nearest
from demeanor.data.examples import Examples
from demeanor.data.raw_rows import Rows
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.evaluation.attribution import every_subset
from demeanor.inference.describe import completed, describe
from demeanor.inference.explanation import explain, refuse_unseen_subsets
from demeanor.inference.extraction import Extracted, Extraction
from demeanor.inference.predict import NETWORKS
from demeanor.representations.embedding import Embedding

if TYPE_CHECKING:
    from demeanor.evaluation.receipts import Receipt


class TrainedModel:
    """A bundle at work, built once: its network, its normaliser, the representations that it reads, its extractors.

    Nothing of it changes after that (extractors are built when the first recording comes, once), so threads may share
    one. A model of kind `predicts` answers with what its task asks for, one of kind `embeds` with a vector.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", reach: Reach = EVERYWHERE):
        """See `load`."""
        self.bundle = bundle
        self.absent: frozenset[str] = frozenset()
        self.network = NETWORKS[bundle.card.kind](bundle, choose_device(device))
        self.representations = {
            stream: TrainedModel(bundle.representation(stream), device) for stream in bundle.card.representations
        }
        self.extraction = Extraction(bundle.card, reach)

    @classmethod
    def load(cls, source: Bundle | Path | str, device: str = "cpu", reach: Reach = EVERYWHERE) -> TrainedModel:
        """The model of a bundle, or of the folder that holds one.

        device  cpu, cuda:1, ..., or auto for the GPU where there is one
        reach   which files of this machine a raw row may name; a server gives `Reach.of_server()`
        Raises InputError for a folder without a bundle, or a card that does not fit its weights.
        """
        return cls(source if isinstance(source, Bundle) else Bundle.load(source), device, reach)

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str,
        revision: str | None = None,
        *,
        device: str = "cpu",
        reach: Reach = EVERYWHERE,
        **options: Any,
    ) -> TrainedModel:
        """The model in a folder that `save_pretrained` or training wrote, or of a hub id (`OWNER/NAME`).

        revision  branch, tag or commit on the hub; what was fetched stands in `card.origin`
        options   cache_dir, token, local_files_only of huggingface_hub.snapshot_download
        Errors as `load`; HubError, one sentence, where the hub does not give it.
        """
        from demeanor.inference.hub import bundle_from

        return cls(bundle_from(source, revision, **options), device, reach)

    def save_pretrained(self, folder: Path | str, receipts: Sequence[Receipt] = ()) -> Path:
        """Write weights, card and a README.md with the hub's metadata into `folder`, which `from_pretrained`, the
        commands and `hf upload OWNER/NAME FOLDER` take. See demeanor.inference.hub.save_pretrained."""
        from demeanor.inference.hub import save_pretrained

        return save_pretrained(self.bundle, folder, receipts)

    @property
    def card(self) -> BundleCard:
        """The card of its bundle."""
        return self.bundle.card

    @property
    def task(self) -> Task:
        """What it predicts."""
        return self.bundle.card.task

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it reads, in alphabetical order, without what this view leaves out."""
        return tuple(name for name in self.card.modalities if name not in self.absent)

    def without(self, *modalities: str) -> TrainedModel:
        """The same model as if these modalities were never recorded: a view, nothing is built for it.

        InputError for a modality that it does not read, and where nothing would be left.
        """
        view = copy.copy(self)
        view.absent = self.absent | frozenset(modalities)
        problems = [
            f"it reads no {name}.{nearest(name, self.card.modalities)}"
            for name in modalities
            if name not in self.card.modalities
        ]
        if not view.modalities:
            problems.append("nothing that it reads would be left")
        if problems:
            raise InputError(f"model '{self.card.branch}'", problems, f"It reads {', '.join(self.card.modalities)}.")
        return view

    def outputs(
        self, examples: Examples, subsets: Sequence[Collection[str]]
    ) -> Float32[np.ndarray, "subsets utterances outputs"]:
        """Head outputs (numbers, logits) or vectors in the order of `examples`, for each subset of `modalities` as if
        the others had not been recorded. Batches are made once for all subsets.

        NaN for an utterance of which a representation observes nothing. Raises ProvenanceError for features of another
        making, InputError for a modality that the model does not read.
        """
        dropped = [self._dropped(subset) for subset in subsets]
        if not len(examples):
            return self._forward(examples, dropped)
        examples = Embedded(examples).for_model(self)
        self.network.require(examples)
        return self._forward(examples, dropped)

    def predict(self, examples: Examples) -> Float32[np.ndarray, "utterances outputs"]:
        """Numbers, or logits for classes, in the order of `examples`; errors as `outputs`, and InputError for a model
        that embeds."""
        if self.card.kind == "embeds":
            raise InputError(f"model '{self.card.branch}'", ["it embeds, it does not predict"], "Use `embed`.")
        return self.outputs(examples, [self.modalities])[0]

    def embed(self, examples: Examples, name: str = "") -> Stream:
        """Stream `name`, by default `representation.<branch>`: [1, R] per utterance, [0, R] for one of which nothing is
        observed; errors as `outputs`, and InputError for a model that predicts."""
        if not isinstance(self.network, Embedding):
            raise InputError(f"model '{self.card.branch}'", ["it predicts, it does not embed"], "Use `predict`.")
        return self.network.stream(examples, self._dropped(self.modalities), name)

    def score(self, rows: Rows, explained: bool = False, anyway: bool = False) -> pd.DataFrame:
        """Answers for raw rows (demeanor.data.raw_rows.COLUMNS): one row per input row, in order.

        explained  with the columns of demeanor.inference.explanation.explain, at one pass for all sets of modalities
        anyway     even where the model was trained without leaving modalities out, which is else an InputError

        Columns: utterance_id; those of demeanor.inference.describe.columns_of, `modalities` (those that were used,
        joined by "+", empty where there is no answer) among them; problem (why there is no answer, or what of the row
        could not be decoded and was left out of it, else empty); transcript (words that were recognised, for rows that
        have sound and no text); transcript_source (given, or by which model). Rows of several callers may come
        together, if `dialogue` keeps their conversations apart. InputError for an unknown column, ProvenanceError
        where a stream cannot be made here.
        """
        return self.answer(self.extraction(rows, beside=several_threads()), explained, anyway)

    def answer(
        self, read: Extracted, explained: bool = False, anyway: bool = False, parts: Sequence[Extracted] = ()
    ) -> pd.DataFrame:
        """`score` for rows that `extraction` has read, here or in another process.

        parts  of which `read` was put together, in order: each goes through the network by itself, so that its rows
               get, to the last bit, the outputs that they get alone
        """
        if self.absent:
            sources = self._sources()
            read, parts = read.only(sources), [part.only(sources) for part in parts]
        separate = [
            Embedded(part.examples).for_model(self) if len(part.examples) else part.examples for part in parts or [read]
        ]
        used = [read.used[name] for name in read.examples.ids]
        languages = list(read.examples.utterances["language"])
        return completed(self._answers(separate, languages, used, explained, anyway), read)

    def score_examples(self, examples: Examples, explained: bool = False, anyway: bool = False) -> pd.DataFrame:
        """The same for examples; errors as `outputs`."""
        used, sources = self.extraction.modalities(examples), self._sources()
        given = [sources & set(used[name]) for name in examples.ids]
        if len(examples):
            examples = Embedded(examples).for_model(self)
            self.network.require(examples)
        answers = self._answers([examples], list(examples.utterances["language"]), given, explained, anyway)
        answers.insert(0, "utterance_id", examples.ids)
        given_text = ["given" if isinstance(text, str) else "" for text in examples.utterances["text"]]
        return answers.assign(problem="", transcript="", transcript_source=given_text)

    def _answers(
        self,
        separate: Sequence[Examples],
        languages: Sequence[str],
        used: Sequence[Collection[str]],
        explained: bool,
        anyway: bool,
    ) -> pd.DataFrame:
        """Of examples that go through the network one after the other; `languages` and `used` of all their rows."""
        if explained and not anyway:
            refuse_unseen_subsets(self.card)
        subsets = every_subset(self.modalities) if explained else [self.modalities]
        dropped = [self._dropped(subset) for subset in subsets]
        outputs = np.concatenate([self._forward(examples, dropped) for examples in separate], axis=1)
        answers = describe(self.card, outputs[-1], used, languages)
        if not explained:
            return answers
        here = [self.card.seen(given) for given in used]
        present = {name: np.array([name in given for given in here], dtype=bool) for name in self.modalities}
        return answers.join(explain(self.card, outputs, present))

    def _forward(
        self, examples: Examples, dropped: Sequence[Collection[str]]
    ) -> Float32[np.ndarray, "subsets utterances outputs"]:
        if not len(examples):
            return np.zeros((len(dropped), 0, self.network.dimension), dtype=np.float32)
        return self.network.outputs(examples, dropped)

    def _dropped(self, subset: Collection[str]) -> tuple[str, ...]:
        """Roles that are not recorded where only the modalities of `subset` are."""
        unknown = [f"it reads no {name}" for name in subset if name not in self.modalities]
        if unknown:
            raise InputError(f"model '{self.card.branch}'", unknown, f"It reads {', '.join(self.modalities)}.")
        return tuple(role for role, value in self.card.inputs.items() if value.modality not in subset)

    def _sources(self) -> set[str]:
        """Modalities of a recording from which anything reaches the network."""
        return {
            source.modality
            for value in self.card.inputs.values()
            if value.modality in self.modalities
            for source in self.card.sources_of(value).values()
        }


def score_together(
    models: Sequence[TrainedModel], rows: Rows, explained: Sequence[bool] | None = None, anyway: bool = False
) -> list[pd.DataFrame]:
    """`score` of each model for the same rows; those that read the same are served by one extraction.

    explained  of each model, as of `score`; by default of none
    anyway     as of `score`
    """
    wanted = [False] * len(models) if explained is None else explained
    read: list[tuple[Extraction, Extracted]] = []
    answers = []
    for model, because in zip(models, wanted, strict=True):
        own = next((extracted for made, extracted in read if made.makes_what(model.extraction)), None)
        if own is None:
            own = model.extraction(rows, beside=several_threads())
            read.append((model.extraction, own))
        answers.append(model.answer(own, because, anyway))
    return answers


class Embedded:
    """Examples for several models in turn: what their representations make is made once where they carry the same."""

    def __init__(self, examples: Examples):
        self.examples = examples
        self._made: dict[tuple[str, str], Stream] = {}

    def for_model(self, model: TrainedModel) -> Examples:
        """The examples with the streams that the model's own representations make, where they are not there yet."""
        missing = {name: inner for name, inner in model.representations.items() if name not in self.examples.streams}
        if not missing:
            return self.examples
        made = {name: self._stream(name, inner) for name, inner in missing.items()}
        return Examples.of(self.examples.utterances, {**self.examples.streams, **made})

    def _stream(self, name: str, representation: TrainedModel) -> Stream:
        key = name, representation.bundle.weights_sha256
        if key not in self._made:
            self._made[key] = representation.embed(self.examples, name)
        return self._made[key]
