"""A model as a folder with a model card, whose figures are looked up among a project's receipts."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from demeanor.data.bundle import Bundle
from demeanor.data.errors import InputError
from demeanor.data.files import read_json
from demeanor.evaluation.receipts import Receipt
from demeanor.inference.hub import save_pretrained


def receipts_of(bundle: Bundle, project: Path) -> list[Receipt]:
    """The receipts of a bundle's weights in data/08_reporting of a project; InputError for a file that holds none."""
    found = []
    for path in sorted((project / "data" / "08_reporting").rglob("receipts.json*")):
        if not path.is_file():  # of a versioned dataset the folder around the versions
            continue
        try:
            entries = [entry for entry in read_json(path) if entry["weights_sha256"] == bundle.weights_sha256]
            found += [Receipt(**entry) for entry in entries]
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            problem = f"it holds no receipts ({type(error).__name__})"
            raise InputError(str(path), [problem], "Run `kedro run --pipelines evaluation` again.") from error
    return found


def export(bundle: Bundle, folder: Path, project: Path) -> str:
    """Write the folder, and say in one line what it holds."""
    receipts = receipts_of(bundle, project)
    made = save_pretrained(bundle, folder, receipts)
    figures = (
        f"figures of the sealed test from a receipt of {max(one.time for one in receipts):%Y-%m-%d}"
        if receipts
        else "no receipt of these weights in this project, so no figures of the sealed test"
    )
    return f"{bundle.card.branch} is in {made}: card.json, weights.safetensors, README.md; {figures}"
