"""Files that appear whole or not at all, and the lock."""

import errno
import os
import subprocess
import sys

import pytest

from twofold.errors import TwofoldError
from twofold.files import explained_full_disk, is_locked, lock, replacing, write_atomically


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "ä", durable=True)
    write_atomically(path, b"more")
    assert path.read_bytes() == b"more"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def test_a_failure_keeps_the_old_content(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as aside:
        aside.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file.txt"]


def test_a_full_disk_is_an_error_of_the_file(tmp_path):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "file.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "file.txt")


def test_an_error_names_the_file_not_the_one_beside_it(tmp_path):
    for name, reason in (("x" * 300, errno.ENAMETOOLONG), ("folder", errno.EISDIR)):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(OSError, match=f": '{tmp_path / name}'$") as caught:
            write_atomically(tmp_path / name, b"")
        assert (caught.value.errno, caught.value.filename) == (reason, str(tmp_path / name))


HOLD = """
import sys
from pathlib import Path
from twofold.files import lock
with lock(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_holds_a_lock_until_it_dies(tmp_path):
    path = tmp_path / "new" / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(TwofoldError, match="already held"), lock(path, "already held"):
            pass
        assert is_locked(path)
        other.kill()
    assert is_locked(path) is False
    assert is_locked(tmp_path / "no lock") is None
    for _ in range(2):
        with lock(path, "already held"):
            pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_explained(tmp_path, code):
    with pytest.raises(TwofoldError, match=f"no space left under {tmp_path}"), explained_full_disk(tmp_path):
        raise RuntimeError(f"I/O error: {os.strerror(code)} (os error {code})")


def test_other_errors_are_not_explained_as_a_full_disk(tmp_path):
    with pytest.raises(PermissionError), explained_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
