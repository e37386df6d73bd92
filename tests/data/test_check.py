from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twofold.data.check import check, sentence
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.formats import images


def found(checked):
    """The names of each kind of problem, by severity, kind and domain."""
    return {problem[:3]: problem.names for problem in checked.problems}


def text(checked):
    return "\n".join(problem.text for problem in checked.problems)


def test_two_good_folders(fill, small, tmp_path):
    checked = check(fill("A", 120), fill("B", 100, size=(9, 30)), small())
    assert checked.ready and checked.pairs is None
    assert [problem[:3] for problem in checked.problems] == [("advice", "aspect", "B")]  # 30 px by 9
    assert checked.uses == {"train": "A 112, B 92 images", "held out": "A 8, B 8 images drawn from these"}
    a, b = checked.folders["A"], checked.folders["B"]
    assert (a["good"], a["bad"], a["channels"], b["median"]) == (120, 0, 3, (9, 30))
    assert sentence(a) == "120 images, 3 channels, all 20 × 16 px"
    assert not (tmp_path / "cache").exists()


def test_a_broken_link_is_named(fill, small):
    a = fill("A", 9)
    (a / "bad.png").symlink_to(a / "absent.png")
    checked = check(a, fill("B", 9, first=9), small())
    assert found(checked)["error", "unreadable", "A"] == ["bad.png"]
    assert "bad.png (No such file or directory)" in text(checked)


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
    assert "A has 1 and B 3 channels" in text(checked)
    assert "channels" not in text(check(fill("C", 2, channels=1), fill("D", 2), small(paired=True)))


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


# ---- what is used for what


def test_a_root_is_checked_as_training_would_use_it(fill, small, tmp_path):
    names = [f"{split}{side}" for split in ("train", "val", "test") for side in "AB"]
    root = tmp_path / "root"
    root.mkdir()
    for name in names:
        fill(f"root/{name}", 3)
    (root / "testA" / "twin.png").write_bytes((root / "trainA" / "1.png").read_bytes())
    checked = check(root, None, small())
    assert checked.ready and checked.layout.endswith(
        "trainA and trainB are trained on, valA and valB are held out, testA and testB are not used"
    )
    assert checked.uses == {
        "train": "A 3, B 3 images",
        "held out": "A 3, B 3 images",
        "test": "7 images in root/testA and root/testB, not trained on",
    }
    assert found(checked)["advice", "tested", "A"] == ["1.png"]


