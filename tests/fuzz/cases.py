"""Mutated inputs of every kind, the same ones for the same seed, and what is done with each of them.

A case is a function of a folder. It ends well or with an error that Demeanor raises on purpose (DemeanorError);
whatever else it raises is a finding, and so is time or memory beyond the limits of `tests.fuzz.worker`.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from demeanor.corpora.archives import unpack
from demeanor.corpora.csd_file import read_sequence
from demeanor.corpora.safe_pickle import loads
from demeanor.data.bundle import CARD, WEIGHTS, Bundle, BundleCard, InputSpecification
from demeanor.data.errors import InputError
from demeanor.data.provenance import Provenance
from demeanor.data.ragged import Ragged
from demeanor.data.task import Task
from demeanor.features.media import decode_frames, probe
from demeanor.features.sound import decode_audio
from tests.corpora import test_fuzz as readers
from tests.corpora.test_safe_pickle import VALUES
from tests.features.media_samples import faces, voice, write_recording

Case = Callable[[Path], Any]
NUMBERS = (0, -1, 1, 2, 3.5, 1e9, 10**9, 2**31, 2**63, 10**400, -(10**9), float("nan"), float("inf"), 1e-300)
ODDITIES = (None, True, "", "x", "3", "1e9", [], {}, [1, [2]], {"a": 1}, "\0", "é" * 300, "../../x", "/etc/passwd")


def damaged(content: bytes, seed: int) -> bytes:
    """Cut, flipped, blanked, repeated or inserted bytes; one to three times."""
    generator = np.random.default_rng(seed)
    for _ in range(int(generator.integers(1, 4))):
        if content:
            content = readers.damaged(content, generator)
    return content


# recordings ---------------------------------------------------------------------------------------------------------

HOSTILE = (
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 50004 RTP/AVP 0\n",
    b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
    b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    b"[playlist]\nFile1=http://127.0.0.1:1/\n",
    b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0" + b"\xff" * 12 + b"\x20\0data\xff\xff\xff\xff",
)


@cache
def recordings() -> tuple[bytes, ...]:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = [
            write_recording(folder / "a.mp4", voice(0.6), faces(6)),
            write_recording(folder / "b.mkv", voice(0.6), faces(6)),
            write_recording(folder / "c.wav", voice(0.6), audio_codec="pcm_s16le"),
            write_recording(folder / "d.m4a", voice(0.6)),
        ]
        return tuple(path.read_bytes() for path in made)


def recording(number: int) -> Case:
    pick = number % (len(recordings()) + 1)
    content = HOSTILE[number // 7 % len(HOSTILE)] if pick == len(recordings()) else recordings()[pick]
    content = damaged(content, number)

    def run(folder: Path) -> None:
        probe(content)
        decode_audio(content)
        for _ in zip(range(50), decode_frames(content, rate=5.0, longest_side=640), strict=False):
            pass

    return run


# tables and the corpora around them ---------------------------------------------------------------------------------


def table(number: int) -> Case:
    names = list(readers.INPUTS)
    reader = names[number % len(names)]

    def run(folder: Path) -> None:
        make, file, options = readers.INPUTS[reader]
        path = make(folder / "input")
        place = path / file if file else path
        place.write_bytes(damaged(place.read_bytes(), number))
        if readers.outcome(reader, path, folder / "out", options) == "refused":
            raise InputError("table", ["refused"])

    return run


# pickles ------------------------------------------------------------------------------------------------------------

PIECES = (
    b"(", b")", b"]", b"}", b"\x8f", b"N", b"K\x01", b"J\xff\xff\xff\x7f", b"q\x00", b"q\x01", b"h\x00", b"h\x01",
    b"2", b"0", b"1", b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"\x94", b"\x90",
    b"\x91", b"l", b"d", b"\x81", b"U\x02f8", b"U\x02S0", b"U\x01O", b"X\x04\0\0\0long", b"C\x08\0\0\0\0\0\0\0\0",
    b"cnumpy\ndtype\n", b"G?\xf0\0\0\0\0\0\0", b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n",
    b"cnumpy.core.multiarray\nscalar\n", b"c__builtin__\nlist\n", b"c__builtin__\nset\n", b"c__builtin__\ndict\n",
    b"c_codecs\nencode\n", b"ccollections\nOrderedDict\n", b"cos\nsystem\n",
    b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb", b"I01\n", b"L99999999999999999999L\n", b"F1e400\n",
    b"S'ab'\n",
)  # fmt: skip


def pickled(number: int) -> Case:
    generator = random.Random(number)
    if number % 2:
        plain = {key: value for key, value in VALUES.items() if "long" not in key and key != "large"}
        content = damaged(pickle.dumps(plain, protocol=number % 5), number)
    else:
        program = [generator.choice(PIECES) for _ in range(generator.randint(1, 60))]
        # Doubling what is there already is how small programs become large.
        program = program * generator.choice((1, 1, 1, 50, 2000))
        content = b"".join(program) + b"."
    return lambda folder: loads(content)


# archives and other containers ----------------------------------------------------------------------------------------


@cache
def archives() -> dict[str, bytes]:
    members = {"Raw/a/1.mp4": b"clip" * 50, "label.csv": b"x,y\n" * 100, "deep/er/file": b""}
    made = {}
    for kind in ("gz", "bz2", "xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        made[kind] = buffer.getvalue()
    for name, method in (
        ("stored", zipfile.ZIP_STORED),
        ("deflated", zipfile.ZIP_DEFLATED),
        ("lzma", zipfile.ZIP_LZMA),
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for member, content in members.items():
                archive.writestr(zipfile.ZipInfo(member), content, method)
        made[name] = buffer.getvalue()
    return made


def swelling(number: int) -> bytes:
    """Little that says that it is much: zeros, or members without end."""
    buffer = io.BytesIO()
    if number % 2:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes((number % 7 + 1) * 20_000_000))
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            entry = tarfile.TarInfo("zeros")
            entry.size = (number % 7 + 1) * 20_000_000
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return buffer.getvalue()


def archive(number: int) -> Case:
    names = list(archives())
    if number % 40 == 39:
        content = swelling(number)
    elif number % 3 == 2:
        content = damaged_tar(number)
    else:
        content = damaged(archives()[names[number % len(names)]], number)

    def run(folder: Path) -> None:
        (folder / "file").write_bytes(content)
        unpack(folder / "file", folder / "out")

    return run


def damaged_tar(number: int) -> bytes:
    """A plain tar file with odd bytes in a header whose checksum is right: lengths, kinds and names that lie."""
    generator = random.Random(number)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a", "b/c"):
            entry = tarfile.TarInfo(name)
            entry.size = 700
            tar.addfile(entry, io.BytesIO(bytes(700)))
    data = bytearray(buffer.getvalue())
    for _ in range(generator.randint(1, 3)):
        place = generator.choice((*range(0, 100), *range(124, 136), 156, *range(157, 257)))
        data[place] = generator.choice((0, 32, 47, 48, 55, 120, 76, 75, 83, 103, 128, 255, generator.randrange(256)))
    head = bytes(data[:148]) + b" " * 8 + bytes(data[156:512])
    data[148:156] = b"%06o\0 " % sum(head)
    return bytes(data)


@cache
def containers() -> dict[str, bytes]:
    import tempfile

    from tests.corpora.test_cmu_sdk import csd

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        csd(folder / "a.csd", "COVAREP", {"v": ([[0, 1], [1, 2]], np.ones((2, 5), np.float32))})
        Ragged.from_sequences({"a": np.ones((3, 4)), "b": np.zeros((0, 4))}).save(folder / "a.safetensors")
        return {path.suffix: path.read_bytes() for path in (folder / "a.csd", folder / "a.safetensors")}


def container(number: int) -> Case:
    suffix = (".csd", ".safetensors")[number % 2]
    content = damaged(containers()[suffix], number)
    if suffix == ".safetensors" and number % 4 == 1:
        (size,) = struct.unpack("<Q", containers()[suffix][:8])
        header = json.loads(containers()[suffix][8 : 8 + size])
        changed = json.dumps(mutated(header, number)).encode().ljust(size)
        content = struct.pack("<Q", len(changed)) + changed + containers()[suffix][8 + size :]

    def run(folder: Path) -> None:
        (folder / f"a{suffix}").write_bytes(content)
        if suffix == ".csd":
            read_sequence(folder / f"a{suffix}")
        else:
            ragged = Ragged.load(folder / f"a{suffix}")
            ragged.gather(range(len(ragged)))

    return run


# cards --------------------------------------------------------------------------------------------------------------


def mutated(value: Any, seed: int) -> Any:
    """JSON with one to three of its values changed, taken away or put somewhere else."""
    generator = random.Random(seed)
    value = json.loads(json.dumps(value))
    for _ in range(generator.randint(1, 3)):
        places = [place for place in _places(value) if place[1] != "weights_sha256"]
        numeric = [(holder, key) for holder, key in places if type(holder[key]) in (int, float)]
        if numeric and generator.random() < 0.4:
            # What has the right type and is no less absurd gets furthest.
            holder, key = generator.choice(numeric)
            holder[key] = generator.choice((type(holder[key])(7), 10**9, 3 * holder[key] + 1, -1, 0))
            continue
        if not places:
            return value
        holder, key = generator.choice(places)
        how = generator.random()
        if how < 0.5:
            holder[key] = generator.choice(NUMBERS)
        elif how < 0.8:
            holder[key] = generator.choice(ODDITIES)
        elif how < 0.9:
            del holder[key]
        else:
            holder[key] = json.loads(json.dumps(holder))
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found = []
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        found += _places(value[key])
    return found


@cache
def bundles() -> tuple[Bundle, ...]:
    """Untrained models of three systems, as training would store them."""
    import torch

    from demeanor.models import find_system

    task = Task(name="sentiment", kind="regression", column="sentiment")
    made = []
    for name in ("late_fusion", "tfn", "mult"):
        inputs = {
            role: InputSpecification(
                stream=stream, dimension=width, provenance=Provenance(extractor="made", version="1", parameters={})
            )
            for role, stream, width in (
                ("text", "text.words", 6),
                ("audio", "audio.frames", 5),
                ("vision", "vision.frames", 4),
            )
        }
        system = find_system(name)
        torch.manual_seed(0)
        settings = system.Settings()
        model = system(settings, inputs, task)
        tensors = {f"model.{key}": value.numpy() for key, value in model.state_dict().items()}
        for role, value in inputs.items():
            tensors[f"normaliser.{role}.mean"] = np.zeros(value.dimension, np.float32)
            tensors[f"normaliser.{role}.scale"] = np.ones(value.dimension, np.float32)
        card = BundleCard(branch=name, system=name, settings=settings.as_dict(), task=task, inputs=inputs)
        made.append(Bundle(card, tensors))
    return tuple(made)


def card(number: int) -> Case:
    bundle = bundles()[number % len(bundles())]

    def run(folder: Path) -> None:
        from demeanor.inference.predict import build

        bundle.save(folder / "bundle")
        place, weights = folder / "bundle" / CARD, folder / "bundle" / WEIGHTS
        content = json.loads(place.read_text(encoding="utf-8"))
        if number % 3 == 2:
            weights.write_bytes(damaged(weights.read_bytes(), number))
        content = mutated(content, number)
        if isinstance(content, dict):
            # Whoever changes a card can hash the weights as well.
            content["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        text = json.dumps(content).encode()
        place.write_bytes(damaged(text, number) if number % 10 == 9 else text)
        build(Bundle.load(folder / "bundle"))

    return run


# requests -----------------------------------------------------------------------------------------------------------

ROWS = [
    {"utterance_id": "a", "text": "Well.", "dialogue": "d", "turn": 0, "speaker": "ann", "language": "en"},
    {"utterance_id": "b", "text": "I like it.", "dialogue": "d", "turn": 1, "start": 0.0, "end": 1.5},
    {"audio": "a.wav", "video": "a.mp4", "audio_bytes": "UklGRg==", "video_bytes": "AAAA"},
]


class Rows:
    """A model that reads rows and recordings as the registered one does, and answers without weights."""

    def predict(self, given: Any) -> Any:
        import pandas as pd

        from demeanor.data.cells import Reach
        from demeanor.inference.describe import completed
        from demeanor.inference.extraction import Extraction
        from demeanor.serving.mlflow_server import known_columns

        read = Extraction(bundles()[0].card.model_copy(update={"inputs": {}}), Reach())(known_columns(given))
        return completed(pd.DataFrame({"sentiment": np.zeros(len(read.examples.ids)), "modalities": "text"}), read)


def request(number: int) -> Case:
    content: Any = {"dataframe_records": ROWS}
    if number % 3 == 1:
        names = list(dict.fromkeys(name for row in ROWS for name in row))
        content = {"dataframe_split": {"columns": names, "data": [[row.get(name) for name in names] for row in ROWS]}}
    body = json.dumps(mutated(content, number)).encode()
    kind = "application/json"
    if number % 5 == 4:
        names = list(dict.fromkeys(name for row in ROWS for name in row))
        lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in ROWS)]
        body, kind = "\n".join(lines).encode(), "text/csv"
    if number % 4 == 3 or kind == "text/csv":
        body = damaged(body, number)

    def run(folder: Path) -> None:
        from demeanor.serving.mlflow_server import invocations

        answer = invocations(body, kind, Rows(), None)
        said = json.loads(answer.response, parse_constant=_refuse)
        if answer.status == 200:
            assert isinstance(said["predictions"], list)
        else:
            assert 400 <= answer.status < 500, said
            assert "Traceback" not in answer.response

    return run


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


KINDS: dict[str, Callable[[int], Case]] = {
    "recording": recording, "table": table, "pickle": pickled, "archive": archive, "container": container,
    "card": card, "request": request,
}  # fmt: skip
