import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from twofold.data.cache import home
from twofold.data.index import Index, build
from twofold.data.settings import DataSettings
from twofold.data.stores import open_stores
from twofold.formats import images

BUILD = """
import sys, time
from pathlib import Path
from twofold.formats import images
from twofold.data.index import build
from twofold.data.settings import DataSettings

delay, a, b, cache = sys.argv[1:]
read = images.read
def slow(*args):
    time.sleep(float(delay))
    return read(*args)
images.read = slow
print("ready", flush=True)
sys.stdin.readline()
settings = DataSettings(size=8, cache_dir=Path(cache), labels_a=False, labels_b=False)
index = build(Path(a), Path(b), settings, 0, lambda line: None)
print(index.scans[0].pixels.long().sum().item())
"""


@pytest.fixture
def folders(fill):
    return fill("A", 6), fill("B", 4, size=(30, 12))


@pytest.fixture
def prepare(folders, small):
    """Build, open, and return the stores with what was said."""

    def run(**changes):
        said = []
        settings = small(**changes)
        stores = open_stores(build(*folders, settings, 0, said.append), settings, said.append)
        return stores, said

    return run


def caches(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("*"))


def pixels(stores):
    return [[store[i].tolist() for i in range(len(store))] for store in stores]


@pytest.mark.parametrize("resize", ["resize-and-crop", "scale-width-and-crop", "crop", "none"])
def test_a_cached_store_equals_an_uncached_one(prepare, resize, fill):
    fill("A", 2, size=(33, 44), first=6)  # sizes vary
    cached, said = prepare(resize=resize)
    assert said == [] and cached.a.cached and cached.b.cached
    uncached, said = prepare(resize=resize, cache=False)
    assert said == ["decoding images as they are needed, again in every epoch: the cache is off"]
    assert not uncached.a.cached
    assert pixels(cached) == pixels(uncached)


def test_every_file_is_decoded_once_in_all(prepare, monkeypatch, tmp_path):
    decoded = []
    read = images.read
    monkeypatch.setattr(images, "read", lambda path, channels: decoded.append(path) or read(path, channels))
    photos = {"labels_a": False, "labels_b": False}  # else one of each is looked at first
    stores, _ = prepare(**photos)
    assert len(decoded) == len(set(decoded)) == 10
    assert pixels(prepare(**photos)[0]) == pixels(stores)
    assert len(decoded) == 10
    assert len(caches(tmp_path)) == 2


def test_a_changed_file_or_rule_makes_another_cache(prepare, folders, tmp_path):
    before, _ = prepare()
    prepare(load_size=12)
    assert len(caches(tmp_path)) == 4
    images.write(images.read(folders[0] / "0.png")[::-1], folders[0] / "0.png")
    after, _ = prepare()
    assert not torch.equal(before.a[0], after.a[0])
    assert torch.equal(before.a[1], after.a[1])


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(100)


def other_format(path):
    document = json.loads((path.parent / "entries.json").read_text())
    (path.parent / "entries.json").write_text(json.dumps({**document, "format": 99}))


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        other_format,
        lambda path: path.unlink(),
        lambda path: (path.parent / "entries.json").unlink(),
        lambda path: (path.parent / "entries.json").write_text('{"format": 1, "by'),
        lambda path: (path.parent / "entries.json").write_text("[]"),
        lambda path: shutil.rmtree(path.parent),
    ],
)
def test_a_damaged_cache_is_built_again(prepare, tmp_path, damage):
    stores, _ = prepare()
    expected, names = pixels(stores), caches(tmp_path)
    for path in list((tmp_path / "cache").glob("*/pixels.u8")):
        damage(path)
    again, said = prepare()
    assert said == [] and again.a.cached
    assert pixels(again) == expected
    assert caches(tmp_path) == names


def test_an_index_from_data_json_finds_or_rebuilds_the_cache(folders, small, tmp_path):
    index = build(*folders, small(), 0, print)
    expected = pixels(open_stores(index, small(), print))
    index = Index.from_json(index.to_json())
    assert pixels(open_stores(index, small(), print)) == expected
    shutil.rmtree(tmp_path / "cache")
    for path in folders[0].iterdir():
        os.utime(path, (1, 1))  # copied folders have other times
    stores = open_stores(index, small(), print)
    assert stores.a.cached and pixels(stores) == expected


