import numpy as np
import pytest
from PIL import Image

from twofold.data.check import check, sentence
from twofold.errors import UsageError


def found(checked):
    """The names of each kind of problem, by severity, kind and domain."""
    return {problem[:3]: problem.names for problem in checked.problems}


def text(checked):
    return "\n".join(problem.text for problem in checked.problems)


def test_two_good_folders(fill, small, tmp_path):
    checked = check(fill("A", 120), fill("B", 100, size=(9, 30)), small())
    assert checked.ready and checked.problems == [] and checked.pairs is None
    a, b = checked.folders["A"], checked.folders["B"]
    assert (a["good"], a["bad"], a["channels"], b["median"]) == (120, 0, 3, (9, 30))
    assert sentence(a) == "120 images, 3 channels, all 20 × 16 px"
    assert not (tmp_path / "cache").exists()


def test_every_problem_is_found(fill, small):
    a, b = fill("A", 40), fill("B", 3)
    fill("A", 1, size=(5, 50), first=40)
    fill("A", 1, size=(90, 80), channels=4, first=41)
    (a / "bad.png").write_text("no image")
    (a / "twin.png").write_bytes((a / "7.png").read_bytes())
    (b / "from_a.png").write_bytes((a / "8.png").read_bytes())
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(a / "grey.png")
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(b / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    checked = check(a, b, small())
    assert checked.ready
    assert found(checked) == {
        ("warning", "alpha", "A"): ["41.png"],
        ("warning", "animated", "B"): ["moving.webp"],
        ("warning", "unreadable", "A"): ["bad.png"],
        ("warning", "duplicates", "A"): ["7.png", "twin.png"],
        ("warning", "shared", ""): ["8.png"],
        ("advice", "tiny", "A"): ["40.png"],
        ("advice", "few", "A"): [],
        ("advice", "few", "B"): [],
    }
    assert "bad.png (not an image" in text(checked) and "7.png = twin.png" in text(checked)
    figures = checked.folders["A"]
    assert (figures["smallest"], figures["median"], figures["largest"]) == ((5, 50), (20, 16), (90, 80))
    assert figures["stored_channels"] == {1: 1, 3: 42, 4: 1}
    assert sentence(figures) == (
        "44 images (1 bad), 3 channels (stored: 1 with 1, 42 with 3, 1 with 4), 5 × 50 to 90 × 80, median 20 × 16 px"
    )


def test_what_training_would_refuse(fill, small):
    a = fill("A", 9, size=(7, 20))
    (a / "bad.png").write_text("no image")
    checked = check(a, None, small(resize="crop"))
    assert not checked.ready and list(checked.folders) == ["A"]
    small_images, unreadable = checked.problems[:2]
    assert small_images[:3] == ("error", "small", "A") and "smaller than the crop" in small_images.text
    assert unreadable[:3] == ("error", "unreadable", "A") and "only 9 of 10 files" in unreadable.text
    with pytest.raises(UsageError, match="given twice"):
        check(a, a, small())


def test_check_and_training_use_the_same_words(fill, small, build):
    a, b = fill("A", 19), fill("B", 2)
    (a / "bad.png").write_text("no image")
    (a / "18.png").write_bytes((a / "1.png").read_bytes())
    warnings = [problem.text for problem in check(a, b, small()).problems if problem.severity == "warning"]
    assert build(a, b)[1] == warnings and len(warnings) == 2
    (a / "worse.png").write_text("no image")
    error = check(a, b, small()).problems[0]
    with pytest.raises(type(error.error())) as caught:
        build(a, b)
    assert str(caught.value) == error.text


def test_nothing_but_bad_files(fill, small, tmp_path):
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "bad.png").write_text("no image")
    checked = check(tmp_path / "A", None, small())
    figures = checked.folders["A"]
    assert (figures["good"], figures["median"], checked.ready) == (0, (0, 0), False)


def test_different_channels(fill, small):
    checked = check(fill("A", 2, channels=1), fill("B", 2), small())
    assert "A has 1 channels and B 3" in text(checked)


def test_pairs_and_what_is_wrong_with_them(fill, small):
    a, b = fill("A", 14, size=(40, 32)), fill("B", 12, size=(20, 16))
    fill("A", 1, size=(40, 60), first=11)
    test = fill("test", 1)
    (test / "5.png").write_bytes((b / "5.png").read_bytes())
    (a / "12.png").rename(a / "only.png")
    (a / "twin.png").write_bytes((a / "0.png").read_bytes())
    (b / "twin.png").write_bytes((b / "0.png").read_bytes())
    checked = check(a, b, small(paired=True), test=[test])
    assert checked.pairs is not None and checked.pairs.startswith("13 pairs: files of one name in A and B")
    assert not checked.ready
    assert checked.folders["A"]["good"] == checked.folders["B"]["good"] == 13
    broken = checked.problems[0]
    assert broken[:3] == ("error", "pairs", "")
    assert broken.names == ["13.png", "only.png", "11.png (40 x 60) with 11.png (20 x 16)"]
    assert f"no file in {b} for: 13.png, only.png; shapes that differ: 11.png" in broken.text
    assert f"B: 1 image also in the test set (5.png = {test / '5.png'})" in text(checked)
    assert found(checked)["advice", "tested", "B"] == ["5.png"]
    assert found(checked)["warning", "duplicates", "A"] == ["0.png", "twin.png"]


def test_halves_that_fit_and_halves_that_do_not(fill, small):
    folder = fill("pairs", 100, size=(40, 16))
    checked = check(folder, None, small(paired=True))
    assert checked.ready and checked.problems == []
    assert checked.folders["A"]["median"] == checked.folders["B"]["median"] == (20, 16)
    fill("pairs", 1, size=(41, 16), first=30)
    for i in range(6):
        (folder / f"{i}.png").write_text("no image")
    checked = check(folder, None, small(paired=True))
    assert not checked.ready
    assert found(checked)["error", "pairs", ""] == ["30.png (41 x 16)"]
    assert "odd widths, which cannot be halved: 30.png (41 x 16)" in checked.problems[0].text
    assert f"only 94 of 100 pairs in {folder} can be read, 95 % must" in checked.problems[1].text
    assert found(checked)["error", "unreadable", ""] == [f"{i}.png" for i in range(6)]


def test_test_images_among_the_training_images(fill, small):
    a, b, test = fill("A", 3), fill("B", 3), fill("test", 3)
    (test / "x.png").write_bytes((a / "1.png").read_bytes())
    checked = check(a, b, small(), test=[test])
    assert checked.ready and found(checked)["advice", "tested", "A"] == ["1.png"]
    assert f"1.png = {test / 'x.png'}" in text(checked)
    assert ("advice", "tested", "B") not in found(checked)
