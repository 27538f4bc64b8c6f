"""Self-MM against the golden numbers: forward, loss, gradients, label generation and whole trainings.

Tolerances: those observed by the independent implementation that the golden README quotes, rounded up.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from demeanor.models.blocks.label_generation import MODES, LabelBank
from demeanor.models.blocks.layers import load_renamed
from demeanor.models.self_mm import PUBLISHED_NAMES, SelfMM, SelfMMSettings
from tests.parity.golden import cases
from tests.parity.mmsa import (
    LETTERS,
    batch_of,
    close,
    one_thread,  # noqa: F401
    padded,
    read_json,
    sentiment,
    specifications,
    tokens,
    weights,
)

FEATURES = {"fusion": "f", "text": "t", "audio": "a", "vision": "v"}


def settings_of(configuration: dict[str, Any], bert: dict[str, Any]) -> SelfMMSettings:
    """The published names of the configuration in ours."""
    c = configuration
    rates: dict[str, Any] = {
        f"{ours}_{kind}": c.get(f"{kind}_{theirs}")
        for ours, theirs in (("text", "bert"), ("audio", "audio"), ("vision", "video"), ("other", "other"))
        for kind in ("learning_rate", "weight_decay")
        if c.get(f"{kind}_{theirs}") is not None
    }
    return SelfMMSettings(
        encoder_configuration={"model_type": "bert", "attn_implementation": "eager", **bert},
        finetune=c["use_finetune"],
        pooling="first",
        audio_hidden=c["a_lstm_hidden_size"],
        vision_hidden=c["v_lstm_hidden_size"],
        audio_output=c["audio_out"],
        vision_output=c["video_out"],
        fusion_dimension=c["post_fusion_dim"],
        text_dimension=c["post_text_dim"],
        audio_dimension=c["post_audio_dim"],
        vision_dimension=c["post_video_dim"],
        fusion_dropout=c["post_fusion_dropout"],
        text_dropout=c["post_text_dropout"],
        audio_dropout=c["post_audio_dropout"],
        vision_dropout=c["post_video_dropout"],
        exclude_zero=c.get("excludeZero", False),
        label_limit=c["H"],
        reference=True,
        **rates,
    )


def system_of(configuration: dict[str, Any], bert: dict[str, Any], audio: int, vision: int) -> SelfMM:
    return SelfMM(settings_of(configuration, bert), specifications(None, audio, vision), sentiment(configuration["H"]))


def inputs_of(arrays: Any, aligned: bool) -> dict:
    lengths = np.asarray(arrays["text_bert"])[:, 1].sum(axis=1).astype(int)
    return {
        "text": tokens(np.asarray(arrays["text_bert"])),
        "audio": padded(arrays["audio"], lengths if aligned else arrays["audio_lengths"]),
        "vision": padded(arrays["vision"], lengths if aligned else arrays["vision_lengths"]),
    }


@pytest.mark.parametrize("path", cases("self_mm", "selfmm_fwd_*.npz"))
def test_forward_and_loss(path: Path) -> None:
    golden = np.load(path)
    configuration = read_json(path.with_name("selfmm_fwd_configs.json"))
    case = configuration["cases"][path.stem]
    system = system_of(case, configuration["bert"], golden["audio"].shape[2], golden["vision"].shape[2])
    load_renamed(system, weights(path, "weights"), PUBLISHED_NAMES, "Model.")
    count = len(golden["label_M"])
    batch = batch_of(inputs_of(golden, case["need_data_aligned"]), golden["label_M"])
    output = system.train()(batch)  # every dropout is zero in these files
    for mode in MODES:
        close(output.auxiliary[f"prediction_{mode}"], golden[f"out_{LETTERS[mode]}"], 5e-6, mode)
        close(output.auxiliary[f"feature_{mode}"], golden[f"out_Feature_{FEATURES[mode]}"], 5e-6, mode)
    real = batch["text"].mask
    states = system.text(batch["text"])[0]
    close(states[real], golden["bert_last_hidden_state"][real.numpy()], 5e-6, "word states")
    system.bank.start(batch.rows, batch.target, count)
    for mode in MODES:
        system.bank.labels[MODES.index(mode)] = torch.from_numpy(golden[f"label_{LETTERS[mode]}"])
    terms = system.loss(output, batch)
    for mode in MODES:
        close(terms[mode], golden[f"loss_{LETTERS[mode]}"], 1e-5, mode)
    close(terms["total"], golden["loss_total"], 1e-5, "total")
    if path.with_name(f"{path.stem}.grads.safetensors").exists():
        terms["total"].backward()
        check_gradients(system, weights(path, "grads"))


def check_gradients(system: SelfMM, expected: dict[str, torch.Tensor]) -> None:
    starts = sorted(PUBLISHED_NAMES, key=len, reverse=True)
    ours = {name: value.grad for name, value in system.named_parameters()}
    found = set()
    for name, gradient in expected.items():
        short = name.removeprefix("Model.")
        start = next(key for key in starts if short.startswith(key))
        target = PUBLISHED_NAMES[start] + short[len(start) :]
        close(ours[target], gradient.numpy(), 1e-5, name)
        found.add(target)
    unexpected = [
        name for name, value in ours.items() if value is not None and name not in found and "absence" not in name
    ]
    assert not unexpected


@pytest.mark.parametrize("path", cases("self_mm", "ulgm_functional_*.npz"))
def test_label_generation(path: Path) -> None:
    golden = np.load(path)
    dimensions = {mode: golden[f"e1_b0_feat_{mode}"].shape[1] for mode in MODES}
    bank = LabelBank(dimensions, float(golden["H"]), bool(golden["excludeZero"]), reference=True)
    robust = LabelBank(dimensions, float(golden["H"]), bool(golden["excludeZero"]))
    labels = torch.from_numpy(golden["init_labels"])
    for each in (bank, robust):
        each.start(torch.arange(len(labels)), labels, len(labels))
    for epoch in range(1, int(golden["epochs"]) + 1):
        for number in range(int(golden["batches_per_epoch"])):
            at = f"e{epoch}_b{number}_"
            rows = torch.from_numpy(golden[f"{at}index"])
            for n, mode in enumerate(MODES):
                close(bank.labels[n], golden[f"{at}label_before_{mode}"], 2e-5, at + mode)
                centres = np.stack([golden[f"{at}center_before_{mode}_{side}"] for side in ("pos", "neg")])
                close(bank.centres(mode), centres, 1e-6, at + mode)
                error = (torch.from_numpy(golden[f"{at}pred_{mode}"]) - bank.label(mode, rows)).abs()
                close((bank.weight(mode, rows) * error).mean(), golden[f"{at}loss_{mode}"], 1e-5, at + mode)
            features = {mode: torch.from_numpy(golden[f"{at}feat_{mode}"]) for mode in MODES}
            present = dict.fromkeys(MODES, torch.ones(len(rows), dtype=torch.bool))
            for each in (bank, robust):
                each.update(rows, features, present, epoch)
            for n, mode in enumerate(MODES):
                close(bank.labels[n], golden[f"{at}label_after_{mode}"], 2e-5, at + mode)
                centres = np.stack([golden[f"{at}center_after_{mode}_{side}"] for side in ("pos", "neg")])
                close(bank.centres(mode), centres, 1e-6, at + mode)
    for mode in MODES:
        close(bank.features(mode), golden[f"final_feature_map_{mode}"], 0, mode)
    # What we do by default: the same, except that a class without members never makes a label NaN.
    assert torch.isfinite(robust.labels).all()
    if not np.isnan(golden[f"{at}label_after_text"]).any():
        close(robust.labels, bank.labels.numpy(), 2e-5, "default and published labels")


def cleaned(split: dict[str, Any]) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(split[name]) for name in ("text_bert", "audio_lengths", "vision_lengths")}
    for name in ("audio", "vision", "regression_labels"):
        arrays[name] = np.asarray(split[name], dtype=np.float32)
    arrays["audio"] = np.where(np.isneginf(arrays["audio"]), 0, arrays["audio"])
    return arrays


def taken(arrays: dict[str, np.ndarray], rows: np.ndarray, aligned: bool):
    part = {name: value[rows] for name, value in arrays.items()}
    return batch_of(inputs_of(part, aligned), part["regression_labels"], rows)


@pytest.mark.parametrize("path", cases("self_mm", "selfmm_train_*.npz"))
def test_label_trace(path: Path) -> None:
    """The labels of a whole training, from the recorded features: no network, no rounding but the labels' own."""
    golden = np.load(path)
    case = read_json(path.with_name(f"{path.stem}.config.json"))["args"]
    dimensions = {mode: golden[f"e1_b0_feat_{mode}"].shape[1] for mode in MODES}
    bank = LabelBank(dimensions, case["H"], case.get("excludeZero", False), reference=True)
    labels = torch.from_numpy(golden["e1_b0_label_before_fusion"])
    bank.start(torch.arange(len(labels)), labels, len(labels))
    for epoch in range(1, int(golden["epochs"]) + 1):
        number = 0
        while f"e{epoch}_b{number}_index" in golden:
            at = f"e{epoch}_b{number}_"
            rows = torch.from_numpy(golden[f"{at}index"])
            features = {mode: torch.from_numpy(golden[f"{at}feat_{mode}"]) for mode in MODES}
            bank.update(rows, features, dict.fromkeys(MODES, torch.ones(len(rows), dtype=torch.bool)), epoch)
            for n, mode in enumerate(MODES):
                close(bank.labels[n], golden[f"{at}label_after_{mode}"], 2e-5, at + mode)
                centres = np.stack([golden[f"{at}center_after_{mode}_{side}"] for side in ("pos", "neg")])
                close(bank.centres(mode), centres, 1e-6, at + mode)
            number += 1


