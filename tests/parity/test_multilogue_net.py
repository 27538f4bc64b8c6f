"""Multilogue-Net against golden numbers of the published code: values, losses, gradients, training, data."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from demeanor.data.batch import Batch, Padded
from demeanor.data.bundle import InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.task import Task
from demeanor.models.base import Output
from demeanor.models.multilogue.network import MultilogueNetwork
from demeanor.models.multilogue.published import (
    CLASS_WEIGHTS,
    load_reference,
    reference_parts,
    reference_sizes,
    reference_tensors,
)
from demeanor.models.multilogue.system import MultilogueNet, MultilogueNetSettings
from tests.models.multilogue_oracle import Oracle, loss_of, masked_mse, masked_nll
from tests.parity.golden import cases, golden_file

SYSTEM = "multilogue_net"
MODEL_CASES = [
    *cases(SYSTEM, "reg_*.npz"), *cases(SYSTEM, "cat_*.npz"), *cases(SYSTEM, "emo_*.npz"),
    *cases(SYSTEM, "paperdims_*.npz"),
]  # fmt: skip
FLOAT32, FLOAT64 = 1e-5, 1e-10


class Case:
    """A golden file: inputs as stored, and the same as dialogues in rows."""

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32):
        self.arrays = np.load(path)
        self.meta = json.loads(str(self.arrays["meta_json"]))
        self.kind, self.dims, self.dtype = self.meta["kind"], self.meta["dims"], dtype
        self.classes = self.meta["n_classes"] or 1
        self.text, self.audio, self.video, self.context = (
            self.tensor(f"in/U_{name}") for name in ("text", "audio", "video", "context")
        )
        self.qmask, self.umask = self.tensor("in/qmask"), self.tensor("in/umask")
        label = torch.tensor(self.arrays["in/label"])
        self.label = label if self.kind == "cat" else label.to(dtype)
        self.weight = self.tensor("in/class_weight") if "in/class_weight" in self.arrays else None
        self.valid = self.umask.bool()
        self.dialogue, self.turn = (index.flatten() for index in torch.nonzero(self.valid).split(1, dim=1))
        self.speaker = self.qmask.argmax(dim=2).T[self.valid]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def tensor(self, key: str) -> Tensor:
        value = torch.tensor(self.arrays[key])
        return value.to(self.dtype) if value.is_floating_point() else value

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {key[len(prefix) :]: self.tensor(key) for key in self.arrays.files if key.startswith(prefix)}

    @property
    def weights(self) -> dict[str, Tensor]:
        if self.meta["weights"] == "formula":
            return {key: value.to(self.dtype) for key, value in formula_weights(self.kind).items()}
        return self.group("w/")

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.text, self.audio, self.video, self.context, self.qmask, self.umask

    def rows(self, time_first: Tensor) -> Tensor:
        """[T, B, ...] -> [utterances, ...]"""
        return time_first.transpose(0, 1)[self.valid]

    @property
    def output(self) -> str:
        return "log_prob" if self.kind == "cat" else "pred"

    def expected(self, group: str) -> Tensor:
        """[T, B, C] or [B, T]"""
        return self.tensor(f"{group}/{self.output}")


def formula_weights(kind: str) -> dict[str, Tensor]:
    """Golden README, "Weight formula": splitmix64 of tensor and element index."""
    entries = json.loads(golden_file(SYSTEM, f"state_dict_{kind}_paperdims.json").read_text())["entries"]
    weights = {}
    with np.errstate(over="ignore"):
        for entry in entries:
            k = np.arange(1, int(np.prod(entry["shape"])) + 1, dtype=np.uint64)
            z = np.uint64(entry["index"] << 32) + np.uint64(0x9E3779B97F4A7C15) * k
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
            values = 0.12 * (2 * (z >> np.uint64(40)).astype(np.float64) / 2**24 - 1)
            weights[entry["key"]] = torch.tensor(values.astype(np.float32)).reshape(entry["shape"])
    return weights


def network_of(case: Case, masked: bool = False) -> MultilogueNetwork:
    dims, categorical = case.dims, case.kind == "cat"
    network = MultilogueNetwork(
        {"text": dims["D_text"], "audio": dims["D_audio"], "vision": dims["D_video"]},
        dict.fromkeys(("text", "audio", "vision"), dims["D_ctx"]),
        case.classes,
        dims["D_g"],
        dims["D_p"],
        dims["D_e"],
        dims["D_h"],
        bidirectional=categorical,
        rectified=categorical,
        masked=masked,
        emotion_chain="dialogue",
    ).to(case.dtype)
    load_reference(network, case.weights)
    return network


def run(network: MultilogueNetwork, case: Case) -> tuple[Tensor, Tensor]:
    """Output in the golden layout (padding zero if masked) and the published loss."""
    layout = network.layout(case.dialogue, case.turn, case.speaker)
    features = {"text": case.rows(case.text), "audio": case.rows(case.audio), "vision": case.rows(case.video)}
    contexts = dict.fromkeys(features, case.rows(case.context))
    logits, _ = network(layout, features, contexts)
    values = 3 * torch.tanh(logits[:, 0]) if case.kind == "reg" else torch.log_softmax(logits, dim=-1)
    grid = values.new_zeros((*case.umask.shape, *values.shape[1:]))
    if network.masked:
        grid[case.dialogue, case.turn] = values
    else:
        grid = values.reshape(grid.shape)
    output = grid.transpose(0, 1) if case.kind == "cat" else grid
    return output, loss_of(case.kind, output, case.label, case.umask, case.weight)


def gradients(network: MultilogueNetwork) -> dict[str, Tensor]:
    return reference_tensors(network, lambda parameter: parameter.grad)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found.detach(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("path", MODEL_CASES)
def test_values_loss_and_gradients(path: Path) -> None:
    case = Case(path)
    network = network_of(case)
    output, loss = run(network, case)
    close(output, case.expected("out"), FLOAT32)
    close(loss, case.tensor("out/loss"), FLOAT32)
    loss.backward()
    found = gradients(network)
    unused = set(case.arrays["grad_none_names"].tolist())
    for name, value in case.group("grad/").items():
        close(found[name], value, FLOAT32)
    norms = {name: float(value.double().norm()) for name, value in found.items()}
    recorded = case.group("grad_norm/")
    for name, value in recorded.items():
        if name != "__total__":
            assert norms[name] == pytest.approx(float(value), abs=FLOAT32)
    total = sum(value**2 for value in norms.values()) ** 0.5
    assert total == pytest.approx(float(recorded["__total__"]), abs=FLOAT32)
    extra = set(found) - set(recorded) - unused
    assert all(norms[name] == 0 for name in extra)  # attention of one-utterance dialogues


@pytest.mark.parametrize("path", MODEL_CASES)
def test_values_in_double_precision(path: Path) -> None:
    case = Case(path, torch.float64)
    network = network_of(case)
    output, loss = run(network, case)
    close(output, case.expected("f64"), FLOAT64)
    close(loss, case.tensor("f64/loss"), FLOAT64)
    loss.backward()
    total = torch.stack([value.norm() for value in gradients(network).values()]).norm()
    assert float(total) == pytest.approx(float(case.arrays["f64/grad_norm_total"]), rel=1e-9)


@pytest.mark.parametrize("path", MODEL_CASES)
def test_masked_values_are_those_of_each_dialogue_alone(path: Path) -> None:
    case = Case(path)
    if "masked/loss" not in case:
        pytest.skip("all dialogues of this case have the same length")
    network = network_of(case, masked=True)
    output, loss = run(network, case)
    close(output, case.expected("masked"), FLOAT32)
    close(loss, case.tensor("masked/loss"), FLOAT32)
    loss.backward()
    found = gradients(network)
    for name, value in case.group("masked/grad_norm/").items():
        assert float(found[name].double().norm()) == pytest.approx(float(value), abs=FLOAT32)
    total = torch.stack([value.double().norm() for value in found.values()]).norm()
    assert float(total) == pytest.approx(float(case.arrays["masked/grad_norm_total"]), abs=FLOAT32)


@pytest.mark.parametrize("path", MODEL_CASES)
def test_prefix_attention_and_states(path: Path) -> None:
    case = Case(path)
    network = network_of(case)
    layout = network.layout(case.dialogue, case.turn, case.speaker)
    features = [case.rows(case.text), case.rows(case.audio), case.rows(case.video)]
    with torch.no_grad():
        emotions, parties, contexts = network.cores(layout, features, [case.rows(case.context)] * 3, "dialogue")
        weights = network.cores.attention(layout, contexts)
    steps, batch = case.umask.shape[1], len(case.umask)
    for direction, letter in enumerate("fr"[: network.cores.directions]):
        for modality, name in enumerate("tav"):
            core = direction * 3 + modality
            if f"mid/{letter}_{name}/g" in case:
                for found, key in ((contexts, "g"), (emotions, "e")):
                    close(found[core].view(steps, batch, -1), case.tensor(f"mid/{letter}_{name}/{key}"), FLOAT32)
                # A row holds its speaker's state; golden numbers hold every party's after each step.
                speaker = case.speaker.new_zeros(steps * batch)
                real = layout.source[direction] < len(case.speaker)
                speaker[real] = case.speaker[layout.source[direction][real]]
                expected = case.tensor(f"mid/{letter}_{name}/q").flatten(0, 1)[torch.arange(len(speaker)), speaker]
                close(parties[core], expected, FLOAT32)
        for step in range(1, steps):
            key = f"out/alpha_{'fb'[direction]}_t/{step - 1}"
            if key in case:
                close(weights[direction * 3].view(steps, batch, -1)[step, :, :step], case.tensor(key), FLOAT32)


@pytest.mark.parametrize("path", MODEL_CASES)
def test_adam_steps(path: Path) -> None:
    case = Case(path)
    if "adam/loss" not in case:
        pytest.skip("no training steps in this case")
    runs = (("adam/loss", case.meta["lr"]), ("adam_lr1e-2/loss", 1e-2))
    for key, rate in runs:
        if key not in case:
            continue
        network = network_of(case)
        # What no loss reaches has no gradient in the published code and stays; ours has zeros and would decay.
        still = set(case.arrays["grad_none_names"].tolist())
        ours = reference_parts(network, lambda parameter: parameter)
        moving = [parameter for parameter in network.parameters() if not unreached(parameter, ours, still)]
        optimiser = torch.optim.Adam(moving, lr=rate, weight_decay=case.meta["l2"])
        losses = []
        for step in range(len(case.arrays[key])):
            optimiser.zero_grad()
            _, loss = run(network, case)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if step == 0 and key == "adam/loss":
                moved = reference_tensors(network)
                for name, value in case.group("adam1/").items():
                    if name in moved:
                        close(moved[name], value, FLOAT32)
        np.testing.assert_allclose(losses, case.arrays[key], rtol=1e-4)


def unreached(parameter: torch.nn.Parameter, parts: dict[str, tuple[Tensor, ...]], still: set[str]) -> bool:
    """Whether every published tensor that shares memory with a parameter is without a gradient."""
    memory = parameter.untyped_storage().data_ptr()
    names = [name for name, views in parts.items() if any(v.untyped_storage().data_ptr() == memory for v in views)]
    return all(name in still for name in names)


@pytest.mark.parametrize("path", MODEL_CASES)
def test_oracle_follows_every_intermediate_number(path: Path) -> None:
    case = Case(path)
    oracle = Oracle(case.kind, case.dims, case.classes)
    oracle.load_state_dict(case.weights)
    output = oracle(*case.inputs)
    close(output, case.expected("out"), FLOAT32)
    close(loss_of(case.kind, output, case.label, case.umask, case.weight), case.tensor("out/loss"), FLOAT32)
    for name, value in oracle.steps.items():
        if f"mid/{name}" in case:
            expected = case.tensor(f"mid/{name}")
            close(value.reshape(expected.shape), expected, FLOAT32)
    for name, trace in oracle.traces.items():
        for key in "gqec":
            if f"mid/{name}/{key}" in case and getattr(trace, key):
                close(torch.stack(getattr(trace, key)), case.tensor(f"mid/{name}/{key}"), FLOAT32)
    if "masked/loss" in case and case.kind == "cat":
        masked = oracle(*case.inputs, masked=True)
        close(case.rows(masked), case.rows(case.expected("masked")), FLOAT32)


def system_of(kind: str, dims: dict[str, int], classes: int, class_weights: tuple[float, ...] | str) -> MultilogueNet:
    """The registered system in reference mode."""
    widths = {"text": dims["D_text"], "audio": dims["D_audio"], "vision": dims["D_video"]}
    made = Provenance(extractor="golden", version="1")
    inputs = {
        name: InputSpecification(stream=f"{name}.vector", dimension=width, provenance=made)
        for name, width in widths.items()
    }
    settings = MultilogueNetSettings(
        context_size=dims["D_g"], party_size=dims["D_p"], emotion_size=dims["D_e"], fused_size=dims["D_h"],
        recurrent_dropout=0, emotion_dropout=0, fused_dropout=0, class_weights=class_weights, reference=True,
    )  # fmt: skip
    if kind == "reg":
        task = Task(name="sentiment", kind="regression", column="sentiment")
    else:
        task = Task(name="label", kind="classification", column="label", classes=tuple(map(str, range(classes))))
    return MultilogueNet(settings, inputs, task)


def batch_of(text: Tensor, audio: Tensor, video: Tensor, qmask: Tensor, umask: Tensor, label: Tensor) -> Batch:
    """Golden tensors as a batch of utterances in rows, each stream one step long."""
    valid = umask.bool()
    dialogue, turn = (index.flatten() for index in torch.nonzero(valid).split(1, dim=1))
    once = torch.ones((len(dialogue), 1), dtype=torch.bool)
    inputs = {
        name: Padded(value.transpose(0, 1)[valid][:, None], once)
        for name, value in (("text", text), ("audio", audio), ("vision", video))
    }
    ids = tuple(str(n) for n in range(len(dialogue)))
    speaker = qmask.argmax(dim=2).T[valid]
    return Batch(inputs, ids, torch.arange(len(ids)), dialogue, turn, speaker, {"target": label[valid]})


@pytest.mark.parametrize("path", MODEL_CASES)
def test_system_in_reference_mode(path: Path) -> None:
    """The whole way from a batch, where the context is the text as in the published scripts."""
    case = Case(path)
    if not case.meta["ctx_is_text"]:
        pytest.skip("the context of this case is a tensor of its own")
    weights = tuple(case.weight.tolist()) if case.weight is not None else "none"
    system = system_of(case.kind, case.dims, case.classes, weights)
    system.load_reference(case.weights)
    batch = batch_of(case.text, case.audio, case.video, case.qmask, case.umask, case.label)
    output = system(batch)
    values = output.prediction[:, 0] if case.kind == "reg" else output.prediction.log_softmax(dim=-1)
    expected = case.expected("out")
    close(values, expected[case.valid] if case.kind == "reg" else case.rows(expected), FLOAT32)
    loss = system.loss(output, batch)["total"]
    close(loss, case.tensor("out/loss"), FLOAT32)
    loss.backward()
    found = gradients(system.network)
    for name, value in case.group("grad/").items():
        close(found[name], value, FLOAT32)


@pytest.mark.parametrize("path", cases(SYSTEM, "losses*.npz"))
def test_losses(path: Path) -> None:
    arrays = {key: torch.tensor(value) for key, value in np.load(path).items() if value.dtype.kind in "fi"}
    log_prob, label, umask = arrays["in/log_prob_flat"], arrays["in/label"].flatten(), arrays["in/umask"].flatten()
    once = torch.ones_like(umask)
    for key, expected in arrays.items():
        kind, _, name = key.partition("/")
        weight = arrays.get(f"class_weight/{name}")
        if kind == "nll":
            close(masked_nll(log_prob, label, umask, weight), expected, FLOAT32)
            if weight is not None:
                close(torch.tensor(CLASS_WEIGHTS[name]), weight, FLOAT32)
        elif kind == "unmasked_nll":
            scale = len(label) if weight is None else 1  # published without weights: a plain sum
            close(masked_nll(log_prob, label, once, weight) * scale, expected, FLOAT32)
        elif kind in {"mse", "mse_dirty_pad"}:
            target = arrays["in/target" if kind == "mse" else "in/target_dirty_pad"].flatten()
            close(masked_mse(arrays["in/pred_flat"], target, umask), expected, FLOAT32)


@pytest.mark.parametrize("path", cases(SYSTEM, "losses*.npz"))
def test_losses_of_the_system(path: Path) -> None:
    """The system's own loss over the labelled utterances, which has no padding to get wrong."""
    arrays = {key: torch.tensor(value) for key, value in np.load(path).items() if value.dtype.kind in "fi"}
    real = arrays["in/umask"].flatten().bool()
    label = arrays["in/label"].flatten()[real]
    dims = {"D_text": 2, "D_audio": 2, "D_video": 2, "D_g": 2, "D_p": 2, "D_e": 2, "D_h": 2}
    rows = torch.arange(int(real.sum()))

    def loss(system: MultilogueNet, prediction: Tensor, target: Tensor) -> Tensor:
        batch = Batch({}, (), rows, torch.zeros_like(rows), rows, torch.zeros_like(rows), {"target": target})
        return system.loss(Output(prediction), batch)["total"]

    for name in ("none", *CLASS_WEIGHTS):
        if f"nll/{name}" in arrays:
            system = system_of("cat", dims, 2, CLASS_WEIGHTS.get(name, "none"))
            close(loss(system, arrays["in/log_prob_flat"][real], label), arrays[f"nll/{name}"], FLOAT32)
    system = system_of("reg", dims, 1, "none")
    target = arrays["in/target"].flatten()[real]
    close(loss(system, arrays["in/pred_flat"][real][:, None], target), arrays["mse"], FLOAT32)


