"""RAVDESS by voice: linear probes and the trained mix of layers, speakers apart, as docs/results/ravdess.md.

    python tests/benchmarks/ravdess_voice.py [--ravdess FOLDER] [--stream FILE] [--seeds 1 2 3 4 5] [--receipts FOLDER]

Four folds of speakers, the same as those of bench_ravdess.py (seed 0). In each, three of the training speakers are
validation: they choose the probe's strength and the branch's epoch; the fold's test speakers are scored once. What was
scored goes to receipts and predictions (default data/08_reporting/ravdess_voice), and the page is made from those;
`--page` makes it again from what is there. `--stream` reads layers that were extracted before (a stream's file).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from demeanor.data.examples import Examples
from demeanor.data.files import read_json, write_json
from demeanor.data.ragged import Ragged
from demeanor.data.stream import Stream
from demeanor.data.task import Task
from demeanor.data.utterances import make_table
from demeanor.evaluation.environment import code_revision
from demeanor.evaluation.folds import fold_table, read_folds
from demeanor.evaluation.metrics import metrics_of, score
from demeanor.evaluation.probe import fit_logistic
from demeanor.evaluation.receipts import Receipt
from demeanor.evaluation.resampling import Resampler, bootstrap, interval, two_sided_p
from demeanor.training.settings import BranchSettings

PROJECT = Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "docs" / "results"
CLASSES = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
TASK = Task(name="emotion", kind="classification", column="emotion", classes=CLASSES)
MIDDLE = slice(3, 7)
STRENGTHS = (1e-3, 1e-2, 1e-1)
PROBE, BRANCH = "linear_probe", "speech_mix"
METRICS = ("UAR", "accuracy", "macro_F1")
#: Published under the six folds of EmoBox (all 24 actors): other folds, so beside the table and not in it.
PUBLISHED = {"HuBERT base": 0.654, "WavLM large": 0.720, "Whisper large v3": 0.753}


def extract(paths: list[Path], request: dict) -> Stream:
    """[7, 1024] per clip: mean and deviation of each of Whisper base's layers over what is spoken."""
    from demeanor.features.base import Clip
    from demeanor.features.engine import StreamRequest, extract_streams

    clips = [Clip(path.stem, media=path) for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"audio.layers": StreamRequest(**request)}
        streams, _ = extract_streams(clips, wanted, Path(folder) / "cache", Path(folder) / "out")
        stream = streams["audio.layers"]
        # The folder goes away with what is memory-mapped in it.
        values = {name: np.array(stream.ragged[name]) for name in stream.ragged.ids}
        return Stream(stream.name, Ragged.from_sequences(values, stream.dimension), stream.provenance)


def parts_of(speakers: list[int], fold: int) -> dict[int, str]:
    """Speaker -> split, in one of the four folds."""
    folds = np.array_split(np.random.default_rng(0).permutation(np.unique(speakers)), 4)
    rest = [speaker for speaker in sorted(set(speakers)) if speaker not in folds[fold]]
    valid = rest[fold::4][:3]
    return {s: "valid" if s in valid else "train" if s in rest else "test" for s in sorted(set(speakers))}


def examples_of(names: list[str], stream: Stream, fold: int) -> Examples:
    """RAVDESS names: modality-channel-emotion-intensity-statement-repetition-actor."""
    splits = parts_of([int(name.split("-")[6]) for name in names], fold)
    rows = []
    for name in names:
        fields = [int(value) for value in name.split("-")]
        rows.append({
            "utterance_id": name, "corpus": "ravdess", "split": splits[fields[6]], "dialogue": name, "turn": 0,
            "speaker": str(fields[6]), "emotion": CLASSES[fields[2] - 1],
        })  # fmt: skip
    return Examples.of(make_table(rows), {stream.name: stream})


def probed(examples: Examples, stream: str) -> np.ndarray:
    """[N_test, 8] log-probabilities of logistic regression on the mean of the middle layers; C chosen on valid, then
    fitted again on train and valid: it has three speakers more than the branch to learn from."""

    def values(*splits: str) -> tuple[np.ndarray, np.ndarray]:
        part = examples.split(*splits)
        ragged = part.stream(stream).ragged.gather(np.arange(len(part)))[0]
        return np.asarray(ragged[:, MIDDLE].mean(axis=1), np.float32), np.asarray(TASK.targets(part.utterances))

    def found(strength: float) -> float:
        model = fit_logistic(*values("train"), strength)
        x, y = values("valid")
        return score(TASK, model.predict_log_proba(x), y, warn=False)["UAR"]

    chosen = max(STRENGTHS, key=found)
    return fit_logistic(*values("train", "valid"), chosen).predict_log_proba(values("test")[0])