def label_rounding(bank: LabelBank, features: dict[str, torch.Tensor], rows: torch.Tensor, mode: str) -> np.ndarray:
    """How far a label may move when features and centres move by a rounding of 1e-6: first order, in float64.

    new = clip((alpha y + y + own - fusion) / 2), alpha = own / fusion: where the two distances of the fusion nearly
    cancel, the last digit of a feature is worth many of a label, on every machine another.
    """
    offset, error = {}, {}
    for each in ("fusion", mode):
        positive, negative = ((features[each] - centre).double().norm(dim=1) for centre in bank.centres(each))
        offset[each] = (negative - positive) / positive
        error[each] = 2e-6 * (1 + negative / positive) / positive
    common = bank.label("fusion", rows).double()
    by_fusion = 0.5 * (offset[mode] * common / offset["fusion"].square()).abs() + 0.5
    by_own = 0.5 * (common / offset["fusion"]).abs() + 0.5
    return (by_fusion * error["fusion"] + by_own * error[mode]).numpy()


@pytest.mark.parametrize("path", cases("self_mm", "selfmm_train_*.npz"))
def test_training_replay(path: Path) -> None:
    """The published trainer (docs/systems/self_mm.md#optimisation), the batches in the recorded order, checked after
    every step."""
    golden = np.load(path)
    configuration = read_json(path.with_name(f"{path.stem}.config.json"))
    case = configuration["args"]
    with open(path.with_suffix(".pkl"), "rb") as handle:
        data = pickle.load(handle)  # our own golden file, not a download
    train, valid = cleaned(data["train"]), cleaned(data["valid"])
    aligned, examples = case["need_data_aligned"], len(train["audio"])
    system = system_of(case, configuration["bert"], train["audio"].shape[2], train["vision"].shape[2])
    load_renamed(system, weights(path, "weights_init"), PUBLISHED_NAMES, "Model.")
    system.on_train_start(lambda: [taken(train, np.arange(examples), aligned)], examples)
    optimiser = torch.optim.Adam(system.parameter_groups(1.0, 0.0))
    steps, every = 0, case["update_epochs"]
    allowed = {mode: np.full(examples, 2e-5) for mode in MODES}
    for epoch in range(1, int(golden["epochs"]) + 1):
        system.train()
        left, number = every, 0
        while f"e{epoch}_b{number}_index" in golden:
            at = f"e{epoch}_b{number}_"
            batch = taken(train, golden[f"{at}index"], aligned)
            if left == every:
                optimiser.zero_grad()
            left -= 1
            output = system(batch)
            terms = system.loss(output, batch)
            for mode in MODES:
                close(output.auxiliary[f"prediction_{mode}"][:, 0], golden[f"{at}pred_{mode}"], 5e-6, at + mode)
                close(output.auxiliary[f"feature_{mode}"], golden[f"{at}feat_{mode}"], 5e-6, at + mode)
                slack = float(allowed[mode][golden[f"{at}index"]].mean())
                close(terms[mode], golden[f"{at}loss_{mode}"], 1e-5 + (slack if epoch > 1 else 0), at + mode)
            terms["total"].backward()
            if epoch > 1:
                features = {mode: output.auxiliary[f"feature_{mode}"].detach() for mode in MODES}
                for mode in MODES[1:]:
                    moved = label_rounding(system.bank, features, batch.rows, mode)
                    before = allowed[mode][golden[f"{at}index"]]
                    allowed[mode][golden[f"{at}index"]] = (epoch - 1) / (epoch + 1) * before + 2 / (epoch + 1) * (
                        moved + 2e-5
                    )
            system.on_step_end(output, batch, epoch)
            for n, mode in enumerate(MODES):
                off = np.abs(system.bank.labels[n].numpy() - golden[f"{at}label_after_{mode}"])
                assert (off <= allowed[mode]).all(), (at, mode, off, allowed[mode])
                centres = np.stack([golden[f"{at}center_after_{mode}_{side}"] for side in ("pos", "neg")])
                close(system.bank.centres(mode), centres, 5e-6, at + mode)
            if left == 0:
                optimiser.step()
                steps, left = steps + 1, every
            assert (f"{at}optimizer_stepped_after" in golden) == (left == every)
            number += 1
        system.eval()
        with torch.no_grad():
            output = system(taken(valid, np.arange(len(valid["audio"])), aligned))
        for mode in MODES:
            expected = golden[f"e{epoch}_valid_fixed_order_{LETTERS[mode]}"]
            close(output.auxiliary[f"prediction_{mode}"], expected, 1e-5, f"epoch {epoch} {mode}")
        if path.with_name(f"{path.stem}.weights_epoch{epoch}.safetensors").exists():
            check_weights(system, weights(path, f"weights_epoch{epoch}"), 2 * case["learning_rate_bert"] * steps)
    assert steps == int(golden["n_optimizer_steps"])


def check_weights(system: SelfMM, expected: dict[str, torch.Tensor], noise: float) -> None:
    """noise: bound for the biases of attention keys, whose gradient is zero but for rounding, which Adam amplifies."""
    published = SelfMM(system.settings, system.inputs, system.task)
    load_renamed(published, expected, PUBLISHED_NAMES, "Model.")
    ours = dict(system.named_parameters())
    for name, value in published.named_parameters():
        close(ours[name], value.detach().numpy(), max(noise, 1e-5) if "key.bias" in name else 1e-5, name)
