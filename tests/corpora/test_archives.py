"""Archives unpack whole, or not at all when a member wants out of the folder."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from demeanor.corpora.archives import unpack
from demeanor.data.errors import InputError

GOOD = {"Raw/a/1.mp4": b"clip", "label.csv": b"x" * 5000}


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def make_tar(path: Path, members: dict[str, bytes], **changes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if changes:
            member = tarfile.TarInfo(changes.pop("name"))
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member)
    return path


MAKERS = {"zip": make_zip, "tar.gz": make_tar}


@pytest.mark.parametrize("kind", MAKERS)
def test_unpacks(tmp_path, kind):
    archive = MAKERS[kind](tmp_path / f"a.{kind}", GOOD)
    files = unpack(archive, tmp_path / "out")
    assert {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in files} == GOOD


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "C:\\evil", "a\\..\\..\\evil", "a/b/../../../evil"]
)
def test_members_that_climb(tmp_path, kind, name):
    archive = MAKERS[kind](tmp_path / f"a.{kind}", GOOD | {name: b"x"})
    with pytest.raises(InputError, match="Nothing was unpacked") as caught:
        unpack(archive, tmp_path / "inner" / "out")
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "inner").exists()
    assert not (tmp_path / "evil").exists()


def test_links_and_devices(tmp_path):
    for changes in (
        {"name": "link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "hard", "type": tarfile.LNKTYPE, "linkname": "label.csv"},
        {"name": "device", "type": tarfile.CHRTYPE},
    ):
        archive = make_tar(tmp_path / "a.tar.gz", GOOD, **changes)
        with pytest.raises(InputError, match=r"is a link|no plain file"):
            unpack(archive, tmp_path / "out")
    linked = zipfile.ZipInfo("link")
    linked.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(linked, "/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", MAKERS)
def test_size_limit_and_damage(tmp_path, kind):
    archive = MAKERS[kind](tmp_path / f"a.{kind}", {"x": os.urandom(20000)})
    with pytest.raises(InputError, match="would unpack to"):
        unpack(archive, tmp_path / "out", largest=1000)
    content = archive.read_bytes()
    for share in (0.0, 0.2, 0.5, 0.8):
        archive.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError):
            unpack(archive, tmp_path / "out")
    archive.write_bytes(content[:9000] + b"damaged" + content[9007:])
    with pytest.raises(InputError):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {f"a.{kind}"}
