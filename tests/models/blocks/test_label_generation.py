"""The label bank where the golden files do not reach: empty classes, absence, resuming, several processes."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from demeanor.data.errors import InputError
from demeanor.models.blocks.label_generation import MODES, LabelBank, gather_rows
from tests.models.examples import build, example_batch

WIDTHS = {"fusion": 5, "text": 4, "audio": 3, "vision": 2}
COUNT = 8


def started(labels: Tensor | None = None, **settings: bool) -> LabelBank:
    bank = LabelBank(WIDTHS, 3.0, **settings)
    values = torch.linspace(-2, 2, COUNT) if labels is None else labels
    bank.start(torch.arange(COUNT), values, COUNT)
    return bank


def features(seed: int, rows: int = COUNT) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {mode: torch.rand(rows, width, generator=generator) for mode, width in WIDTHS.items()}


def everyone(rows: int = COUNT) -> dict[str, Tensor]:
    return dict.fromkeys(MODES, torch.ones(rows, dtype=torch.bool))


def test_first_epoch_changes_no_label_and_the_common_one_never_changes() -> None:
    bank = started()
    before = bank.labels.clone()
    bank.update(torch.arange(COUNT), features(1), everyone(), epoch=1)
    assert torch.equal(bank.labels, before)
    bank.update(torch.arange(COUNT), features(2), everyone(), epoch=2)
    assert torch.equal(bank.labels[0], before[0])
    assert not torch.equal(bank.labels[1:], before[1:])
    assert bank.labels.abs().max() <= 3.0


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_a_class_without_members_leaves_labels_as_they_are(sign: float) -> None:
    labels = sign * torch.linspace(0.5, 2, COUNT)
    bank = started(labels)
    for epoch in (1, 2, 3):
        bank.update(torch.arange(COUNT), features(epoch), everyone(), epoch)
    assert torch.equal(bank.labels, labels.expand(4, -1))
    assert all(torch.isfinite(bank.centres(mode)).all() for mode in MODES)


def test_an_absent_modality_enters_neither_centres_nor_labels() -> None:
    bank, present = started(), everyone()
    present["audio"] = torch.arange(COUNT) != 3
    for epoch in (1, 2, 3):
        given = features(epoch)
        given["audio"][3] = 1e6
        bank.update(torch.arange(COUNT), given, present, epoch)
    assert bank.centres("audio").max() < 2
    assert bank.label("audio", torch.tensor([3])) == bank.label("fusion", torch.tensor([3]))
    assert not torch.equal(bank.label("text", torch.tensor([3])), bank.label("fusion", torch.tensor([3])))


def test_utterances_not_visited_yet_are_no_zero_vectors_in_a_centre() -> None:
    bank, rows = started(), torch.tensor([0, 7])
    given = features(1, 2)
    bank.update(rows, given, everyone(2), epoch=1)
    assert torch.equal(bank.centres("text"), given["text"].flip(0))


def test_unlabelled_utterances_are_in_no_class() -> None:
    labels = torch.linspace(-2, 2, COUNT)
    labels[2] = float("nan")
    bank = started(labels)
    for epoch in (1, 2):
        bank.update(torch.arange(COUNT), features(epoch), everyone(), epoch)
    assert torch.isnan(bank.labels[:, 2]).all()
    assert torch.isfinite(torch.cat([bank.labels[:, :2], bank.labels[:, 3:]], dim=1)).all()


def test_it_stays_in_float32_whatever_training_runs_in() -> None:
    bank = started()
    halves = {mode: value.bfloat16() for mode, value in features(1).items()}
    bank.update(torch.arange(COUNT), halves, everyone(), epoch=2)
    assert bank.labels.dtype == bank.features("text").dtype == bank.centres("audio").dtype == torch.float32


def test_a_resumed_training_goes_on_bit_for_bit() -> None:
    whole, first = started(), started()
    for epoch in (1, 2):
        for bank in (whole, first):
            bank.update(torch.arange(COUNT), features(epoch), everyone(), epoch)
    resumed = LabelBank(WIDTHS, 3.0)
    resumed.load_state_dict(first.state_dict())
    resumed.start(torch.arange(COUNT), torch.zeros(COUNT), COUNT)  # must not undo what the checkpoint holds
    for bank in (whole, resumed):
        bank.update(torch.arange(COUNT), features(3), everyone(), 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_row_beyond_the_train_split_and_a_bank_never_started_say_so() -> None:
    with pytest.raises(InputError, match="row 7"):
        LabelBank(WIDTHS, 3.0).start(torch.arange(COUNT), torch.zeros(COUNT), 5)
    with pytest.raises(InputError, match="on_train_start"):
        LabelBank(WIDTHS, 3.0).update(torch.arange(COUNT), features(1), everyone(), 1)


def test_validation_knows_only_the_common_label() -> None:
    system = build("self_mm")
    batch = example_batch(system)
    system.on_train_start(lambda: [batch], len(batch))
    assert set(system.eval().loss(system(batch), batch)) == {"total", "fusion"}
    assert set(system.train().loss(system(batch), batch)) == {"total", *MODES}


def shares(rank: int) -> Tensor:
    """Five rows for one process, four for the other; row 4 is in both, as a padded sampler has it."""
    return torch.arange(5) if rank == 0 else torch.arange(4, COUNT)


def one_of_two(rank: int, port: int, results: Mapping[int, list[Tensor]]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows, bank = shares(rank), LabelBank(WIDTHS, 3.0)
    bank.start(rows, torch.linspace(-2, 2, COUNT)[rows], COUNT)
    for epoch in (1, 2, 3):
        whole = features(epoch)
        bank.update(rows, {mode: value[rows] for mode, value in whole.items()}, everyone(len(rows)), epoch)
    results[rank] = [bank.labels, *(bank.centres(mode) for mode in MODES)]  # type: ignore[index]
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_keep_one_bank() -> None:
    alone = started()
    for epoch in (1, 2, 3):
        alone.update(torch.arange(COUNT), features(epoch), everyone(), epoch)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(one_of_two, args=(port, results), nprocs=2)
        both = dict(results)
    expected = [alone.labels, *(alone.centres(mode) for mode in MODES)]
    for first, second, wanted in zip(both[0], both[1], expected, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, wanted, atol=1e-5, rtol=1e-5)


def test_one_process_gathers_nothing() -> None:
    rows = torch.arange(3)
    assert gather_rows(rows)[0] is rows
