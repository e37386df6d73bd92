import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from twofold.data import cache
from twofold.data.build import build_manifest
from twofold.data.cache import home
from twofold.data.dataset import open_images
from twofold.data.manifest import Manifest
from twofold.data.settings import DataSettings
from twofold.formats import images

BUILD = """
import sys, time
from pathlib import Path
from twofold.formats import images
from twofold.data.build import build_manifest
from twofold.data.settings import DataSettings

delay, a, b, cache = sys.argv[1:]
read = images.read_stored
def slow(*args, **named):
    time.sleep(float(delay))
    return read(*args, **named)
images.read_stored = slow
print("ready", flush=True)
sys.stdin.readline()
settings = DataSettings(size=8, resize="resize-and-crop", cache_dir=Path(cache), labels_a=False, labels_b=False)
manifest = build_manifest(Path(a), Path(b), settings, 0, lambda line: None)
print(manifest.caches[0].pixels.long().sum().item())
"""


@pytest.fixture
def folders(fill):
    return fill("A", 6), fill("B", 4, size=(30, 12))


@pytest.fixture
def prepare(folders, small):
    """Build, open, and return the images with the printed lines."""

    def run(**changes):
        lines = []
        settings = small(**changes)
        stores = open_images(build_manifest(*folders, settings, 0, lines.append), settings, lines.append)
        return stores, lines

    return run


def test_caches_of_twofold_0_1_are_removed(prepare, tmp_path):
    old = tmp_path / "cache" / "0123" / "pixels.u8"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"pixels")
    prepare()
    assert not old.parent.exists()


def caches(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("*") if path.suffix != ".lock")


def pixels(stores):
    return [[store[i].tolist() for i in range(len(store))] for store in stores]


@pytest.mark.parametrize("resize", ["resize-and-crop", "scale-width-and-crop", "crop", "none"])
def test_a_cached_store_equals_an_uncached_one(prepare, resize, fill):
    fill("A", 2, size=(33, 44), first=6)  # sizes vary
    cached, lines = prepare(resize=resize)
    assert lines == [] and cached.a.pixels is not None and cached.b.pixels is not None
    uncached, lines = prepare(resize=resize, cache=False)
    assert lines == ["decoding images as they are needed, again in every epoch: the cache is off"]
    assert uncached.a.pixels is None
    assert pixels(cached) == pixels(uncached)


def test_every_file_is_decoded_once_in_all(prepare, monkeypatch, tmp_path):
    decoded = []
    read = images.read_stored
    monkeypatch.setattr(
        images, "read_stored", lambda path, *rest, **named: decoded.append(path) or read(path, *rest, **named)
    )
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


def cut(count):
    return lambda path: path.write_bytes(path.read_bytes()[:count])


def with_index(text):
    """Another index behind the pixels."""

    def damage(path):
        content = path.read_bytes()
        pixels = content[: -8 - int.from_bytes(content[-8:], "little")]
        path.write_bytes(pixels + text.encode() + len(text).to_bytes(8, "little"))

    return damage


def with_format(path):
    content = path.read_bytes()
    index = json.loads(content[-8 - int.from_bytes(content[-8:], "little") : -8])
    with_index(json.dumps({**index, "format": 99}))(path)


