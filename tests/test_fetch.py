"""Fetching one file with a known checksum; tests/data/test_download.py has servers that break."""

import hashlib

import pytest

from twofold import fetch as fetching
from twofold.errors import TwofoldError
from twofold.fetch import fetch


@pytest.fixture(autouse=True)
def without_pause(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0)


def test_a_file_is_kept_if_its_checksum_is_right(tmp_path):
    (tmp_path / "source").write_bytes(b"weights")
    address, target = (tmp_path / "source").as_uri(), tmp_path / "cache" / "w.pth"
    with pytest.raises(TwofoldError, match=r"not the published file: .* put the file at .*w\.pth"):
        fetch([address], target, advice="", sha256="0" * 64)
    assert list(target.parent.iterdir()) == []
    fetch([address], target, advice="", sha256=hashlib.sha256(b"weights").hexdigest())
    assert target.read_bytes() == b"weights" and list(target.parent.iterdir()) == [target]


def test_without_a_connection_the_advice_is_printed(tmp_path):
    with pytest.raises(TwofoldError, match=r"cannot fetch w\.pth \(file:.*nothing: .*\); put it here"):
        fetch([(tmp_path / "nothing").as_uri()], tmp_path / "w.pth", advice="put it here")
    assert list(tmp_path.iterdir()) == []