def test_test_folders_in_the_working_folder_are_named(fill, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("A", "B", "test"):
        fill(name, 2)
    uses = check(Path("A"), Path("B"), small(), test=[Path("test")]).uses
    assert uses["test"] == f"2 images in {tmp_path.name}/test, not trained on"


def test_a_held_out_image_that_cannot_be_used_stops_training(fill, small, tmp_path):
    (tmp_path / "root").mkdir()
    for name in ("trainA", "trainB", "valA", "valB"):
        fill(f"root/{name}", 2)
    (tmp_path / "root" / "valB" / "bad.png").write_text("no image")
    checked = check(tmp_path / "root", None, small())
    assert not checked.ready and found(checked)["error", "unreadable", "B"] == ["bad.png"]


def test_pairs_are_found_without_an_option(fill, small, tmp_path):
    left, right = (fill(name, 6, size=(32, 32)) for name in ("left", "right"))
    for i in range(6):  # dark beside bright
        halves = [images.read(folder / f"{i}.png") // 4 + low for folder, low in ((left, 0), (right, 150))]
        images.write(np.concatenate(halves, 1), tmp_path / "pairs" / f"{i}.png")
    (tmp_path / "list.csv").write_text("left/0.png,right/0.png\n")
    checked = check(tmp_path / "pairs", None, small())
    assert checked.pairs is not None and checked.pairs.startswith("6 pairs: the left and the right half")
    assert checked.ready and checked.uses["train"] == "6 pairs"
    assert check(tmp_path / "list.csv", None, small()).uses["train"] == "1 pair"
    assert check(left, None, small()).pairs is None


@pytest.mark.parametrize(
    ("size", "resize", "words"),
    [
        (
            (180, 12),
            "shortest",
            "of aspect 15:1 (180 × 12 px): shortest loads it at 135 × 9 px, and a crop of 8 × 8 px shows 5% of it",
        ),
        (
            (99, 30),
            "shortest",
            "3.3:1 (99 × 30 px): shortest loads it at 30 × 9 px, and a crop of 8 × 8 px shows 24% of it; choose"
            " --data.resize scale-width for whole images, --data.resize crop --size 8 for crops of the stored pixels",
        ),
        (
            (30, 99),
            "resize-and-crop",
            "3.3:1 (30 × 99 px): resize-and-crop squashes it to 9 × 9 px; choose --data.resize scale-width",
        ),
        (
            (99, 30),
            "crop",
            "crop loads it at 99 × 30 px, and a crop of 8 × 8 px shows 2% of it; choose --data.resize scale-width",
        ),
        ((99, 30), "scale-width", ""),
        ((30, 20), "shortest", ""),
    ],
)
def test_long_images_are_advised_on(fill, small, size, resize, words):
    advice = [problem.what for problem in check(fill("A", 3, size=size), None, small(resize=resize)).problems]
    advice = [what for what in advice if "aspect" in what]
    assert len(advice) == bool(words) and words in "".join(advice)


def test_other_files_are_counted_by_suffix(fill, small, build):
    a, b = fill("A", 3), fill("B", 3)
    for name in ("1.txt", "2.txt", "LICENSE", "._0.png", "Thumbs.db", "__MACOSX/0.png", ".hidden/1.png"):
        (a / name).parent.mkdir(exist_ok=True)
        (a / name).write_text("words")
    for i in range(2):
        (b / f"{i}.heic").write_text("words")
    checked = check(a, b, small())
    kinds = {problem[:3]: problem.what for problem in checked.problems}
    assert kinds["advice", "ignored", "A"] == f"3 unused files below {a}: 2 .txt, 1 without a suffix"
    assert kinds["advice", "junk", "A"] == f"4 hidden or system files below {a}, not used"
    heic = f"2 unused files below {b}: 2 .heic (convert with `magick mogrify -format png *.heic`)"
    assert kinds["warning", "ignored", "B"] == heic
    assert checked.ready and f"B: {heic}" in build(a, b)[1]


def test_a_folder_of_pairs_counts_its_other_files_once(fill, small):
    folder = fill("pairs", 3, size=(40, 16))
    (folder / "notes.txt").write_text("words")
    checked = check(folder, None, small(paired=True))
    assert [problem.domain for problem in checked.problems if problem.kind == "ignored"] == ["A"]


def test_equal_errors_are_named_once(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for i in range(5):
            np.save(tmp_path / folder / f"{i}.npy", np.zeros((3, 64, 64), np.float32))
    checked = check(tmp_path / "a", tmp_path / "b", DataSettings())
    errors = [problem.text for problem in checked.problems if problem.severity == "error"]
    assert len(errors) == len(checked.problems) == 2  # no advice about folders without a good image
    assert "0.npy, 1.npy, 2.npy and 2 more (its shape 3 x 64 x 64 has the channels first" in errors[0]
    assert sentence(checked.folders["A"]) == "0 images (5 bad)"


def test_kinds_of_pairs_are_for_one_folder(fill):
    with pytest.raises(UsageError, match="--pairs png:jpg is for pairs in one folder, not for"):
        check(fill("A", 2), fill("B", 2), DataSettings(paired=True, pairs="png:jpg"))


def test_one_image_is_one_image(fill, small):
    checked = check(fill("A", 1), fill("B", 2), small())
    assert sentence(checked.folders["A"]).startswith("1 image, 3 channels")
    assert "A: only 1 image; more images" in text(checked) and "B: only 2 images; more" in text(checked)


def test_many_equal_files_are_one_short_line(fill, small):
    a = fill("A", 40)
    for path in sorted(a.iterdir())[1:]:
        path.write_bytes((a / "0.png").read_bytes())
    (line,) = [problem.what for problem in check(a, None, small()).problems if problem.kind == "duplicates"]
    assert "(0.png = 1.png = 2.png = 3.png and 36 more); keep one" in line
