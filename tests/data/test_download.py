"""Published data sets against a server on this machine that breaks, forgets, changes and lies; and hostile archives."""

import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from twofold import fetch as fetching
from twofold.cli import app as cli
from twofold.data import published, unpack
from twofold.data.download import download
from twofold.data.published import Published
from twofold.errors import TwofoldError, UsageError


def no_track(items, total, what, done=0):
    yield from items


def zipped(files):
    """A .zip of these names and contents, bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def noise(count, seed=0):
    return random.Random(seed).randbytes(count)


FILES = {f"tiny/train{side}/{i}.jpg": noise(100_000, i) for side in "AB" for i in range(2)}
GOOD = zipped({"tiny/": b""} | FILES | {"__MACOSX/tiny/._0.jpg": b"litter", "tiny/.DS_Store": b"litter"})
OTHER = zipped({name: content[::-1] for name, content in FILES.items()})


class Server(BaseHTTPRequestHandler):
    """What `self.server.plan` says, one SimpleNamespace a request, the last for all that follow.

    body, etag, modified: the file. code: another status. stop: bytes after which the connection breaks. ranges:
    whether Range is heeded. checks: whether If-Range is. length: a Content-Length that is a lie, None for none.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        plan = self.server.plan
        now = plan.pop(0) if len(plan) > 1 else plan[0]
        self.close_connection = True
        if now.code:
            self.send_error(now.code)
        else:
            self.send(now)

    def send(self, now):
        start, body = 0, now.body
        wanted, validator = self.headers.get("Range"), self.headers.get("If-Range")
        if wanted and now.ranges and (not now.checks or validator in (now.etag, now.modified)):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + now.shift}-{len(body) - 1}/{len(body)}")
        for name, value in (("ETag", now.etag), ("Last-Modified", now.modified)):
            if value:
                self.send_header(name, value)
        if now.length is not None:
            self.send_header("Content-Length", str(now.length or len(body) - start))
        self.end_headers()
        rest = body[start:]
        self.wfile.write(rest if now.stop is None else rest[: now.stop])

    def log_message(self, *_):
        pass


def answer(body=GOOD, **changes):
    lines = {"etag": '"1"', "modified": "", "code": 0, "stop": None, "ranges": True, "checks": True} | changes
    return SimpleNamespace(**({"body": body, "length": 0, "shift": 0} | lines))


@pytest.fixture
def server():
    """A server on 127.0.0.1: set `plan`, read `asked`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        running.plan, running.asked = [answer()], []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def site(server, monkeypatch, tmp_path):
    """The data set `tiny` on that server, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetching, "PAUSE", 0)

    def publish(**changes):
        port = server.server_address[1]
        base = Published("a", "b", False, len(GOOD), (f"http://127.0.0.1:{port}/tiny.zip",))
        monkeypatch.setitem(published.PUBLISHED, "tiny", base._replace(**changes))

    publish()
    return SimpleNamespace(server=server, publish=publish, folder=tmp_path, lines=[])


def get(site, archive=None):
    return download("tiny", None, archive, site.lines.append, no_track)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


WANTED = {name.removeprefix("tiny/"): data for name, data in FILES.items()}


def left(site):
    return sorted(path.name for path in site.folder.iterdir())


# ---- fetching


def test_a_set_arrives_whole(site):
    assert get(site) == site.folder / "tiny"
    assert content(site.folder / "tiny") == WANTED
    assert left(site) == ["tiny"]


def test_a_broken_connection_is_resumed_where_it_broke(site):
    site.server.plan = [answer(stop=stop) for stop in (100_000, 50_000, 7)] + [answer()]
    get(site)
    assert content(site.folder / "tiny") == WANTED
    starts = [None, "bytes=100000-", "bytes=150000-", "bytes=150007-"]
    assert [ranges for _, ranges, _ in site.server.asked] == starts
    assert [check for _, _, check in site.server.asked] == [None, '"1"', '"1"', '"1"']


def test_another_day_goes_on_with_what_is_there(site, monkeypatch):
    site.server.plan = [answer(stop=100_000), answer(code=503)]
    with pytest.raises(
        TwofoldError, match=r"answers 503 .* at 0\.1 MB; run the same command again to continue from there"
    ):
        get(site)
    assert left(site) == ["tiny.zip.part", "tiny.zip.part.json"]
    site.server.plan = [answer()]
    get(site)
    assert content(site.folder / "tiny") == WANTED
    assert site.server.asked[-1][1] == "bytes=100000-"
    assert any("continuing at 0.1 MB of 0.4 MB" in line for line in site.lines)


