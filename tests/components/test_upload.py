"""Copies of exports behind URLs."""

import os

import fsspec
import pytest

from trellis.components.errors import InputError
from trellis.components.saved_model.upload import check, upload


@pytest.fixture
def version(tmp_path):
    """A folder like that of a version."""
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/metadata.json"):
        path = tmp_path / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "1"


@pytest.fixture
def memory():
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    return system


def test_each_copy_gets_the_next_version(version, memory):
    url = "memory://models/tagger"
    check(url)
    memory.pipe("/models/tagger/notes/readme.txt", b"no version")
    assert [upload(version, url) for _ in range(2)] == [f"memory:///models/tagger/{number}" for number in (1, 2)]
    assert memory.cat("/models/tagger/2/assets.extra/metadata.json") == b"assets.extra/metadata.json"
    assert sorted(memory.find("/models/tagger/1")) == [
        f"/models/tagger/1/{name}"
        for name in ("assets.extra/metadata.json", "saved_model.pb", "variables/variables.index")
    ]


def test_a_local_url_works_too(version, tmp_path):
    url = f"file://{tmp_path}/elsewhere/tagger/"
    assert upload(version, url) == f"file://{tmp_path}/elsewhere/tagger/1"
    assert (tmp_path / "elsewhere/tagger/1/saved_model.pb").read_text() == "saved_model.pb"


@pytest.mark.parametrize("error", [PermissionError(13, os.strerror(13)), RuntimeError("quota"), KeyboardInterrupt()])
def test_a_copy_that_fails_leaves_nothing(version, memory, monkeypatch, error):
    copied, put = [], memory.put_file

    def fail_at_the_last(source, target):
        copied.append(target.rpartition("/")[2])
        if len(copied) == 3:
            raise error
        put(source, target)

    monkeypatch.setattr(memory, "put_file", fail_at_the_last)
    expected = InputError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        upload(version, "memory://models/tagger")
    assert copied[-1] == "saved_model.pb" and not memory.exists("/models/tagger/1")
    if expected is InputError:
        reason = getattr(error, "strerror", None) or "quota"
        assert str(raised.value) == f"memory://models/tagger: cannot be written ({reason}); the export is in {version}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/models", r"s3://bucket/models: .*s3fs.*pip install 'trellis-sequence\[remote\]'"),
        ("nowhere://models", r"nowhere://models: .*nowhere"),
    ],
)
def test_a_url_that_cannot_be_listed_is_refused(url, message):
    with pytest.raises(InputError, match=message):
        check(url)
