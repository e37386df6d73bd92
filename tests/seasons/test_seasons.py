"""The built-in landscapes: frozen, paired where promised, changed by the season only where snow would lie."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twofold.data.marker import MARKER
from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.randomness import generator
from twofold.seasons import dataset, figures, landscape, terrain
from twofold.seasons.canvas import Canvas, draw_light, rgb

FOLDERS = ("trainA", "trainB", "valA", "valB", "testA", "testB")


def quiet(line: str) -> None:
    assert "\n" not in line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "deep" / "seasons"
    dataset.make(out, count=5, size=32, seed=7, notify=quiet)
    return out


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path) -> list[bytes]:
    return [np.asarray(Image.open(folder / name)).tobytes() for name in names(folder)]


def test_the_drawing_is_frozen():
    """A drawing that changes is a new data set: figures measured on the old one no longer compare.

    So this hash is replaced only together with every published figure, and says so in the log.
    """
    digest = hashlib.sha256()
    for seed in range(4):
        for picture in landscape.draw(seed, 64):
            digest.update(np.ascontiguousarray(picture).tobytes())
    assert digest.hexdigest() == "2463fb780bf8f8062368a603cec05909f6effb9fcb27d132a30880f37a308e11"


@pytest.mark.parametrize(("size", "bits"), [(48, 12), (64, 10), (128, 16)])
def test_deep_pictures_are_the_same_ones_with_more_levels(size: int, bits: int):
    """The 8-bit pictures but for Pillow's rounding, and with more levels than they can have."""
    for deep, picture in zip(landscape.draw(4, size, bits), landscape.draw(4, size), strict=True):
        assert deep.dtype == np.uint16 and deep.max() < 2**bits
        levels = deep * (255 / (2**bits - 1))
        assert np.abs(levels - picture).max() <= 0.6 + 255 / 2**bits
        assert len(np.unique(deep)) > 256


def test_deep_pictures_are_written_as_16_bit_png(tmp_path: Path):
    dataset.make(tmp_path / "s", 1, 32, 7, quiet, bits=12)
    (name,) = names(tmp_path / "s" / "trainA")
    stored = images.read_stored(tmp_path / "s" / "trainA" / name).pixels
    assert np.array_equal(stored, landscape.draw(dataset.scene(7, "summer", 0), 32, 12)[0])


@pytest.mark.parametrize("size", [16, 65, 96, 300])
def test_any_size_and_every_time_the_same(size: int):
    first, again = landscape.draw(3, size), landscape.draw(3, size)
    for one, other in zip(first, again, strict=True):
        assert one.shape == (size, size, 3)
        assert one.dtype == np.uint8
        assert np.array_equal(one, other)


def test_another_size_shows_the_same_scene():
    for small, large in zip(landscape.draw(5, 64), landscape.draw(5, 256), strict=True):
        shrunk = np.asarray(Image.fromarray(large).reduce(4))
        error = np.abs(shrunk.astype(int) - small).mean()
        assert error < 4
        other = landscape.draw(6, 64)[0]
        assert np.abs(other.astype(int) - small).mean() > 3 * error


def test_the_sky_is_the_same_in_both_seasons():
    seen, changed = [], []
    for seed in range(12):
        rng = generator("seasons", seed)
        factor = landscape.oversampling(64)
        bare = np.asarray(terrain.paint_sky(draw_light(rng), rng, 64 * factor).reduce(factor))
        summer, winter = landscape.draw(seed, 64)
        sky = (summer == bare).all(-1)
        seen.append(sky.mean())
        changed.append((winter != bare).any(-1)[sky].mean())
    assert min(seen) > 0.25
    assert np.mean(changed) < 0.002


def test_the_ground_is_snowed_in():
    for seed in range(12):
        summer, winter = (picture[-20:].astype(float) for picture in landscape.draw(seed, 64))
        assert (winter.mean() - summer.mean()) > 20
        assert np.abs(winter - summer).mean() > 20


def test_walls_stay_and_the_roof_is_snowed_in():
    light = draw_light(generator("test", 1))
    canvas = Canvas(Image.new("RGB", (200, 200), (90, 120, 60)))
    figures.house(canvas, light, (0.1, 0.8), 0.4, rgb("e9d2b0"), rgb("a6483a"), turn=1)
    summer, winter = (picture.astype(int) for picture in canvas.reduced(1))
    assert np.array_equal(summer[120:160, 24:80], winter[120:160, 24:80])  # gable wall, window and door
    assert np.array_equal(summer[130:158, 104:175], winter[130:158, 104:175])  # long side
    assert (winter[85:100, 90:120] - summer[85:100, 90:120]).min() > 20  # roof
    assert np.array_equal(summer[165:], winter[165:])


