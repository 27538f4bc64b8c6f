"""TAB fusion's published windows, schedule and batch means against the golden numbers c and e."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from demeanor.reference.tab_fusion_protocol import batch_averaged, binary_loss, newbob, past_slots, session_slots
from tests.parity.golden import cases

miscellany = pytest.mark.parametrize("path", cases("tab_fusion", "e_misc*.json"))


@pytest.mark.parametrize("path", cases("tab_fusion", "c_context*.npz"))
def test_windows_of_the_published_code(path: Path):
    golden = np.load(path)
    session, kept = golden["turns"][:, 0], golden["kept"]
    names = [name for name in golden.files if name.startswith("ref_")]
    assert names
    for name in names:
        for row, target in enumerate(kept):
            own = kept[session[kept] == session[target]]
            place = int(np.flatnonzero(own == target)[0])
            if "past" in name:
                slots = past_slots(len(own), place)
            else:
                version = "v1" if "_v1_" in name else "head"
                slots = session_slots(len(own), place, int(name.rsplit("_c", 1)[1]), version)
            found = [own[slot] if slot >= 0 else -1 for slot in slots]
            np.testing.assert_array_equal(found, golden[name][row], err_msg=name)


@miscellany
def test_newbob(path: Path):
    stored = json.loads(path.read_text())["newbob"]
    assert newbob(stored["F"], stored["init_lr"]) == pytest.approx(stored["lr_after_step"], rel=1e-9)


@miscellany
def test_means_over_batches(path: Path):
    stored = json.loads(path.read_text())["metrics"]
    found = batch_averaged(np.array(stored["p"]), np.array(stored["y"]), stored["batch_size"])
    assert found == pytest.approx((stored["ref_UA"], stored["ref_WA"]), abs=1e-6)


@miscellany
def test_binary_loss(path: Path):
    stored = json.loads(path.read_text())["sse_binary_head"]
    found = binary_loss(np.array(stored["logits"], dtype=np.float32), np.array(stored["labels"]))
    assert found == pytest.approx(stored["loss_sum"], abs=1e-4)
