"""The family that Self-MM is compared with, against golden numbers of MMSA: forward and one epoch of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from demeanor.models import ef_lstm, lf_dnn, lmf, mfn, misa, mult, multitask, tetfn, tfn
from demeanor.models.base import Output, System
from demeanor.models.blocks import alignment
from demeanor.models.blocks.layers import load_renamed
from demeanor.models.blocks.tensor_fusion import outer_product
from tests.parity.golden import AS_RECORDED, cases
from tests.parity.mmsa import (
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

Configuration = dict[str, Any]
#: Gradients below are rounding: those that count are thousands of times as large.
NOISE = 1e-7


def subnet_settings(c: Configuration) -> dict[str, Any]:
    text, audio, vision = c["hidden_dims"]
    return {"text_hidden": text, "audio_hidden": audio, "vision_hidden": vision, "reference": True}


def no_dropout(*names: str) -> dict[str, float]:
    return {f"{name}_dropout": 0.0 for name in names}


FOUR = no_dropout("text", "audio", "vision", "fusion")


def build_lf_dnn(c: Configuration) -> tuple[System, Mapping[str, str]]:
    settings = lf_dnn.LFDNNSettings(
        **subnet_settings(c), text_output=c["text_out"], fusion_hidden=c["post_fusion_dim"], **FOUR
    )
    return lf_dnn.LFDNN(settings, specifications(*c["feature_dims"]), sentiment()), lf_dnn.PUBLISHED_NAMES


def build_tfn(c: Configuration) -> tuple[System, Mapping[str, str]]:
    settings = tfn.TFNSettings(
        **subnet_settings(c), text_output=c["text_out"], fusion_hidden=c["post_fusion_dim"], **FOUR
    )
    return tfn.TFN(settings, specifications(*c["feature_dims"]), sentiment()), tfn.PUBLISHED_NAMES


def build_lmf(c: Configuration) -> tuple[System, Mapping[str, str]]:
    settings = lmf.LMFSettings(**subnet_settings(c), rank=c["rank"], factor_learning_rate=c.get("factor_lr"), **FOUR)
    return lmf.LMF(settings, specifications(*c["feature_dims"]), sentiment()), lmf.PUBLISHED_NAMES


def multitask_settings(c: Configuration) -> dict[str, Any]:
    return {
        **subnet_settings(c),
        **FOUR,
        "head_dropout": 0.0,
        "text_output": c["text_out"],
        "fusion_hidden": c["post_fusion_dim"],
        "text_head": c["post_text_dim"],
        "audio_head": c["post_audio_dim"],
        "vision_head": c["post_video_dim"],
    }


def build_mlf_dnn(c: Configuration) -> tuple[System, Mapping[str, str]]:
    names = {**multitask.HEAD_NAMES, **lf_dnn.PUBLISHED_NAMES}
    settings = multitask.MultitaskSettings(**multitask_settings(c))
    return multitask.MLFDNN(settings, specifications(*c["feature_dims"]), sentiment()), names


def build_mtfn(c: Configuration) -> tuple[System, Mapping[str, str]]:
    names = {**multitask.HEAD_NAMES, **tfn.PUBLISHED_NAMES}
    settings = multitask.MultitaskSettings(**multitask_settings(c))
    return multitask.MTFN(settings, specifications(*c["feature_dims"]), sentiment()), names


def build_mlmf(c: Configuration) -> tuple[System, Mapping[str, str]]:
    names = {**multitask.HEAD_NAMES, **lmf.PUBLISHED_NAMES}
    settings = multitask.MLMFSettings(**multitask_settings(c), rank=c["rank"])
    return multitask.MLMF(settings, specifications(*c["feature_dims"]), sentiment()), names


def build_mult(c: Configuration) -> tuple[System, Mapping[str, str]]:
    dimension, heads = c["dst_feature_dim_nheads"]
    text, audio, vision = c["feature_dims"]
    settings = mult.MulTSettings(
        encoder_configuration={"model_type": "bert", **c["bert"]},
        finetune=c.get("use_finetune", True),
        dimension=dimension,
        heads=heads,
        levels=c["nlevels"],
        text_kernel=c["conv1d_kernel_size_l"],
        audio_kernel=c["conv1d_kernel_size_a"],
        vision_kernel=c["conv1d_kernel_size_v"],
        causal=c["attn_mask"],
        reference=True,
        **no_dropout("text", "text_attention", "audio_attention", "vision_attention"),
        **no_dropout("relu", "residual", "embedding", "output"),
    )
    specified = specifications(None if c["use_bert"] else text, audio, vision)
    return mult.MulT(settings, specified, sentiment()), mult.PUBLISHED_NAMES


def build_ef_lstm(c: Configuration) -> tuple[System, Mapping[str, str]]:
    settings = ef_lstm.EFLSTMSettings(hidden=c["hidden_dims"], layers=c["num_layers"], dropout=0.0, reference=True)
    specified = specifications(*c["feature_dims"], text=c["seq_lens"])
    return ef_lstm.EFLSTM(settings, specified, sentiment()), ef_lstm.PUBLISHED_NAMES


def build_mfn(c: Configuration) -> tuple[System, Mapping[str, str]]:
    text, audio, vision = c["hidden_dims"]
    settings = mfn.MFNSettings(
        text_hidden=text,
        audio_hidden=audio,
        vision_hidden=vision,
        memory=c["memsize"],
        attention_hidden=c["NN1Config"]["shapes"],
        candidate_hidden=c["NN2Config"]["shapes"],
        retain_hidden=c["gamma1Config"]["shapes"],
        update_hidden=c["gamma2Config"]["shapes"],
        output_hidden=c["outConfig"]["shapes"],
        dropout=0.0,
        reference=True,
    )
    return mfn.MFN(settings, specifications(*c["feature_dims"]), sentiment()), mfn.PUBLISHED_NAMES


def build_misa(c: Configuration) -> tuple[System, Mapping[str, str]]:
    settings = misa.MISASettings(
        hidden=c["hidden_size"],
        dropout=0.0,
        transformer_dropout=0.0,
        difference_weight=c["diff_weight"],
        similarity_weight=c["sim_weight"],
        reconstruction_weight=c["recon_weight"],
        reference=True,
    )
    # BERT's output is given: word states of 768, whatever the little BERT of the weights file.
    names = {**misa.PUBLISHED_NAMES, "bertmodel.": "", "text_model.": ""}
    return misa.MISA(settings, specifications(*c["feature_dims"]), sentiment()), names


def build_tetfn(c: Configuration) -> tuple[System, Mapping[str, str]]:
    _, audio, vision = c["feature_dims"]
    settings = tetfn.TETFNSettings(
        encoder_configuration={"model_type": "bert", **c["bert"]},
        audio_hidden=c["a_lstm_hidden_size"],
        vision_hidden=c["v_lstm_hidden_size"],
        dimension=c["dst_feature_dims"],
        heads=c["nheads"],
        text_kernel=c["conv1d_kernel_size_l"],
        audio_kernel=c["conv1d_kernel_size_a"],
        vision_kernel=c["conv1d_kernel_size_a"],  # as the weights have it, whatever conv1d_kernel_size_v says
        fusion_dimension=c["post_fusion_dim"],
        text_dimension=c["post_text_dim"],
        audio_dimension=c["post_audio_dim"],
        vision_dimension=c["post_video_dim"],
        reference=True,
        **no_dropout("attention", "relu", "residual", "embedding", "fusion", "text", "audio", "vision"),
    )
    return tetfn.TETFN(settings, specifications(None, audio, vision), sentiment()), tetfn.PUBLISHED_NAMES


BUILDERS: dict[str, Callable[[Configuration], tuple[System, Mapping[str, str]]]] = {
    "lf_dnn": build_lf_dnn,
    "tfn": build_tfn,
    "lmf": build_lmf,
    "mlf_dnn": build_mlf_dnn,
    "mtfn": build_mtfn,
    "mlmf": build_mlmf,
    "ef_lstm": build_ef_lstm,
    "mfn": build_mfn,
    "tetfn": build_tetfn,
    "misa": build_misa,
    "mult": build_mult,
    "mult_bert": build_mult,
}
TERMS = {"task": "task", "diff": "difference", "recon": "reconstruction", "cmd": "similarity"}
LETTERS = {"T": "text", "A": "audio", "V": "vision"}


def batch_at(golden: Any, prefix: str) -> Any:
    inputs = {name: padded(golden[f"{prefix}{name}"]) for name in ("audio", "vision")}
    text = golden[f"{prefix}text"]
    if f"{prefix}bert_hidden" in golden:
        inputs["text"] = padded(golden[f"{prefix}bert_hidden"], text[:, 1].sum(axis=1))
        return labelled(inputs, golden, prefix)
    inputs["text"] = tokens(text) if text.shape[1] == 3 and set(np.unique(text[:, 1])) <= {0.0, 1.0} else padded(text)
    return labelled(inputs, golden, prefix)


def labelled(inputs: Any, golden: Any, prefix: str) -> Any:
    label = f"{prefix}label"
    count = len(golden[f"{prefix}audio"])
    return batch_of(inputs, golden[label] if label in golden else np.zeros(count, np.float32))


def name_of(path: Path) -> str:
    return path.stem.split("_", 1)[1]


def built(path: Path, file: str, suffix: str) -> tuple[System, Configuration, Mapping[str, str]]:
    name = name_of(path)
    if name not in BUILDERS:
        pytest.skip(f"no builder for {name}")
    configuration = read_json(path.with_name(file))
    c = {**configuration["models"][name], "bert": configuration["bert"]}
    system, names = BUILDERS[name](c)
    load_renamed(system, weights(path, suffix), names, "Model.")
    return system, c, names


@pytest.mark.parametrize("path", cases("self_mm", "extra_*.npz"))
def test_forward_only(path: Path) -> None:
    golden = np.load(path)
    system, _, _ = built(path, "extra_configs.json", "weights")
    with torch.no_grad():
        output = system.eval()(batch_at(golden, ""))
    close(output.prediction, golden["out_M"], 5e-6, "M")
    for letter, name in LETTERS.items():
        if f"out_{letter}" in golden:
            close(output.auxiliary[f"prediction_{name}"], golden[f"out_{letter}"], 5e-6, letter)
        feature = f"out_Feature_{letter.lower()}"
        for key in (name, f"feature_{name}"):
            if feature in golden and key in output.auxiliary:
                close(output.auxiliary[key], golden[feature], 5e-6, feature)
    for key in ("out_Feature_f", "out_L"):
        if key in golden:
            close(fused(output), golden[key], 5e-6, key)


@pytest.mark.parametrize("path", cases("self_mm", "base_*.npz"))
def test_forward_and_one_epoch(path: Path) -> None:
    golden = np.load(path)
    system, c, names = built(path, "base_configs.json", "weights_init")
    system.eval()
    with torch.no_grad():
        check_features(system(batch_at(golden, "fwd_")), golden)
    groups = system.parameter_groups(c["learning_rate"], published_decay(c))
    optimiser = torch.optim.Adam(groups)
    if "fwd_train_M" in golden:
        # A copy: batch normalisation would move its running statistics.
        twin = type(system)(system.settings, system.inputs, system.task)
        twin.load_state_dict(system.state_dict())
        close(twin.train()(batch_at(golden, "fwd_")).prediction, golden["fwd_train_M"], 5e-6, "train mode")
    system.train()
    optimiser.zero_grad()
    steps = 0
    noise: dict[str, Any] = {}
    for number in range(int(golden["n_batches"])):
        at = f"b{number}_"
        batch = batch_at(golden, at)
        output = system(batch)
        terms = system.loss(output, batch)
        close(output.prediction[:, 0], golden[f"{at}pred"], 5e-6, f"{at}pred")
        for theirs, ours in TERMS.items():
            if f"{at}{theirs}_loss" in golden and ours in terms:
                close(terms[ours], golden[f"{at}{theirs}_loss"], 1e-5, at + theirs)
        close(terms["total"], golden[f"{at}total_loss"], 1e-5, f"{at}total")
        terms["total"].backward()
        if c.get("grad_clip", -1.0) != -1.0:
            torch.nn.utils.clip_grad_value_(system.parameters(), c["grad_clip"])
        if f"{at}stepped" in golden:
            for name, value in system.named_parameters():
                if value.grad is not None:
                    noise[name] = noise.get(name, False) | (value.grad.abs() < NOISE)
            optimiser.step()
            optimiser.zero_grad()
            steps += 1
    assert steps == int(golden["n_optimizer_steps"])
    trained = type(system)(system.settings, system.inputs, system.task)
    load_renamed(trained, weights(path, "weights_epoch1"), names, "Model.")
    expected = trained.state_dict()
    if not AS_RECORDED:
        settle(system, expected, noise, 2 * c["learning_rate"] * steps)
    system.eval()
    with torch.no_grad():
        close(system(batch_at(golden, "valid_")).prediction, golden["valid_M_after_epoch1"], 1e-5, "valid")
    for name, value in system.state_dict().items():
        if not name.endswith("absence.vector"):
            close(value, expected[name].numpy(), weight_tolerance(name, c, steps), name)


def settle(system: Any, expected: Mapping[str, torch.Tensor], noise: Mapping[str, Any], step: float) -> None:
    """Give weights whose gradient was zero but for rounding the value that they were recorded with.

    Adam divides such a gradient by its own size: which way the weight goes, by up to the learning rate, is decided by
    the order in which a processor adds. All others are held to the recorded ones as everywhere.
    """
    with torch.no_grad():
        for name, value in system.named_parameters():
            if name in noise and name in expected and value.shape == expected[name].shape:
                apart = (value - expected[name]).abs()[noise[name]]
                assert not len(apart) or apart.max() <= step, name
                value.copy_(torch.where(noise[name], expected[name], value))


def weight_tolerance(name: str, c: Configuration, steps: int) -> float:
    """Key biases have a gradient of zero but for rounding, which Adam turns into steps of the learning rate."""
    return 2 * c["learning_rate"] * steps if "key.bias" in name or "in_proj_bias" in name else 1e-5


def published_decay(c: Configuration) -> float:
    return c["optimizer_groups(n_tensors,n_params,lr,wd)"][0][3]


def fused(output: Output) -> torch.Tensor:
    """The common representation; TFN and MTFN never hold theirs, the outer product, as a whole."""
    return outer_product(output.auxiliary) if output.representation is None else output.representation


def check_features(output: Output, golden: Any) -> None:
    close(output.prediction, golden["fwd_eval_M"], 5e-6, "M")
    for letter, name in (*LETTERS.items(), ("F", "")):
        key = f"fwd_eval_Feature_{letter.lower()}"
        if key in golden:
            close(output.auxiliary[name] if name else fused(output), golden[key], 5e-6, key)
    for letter, name in LETTERS.items():
        short = letter.lower()
        kinds = {f"utt_{short}_orig": "original", f"utt_private_{short}": "private"}
        kinds |= {f"utt_shared_{short}": "shared", f"utt_{short}_recon": "rebuilt"}
        for key, kind in kinds.items():
            if f"fwd_eval_{key}" in golden:
                close(output.auxiliary[f"{kind}_{name}"], golden[f"fwd_eval_{key}"], 5e-6, key)


@pytest.mark.parametrize("path", cases("self_mm", "align_avgpool.npz"))
def test_average_pooling(path: Path) -> None:
    golden = np.load(path)
    number = 0
    while f"c{number}_text" in golden:
        steps = golden[f"c{number}_text"].shape[1]
        for name in ("audio", "vision"):
            pooled = alignment.average_pool(torch.from_numpy(golden[f"c{number}_{name}"]), steps)
            close(pooled, golden[f"c{number}_git_{name}"], 1e-6, f"{number} {name}")
        number += 1
    assert number