@pytest.mark.parametrize(
    "damage",
    [
        cut(100),
        cut(-1),
        cut(-9),
        cut(0),
        with_format,
        with_index('{"format": 3, "by'),
        with_index("[]"),
        with_index(""),
        lambda path: path.write_bytes(path.read_bytes()[100:]),
        lambda path: path.write_bytes(path.read_bytes()[:-8] + b"\xff" * 8),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_cache_is_built_again(prepare, tmp_path, damage):
    stores, _ = prepare()
    expected, names = pixels(stores), caches(tmp_path)
    for path in list((tmp_path / "cache").glob("*.pixels")):
        damage(path)
    again, lines = prepare()
    assert lines == [] and again.a.pixels is not None
    assert pixels(again) == expected
    assert caches(tmp_path) == names


def test_an_index_from_data_json_finds_or_rebuilds_the_cache(folders, small, tmp_path):
    manifest = build_manifest(*folders, small(), 0, print)
    expected = pixels(open_images(manifest, small(), print))
    manifest = Manifest.from_json(manifest.to_json())
    assert pixels(open_images(manifest, small(), print)) == expected
    shutil.rmtree(tmp_path / "cache")
    for path in folders[0].iterdir():
        os.utime(path, (1, 1))  # copied folders have other times
    stores = open_images(manifest, small(), print)
    assert stores.a.pixels is not None and pixels(stores) == expected


def test_above_the_limit_nothing_is_cached(prepare, tmp_path):
    stores, lines = prepare(cache_limit_gb=1e-6)
    assert lines == [
        "decoding images as they are needed, again in every epoch: "
        "they take 2.43e-06 GB decoded, over the cache's 1e-06 GB (data.cache_limit_gb)"
    ]
    assert stores.a.pixels is None and caches(tmp_path) == []


def test_above_half_the_free_disk_nothing_is_cached(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 4000))
    stores, lines = prepare()
    assert "over half of the 4e-06 GB free" in lines[0]
    assert stores.a.pixels is None and caches(tmp_path) == []


def test_no_space_left_while_building(folders, small, tmp_path):
    lines = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    try:
        manifest = build_manifest(*folders, small(), 0, lines.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(lines) == 1 and "cannot write the cache" in lines[0] and "File too large" in lines[0]
    assert caches(tmp_path) == []
    assert [len(manifest.a.train), len(manifest.b.train)] == [6, 4]
    stores = open_images(manifest, small(), lines.append)
    assert stores.a.pixels is None and stores.a[0].shape == (9, 9, 3)


def test_a_cache_folder_that_cannot_be_made(prepare, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    stores, lines = prepare()
    assert "cannot write the cache" in lines[0]
    assert stores.a.pixels is None


def test_the_least_recently_used_caches_make_room(prepare, tmp_path):
    limit = 90 * 90 * 3 * 10 * 2.5 / 1e9  # two and a half times what these images take
    names = {}
    for load_size in (90, 80):
        prepare(cache_limit_gb=limit, load_size=load_size)
        names[load_size] = set(caches(tmp_path)) - set().union(*names.values())
    for name in names[80]:
        os.utime(tmp_path / "cache" / name, (1, 1))
    prepare(cache_limit_gb=limit, load_size=100)
    left = set(caches(tmp_path))
    assert names[90] <= left and not names[80] <= left
    held = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.pixels"))
    assert held <= limit * 1e9


def test_a_bad_file_mended_without_a_trace_is_found(folders, small, fill):
    path = fill("A", 30) / "3.png"
    good, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(good[:50] + bytes(len(good) - 50))
    os.utime(path, ns=times)
    assert len(build_manifest(*folders, small(), 0, lambda line: None).a.train) == 29
    path.write_bytes(good)
    os.utime(path, ns=times)
    manifest = build_manifest(*folders, small(), 0, lambda line: None)
    assert len(manifest.a.train) == 30
    assert open_images(manifest, small(), print).a.pixels is not None


def test_threads_may_build_the_same_cache(folders, small, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        indexes = list(pool.map(lambda _: build_manifest(*folders, small(), 0, lambda line: None), range(4)))
    assert all(manifest == indexes[0] for manifest in indexes)
    assert all(scan.pixels is not None for manifest in indexes for scan in manifest.caches)
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
    read = images.read_stored
    monkeypatch.setattr(
        images, "read_stored", lambda *args, **named: time.sleep(0.05) or read(*args, **named)
    )
    try:
        go(killed)
        deadline = time.monotonic() + 60
        while not list(cache.glob(".*.pixels")) and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait(60)
        assert len(list(cache.glob(".*.pixels"))) == 1
        go(other)
        scans = build_manifest(*folders, small(), 0, print).caches
        printed = other.communicate(timeout=60)[0]
    finally:
        for process in (killed, other):
            process.kill()
            process.communicate()
    assert printed == f"{scans[0].pixels.long().sum().item()}\n"
    assert not list(cache.glob(".*.pixels"))


def test_home(monkeypatch, tmp_path):
    monkeypatch.delenv("TWOFOLD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home(DataSettings()) == Path.home() / ".cache" / "twofold"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert home(DataSettings()) == Path("/x/twofold")
    monkeypatch.setenv("TWOFOLD_CACHE", "/y")
    assert home(DataSettings()) == Path("/y")
    assert home(DataSettings(cache_dir=tmp_path)) == tmp_path


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """The cache folder may be read only, from now on."""
    folder, open_file = str(tmp_path / "cache"), os.open

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    def open_to_read(path, flags, *rest, **more):
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return (refuse if writes and str(path).startswith(folder) else open_file)(path, flags, *rest, **more)

    def switch():
        monkeypatch.setattr(os, "open", open_to_read)
        monkeypatch.setattr(os, "utime", refuse)

    return switch


def test_a_cache_that_may_only_be_read_is_used(prepare, read_only):
    expected = pixels(prepare()[0])
    read_only()
    stores, lines = prepare()
    assert lines == [] and stores.a.pixels is not None and pixels(stores) == expected


def test_what_is_missing_in_a_cache_that_may_only_be_read_is_decoded(prepare, read_only, tmp_path):
    expected = pixels(prepare(load_size=12)[0])
    shutil.rmtree(tmp_path / "cache")
    prepare()
    read_only()
    stores, lines = prepare(load_size=12)
    assert lines == [
        "decoding images as they are needed: cannot write the cache in"
        f" {tmp_path / 'cache'} (Permission denied)"
    ]
    assert stores.a.pixels is None and pixels(stores) == expected


@pytest.fixture
def decoder(monkeypatch):
    """A decoder that counts the bytes of its images: those in memory, and those that it works on."""
    counts = {"held": 0, "most held": 0, "decoding": 0, "most decoding": 0}
    mutex = threading.Lock()

    def add(name, size):
        with mutex:
            counts[name] += size
            counts[f"most {name}"] = max(counts[name], counts[f"most {name}"])

    def read_part(path, rule, content):
        width, height = Image.open(io.BytesIO(content)).size
        size = width * height * 3
        add("held", size), add("decoding", size)
        time.sleep(0.002)
        image = np.zeros((height, width, 3), np.uint8)
        weakref.finalize(image, add, "held", -size)
        add("decoding", -size)
        return image

    monkeypatch.setattr(cache, "read_part", read_part)
    monkeypatch.setattr(cache, "THREADS", 8)
    return counts


def test_images_in_flight_are_bounded(fill, small, decoder, monkeypatch):
    size = 20 * 16 * 3
    monkeypatch.setattr(cache, "IN_FLIGHT", 4 * size + 1)
    manifest = build_manifest(fill("A", 60), fill("B", 3), small(resize="none"), 0, print)
    assert len(manifest.a.folder.good) == 60
    assert 2 * size <= decoder["most decoding"] <= 4 * size
    assert decoder["most held"] <= 5 * size  # a thread may still let go of one
    assert decoder["held"] == decoder["decoding"] == 0


def test_an_image_over_the_limit_is_decoded_alone(fill, small, decoder, monkeypatch):
    monkeypatch.setattr(cache, "IN_FLIGHT", 100)
    build_manifest(fill("A", 9), fill("B", 3), small(), 0, print)
    assert decoder["most decoding"] == 20 * 16 * 3


def test_the_progress_of_reading_is_tracked(folders, small):
    passes = []

    def track(items, total, what):
        done = list(items)
        passes.append((what, total, len(done)))
        return iter(done)

    build_manifest(*folders, small(), 0, print, track=track)
    a, b = folders
    assert passes == [(f"reading {a}", 6, 6), (f"reading {b}", 4, 4)]
    build_manifest(*folders, small(), 0, print, track=track)
    assert len(passes) == 2