class PlainUnpickler(pickle.Unpickler):
    """Reads containers, numbers and strings; anything that would import code is refused."""

    def find_class(self, module: str, name: str) -> type:
        raise pickle.UnpicklingError(f"refused to load {module}.{name}")


def published_dialogues(path: Path) -> tuple[dict[str, dict[str, list]], list[str], list[str]]:
    """docs/systems/multilogue_net.md#data: the 9-tuple, as named parts and the two lists of ids."""
    with path.open("rb") as file:
        whole = PlainUnpickler(file, encoding="latin1").load()
    assert len(whole) == 9
    names = ("ids", "speakers", "labels", "text", "audio", "visual", "sentences")
    return dict(zip(names, whole, strict=False)), list(whole[7]), list(whole[8])


def collated(parts: dict, ids: list[str], kind: str) -> dict[str, Tensor]:
    """Section 8: features and speakers time-first, mask and labels batch-first, all padded with zeros."""
    first = {"M", "user"}
    speakers = {key: [[1.0, 0.0] if token in first else [0.0, 1.0] for token in parts["speakers"][key]] for key in ids}

    def pad(values: dict, batch_first: bool, dtype: torch.dtype = torch.float32) -> Tensor:
        rows = [torch.tensor(np.array(values[key]), dtype=dtype) for key in ids]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=batch_first)

    batch = {name: pad(parts[name], False) for name in ("text", "visual", "audio")}
    batch["qmask"] = pad(speakers, False)
    batch["umask"] = pad({key: [1.0] * len(parts["labels"][key]) for key in ids}, True)
    batch["label"] = pad(parts["labels"], True, torch.int64 if kind == "cat" else torch.float32)
    return batch


