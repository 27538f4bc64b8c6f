"""CMU-MOSI as one vector per utterance and modality: the features of bc-LSTM (Poria et al., ACL 2017).

A folder with `mosi_utt.csv` and `mosi_utt.npz`, whose rows belong together: 2199 utterances of 93 recordings, text
100-d, audio 73-d, video 100-d. The text and video features come from networks that were trained with the labels of
`split_bclstm`'s train part, so that no other split may be used for evaluation, and validation scores are optimistic.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demeanor.corpora.base import Corpus, Finding, Reader, ReaderSettings, require_path
from demeanor.corpora.cards import card_for
from demeanor.corpora.imported import StreamFolder, to_float32
from demeanor.corpora.label_csv import clip_order
from demeanor.corpora.packed_tables import check_npz
from demeanor.corpora.recordings import require_inside
from demeanor.corpora.tables import missing_columns, numbers, read_table
from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.texts import spoken
from demeanor.data.utterances import make_table

COLUMNS = {
    "id": "video_clip", "video_id": "the recording", "clip_id": "number of the clip", "text": "the transcript",
    "label": "sentiment in [-3, 3]", "label_bin": "0 negative, 1 positive", "split_bclstm": "train or test",
}  # fmt: skip
#: Array of the npz -> (stream, columns).
STREAMS = {"text": ("text.sentence", 100), "audio": ("audio.functionals", 73), "video": ("vision.functionals", 100)}
POLARITY = {"0": "negative", "1": "positive"}


class MosiUtterancesSettings(ReaderSettings):
    """`name` is how the corpus is called; the split is always that of bc-LSTM, see the module's first lines."""

    name: str = "mosi_utterances"


class MosiUtterancesReader(Reader):
    """Gives `sentiment` (missing for four utterances) and `polarity` (negative or positive), and three streams."""

    settings_type = MosiUtterancesSettings

    @classmethod
    def recognise(cls, path: Path) -> dict[str, Any] | None:
        root = path if path.is_dir() else path.parent
        known = path == root or path.name in ("mosi_utt.csv", "mosi_utt.npz")
        return {"path": root} if known and (root / "mosi_utt.csv").is_file() else None

    def read(self, settings: MosiUtterancesSettings, output: Path) -> Corpus:
        root = require_path(settings.path, "folder")
        table = read_table(require_inside(root / "mosi_utt.csv", root, settings.follow_links), COLUMNS)
        problems = missing_columns(table.rows.columns, COLUMNS)
        if problems:
            raise InputError(str(root / "mosi_utt.csv"), problems)
        rows = table.rows
        arrays = _arrays(root / "mosi_utt.npz", list(rows["id"]))
        label = numbers(rows["label"], table.separator)
        unknown = sorted(set(rows["split_bclstm"]) - {"train", "test"}) + sorted(set(rows["label_bin"]) - set(POLARITY))
        if unknown:
            raise InputError(str(root / "mosi_utt.csv"), [f"'{value}' is no split or polarity" for value in unknown])
        utterances = pd.DataFrame({
            "utterance_id": rows["id"], "corpus": settings.name, "split": rows["split_bclstm"],
            "dialogue": rows["video_id"], "text": rows["text"].map(spoken),
            # A speaker talks to a camera: the recording is the person.
            "speaker": rows["video_id"], "language": settings.language,
            "sentiment": label, "polarity": rows["label_bin"].map(POLARITY),
        })  # fmt: skip
        order = rows["clip_id"].map(clip_order)
        utterances["turn"] = order.groupby(rows["video_id"]).rank(method="first").astype(int) - 1
        checked = make_table([{str(key): value for key, value in row.items()} for row in utterances.to_dict("records")])
        with StreamFolder.open(output) as folder:
            for key, (name, width) in STREAMS.items():
                writer = folder.add(name, width, _provenance(key))
                for identifier, vector in zip(rows["id"], arrays[key], strict=True):
                    writer.append(identifier, vector[None])
        finding = Finding(
            "seen_labels", "warning", "text and video features were trained with the labels of the train part",
            int((rows["split_bclstm"] == "train").sum()),
            advice="Validation scores are optimistic; only the test part of split_bclstm was unseen.",
        )  # fmt: skip
        return Corpus(settings.name, checked, root, card_for("mosi_utterances"), folder.streams,
                      (*table.findings, finding))  # fmt: skip


def _arrays(path: Path, ids: list[str]) -> dict[str, np.ndarray]:
    """The three arrays, checked against the rows of the table."""
    require_path(path, "file")
    check_npz(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            content = {key: stored[key] for key in (*STREAMS, "id") if key in stored}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(str(path), [f"not a readable npz file ({error})"]) from None
    problems = [f"there is no array '{key}'" for key in (*STREAMS, "id") if key not in content]
    for key, (_, width) in STREAMS.items():
        if key in content and content[key].shape != (len(ids), width):
            problems.append(f"array '{key}' has the shape {content[key].shape} instead of {(len(ids), width)}")
    if "id" in content and content["id"].tolist() != ids:
        problems.append("its ids are not those of mosi_utt.csv, in the same order")
    if problems:
        raise InputError(str(path), problems)
    return {key: to_float32(content[key]) for key in STREAMS}


def _provenance(key: str) -> Provenance:
    how = {
        "text": "CNN over word2vec, trained with the labels",
        "audio": "openSMILE functionals, reduced",
        "video": "3D-CNN, trained with the labels",
    }
    return Provenance(
        extractor="bclstm_features", version="1", parameters={"modality": key, "how": how[key]}, unit="utterance",
        licence="none stated; CMU-MOSI: research use", recomputable=False,
        notes="Imported; it cannot be recomputed from a recording.",
    )  # fmt: skip