def test_a_server_that_ignores_ranges_sends_it_all_again(site):
    site.server.plan = [answer(stop=300_000), answer(ranges=False, stop=350_000), answer(ranges=False)]
    get(site)
    assert content(site.folder / "tiny") == WANTED


@pytest.mark.parametrize("checks", [True, False], ids=["if-range", "a server that ignores If-Range"])
@pytest.mark.parametrize("size", ["same size", "longer"])
def test_a_file_that_changes_midway_is_not_glued(site, checks, size):
    new = OTHER if size == "same size" else zipped(FILES | {"tiny/more.jpg": noise(9)})
    site.server.plan = [answer(stop=150_000), answer(new, etag='"2"', checks=checks)]
    get(site)
    files = {name.removeprefix("tiny/"): data for name, data in zip_content(new).items()}
    assert content(site.folder / "tiny") == files


def zip_content(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_time_of_change_serves_as_well_as_an_etag(site):
    date = "Sun, 02 Sep 2018 08:58:00 GMT"
    site.server.plan = [answer(etag='W/"weak"', modified=date, stop=1000), answer(etag="", modified=date)]
    get(site)
    assert site.server.asked[1][1:] == ("bytes=1000-", date)


def test_without_anything_to_recognise_the_file_by_it_starts_anew(site):
    site.server.plan = [answer(etag="", stop=1000), answer(etag="")]
    get(site)
    assert [ranges for _, ranges, _ in site.server.asked] == [None, None]
    assert content(site.folder / "tiny") == WANTED


def test_a_rest_that_starts_elsewhere_is_not_taken(site):
    site.server.plan = [answer(stop=1000), answer(shift=1), answer()]
    get(site)
    assert content(site.folder / "tiny") == WANTED


def test_killed_between_the_last_byte_and_the_name(site):
    (site.folder / "tiny.zip.part").write_bytes(GOOD)
    here = {"url": published.PUBLISHED["tiny"].mirrors[0], "validator": '"1"', "total": len(GOOD)}
    (site.folder / "tiny.zip.part.json").write_text(json.dumps(here))
    get(site)
    assert content(site.folder / "tiny") == WANTED
    assert [ranges for _, ranges, _ in site.server.asked] == [f"bytes={len(GOOD)}-"]


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 1}', '{"url": "", "validator": 3, "total": 1}'])
def test_a_part_of_unknown_origin_is_not_used(site, note):
    (site.folder / "tiny.zip.part").write_bytes(noise(5000))
    (site.folder / "tiny.zip.part.json").write_text(note)
    get(site)
    assert content(site.folder / "tiny") == WANTED


def test_no_length_at_all(site):
    site.server.plan = [answer(length=None)]
    get(site)
    assert content(site.folder / "tiny") == WANTED


@pytest.mark.parametrize("code", [403, 404, 410, 500, 503])
def test_a_mirror_that_is_down_says_what_to_do(site, code):
    site.server.plan = [answer(code=code)]
    with pytest.raises(TwofoldError) as caught:
        get(site)
    message = str(caught.value)
    assert published.PUBLISHED["tiny"].mirrors[0] in message and str(code) in message
    assert "unpack it with `twofold data download tiny --from tiny.zip`" in message
    assert left(site) == []


def test_nobody_listens(site):
    site.publish(mirrors=("http://127.0.0.1:9/tiny.zip", "http://nowhere.invalid/tiny.zip"))
    with pytest.raises(TwofoldError, match=r"127\.0\.0\.1:9/tiny\.zip: cannot be reached .*; http://nowhere"):
        get(site)


def test_the_next_mirror_is_asked(site):
    base = published.PUBLISHED["tiny"].mirrors[0]
    site.publish(mirrors=("http://127.0.0.1:9/tiny.zip", base.replace("tiny.zip", "moved.zip"), base))
    site.server.plan = [answer(code=404), answer()]
    get(site)
    assert [path for path, *_ in site.server.asked] == ["/moved.zip", "/tiny.zip"]


def test_a_mirror_with_another_size_is_passed_over_before_a_byte_is_read(site):
    site.publish(about=len(GOOD) + 1, sha256="0" * 64)
    with pytest.raises(TwofoldError, match=f"has {len(GOOD)} bytes, the known one {len(GOOD) + 1}"):
        get(site)
    assert left(site) == []