@pytest.mark.parametrize("path", cases(SYSTEM, "pipeline_*.npz"))
def test_pipeline(path: Path) -> None:
    """Reading, collation, one evaluation and four epochs of training, as the published scripts do them."""
    arrays = np.load(path)
    meta = json.loads(str(arrays["meta_json"]))
    parts, train, test = published_dialogues(path.with_suffix(".pkl"))
    assert train == arrays["train_ids"].tolist()
    assert test == arrays["test_ids"].tolist()
    batches: dict[str, list[Batch]] = {}
    for split, ids in (("train", train), ("test", test)):
        batches[split] = []
        for number, start in enumerate(range(0, len(ids), 2)):
            made = collated(parts, ids[start : start + 2], meta["kind"])
            for name, value in made.items():
                np.testing.assert_array_equal(value.numpy(), arrays[f"batch/{split}/{number}/{name}"])
            batches[split].append(
                batch_of(made["text"], made["audio"], made["visual"], made["qmask"], made["umask"], made["label"])
            )
    weights = CLASS_WEIGHTS["sentiment"] if meta["kind"] == "cat" else "none"
    system = system_of(meta["kind"], meta["dims"], 2, weights)
    system.load_reference({key[2:]: torch.tensor(arrays[key]) for key in arrays.files if key.startswith("w/")})
    rates = {"lr": 1e-2, "weight_decay": 1e-5 if meta["kind"] == "cat" else 1e-4}
    optimiser = torch.optim.Adam(system.parameters(), **rates)

    found = epoch(system, batches["test"])
    if meta["kind"] == "cat":
        keys = ("avg_loss", "accuracy_pct", "weighted_f1_pct")
    else:
        keys = ("avg_loss", "mae", "pearson")
    np.testing.assert_allclose(found, [float(arrays[f"eval/{key}"]) for key in keys], atol=1.001e-4)
    for number in range(len(arrays["epochs/train"])):
        np.testing.assert_allclose(
            epoch(system, batches["train"], optimiser), arrays["epochs/train"][number], atol=1.001e-4
        )
        np.testing.assert_allclose(epoch(system, batches["test"]), arrays["epochs/test"][number], atol=1.001e-4)


