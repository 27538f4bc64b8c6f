"""Clips per second, real-time factor and peak memory of the extractors, against the plain way to write each.

    python tests/benchmarks/bench_features.py [--ravdess FOLDER] [--clips N] [--extractors NAME ...]

Sound is RAVDESS where it is at hand (default ../shared/data/ravdess_speech), else a made voice; pictures are 3 s cuts
of a real film where that is at hand, else drawn faces. Every measurement runs in a process of its own. Libraries are
imported and every worker is started by some clips that are not timed; writing shards and streams is timed. Memory
is the largest sum over the process and its workers, sampled every 50 ms.

The plain ways: opensmile and librosa called file by file in one process; the Hugging Face feature-extraction pipeline
with batch size 1; an OpenCV loop that reads every frame and describes those that fall on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))
from tests.benchmarks import scale_page  # noqa: E402

RESULTS = PROJECT / "docs" / "benchmarks"
SHARED = PROJECT.parent / "shared" / "data"
STREAMS = {
    "opensmile_lld": "sound", "opensmile_functionals": "sound", "librosa_frames": "sound", "mel_spectrogram": "sound",
    "face_descriptors": "film", "hf_sentence": "text", "hf_words": "text",
}  # fmt: skip
TEXTS = (
    "It was not that bad.", "I loved it, honestly, from the first minute to the last one!", "Well.",
    "What a waste of time and money; nobody should ever have to sit through this again, and I mean nobody.",
)  # fmt: skip


def material(kind: str, folder: Path, ravdess: Path, count: int) -> list:
    from demeanor.features.base import Clip

    if kind == "text":
        return [Clip(f"t{n}", text=f"{TEXTS[n % 4]} Take {n}.") for n in range(8 * count)]
    paths = sorted(ravdess.glob("*/*.flac"))[:: max(960 // count, 1)][:count] if kind == "sound" else []
    paths = paths or sorted(folder.glob(f"{kind}*"))
    return [Clip(path.stem, media=path) for path in paths]


def make(folder: Path, count: int) -> None:
    """Files for what is not at hand: voices and 3 s films."""
    from demeanor.features.media import decode_frames
    from tests.features.media_samples import faces, voice, write_recording

    film = SHARED / "clips" / "pyfeat" / "WolfgangLanger_Pexels.mp4"
    images = [image for _, image in decode_frames(film)] if film.is_file() else faces(400, size=320)
    for n in range(count // 6):
        start = (7 * n) % (len(images) - 72)
        write_recording(folder / f"film{n:03}.mp4", None, images[start : start + 72], frame_rate=24)
    for n in range(count):
        write_recording(folder / f"sound{n:03}.flac", voice(3.0, pitch=90 + n), audio_codec="flac")


def plain(name: str, clips: list) -> Callable[[], list[np.ndarray]]:
    """What one would write without Demeanor; returns a function that does it, ready to be timed."""
    if name.startswith("opensmile"):
        import opensmile

        level = "LowLevelDescriptors" if name.endswith("lld") else "Functionals"
        smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, getattr(opensmile.FeatureLevel, level))
        return lambda: [smile.process_file(str(clip.media)).to_numpy() for clip in clips]
    if name.startswith("librosa"):
        return lambda: [librosa_by_hand(clip.media) for clip in clips]
    if name.startswith("mel"):
        return lambda: [librosa_mel(clip.media) for clip in clips]
    if name == "face_descriptors":
        return lambda: [opencv_loop(clip.media) for clip in clips]
    import transformers

    from demeanor.features.hub import bundled_minilm

    folder = str(bundled_minilm())
    encode = transformers.pipeline("feature-extraction", model=folder, tokenizer=folder, batch_size=1, device="cpu")
    return lambda: [np.asarray(encode(clip.text))[0].mean(axis=0) for clip in clips]


def librosa_by_hand(path: Path) -> np.ndarray:
    import librosa
    from librosa import feature

    y, sr = librosa.load(path, sr=16_000)
    shape = {"n_fft": 512, "hop_length": 160, "win_length": 400}
    mfcc = feature.mfcc(y=y, sr=sr, n_mfcc=13, n_mels=64, **shape)
    parts = [librosa.power_to_db(feature.melspectrogram(y=y, sr=sr, n_mels=40, **shape)), mfcc]
    parts += [feature.delta(mfcc), feature.delta(mfcc, order=2), feature.chroma_stft(y=y, sr=sr, **shape)]
    parts += [feature.rms(y=y, frame_length=400, hop_length=160), feature.zero_crossing_rate(y, hop_length=160)]
    parts += [feature.spectral_centroid(y=y, sr=sr, **shape), feature.spectral_bandwidth(y=y, sr=sr, **shape)]
    parts += [feature.spectral_rolloff(y=y, sr=sr, **shape), feature.spectral_flatness(y=y, **shape)]
    parts += [feature.spectral_contrast(y=y, sr=sr, fmin=100.0, **shape)]
    parts += [librosa.yin(y, fmin=60, fmax=500, sr=sr, frame_length=1024, hop_length=160)[None]]
    return np.concatenate([part[:, : mfcc.shape[1]] for part in parts]).T


def librosa_mel(path: Path) -> np.ndarray:
    import librosa

    y, sr = librosa.load(path, sr=16_000)
    y = np.pad(y[:96_000], (0, max(96_000 - len(y), 0)))
    power = librosa.feature.melspectrogram(y=y, sr=sr, n_fft=960, hop_length=320, n_mels=128, htk=True, norm=None)
    return librosa.power_to_db(power)


def opencv_loop(path: Path) -> np.ndarray:
    import cv2

    from demeanor.features.vision import FaceSettings, _Describer

    capture, settings, greys = cv2.VideoCapture(str(path)), FaceSettings(), []
    while True:
        read, image = capture.read()
        if not read:
            break
        time_of = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if time_of >= len(greys) / settings.rate - 1e-6:
            greys.append(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    return _Describer(settings).describe(greys)[0]


def measure(name: str, workers: int, clips: list, folder: Path) -> dict:
    """One measurement; workers 0 is the plain way."""
    from demeanor.features.engine import StreamRequest, extract_streams

    request = {"x.y": StreamRequest(extractor=name)}

    def engine(given: list, label: str) -> None:
        extract_streams(given, request, folder / label, folder / label, workers, progress=False)

    if workers == 0:
        plain(name, clips[:8])()
        work = plain(name, clips)
    else:
        engine(clips[: 16 * workers], "warm")
        work = lambda: engine(clips, "timed")  # noqa: E731
    peak, done = [0.0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(peak, done))
    sampler.start()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    done.set()
    sampler.join()
    return {"seconds": seconds, "peak_mib": peak[0], "clips": len(clips)}


def _sample(peak: list[float], done: threading.Event) -> None:
    import psutil

    me = psutil.Process()
    while not done.wait(0.05):
        total = 0
        for process in [me, *me.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peak[0] = max(peak[0], total / 2**20)


def duration(clips: list) -> float:
    from demeanor.features.media import probe

    return sum(probe(clip.media).duration or 0.0 for clip in clips if clip.media)


def table(results: list[dict], cores: int) -> str:
    lines = [
        "| extractor | clips | plain, clips/s | 1 core, clips/s | all cores, clips/s | x real time, all cores "
        "| ratio, 1 core | ratio, all cores | ratio per core | peak MiB plain / 1 / all |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        rates = [row["clips"] / row[key]["seconds"] for key in ("plain", "one", "all")]
        real = "" if not row["seconds_of_media"] else f"{row['seconds_of_media'] / row['all']['seconds']:.0f}"
        peaks = " / ".join(f"{row[key]['peak_mib']:.0f}" for key in ("plain", "one", "all"))
        lines.append(
            f"| {row['extractor']} | {row['clips']} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[2]:.1f} | {real} "
            f"| {rates[1] / rates[0]:.2f} | {rates[2] / rates[0]:.2f} | {rates[2] / rates[0] / cores:.2f} | {peaks} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ravdess", type=Path, default=SHARED / "ravdess_speech")
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--extractors", nargs="+", choices=STREAMS, default=STREAMS, help="the others' rows stay")
    parser.add_argument("--one", nargs=3, metavar=("EXTRACTOR", "WORKERS", "FOLDER"))
    options = parser.parse_args()
    if options.one:
        name, workers, folder = options.one
        clips = material(STREAMS[name], Path(folder), options.ravdess, options.clips)
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(measure(name, int(workers), clips, Path(scratch))))
        return
    from demeanor.data.processors import available_cores

    cores = available_cores()
    machine = f"{scale_page.machine()}, Python {platform.python_version()}"
    kept = former()
    mine = next((one for one in kept if one["machine"] == machine), {"machine": machine, "cores": cores, "results": []})
    rows = {row["extractor"]: row for row in mine["results"]}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.clips)
        for name in options.extractors:
            kind = STREAMS[name]
            row: dict = {"extractor": name}
            for key, workers in (("plain", 0), ("one", 1), ("all", cores)):
                command = [sys.executable, __file__, "--one", name, str(workers), folder, "--clips", str(options.clips)]
                # An encoder and its plain way have the same two threads; more wait for each other on a busy machine.
                threads = str(1 if key == "one" else 2 if kind == "text" else cores)
                environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(PROJECT)}
                answer = subprocess.run(
                    [*command, "--ravdess", str(options.ravdess)], capture_output=True, text=True, check=True,
                    env=environment,
                )  # fmt: skip
                row[key] = json.loads(answer.stdout.splitlines()[-1])
                print(name, key, row[key], flush=True)
            clips = material(kind, Path(folder), options.ravdess, options.clips)
            row |= {"clips": len(clips), "seconds_of_media": duration(clips)}
            rows[name] = row
    mine |= {"load": round(os.getloadavg()[2], 1), "results": [rows[name] for name in STREAMS if name in rows]}
    print(table(mine["results"], cores))
    machines = [*(one for one in kept if one["machine"] != machine), mine]
    (RESULTS / "features.json").write_text(json.dumps({"machines": machines}, indent=2) + "\n")
    write_page()


def former() -> list[dict]:
    """What was measured before, by machine."""
    kept = RESULTS / "features.json"
    return json.loads(kept.read_text())["machines"] if kept.is_file() else []


def write_page() -> None:
    """The page of all figures that are there: the extractors on every machine, encoders in half precision."""
    parts = [
        f"# Speed of the extractors\n\nGenerated by `python tests/benchmarks/bench_features.py`.\n\n"
        f"{(__doc__ or '').split(chr(10) * 2, 2)[2].strip()}\n\nRatios compare with the plain way in the same row. "
        "Encoders (hf_*) run in one process on two threads, as does their plain way (`1 core`: on one); OpenCV's "
        "decoder has all threads.\n"
    ]
    for one in former():
        parts.append(f"## {one['machine']} (load average {one['load']})\n\n{table(one['results'], one['cores'])}\n")
    halves = RESULTS / "halves.json"
    if halves.is_file():
        from tests.benchmarks.bench_halves import section

        parts.append(section(json.loads(halves.read_text())))
    (RESULTS / "features.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