def run(names: list[str], stream: Stream, settings: BranchSettings, seeds: list[int], folder: Path) -> None:
    """Every fold: receipts (fold_N.json) and predictions (predictions.npz)."""
    from demeanor.inference.model import TrainedModel
    from demeanor.training.fit import fit

    kept: dict[str, list[np.ndarray]] = {PROBE: [], BRANCH: []}
    truth: list[np.ndarray] = []
    actors: list[np.ndarray] = []
    chosen_on: list[float] = []
    for fold in range(4):
        examples = examples_of(names, stream, fold)
        test, valid = examples.split("test"), examples.split("valid").utterances
        target = np.asarray(TASK.targets(test.utterances))
        answers = {PROBE: [probed(examples, stream.name)], BRANCH: []}
        weights = {}
        for seed in seeds:
            trained = fit(BRANCH, settings, TASK, examples.split("train", "valid"), seed, score, progress=False)
            answers[BRANCH].append(TrainedModel.load(trained.bundle).predict(test))
            weights[seed] = trained.bundle.weights_sha256
            chosen_on.append(score(TASK, trained.validation, TASK.targets(valid), warn=False)["UAR"])
        receipts = [
            Receipt(
                branch=branch, system="logistic regression" if branch == PROBE else settings.system, task=TASK.name,
                corpus="ravdess", split="test", seed=seed, metrics=score(TASK, answer, target, warn=False),
                n=len(target), data_hash=test.data_hash, code_revision=code_revision(PROJECT),
                weights_sha256=weights.get(seed, "") if branch == BRANCH else "",
            ).as_dict()
            for branch, given in answers.items() for seed, answer in zip(seeds, given, strict=False)
        ]  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"fold_{fold + 1}.json", receipts)
        print(f"fold {fold + 1}", *(f"{r['branch']} {r['metrics']['UAR']:.3f}" for r in receipts), flush=True)
        for branch, given in answers.items():
            kept[branch].append(np.stack(given))
        truth.append(target)
        actors.append(test.utterances["speaker"].to_numpy(str))
    arrays = {branch: np.concatenate(given, axis=1) for branch, given in kept.items()}
    np.savez(folder / "predictions.npz", target=np.concatenate(truth), speaker=np.concatenate(actors),
             valid=np.array(chosen_on), **arrays)  # fmt: skip


def page(folder: Path, settings: BranchSettings) -> str:
    folds = read_folds([folder / f"fold_{number}.json" for number in range(1, 5)])
    receipts = [receipt for own in folds.values() for receipt in own]
    stored = dict(np.load(folder / "predictions.npz"))
    resampler = Resampler.over(len(stored["target"]), stored["speaker"])
    metric = {"UAR": metrics_of(TASK)["UAR"]}
    draws = [one["UAR"] for one in bootstrap(metric, [stored[PROBE], stored[BRANCH]], stored["target"], resampler)]
    apart = draws[1].resampled - draws[0].resampled
    low, high = interval(apart)
    rows = read_json(RESULTS.parent / "benchmarks" / "ravdess.json")["uar"]["eGeMAPSv02 functionals (88)"]
    model = ", ".join(f"{name} {value}" for name, value in settings.model.items())
    training = settings.training
    seeds = ", ".join(map(str, sorted({receipt.seed for receipt in receipts})))
    code = ", ".join(sorted({receipt.code_revision[:12] for receipt in receipts}))
    published = ", ".join(f"{name} {value:.3f}" for name, value in PUBLISHED.items())
    labels = "Whisper base, mean of layers 3 to 6, linear probe", "Whisper base, learnt mix of layers, trained branch"
    lines = [
        "# Results: ravdess, by voice",
        "",
        f"Made by `python tests/benchmarks/ravdess_voice.py` from {len(receipts)} receipts: {len(stored['target'])} "
        f"clips of {resampler.units} speakers in four folds apart, seeds {seeds}, code {code}. "
        "Eight classes, chance .125.",
        "",
        "| system | UAR over all clips | 95 % interval, by speaker |",
        "|---|---|---|",
        f"| eGeMAPS, linear probe (docs/benchmarks/ravdess.md, mean of the same folds) | {np.mean(rows):.3f} | |",
    ]
    for label, one in zip(labels, draws, strict=True):
        bounds = ", ".join(f"{bound:.3f}" for bound in interval(one.resampled))
        lines.append(f"| {label} | {one.mean:.3f} | [{bounds}] |")
    lines += [
        "",
        f"Branch minus probe, on the same resamples of speakers: {draws[1].mean - draws[0].mean:+.3f} "
        f"[{low:+.3f}, {high:+.3f}], p {two_sided_p(apart):.3f}.",
        "",
        f"The branch: {settings.system}, {model}, batches of {training.batch_size}, {training.epochs} epochs, rate "
        f"{training.learning_rate}, decay {training.weight_decay}; the epoch chosen on three validation speakers of "
        f"each fold (mean UAR there {stored['valid'].mean():.3f}), who are not learnt from. The probe chooses its "
        "strength on them and is then fitted on them too.",
        "",
    ]
    for branch in (PROBE, BRANCH):
        lines += [f"## {branch}", "", *fold_table(folds, TASK.name, branch, METRICS), ""]
    lines += [
        "Published under **other folds** (EmoBox: six of four actors, all 24 actors; frozen last layer), so not to be "
        f"compared to the last point: {published}.",
        "",
    ]
    notes = Path(__file__).with_name("ravdess_voice_notes.md")
    return "\n".join([*lines, notes.read_text(encoding="utf-8").strip(), ""])


def main() -> None:
    import yaml

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ravdess", type=Path, default=PROJECT.parent / "shared" / "data" / "ravdess_speech")
    parser.add_argument("--stream", type=Path, help="audio.layers, extracted before")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--receipts", type=Path, default=PROJECT / "data" / "08_reporting" / "ravdess_voice")
    parser.add_argument("--page", action="store_true", help="nothing is trained: the page from receipts that are there")
    options = parser.parse_args()
    # Branch and extractor are those of the environment: one place for settings.
    given = yaml.safe_load((PROJECT / "conf" / "ravdess" / "parameters.yml").read_text(encoding="utf-8"))
    settings = BranchSettings(**given["branches"][BRANCH])
    if not options.page:
        paths = sorted(options.ravdess.glob("Actor_*/*.*"))
        if options.stream:
            stream = Stream.load(options.stream)
        else:
            stream = extract(paths, given["features"]["audio"]["audio.layers"])
        names = [path.stem for path in paths if path.stem in set(stream.ragged.ids)]
        run(names, stream, settings, options.seeds, options.receipts)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "ravdess.md").write_text(page(options.receipts, settings), encoding="utf-8")


if __name__ == "__main__":
    main()
