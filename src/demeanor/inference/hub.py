"""Bundles as folders in the manner of the Hugging Face hub: beside weights and card a README.md that the hub reads; and
bundles by hub id, at a revision that is remembered.

The head of README.md (https://huggingface.co/docs/hub/model-cards) is written by huggingface_hub, its text by
demeanor.inference.model_page. Figures of the sealed test are those of receipts.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demeanor.corpora.cards import card_for, is_synthetic
from demeanor.data.bundle import CARD, WEIGHTS, Bundle, BundleCard
from demeanor.data.errors import DemeanorError, InputError
from demeanor.data.files import disk_errors_told
from demeanor.data.places import anchored
from demeanor.evaluation.metrics import primary_metrics
from demeanor.evaluation.receipts import Receipt
from demeanor.inference.model_page import model_page

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

README = "README.md"
SCHEME = "hf://"
#: The hub's names of what a model of one modality does; it has none for words, voice and face together.
PIPELINE_TAGS = {"text": "text-classification", "audio": "audio-classification", "vision": "video-classification"}
#: Our metrics -> the hub's names, where it has some (https://huggingface.co/metrics).
HUB_METRICS = {
    "MAE": "mae", "Corr": "pearsonr", "accuracy": "accuracy", "macro_F1": "f1", "weighted_F1": "f1", "UAR": "recall",
}  # fmt: skip
#: Licences that the hub knows by a name, as our parts state them.
HUB_LICENCES = {"Apache-2.0": "apache-2.0", "CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0"}
#: NAME or OWNER/NAME, without which a word is no address on the hub.
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class HubError(DemeanorError):
    """A model of the hub cannot be had; one sentence says why."""


def save_pretrained(bundle: Bundle, folder: Path | str, receipts: Sequence[Receipt] = ()) -> Path:
    """Write card, weights and README.md into `folder`; other files that are there stay.

    receipts  of these weights on the sealed test, of each of several corpora; the latest give the README its figures
    InputError for a receipt of other weights.
    """
    foreign = [f"{one.name} is of other weights" for one in receipts if one.weights_sha256 != bundle.weights_sha256]
    if foreign:
        raise InputError("receipts", foreign, "Give those of this model: their weights_sha256 is its own.")
    folder = anchored(folder)
    with disk_errors_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as place:
            part = Path(place) / "bundle"
            bundle.save(part)
            (part / README).write_text(hub_readme(bundle, receipts), encoding="utf-8")
            for name in (WEIGHTS, CARD, README):
                os.replace(part / name, folder / name)
    return folder


def hub_readme(bundle: Bundle, receipts: Sequence[Receipt] = ()) -> str:
    """README.md: the hub's metadata between two lines of dashes, then the model's page."""
    from huggingface_hub import ModelCard, ModelCardData

    card = bundle.card
    scored = _latest(receipts)
    results = _results(card, scored)
    data = ModelCardData(
        language=list(card.languages) or None,
        library_name="demeanor",
        tags=_tags(card),
        datasets=_corpora(card) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        pipeline_tag=_pipeline_tag(card),
        model_name=card.branch,
        eval_results=results or None,
        **_licence(card),
    )
    tested = {f"{one.corpus}.{name}" if one.learnt_from else name: value
              for one in scored for name, value in one.metrics.items() if math.isfinite(value)}  # fmt: skip
    told = "; ".join(
        f"receipt of {one.time:%Y-%m-%d}, {one.n} utterances of {one.corpus}, data `{one.data_hash}`, code "
        f"`{one.code_revision}`"
        for one in scored
    )
    remark = f"Sealed test: {told}." if told else "No receipt of the sealed test came with it."
    calls = [
        "```python",
        "from demeanor.inference.model import TrainedModel",
        "",
        '# A folder, or a hub id with revision="COMMIT".',
        'model = TrainedModel.from_pretrained("FOLDER")',
        'model.score([{"text": "...", "video": "CLIP.mp4"}])',
        "```",
        "",
        "```bash",
        'demeanor predict CLIP.mp4 --text "..." --model FOLDER',
        "```",
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{model_page(bundle, tested, calls, remark)}\n"))


def fetch_bundle(name: str, revision: str | None = None, **options: Any) -> Bundle:
    """The bundle of a hub repository; its card's `origin` says which, at which commit.

    revision  branch, tag or commit; None: the newest, which another day is another one
    options   cache_dir, token, local_files_only of huggingface_hub.snapshot_download
    HubError where it cannot be had; InputError where what is there is no bundle.
    """
    folder = _download(name, revision, options)
    bundle = Bundle.load(folder)
    # The cache of the hub is laid out by commits: snapshots/<commit>.
    return Bundle(bundle.card.model_copy(update={"origin": f"{name}@{folder.name}"}), bundle.tensors)


def bundle_from(source: Path | str, revision: str | None = None, **options: Any) -> Bundle:
    """The bundle in a folder, or of a hub id (`OWNER/NAME`); see `fetch_bundle`. InputError for a folder with a
    revision."""
    text = str(source)
    if not text.startswith(SCHEME) and anchored(source).is_dir():
        if revision is not None:
            raise InputError(f"model {text}", ["a folder has no revisions"], "Leave `revision` out.")
        return Bundle.load(anchored(source))
    return fetch_bundle(text.removeprefix(SCHEME), revision, **options)


def _download(name: str, revision: str | None, options: dict[str, Any]) -> Path:
    if not _HUB_ID.fullmatch(name):
        raise HubError(f"model '{name}': there is no such folder, and a name on the Hugging Face hub is OWNER/NAME.")
    from huggingface_hub import errors, is_offline_mode, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CARD, WEIGHTS], **options))
    except errors.RevisionNotFoundError:
        reason = "it has no such revision"
    except errors.GatedRepoError:
        reason = "its owner lets in whom they have accepted, and this machine's token is not"
    except errors.RepositoryNotFoundError:
        reason = "there is no such folder here and no such repository there, or it is private and wants a token"
    except errors.LocalEntryNotFoundError:
        closed = is_offline_mode() or options.get("local_files_only")
        why = "asking the hub is switched off (HF_HUB_OFFLINE)" if closed else "the hub cannot be reached"
        reason = f"it is neither a folder here nor in this machine's cache, and {why}"
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    wanted = "" if revision is None else f" at revision '{revision}'"
    raise HubError(f"model '{name}'{wanted} cannot be had from the Hugging Face hub: {reason}.")


def _latest(receipts: Sequence[Receipt]) -> list[Receipt]:
    """The latest receipt of the sealed test; where the test of each of several corpora was scored apart, of each."""
    whole = sorted((one for one in receipts if one.split == "test" and not one.modalities), key=lambda one: one.time)
    apart = {one.corpus: one for one in whole if one.learnt_from}
    return list(apart.values()) or whole[-1:]


def _corpora(card: BundleCard) -> list[str]:
    return [name.strip() for name in str(card.protocol.get("corpus", "")).split(",") if name.strip()]


def _tags(card: BundleCard) -> list[str]:
    about = [] if card.kind == "embeds" else [card.task.name]
    made = ["synthetic-data"] if is_synthetic(",".join(_corpora(card))) else []
    return list(dict.fromkeys([*about, card.task.kind, *card.modalities, card.system.replace("_", "-"), *made]))


def _pipeline_tag(card: BundleCard) -> str | None:
    if card.kind == "embeds":
        return "feature-extraction"
    return PIPELINE_TAGS.get(card.modalities[0]) if len(card.modalities) == 1 else None


def _licence(card: BundleCard) -> dict[str, Any]:
    """The hub's name where all parts, the corpus among them, have one and the same licence that it knows."""
    parts = {part.strip() for part in card.licence.split(";") if part.strip()}
    parts |= {card_for(name).licence for name in _corpora(card)}
    if len(parts) == 1 and (name := HUB_LICENCES.get(next(iter(parts)))):
        return {"license": name}
    return {"license": "other", "license_name": "those-of-its-parts", "license_link": f"{README}#licences"}


def _results(card: BundleCard, scored: Sequence[Receipt]) -> list[EvalResult]:
    """The task's main metrics on validation, as the card has them, and on the sealed test, as the receipt has them."""
    from huggingface_hub import EvalResult

    if card.kind == "embeds":
        return []
    learnt = _corpora(card)
    measured = [("validation", learnt, card.metrics, card.data_hash)]
    measured += [("test", [one.corpus] if one.learnt_from else learnt, one.metrics, one.data_hash) for one in scored]
    return [
        EvalResult(
            task_type=_pipeline_tag(card) or "other",
            task_name=card.task.describe(),
            dataset_type=", ".join(corpora) or "unknown",
            dataset_name=", ".join(card_for(one).title for one in corpora) or "unknown",
            dataset_split=split,
            dataset_args={"data_hash": data_hash},
            metric_type=HUB_METRICS.get(name, name),
            metric_name=name,
            metric_value=round(values[name], 6),
        )
        for split, corpora, values, data_hash in measured
        for name in primary_metrics(card.task)
        if math.isfinite(values.get(name, math.nan))
    ]
