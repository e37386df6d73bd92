import numpy as np
import pytest
from PIL import Image

from twofold.data.check import check
from twofold.errors import UsageError


def test_two_good_folders(fill, small, tmp_path):
    findings = check(fill("A", 120), fill("B", 100, size=(9, 30)), small())
    assert findings.ready
    assert findings.verdicts == ("ready to train",)
    assert (findings.a.good, findings.a.bad, findings.a.channels) == (120, (), 3)
    assert findings.b is not None and findings.b.median == (9, 30)
    assert not (tmp_path / "cache").exists()


def test_everything_there_is_to_say(fill, small):
    a, b = fill("A", 40), fill("B", 3)
    fill("A", 1, size=(5, 50), first=40)
    fill("A", 1, size=(90, 80), channels=4, first=41)
    (a / "bad.png").write_text("no image")
    (a / "twin.png").write_bytes((a / "7.png").read_bytes())
    (b / "from_a.png").write_bytes((a / "8.png").read_bytes())
    Image.fromarray(np.zeros((30, 30), np.uint16)).save(a / "deep.png")
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(b / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    findings = check(a, b, small())
    assert findings.ready
    one, two = findings.a, findings.b
    assert one.bad[0][0] == "bad.png" and "not an image" in one.bad[0][1]
    assert (one.smallest, one.median, one.largest) == ((5, 50), (20, 16), (90, 80))
    assert one.stored_channels == {1: 1, 3: 42, 4: 1}
    assert one.sixteen_bit == ("deep.png",) and two.animated == ("moving.webp",)
    assert one.tiny == ("40.png",) and one.duplicates == (("7.png", "twin.png"),)
    assert findings.shared == ("8.png",)
    said = "\n".join(findings.verdicts)
    for part in (
        "bad.png",
        "deep.png",
        "41.png",
        "40.png",
        "7.png = twin.png",
        "moving.webp",
        "8.png",
        "few",
    ):
        assert part in said
    assert findings.verdicts[-1] == "ready to train"


def test_what_training_would_refuse(fill, small):
    a = fill("A", 9, size=(7, 20))
    (a / "bad.png").write_text("no image")
    findings = check(a, None, small(resize="crop"))
    assert not findings.ready and findings.b is None
    assert "only 9 of 10 files decode" in findings.verdicts[0]
    assert "too small" in findings.verdicts[1]
    assert findings.verdicts[-1].startswith("not ready")
    with pytest.raises(UsageError, match="given twice"):
        check(a, a, small())


def test_nothing_but_bad_files(fill, small, tmp_path):
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "bad.png").write_text("no image")
    findings = check(tmp_path / "A", None, small())
    assert (findings.a.good, findings.a.median, findings.ready) == (0, (0, 0), False)


def test_channels_that_differ_are_said(fill, small):
    findings = check(fill("A", 2, channels=1), fill("B", 2), small())
    assert any("A has 1 channels and B 3" in line for line in findings.verdicts)


def test_pairs_and_what_is_wrong_with_them(fill, small):
    a, b = fill("A", 14, size=(40, 32)), fill("B", 12, size=(20, 16))
    fill("A", 1, size=(40, 60), first=11)
    test = fill("test", 1)
    (test / "5.png").write_bytes((b / "5.png").read_bytes())
    (a / "12.png").rename(a / "only.png")
    (a / "twin.png").write_bytes((a / "0.png").read_bytes())
    (b / "twin.png").write_bytes((b / "0.png").read_bytes())
    findings = check(a, b, small(paired=True), test=[test])
    assert findings.pairs is not None and findings.pairs.startswith("13 pairs: files of one name in A and B")
    assert not findings.ready and findings.a.good == findings.b.good == 13
    whats = [(each.what.split(" ")[0], each.names) for each in findings.broken]
    assert whats == [
        ("not", ["13.png", "only.png"]),
        ("shapes", ["11.png (40 x 60) with 11.png (20 x 16)"]),
    ]
    said = "\n".join(findings.verdicts)
    assert f"not in {b}: 13.png, only.png" in said
    assert f"B: 1 image in the test set as well (5.png = {test / '5.png'})" in said
    assert findings.b.tested == (("5.png", str(test / "5.png")),)
    assert findings.a.duplicates == (("0.png", "twin.png"),)


def test_halves_that_are_none_and_those_that_are(fill, small):
    folder = fill("pairs", 100, size=(40, 16))
    findings = check(folder, None, small(paired=True))
    assert findings.ready and findings.verdicts == ("ready to train",)
    assert (findings.a.median, findings.b.median, findings.shared) == ((20, 16), (20, 16), ())
    fill("pairs", 1, size=(41, 16), first=30)
    for i in range(6):
        (folder / f"{i}.png").write_text("no image")
    findings = check(folder, None, small(paired=True))
    assert findings.broken[0].names == ["30.png (41 x 16)"] and not findings.ready
    assert "broken pairs, odd widths, which have no halves: 30.png (41 x 16)" in findings.verdicts
    assert "only 94 of 100 pairs decode, 95 % must; mend the others" in findings.verdicts
    assert [name for name, _ in findings.b.bad] == [f"{i}.png" for i in range(6)]


def test_test_images_among_the_training_images(fill, small):
    a, b, test = fill("A", 3), fill("B", 3), fill("test", 3)
    (test / "x.png").write_bytes((a / "1.png").read_bytes())
    findings = check(a, b, small(), test=[test])
    assert findings.ready and findings.a.tested == (("1.png", str(test / "x.png")),) and not findings.b.tested