def test_a_crown_loses_its_leaves_within_its_outline():
    light = draw_light(generator("test", 2))
    canvas = Canvas(Image.new("RGB", (200, 200), (150, 190, 230)))
    figures.deciduous(canvas, light, 0.5, 0.95, 0.8, 0.0, rgb("5f9a40"), figures.ROUND)
    blank = np.array((150, 190, 230))
    summer, winter = ((picture != blank).any(-1) for picture in canvas.reduced(1))
    assert summer.mean() > 0.15
    assert (winter & ~summer).sum() < 0.02 * summer.sum()
    assert (
        np.abs(canvas.reduced(1)[1].astype(int) - blank).mean()
        < 0.7 * np.abs(canvas.reduced(1)[0].astype(int) - blank).mean()
    )


def test_no_two_scenes_look_alike():
    thumbnails = [landscape.draw(seed, 16)[0].astype(float) for seed in range(40)]
    pairs = itertools.combinations(thumbnails, 2)
    assert min(np.sqrt(((a - b) ** 2).mean()) for a, b in pairs) > 10


def test_training_folders_share_neither_names_nor_scenes(made: Path):
    assert names(made) == sorted([*FOLDERS, MARKER])
    assert len(names(made / "trainA")) == len(names(made / "trainB")) == 5
    assert not set(names(made / "trainA")) & set(names(made / "trainB"))


def test_no_scene_is_in_two_sets():
    sets = [{dataset.scene(0, name, k) for k in range(50)} for name in ("summer", "winter", "val", "test")]
    assert len(set.union(*sets)) == 200


def test_summer_is_a_and_winter_is_b(made: Path):
    assert content(made / "trainA")[2] == landscape.draw(dataset.scene(7, "summer", 2), 32)[0].tobytes()
    assert content(made / "trainB")[2] == landscape.draw(dataset.scene(7, "winter", 2), 32)[1].tobytes()


@pytest.mark.parametrize("part", ["val", "test"])
def test_held_out_scenes_are_pairs(made: Path, part: str):
    assert names(made / f"{part}A") == names(made / f"{part}B")
    pairs = [landscape.draw(dataset.scene(7, part, k), 32) for k in range(4)]
    assert content(made / f"{part}A") == [summer.tobytes() for summer, _ in pairs]
    assert content(made / f"{part}B") == [winter.tobytes() for _, winter in pairs]


def blank(seed: int, size: int, bits: int = 8):
    return np.zeros((size, size, 3), np.uint8), np.zeros((size, size, 3), np.uint8)


def test_held_out_is_an_eighth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landscape, "draw", blank)
    dataset.make(tmp_path / "s", count=40, size=16, seed=0, notify=quiet)
    assert [len(names(tmp_path / "s" / folder)) for folder in FOLDERS] == [40, 40, 5, 5, 5, 5]


def test_more_images_keep_the_first_ones(made: Path, tmp_path: Path):
    dataset.make(tmp_path / "s", count=1, size=32, seed=7, notify=quiet)
    assert content(tmp_path / "s" / "trainA") == content(made / "trainA")[:1]


@pytest.mark.parametrize(
    ("count", "size", "seed", "bits"),
    [
        *[(0, 64, 0, 8), (-1, 64, 0, 8), (1, 15, 0, 8), (1, 4097, 0, 8), (1, 64, -1, 8)],
        *[(1, 64, 0, 7), (1, 64, 0, 17)],
    ],
)
def test_impossible_numbers_are_refused(tmp_path: Path, count: int, size: int, seed: int, bits: int):
    with pytest.raises(UsageError, match=r"count|size|seed|bits"):
        dataset.make(tmp_path / "s", count, size, seed, quiet, bits=bits)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_or_a_file_is_refused(made: Path, tmp_path: Path):
    before = content(made / "trainA")
    with pytest.raises(UsageError, match="not an empty folder"):
        dataset.make(made, 1, 16, 0, quiet)
    assert content(made / "trainA") == before
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        dataset.make(tmp_path / "file", 1, 16, 0, quiet)


def test_an_empty_folder_is_taken(tmp_path: Path):
    (tmp_path / "s").mkdir()
    place = (tmp_path / "s").stat().st_ino  # it may be the current folder of a shell
    dataset.make(tmp_path / "s", 1, 16, 0, quiet)
    assert names(tmp_path / "s") == sorted([*FOLDERS, MARKER])
    assert (tmp_path / "s").stat().st_ino == place and names(tmp_path) == ["s"]


def test_the_progress_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landscape, "draw", blank)
    shown = []
    dataset.make(tmp_path / "s", 3, 16, 0, quiet, track=lambda *about: shown.append(about[1:]) or about[0])
    assert shown == [(3 + 3 + 4 + 4, "drawing")]


@pytest.mark.parametrize(
    ("thrown", "seen"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left"), TwofoldError)],
)
def test_an_interrupted_make_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thrown: BaseException, seen: type[BaseException]
):
    drawn = itertools.count()

    def draw_three(seed: int, size: int, bits: int = 8):
        if next(drawn) == 3:
            raise thrown
        return blank(seed, size)

    with monkeypatch.context() as patch:
        patch.setattr(landscape, "draw", draw_three)
        with pytest.raises(seen):
            dataset.make(tmp_path / "s", 2, 16, 0, quiet)
    assert not list(tmp_path.iterdir())
    dataset.make(tmp_path / "s", 1, 16, 0, quiet)