def test_above_the_limit_nothing_is_cached(prepare, tmp_path):
    stores, said = prepare(cache_limit_gb=1e-6)
    assert said == [
        "decoding images as they are needed, again in every epoch: "
        "they take 2.43e-06 GB decoded, over the cache's 1e-06 GB (data.cache_limit_gb)"
    ]
    assert not stores.a.cached and caches(tmp_path) == []


def test_above_half_the_free_disk_nothing_is_cached(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 4000))
    stores, said = prepare()
    assert "over half of the 4e-06 GB free" in said[0]
    assert not stores.a.cached and caches(tmp_path) == []


def test_no_space_left_while_building(folders, small, tmp_path):
    said = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    try:
        index = build(*folders, small(), 0, said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(said) == 2 and "cannot write the cache" in said[0] and "File too large" in said[0]
    assert caches(tmp_path) == []
    assert [len(index.a.train), len(index.b.train)] == [6, 4]
    stores = open_stores(index, small(), said.append)
    assert not stores.a.cached and stores.a[0].shape == (9, 9, 3)


def test_a_cache_folder_that_cannot_be_made(prepare, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    stores, said = prepare()
    assert "cannot write the cache" in said[0]
    assert not stores.a.cached


def test_the_least_recently_used_caches_make_room(prepare, tmp_path):
    limit = 9 * 9 * 3 * 10 * 2.5 / 1e9  # two and a half times what these images take
    names = {}
    for load_size in (9, 8):
        prepare(cache_limit_gb=limit, load_size=load_size)
        names[load_size] = set(caches(tmp_path)) - set().union(*names.values())
    for name in names[8]:
        os.utime(tmp_path / "cache" / name, (1, 1))
    prepare(cache_limit_gb=limit, load_size=10)
    left = set(caches(tmp_path))
    assert names[9] <= left and not names[8] <= left
    held = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/pixels.u8"))
    assert held <= limit * 1e9


def test_a_bad_file_mended_without_a_trace_is_found(folders, small, fill):
    path = fill("A", 30) / "3.png"
    good, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(good[:50] + bytes(len(good) - 50))
    os.utime(path, ns=times)
    assert len(build(*folders, small(), 0, lambda line: None).a.train) == 29
    path.write_bytes(good)
    os.utime(path, ns=times)
    index = build(*folders, small(), 0, lambda line: None)
    assert len(index.a.train) == 30
    assert open_stores(index, small(), print).a.cached


def test_threads_may_build_the_same_cache(folders, small, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        indexes = list(pool.map(lambda _: build(*folders, small(), 0, lambda line: None), range(4)))
    assert all(index == indexes[0] for index in indexes)
    assert all(scan.pixels is not None for index in indexes for scan in index.scans)
    assert len(caches(tmp_path)) == 2


def start(delay, folders, cache):
    command = [sys.executable, "-c", BUILD, str(delay), *map(str, folders), str(cache)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(process):
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_build_the_same_cache_and_a_killed_third_is_swept_away(
    folders, small, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    killed, other = start(60, folders, cache), start(0.05, folders, cache)
    read = images.read
    monkeypatch.setattr(images, "read", lambda *args: time.sleep(0.05) or read(*args))
    try:
        go(killed)
        deadline = time.monotonic() + 60
        while not list(cache.glob("*.building/pixels.u8")) and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait(60)
        assert len(list(cache.glob("*.building"))) == 1
        go(other)
        scans = build(*folders, small(), 0, print).scans
        printed = other.communicate(timeout=60)[0]
    finally:
        for process in (killed, other):
            process.kill()
            process.communicate()
    assert printed == f"{scans[0].pixels.long().sum().item()}\n"
    assert not list(cache.glob("*.building"))


def test_home(monkeypatch, tmp_path):
    monkeypatch.delenv("TWOFOLD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home(DataSettings()) == Path.home() / ".cache" / "twofold"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert home(DataSettings()) == Path("/x/twofold")
    monkeypatch.setenv("TWOFOLD_CACHE", "/y")
    assert home(DataSettings()) == Path("/y")
    assert home(DataSettings(cache_dir=tmp_path)) == tmp_path
