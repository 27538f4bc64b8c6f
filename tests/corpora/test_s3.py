"""Recordings in a store that speaks S3 (moto's server): read in place, kept by content, refusals told in a sentence."""

from __future__ import annotations

import json
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demeanor.corpora.base import Corpus, CorpusSettings
from demeanor.data import remote
from demeanor.data.errors import InputError
from demeanor.data.remote import RemoteError, RemoteFile
from demeanor.features.base import Clip, to_int16
from demeanor.features.clips import clips_of
from demeanor.features.engine import StreamRequest, extract_streams
from demeanor.pipelines.ingestion.nodes import probe_media
from tests.corpora.test_shards import add
from tests.features.media_samples import voice, write_recording

pytest.importorskip("moto", reason="needs moto, which speaks S3")
pytest.importorskip("s3fs", reason="needs the extra s3")
SHARDS, CLIPS = 2, 3
PATTERN = "s3://recordings/clips-{000000..000001}.tar"
READS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A bucket with two tar files and one of their recordings by itself; its address, keys that it takes, a client."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    anyone = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **anyone)
    client.create_bucket(Bucket="recordings")
    folder = tmp_path_factory.mktemp("s3")
    for shard in range(SHARDS):
        with tarfile.open(folder / "clips.tar", "w") as archive:
            for n in range(CLIPS):
                key = f"{shard}_{n}"
                sound = write_recording(
                    folder / f"{key}.flac", voice(0.5, pitch=100 + 10 * n + shard), audio_codec="flac"
                )
                archive.add(sound, f"{key}.flac")
                told = {"sentiment": n - 1.0, "split": ("train", "valid", "test")[n]}
                add(archive, f"{key}.json", json.dumps(told).encode())
        client.upload_file(str(folder / "clips.tar"), "recordings", f"clips-{shard:06d}.tar")
    client.upload_file(str(folder / "0_0.flac"), "recordings", "alone/0_0.flac")
    identity = boto3.client("iam", endpoint_url=address, **anyone)
    identity.create_user(UserName="reader")
    identity.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=json.dumps(READS))
    keys = identity.create_access_key(UserName="reader")["AccessKey"]
    own = {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"]}
    client = boto3.client("s3", endpoint_url=address, **{**anyone, **own})
    yield {"address": address, "client": client, "keys": keys, "folder": folder}
    # What moto holds belongs to the process: the next server starts empty, should this module be left and met again.
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
    server.stop()


def forget() -> None:
    """As in a new process: no connection, no listing, no digest is remembered."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    remote._told.cache_clear()
    remote._remembered.cache_clear()


@pytest.fixture
def signed_in(store: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The environment variables that every tool for S3 reads, and no configuration of whoever runs the tests."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", store["address"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store["keys"]["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store["keys"]["SecretAccessKey"])
    forget()
    yield store
    forget()


@pytest.fixture
def guarded(signed_in: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The store lets in only who has keys that it gave out."""

    def unchecked(requests: str) -> str:
        asked = urllib.request.Request(
            f"{signed_in['address']}/moto-api/reset-auth", requests.encode(), {"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(asked) as answer:
            return json.loads(answer.read())["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"]

    before = unchecked("0")
    yield signed_in
    unchecked(str(before))


def read(path: str, output: Path) -> Corpus:
    return CorpusSettings(reader="shards", options={"path": path}).read(output)


def made(corpus: Corpus, place: Path, workers: int = 1) -> tuple[dict[str, np.ndarray], list[str]]:
    """The waveform by utterance; and the shards that hold them."""
    clips = clips_of(corpus.utterances, corpus.root)
    request = {"audio.waveform": StreamRequest(extractor="waveform")}
    streams, aside = extract_streams(clips, request, place / "cache", place / "out", workers, progress=False)
    assert aside.empty
    ragged = streams["audio.waveform"].ragged
    held = sorted(path.name for path in (place / "cache").glob("*/*.safetensors"))
    return {name: np.array(ragged[name]) for name in ragged.ids}, held


def test_what_lies_in_a_store_is_read_in_place_and_kept_by_content(guarded: dict[str, Any], tmp_path: Path) -> None:
    corpus = read(PATTERN, tmp_path)
    assert corpus.counts == {"train": 2, "valid": 2, "test": 2}
    assert all(probe.has_audio and not probe.error for probe in probe_media(corpus).values())
    values, shards = made(corpus, tmp_path)
    for shard in range(SHARDS):
        for n in range(CLIPS):
            heard = Clip("one", media=guarded["folder"] / f"{shard}_{n}.flac").waveform
            assert heard is not None
            np.testing.assert_array_equal(values[f"{shard}_{n}"][:, 0], to_int16(heard))
    client = guarded["client"]
    # Moved within the store, the same files have the same digests: nothing is extracted again.
    for shard in range(SHARDS):
        whole = client.get_object(Bucket="recordings", Key=f"clips-{shard:06d}.tar")["Body"].read()
        client.put_object(Bucket="recordings", Key=f"moved/clips-{shard:06d}.tar", Body=whole)
    forget()
    moved, held = made(read(PATTERN.replace("clips-", "moved/clips-"), tmp_path), tmp_path)
    assert held == shards
    np.testing.assert_array_equal(moved["1_2"], values["1_2"])


def test_a_manifest_names_recordings_of_a_store(guarded: dict[str, Any], tmp_path: Path) -> None:
    place = "s3://recordings/alone/0_0.flac"
    (tmp_path / "manifest.csv").write_text(f"id,audio,text\na,{place},well\n", encoding="utf-8")
    options = {"path": str(tmp_path), "remote": True}
    values, before = made(CorpusSettings(reader="folder", options=options).read(tmp_path), tmp_path)
    assert len(values["a"]) == 8000
    (client, folder) = guarded["client"], guarded["folder"]
    client.upload_file(str(folder / "1_0.flac"), "recordings", "alone/0_0.flac")
    forget()
    assert RemoteFile(place).read() == (folder / "1_0.flac").read_bytes()
    _, after = made(CorpusSettings(reader="folder", options=options).read(tmp_path), tmp_path)
    client.upload_file(str(folder / "0_0.flac"), "recordings", "alone/0_0.flac")
    assert len(after) == len(before) + 1  # what lies there is another recording now


@pytest.mark.parametrize(
    ("variables", "address", "told"),
    [
        ({}, "s3://recordings/gone.flac", "there is no such file"),
        ({}, "s3://nowhere/0_0.flac", "there is no such file"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "s3://recordings/alone/0_0.flac", "the store refuses it"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://recordings/alone/0_0.flac", "the store refuses it"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "s3://recordings/alone/0_0.flac", "credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://recordings/alone/0_0.flac", "connect"),
    ],
)
def test_what_is_refused_is_told_in_one_sentence(
    guarded: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str],
    address: str, told: str,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    forget()
    with pytest.raises(RemoteError) as caught:
        RemoteFile(address).read()
    assert str(caught.value).startswith(f"{address}: cannot be read (")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    if told == "connect":
        return  # each try takes seconds
    with pytest.raises(InputError) as refused:
        read(f"{address}.tar", tmp_path)
    assert len(refused.value.problems) == 1
    assert "cannot be read" in refused.value.problems[0]
