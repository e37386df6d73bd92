"""Large TIFF files, read and written part by part."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from twofold.errors import TwofoldError
from twofold.translation import streaming
from twofold.translation.tiles import Tiling
from twofold.translation.translator import Translator


def picture(height, width, channels=3):
    noise = np.random.default_rng(0).random((height, width, channels))
    return ((noise + np.linspace(3, 0, height)[:, None, None]) * 63).astype(np.uint8)


def difference(one, other):
    assert one.shape == other.shape and one.dtype == other.dtype
    return np.abs(one.astype(float) - other).max()


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A tiled BigTIFF, which counts as large."""
    monkeypatch.setattr(streaming, "FROM", 1)

    def write(image=None, name="in.tif", **how):
        how = {
            "tile": (32, 48),
            "compression": "deflate",
            "resolution": (300, 200),
            "resolutionunit": 2,
            **how,
        }
        image = picture(170, 230) if image is None else image
        tifffile.imwrite(tmp_path / name, image, bigtiff=True, photometric="rgb", **how)
        return tmp_path / name

    return write


@pytest.fixture
def tiled(translator):
    def make(*arguments, tile=64, **named):
        made = translator(*arguments, **named)
        made.tiling = Tiling(tile, statistics="exact")
        return made

    return make


@pytest.mark.parametrize("how", [{}, {"tile": None, "rowsperstrip": 7}, {"planarconfig": "separate"}])
def test_a_large_file_equals_its_array(large, tiled, tmp_path, how):
    made, image = tiled(), picture(170, 230)
    stored = image.transpose(2, 0, 1) if "planarconfig" in how else image
    (written,) = made.folder(large(stored, **how), tmp_path / "out").written
    assert written.name == "in.tif" and difference(tifffile.imread(written), made.array(image)) <= 1
    with tifffile.TiffFile(written) as tiff:
        page = tiff.pages.first
        assert page.is_tiled and page.resolution == (300.0, 200.0) and page.compression == 8
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["in.tif"]


def test_a_slide_of_jpeg_tiles_equals_its_array(large, tiled, tmp_path):
    made = tiled()
    source = large(name="slide.svs", compression="jpeg", compressionargs={"outcolorspace": "rgb"})
    image = tifffile.imread(source)
    assert difference(image, picture(170, 230)) < 128
    (written,) = made.folder(source, tmp_path / "out").written
    assert written.name == "slide.tif" and difference(tifffile.imread(written), made.array(image)) <= 1


def test_alpha_is_kept(large, tiled, tmp_path):
    image = picture(100, 80, 4)
    made = tiled()
    (written,) = made.folder(large(image, extrasamples=["unassalpha"]), tmp_path / "out").written
    assert np.array_equal(tifffile.imread(written)[..., 3], image[..., 3])


@pytest.mark.parametrize("statistics", ["exact", "fast"])
def test_a_broken_translation_goes_on_and_gives_the_same_bytes(
    large, tiled, tmp_path, monkeypatch, statistics
):
    made, source = tiled(), large()
    made.tiling = made.tiling._replace(statistics=statistics)
    (unbroken,) = made.folder(source, tmp_path / "unbroken").written
    band, rows = streaming.translated_band, []

    def breaks(*arguments):
        rows.append(arguments[-2])
        if len(rows) in (2, 4):
            raise KeyboardInterrupt
        return band(*arguments)

    def track(parts, total, what, done):
        if "rows" in what:
            progress.append((total, done))
        return parts

    monkeypatch.setattr(streaming, "translated_band", breaks)
    made.track, progress = track, []
    for _ in range(2):
        with pytest.raises(
            KeyboardInterrupt, match=r"^finished rows .*in\.tif\.parts; the same command goes on"
        ):
            made.folder(source, tmp_path / "out")
        with (tmp_path / "out" / ".in.tif.parts" / "tiles").open("ab") as file:
            file.write(b"half a row")
    (written,) = made.folder(source, tmp_path / "out").written
    assert rows == [0, 64, 64, 128, 128] and progress == [(3, 0), (3, 1), (3, 2)]
    assert written.read_bytes() == unbroken.read_bytes()
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["in.tif"]


def test_another_model_or_source_begins_anew(large, tiled, resnet, tmp_path, monkeypatch):
    source = large()
    monkeypatch.setattr(streaming, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tiled().folder(source, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(streaming, "FROM", 1)
    other = tiled(resnet(seed=5))
    (written,) = other.folder(source, tmp_path / "out").written
    assert difference(tifffile.imread(written), other.array(picture(170, 230))) <= 1


def test_a_damaged_tile_is_one_line_and_the_rest_is_finished(large, tiled, tmp_path):
    source = large(name="a.tif")
    large(name="b.tif")
    with tifffile.TiffFile(source) as tiff:
        place = tiff.pages.first.dataoffsets[12]
    with source.open("r+b") as file:
        file.seek(place)
        file.write(b"x" * 40)
    results = tiled().folder(tmp_path, tmp_path / "out")
    assert [each.name for each in results.written] == ["b.tif"]
    (problem,) = results.problems.values()
    assert problem.startswith("damaged at rows 64 to 96 and columns 96 to 144") and "\n" not in problem
    assert [each.name for each in (tmp_path / "out").iterdir()] == [
        "b.tif"
    ]  # exact statistics failed: no row is kept


def test_what_is_kept_of_a_damaged_file_is_said(large, tiled, tmp_path, monkeypatch):
    source, made = large(), tiled()
    band = streaming.translated_band

    def fails(*arguments):
        if arguments[-2]:
            raise TwofoldError(f"{source}: damaged at rows 64 to 96 and columns 0 to 48 (x); replace it")
        return band(*arguments)

    monkeypatch.setattr(streaming, "translated_band", fails)
    problem = made.folder(source, tmp_path / "out").problems[source]
    kept = tmp_path / "out" / ".in.tif.parts"
    assert problem.startswith("damaged at rows 64") and f"finished rows of tiles are in {kept};" in problem
    assert (kept / "rows.json").is_file()


def test_no_disk_for_the_output_is_said_before_the_start(large, tiled, tmp_path, monkeypatch):
    source = large()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    results = tiled().folder(source, tmp_path / "out")
    assert "free some space or choose another -o" in results.problems[source]
    assert not results.written and not list((tmp_path / "out").iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from twofold.translation import streaming
from twofold.translation.tiles import Tiling
from twofold.translation.translator import Translator
streaming.FROM = 1
made = Translator.load(sys.argv[1], device="cpu")
made.tiling = Tiling(64, statistics="exact")
band, count = streaming.translated_band, []
def dies(*arguments):
    count.append(1)
    if len(count) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return band(*arguments)
streaming.translated_band = dies
made.folder(sys.argv[2], sys.argv[3])
"""


def test_a_killed_process_loses_at_most_a_row(large, tiled, tmp_path):
    source = large()
    tiled().save(tmp_path / "x.safetensors")
    made = Translator.load(tmp_path / "x.safetensors", device="cpu")
    made.tiling = Tiling(64, statistics="exact")
    command = [sys.executable, "-c", KILLED, tmp_path / "x.safetensors", source, tmp_path / "out"]
    assert subprocess.run(command, check=False).returncode == -9
    assert (tmp_path / "out" / ".in.tif.parts" / "rows.json").is_file()
    (unbroken,) = made.folder(source, tmp_path / "unbroken").written
    (written,) = made.folder(source, tmp_path / "out").written
    assert written.read_bytes() == unbroken.read_bytes()