def epoch(system: MultilogueNet, batches: list[Batch], optimiser: torch.optim.Optimizer | None = None) -> list[float]:
    """Average loss and the published scores of one pass (docs/systems/multilogue_net.md#training), rounded as
    published."""
    losses, predictions, targets = [], [], []
    for batch in batches:
        output = system(batch)
        loss = system.loss(output, batch)["total"]
        if optimiser is not None:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses.append(loss.item() * len(batch))
        predictions.append(output.prediction.detach())
        targets.append(batch.target)
    predicted, target = torch.cat(predictions).numpy(), torch.cat(targets).numpy()
    average = round(sum(losses) / len(target), 4)
    if system.task.kind == "regression":
        errors = np.abs(predicted[:, 0] - target).mean()
        return [average, round(float(errors), 4), round(float(np.corrcoef(predicted[:, 0], target)[0, 1]), 4)]
    chosen = predicted.argmax(axis=1)
    accuracy = accuracy_score(target, chosen)
    f1 = f1_score(target, chosen, average="weighted")
    return [average, round(accuracy * 100, 2), round(f1 * 100, 2)]


@pytest.mark.parametrize("kind", ["cat", "reg"])
def test_importer_takes_all_82_tensors(kind: str) -> None:
    weights = formula_weights(kind)
    assert len(weights) == 82
    assert float(weights["multilogue_net_f_t.multilogue_cell.g_cell.weight_ih"][0, 0]) == pytest.approx(0.09199459)
    sizes = reference_sizes(weights)
    dims = {"D_text": 300, "D_audio": 384, "D_video": 35, "D_g": 150, "D_p": 150, "D_e": 100, "D_h": 100}
    expected = {"context_size": 150, "party_size": 150, "emotion_size": 100, "fused_size": 100, "context_features": 300}
    expected |= {"text_features": 300, "audio_features": 384, "vision_features": 35}
    assert sizes == {**expected, "outputs": 2 if kind == "cat" else 1}
    system = system_of(kind, dims, 2, "none")
    system.load_reference(weights)
    for name, value in reference_tensors(system.network).items():
        assert torch.equal(value, weights[name])


def test_importer_names_what_does_not_fit() -> None:
    dims = {"D_text": 300, "D_audio": 384, "D_video": 35, "D_g": 150, "D_p": 150, "D_e": 100, "D_h": 100}
    weights = formula_weights("cat")
    del weights["linear.bias"]
    weights["surplus"] = torch.zeros(1)
    weights["smax_fc.bias"] = torch.zeros(7)
    with pytest.raises(InputError) as error:
        system_of("cat", dims, 2, "none").load_reference(weights)
    assert len(error.value.problems) == 3
