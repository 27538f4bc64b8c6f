"""Time and peak memory of importing an MMSA pickle of MOSI's or MOSEI's size, against plain `pickle.load` of it.

    python tests/benchmarks/bench_mmsa_import.py [--mosei] [--folder FOLDER]

The file is generated with random values in the published shapes (float32, unaligned). Each measurement runs in a
process of its own; its peak is the largest resident set (Linux), which for memory-mapped files counts pages that the
system may take back at any time. MOSEI's file has about 9 GB, so that it is made only when asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
SHAPES = {
    "mosi": ({"train": 1284, "valid": 229, "test": 686}, (375, 5), (500, 20)),
    "mosei": ({"train": 16326, "valid": 1871, "test": 4659}, (500, 74), (500, 35)),
}
MEASURE = """
import json, sys, time
from pathlib import Path
start = time.perf_counter()
{work}
seconds = time.perf_counter() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, int(peak.split()[1]) / 1024]))
"""
IMPORT = """
from demeanor.corpora.mmsa_pickle import MmsaPickleReader, MmsaPickleSettings
settings = MmsaPickleSettings(path=sys.argv[1], name=sys.argv[2])
corpus = MmsaPickleReader().read(settings, Path(sys.argv[3]))
"""
WORK = {
    "pickle.load (baseline)": "import pickle; content = pickle.load(open(sys.argv[1], 'rb'))",
    "import into streams": IMPORT,
    "import and doctor's report": IMPORT + "from demeanor.corpora.doctor import examine; examine(corpus)",
}


def generate(name: str, path: Path) -> None:
    """A pickle of the published shapes; lengths vary, so that streams are shorter than the padded arrays."""
    counts, audio, vision = SHAPES[name]
    generator = np.random.default_rng(0)
    content = {}

    def values(part: str, *shape: int) -> np.ndarray:
        """Random float32 in a file, so that making the pickle needs little memory itself."""
        array = np.memmap(path.with_name(f"{part}.raw"), dtype=np.float32, mode="w+", shape=shape)
        for row in range(0, len(array), 512):
            array[row : row + 512] = generator.random(array[row : row + 512].shape, dtype=np.float32)
        return np.asarray(array)

    for split, count in counts.items():
        tokens = generator.integers(5, 51, count)
        mask = np.arange(50)[None] < tokens[:, None]
        content[split] = {
            "id": [f"{split}{n // 20}$_${n}" for n in range(count)],
            "raw_text": [f"sentence number {n} of {split}" for n in range(count)],
            "text": values(f"{split}.text", count, 50, 768),
            "text_bert": np.stack([generator.integers(5, 30000, (count, 50)) * mask, mask, mask * 0], axis=1),
            "audio": values(f"{split}.audio", count, *audio),
            "vision": values(f"{split}.vision", count, *vision),
            "audio_lengths": generator.integers(1, audio[0] + 1, count),
            "vision_lengths": generator.integers(1, vision[0] + 1, count),
            "regression_labels": generator.uniform(-3, 3, count),
        }
    with open(path, "wb") as handle:
        pickler = pickle.Pickler(handle, protocol=4)
        pickler.fast = True  # without its memo it does not hold every array's bytes until the end
        pickler.dump(content)
    del content
    for raw in path.parent.glob("*.raw"):
        raw.unlink()


def measure(work: str, *arguments: str) -> tuple[float, float]:
    """(seconds, MiB at the peak) of one piece of work in a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURE.format(work=work), *arguments], check=True,
                          capture_output=True, text=True, env=environment)  # fmt: skip
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mosei", action="store_true", help="also the file of MOSEI's size, about 9 GB")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the files are made; a temporary folder if none"
    )
    options = parser.parse_args()
    known = RESULTS / "mmsa_import.json"
    results = json.loads(known.read_text()) if known.exists() else {}
    for name in ("mosi", "mosei") if options.mosei else ("mosi",):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / f"{name}.pkl"
            generate(name, path)
            size = path.stat().st_size / 2**20
            rows = {what: measure(work, str(path), name, f"{folder}/out") for what, work in WORK.items()}
        results[name] = {
            "file_MiB": round(size), "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"),
            "rows": {what: _row(seconds, peak, size) for what, (seconds, peak) in rows.items()},
        }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    known.write_text(json.dumps(results, indent=2) + "\n")
    text = table(results)
    (RESULTS / "mmsa_import.md").write_text(text)
    print(text)


def _row(seconds: float, peak: float, size: float) -> dict[str, float]:
    return {"seconds": round(seconds, 2), "peak_MiB": round(peak), "peak_to_file": round(peak / size, 2)}


def table(results: dict) -> str:
    lines = ["# Importing MMSA pickles", "", "Generated by `python tests/benchmarks/bench_mmsa_import.py --mosei`; "
             "random float32 values in the published shapes.", ""]  # fmt: skip
    for name, result in results.items():
        base = result["rows"]["pickle.load (baseline)"]["seconds"]
        lines += [f"## {name}: {result['file_MiB']} MiB, {result['cores']} cores, {result['date']}", "",
                  "| | seconds | to baseline | peak MiB | peak to file |", "|---|---|---|---|---|"]  # fmt: skip
        for what, row in result["rows"].items():
            ratio = row["seconds"] / base if base else float("nan")
            lines.append(f"| {what} | {row['seconds']} | {ratio:.1f} | {row['peak_MiB']} | {row['peak_to_file']} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