def test_a_known_checksum_is_held_against_the_file(site):
    site.publish(sha256=hashlib.sha256(GOOD).hexdigest())
    assert get(site).is_dir()


def test_a_file_that_is_not_the_known_one_is_kept_and_not_unpacked(site):
    site.publish(sha256="0" * 64)
    for _ in range(2):  # it is not fetched twice
        with pytest.raises(TwofoldError, match=r"not the published file: its SHA-256 .* --from .*tiny\.zip`"):
            get(site)
    assert left(site) == ["tiny.zip"] and len(site.server.asked) == 1
    get(site, site.folder / "tiny.zip")
    assert content(site.folder / "tiny") == WANTED and (site.folder / "tiny.zip").is_file()
    assert any(line.startswith("note: ") for line in site.lines)


def test_too_little_space_is_reported_before_the_download(site, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage(10, 0, len(GOOD))
    )  # archive and content are more
    with pytest.raises(
        TwofoldError, match=r"needs 0\.8 MB more .* has 0\.4 MB; free some space, or put it elsewhere"
    ):
        get(site)
    assert content(site.folder).get("tiny.zip.part", b"") == b""


def test_two_at_a_time_do_not_mix(site):
    hold = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(site.folder / "tiny.zip.part.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"\n"
        with pytest.raises(TwofoldError, match=r"tiny\.zip\.part is being downloaded by another process"):
            get(site)
        other.communicate(b"\n")
    assert site.server.asked == []
    assert get(site).is_dir()


def test_a_folder_in_use_is_refused_before_anything_is_asked(site):
    (site.folder / "tiny").mkdir()
    (site.folder / "tiny" / "mine").write_text("")
    with pytest.raises(UsageError, match="exists already"):
        get(site)
    assert site.server.asked == []


def test_a_page_in_place_of_the_archive(site):
    site.server.plan = [answer(b"<html>We have moved</html>")]
    with pytest.raises(TwofoldError, match=r"neither a \.zip nor a \.tar"):
        get(site)
    assert "tiny" not in left(site)


# ---- unpacking


def tarred(members):
    """A .tar.gz of (TarInfo changes, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for changes, data in members:
            info = tarfile.TarInfo()
            for key, value in changes.items():
                setattr(info, key, value)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(name, to):
    """A .zip with a symbolic link."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, to)
        archive.writestr(f"{name}/evil", "x")
    return out.getvalue()


def encrypted():
    data = bytearray(zipped({"a.jpg": b"x"}))
    central = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    return bytes(data)


HOSTILE = {
    "up": (zipped({"../evil": b"x"}), "leads out"),
    "up inside": (zipped({"a/../../evil": b"x"}), "leads out"),
    "absolute": (zipped({"/tmp/evil": b"x"}), "leads out"),
    "drive": (zipped({"C:/evil": b"x"}), "leads out"),
    "backslash": (zipped({"..\\evil": b"x"}), "leads out"),
    "terminal": (zipped({"\x1b[2J.jpg": b"x"}), "not the name of an image"),
    "deep": (zipped({"a/" * 40 + "x": b"x"}), "not the name of an image"),
    "long": (zipped({"a" * 1500: b"x"}), "not the name of an image"),
    "zip link": (link("a", ".."), "not a plain file"),
    "encrypted": (encrypted(), "encrypted"),
    "twice": (zipped({"a": b"x", "a/b": b"x"}), "twice"),
    "tar up": (tarred([({"name": "../evil"}, b"x")]), "leads out"),
    "tar absolute": (tarred([({"name": "/evil"}, b"x")]), "leads out"),
    "tar link": (
        tarred([({"name": "a", "type": tarfile.SYMTYPE, "linkname": ".."}, b"")]),
        "not a plain file",
    ),
    "tar hard link": (
        tarred([({"name": "a", "type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, b"")]),
        "not a plain file",
    ),
    "tar device": (
        tarred([({"name": "a", "type": tarfile.CHRTYPE, "devmajor": 1}, b"")]),
        "not a plain file",
    ),
    "tar pipe": (tarred([({"name": "a", "type": tarfile.FIFOTYPE}, b"")]), "not a plain file"),
    "tar twice": (tarred([({"name": "a"}, b"x"), ({"name": "a"}, b"y")]), "twice"),
    "cut short": (GOOD[: len(GOOD) // 2], "neither|damaged"),
    "tar cut short": (tarred([({"name": "a.jpg"}, noise(5000))])[:3000], "damaged"),
    "damaged": (GOOD.replace(FILES["tiny/trainA/0.jpg"][5000:5100], bytes(100)), "damaged"),
    "nothing": (zipped({}), "is empty"),
}


@pytest.mark.parametrize(("data", "why"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_leaves_nothing(site, data, why):
    archive = site.folder / "from"
    archive.write_bytes(data)
    with pytest.raises(TwofoldError, match=why):
        get(site, archive)
    assert left(site) == ["from"]
    assert not (site.folder.parent / "evil").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_bomb_is_stopped(site, monkeypatch, kind):
    monkeypatch.setattr(unpack, "LARGEST", (20, 1 << 20))
    zeros = bytes(3 << 20)
    data = zipped({"a": zeros}) if kind == "zip" else tarred([({"name": "a"}, zeros)])
    (site.folder / "from").write_bytes(data)
    with pytest.raises(TwofoldError, match=r"grows to more than 1\.0 MB, too much for images"):
        get(site, site.folder / "from")
    assert left(site) == ["from"]


def test_too_many_files(site, monkeypatch):
    monkeypatch.setattr(unpack, "MOST_FILES", 3)
    (site.folder / "from").write_bytes(GOOD)
    with pytest.raises(TwofoldError, match="too many files"):
        get(site, site.folder / "from")


def test_a_tar_is_unpacked_without_its_rights_and_owners(site):
    members = [
        ({"name": "./", "type": tarfile.DIRTYPE, "mode": 0o755}, b""),
        ({"name": "./pairs/train/1.jpg", "mode": 0o6777, "uid": 12345}, b"one"),
        ({"name": "./pairs/val/2.jpg", "mode": 0o000}, b"two"),
    ]
    (site.folder / "from").write_bytes(tarred(members))
    folder = get(site, site.folder / "from")
    assert content(folder) == {"train/1.jpg": b"one", "val/2.jpg": b"two"}
    assert {path.stat().st_mode & 0o7000 for path in folder.rglob("*")} == {0}


def test_an_interruption_leaves_no_half_folder(site):
    def stop(items, total, what, done=0):
        for count, item in enumerate(items):
            if what == "unpacking" and count == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        download("tiny", None, None, site.lines.append, stop)
    assert left(site) == ["tiny.zip"]
    get(site)  # goes on with the archive
    assert content(site.folder / "tiny") == WANTED and len(site.server.asked) == 1


# ---- names and the command


def test_every_published_set_is_complete():
    for name, found in published.PUBLISHED.items():
        assert found.a and found.b and found.about > 1e6, name
        assert found.archive.endswith(".tar.gz" if found.paired else ".zip")
        assert len(found.mirrors) == 3 and all("berkeley.edu/" in url for url in found.mirrors)
        assert found.sha256 is None or len(found.sha256) == 64


def test_wrong_names():
    with pytest.raises(UsageError, match=r"no data set horse2zebr; did you mean horse2zebra\?"):
        published.find("horse2zebr")
    with pytest.raises(UsageError, match="`twofold data download` lists them"):
        published.find("xyz")
    with pytest.raises(UsageError, match=r"register at https://www\.cityscapes-dataset\.com"):
        published.find("cityscapes")


def test_the_command(site, capsys):
    assert cli.run(["data", "download"]) == 0
    listed = capsys.readouterr().out
    assert "horse2zebra       117 MB  A horses, B zebras" in listed
    assert max(map(len, listed.splitlines())) <= 80
    assert cli.run(["data", "download", "horse2zebr"]) == 2
    assert "did you mean horse2zebra?" in capsys.readouterr().err
    Path("horse2zebra.zip").write_bytes(GOOD)
    tokens = ["data", "download", "horse2zebra", "--from", "horse2zebra.zip", "--out", "data/h2z"]
    assert cli.run(tokens) == 0
    lines = capsys.readouterr().out.splitlines()
    assert content(Path("data/h2z")) == WANTED
    home = site.folder / "data" / "h2z"
    assert f"train: twofold train {home}/trainA {home}/trainB --val none --preset horse2zebra" in lines
    assert cli.run(["data", "download", "maps", "--from", "none.zip"]) == 2
    assert cli.run(["data", "download", "--from", "horse2zebra.zip"]) == 2
    assert "NAME is missing" in capsys.readouterr().err
