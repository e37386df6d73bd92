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
