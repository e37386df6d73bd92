"""Damaged files of every format: `inspect`, `open_windows` and `read_stored` succeed or raise ImageError, in bounded memory.

`python tests/formats/test_mutations.py COUNT` runs more of them, in child processes that are allowed to crash.
"""

import resource
import subprocess
import sys
import tempfile
import warnings
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from twofold.formats import facts, images

COUNT = 2_000
LIMIT = 2**20
"""Pixels and bytes of an image, lowered so that a claimed size beyond the file costs little here."""
PART = 5_000
"""Files that one child process reads."""


def pillow(pixels, kind, **options):
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def tiff(pixels, **options):
    file = BytesIO()
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack"} | options)
    return file.getvalue()


def array(save, pixels):
    file = BytesIO()
    save(file, pixels)
    return file.getvalue()


def originals():
    """Small good files: (suffix, content)."""
    rng = np.random.default_rng(0)
    rgb, deep = rng.integers(0, 256, (20, 24, 3), np.uint8), rng.integers(0, 65536, (20, 24, 4), np.uint16)
    grey, bands = np.ascontiguousarray(rgb[..., 0]), rng.normal(0, 1, (5, 20, 24)).astype(np.float32)
    rgb16 = np.ascontiguousarray(deep[..., :3])
    exif = Image.Exif()
    exif[271], exif[0x0112], exif[0x8769] = "Maker", 6, {0x8827: 400}
    about = {"exif": exif.tobytes(), "dpi": (300, 300)}
    made = [(f".{kind}", pillow(rgb, kind.upper(), **about)) for kind in ("png", "webp", "avif", "tiff")]
    made += [(f".{kind}", pillow(rgb, kind.upper())) for kind in ("bmp", "tga", "ppm", "gif", "jpeg2000")]
    made += [(".jpg", pillow(rgb, "JPEG", quality=60, **about)), (".pgm", pillow(grey, "PPM"))]
    made += [(".tif", pillow(rgb, "TIFF", compression=name)) for name in ("jpeg", "tiff_lzw", "packbits")]
    palette = Image.fromarray(rgb).convert("P")
    for kind in ("PNG", "TIFF", "BMP"):
        file = BytesIO()
        palette.save(file, kind)
        made.append((f".{kind.lower()}", file.getvalue()))
    made += [
        (".png", imagecodecs.png_encode(deep)),
        (".ppm", b"P6 24 20 4095\n" + rgb16.astype(">u2").tobytes()),
    ]
    made += [(".pnm", b"P3 24 2 4095\n" + b" ".join(b"%d" % value for value in rgb16[:2].ravel() % 4096))]
    made += [
        (f".{kind}", imagecodecs.jpeg2k_encode(rgb16, level=0, codecformat=kind)) for kind in ("jp2", "j2k")
    ]
    made += [(".avif", imagecodecs.avif_encode(rgb16 >> 4, bitspersample=12))]
    for compression in (None, "lzw", "deflate", "zstd", "packbits", "lzma", "jpeg2000", "lerc"):
        made.append((".tif", tiff(rgb16, photometric="rgb", compression=compression, rowsperstrip=7)))
        if compression not in ("jpeg2000", "packbits"):
            made.append(
                (".tif", tiff(bands, planarconfig="separate", compression=compression, tile=(16, 16)))
            )
    made += [
        (".tif", tiff(rgb, photometric="rgb", compression="jpeg", tile=(16, 16))),
        (".tif", tiff(rgb16, photometric="rgb", compression="deflate", predictor=True, bigtiff=True)),
        (".tif", tiff(bands[0], compression="zstd", predictor=True, byteorder=">")),
        (".tif", tiff(rgb16[..., 0] >> 4, bitspersample=12)),
        (".tif", tiff(grey > 99)),
        (".tif", tiff(grey, photometric="miniswhite", extratags=[(274, "H", 1, 5, True)])),
        (".tif", tiff(deep, photometric="rgb", extrasamples=["assocalpha"])),
        (".tif", tiff(np.stack([grey] * 3), resolution=(300, 300))),
        (".npy", array(np.save, deep)),
        (".npy", array(np.save, bands[0].T)),
        (".npz", array(np.savez, bands)),
        (".npz", array(np.savez_compressed, rgb)),
    ]
    return made


def mutated(content, other, rng):
    """Bits flipped, bytes set, cut off, or with a part of another file."""
    data, kind = bytearray(content), rng.integers(6)
    near = len(data) if rng.random() < 0.5 else min(len(data), 256)  # headers matter most
    if kind <= 1:
        for place in rng.integers(0, near, rng.integers(1, 9)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 2:
        for place in rng.integers(0, near, rng.integers(1, 5)):
            data[place] = rng.choice([0, 1, 127, 128, 255])
    elif kind == 3:
        del data[rng.integers(0, len(data)) :]
    elif kind == 4:
        start, length = rng.integers(0, len(other)), rng.integers(1, 64)
        place = rng.integers(0, near)
        data[place : place + length * rng.integers(0, 2)] = other[start : start + length]
    else:
        place = rng.integers(0, near)
        data[place : place + 4] = rng.choice([0, 2**31 - 1, 2**32 - 1, 65536, 4096]).tobytes()[:4]
    return bytes(data)


def window(path):
    with images.open_windows(path) as windows:
        if windows and min(windows.facts[:2]) >= 5 and windows.facts.width * windows.facts.height < LIMIT:
            with images.named_errors(path):
                windows.read(slice(1, 4), slice(2, 5))


def run(count, first, folder, say=lambda number: None):
    """Read files number `first` to `first + count`; gives how many were read and how many refused."""
    files, found = originals(), [0, 0]
    facts.MAX_PIXELS = facts.MAX_BYTES = LIMIT
    warnings.simplefilter("ignore")  # Pillow warns of broken metadata
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        suffix, content = files[number % len(files)]
        path = folder / f"x{suffix}"
        path.write_bytes(mutated(content, files[rng.integers(len(files))][1], rng))
        say(number)
        for look in (images.inspect, window, images.read_stored):
            try:
                look(path)
            except images.ImageError as error:
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error), f"file {number}"
                found[1] += look is images.read_stored
            except BaseException as error:
                raise AssertionError(f"file {number} ({suffix}): {error!r}") from error
            else:
                found[0] += look is images.read_stored
    return found


def test_the_originals_are_read(tmp_path):
    for number, (suffix, content) in enumerate(originals()):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(content)
        assert images.read_stored(path).facts == images.inspect(path)


def test_mutated_files_are_read_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "MAX_PIXELS", LIMIT)
    monkeypatch.setattr(facts, "MAX_BYTES", LIMIT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read, refused = run(COUNT, 0, tmp_path)
    assert read + refused == COUNT and min(read, refused) > COUNT / 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 256 * 1024, f"{grown / 1024:.0f} MiB"


def main(total):
    """Read `total` files in child processes; print what each found, and which file a crashed one had read last."""
    sums, most, crashes = np.zeros(2, int), 0, []
    for first in range(0, total, PART):
        count = min(PART, total - first)
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, __file__, str(count), str(first), folder], capture_output=True, text=True
            )
        lines = done.stdout.split("\n")
        if done.returncode:
            crashes.append((done.returncode, lines[-2:], done.stderr[-2000:]))
        else:
            read, refused, memory = (int(word) for word in lines[-2].split()[:3])
            sums, most = sums + np.array([read, refused]), max(most, memory)
        words = f"{sums[0]:,} read, {sums[1]:,} refused, at most {most} MiB, crashes: {crashes}"
        sys.stdout.write(f"{first + count:,} files: {words}\n")
        sys.stdout.flush()
    return len(crashes)


def child(count, first, folder):
    def say(number):
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()

    read, refused = run(count, first, Path(folder), say)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"{read} {refused} {memory} MiB\n")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        sys.exit(bool(main(int(sys.argv[1]))))
    child(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
