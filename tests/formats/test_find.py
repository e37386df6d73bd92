"""What is found in a folder, what is left out, and how that is said."""

import pytest

from twofold.errors import UsageError
from twofold.formats import images


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_every_file_is_an_image_ignored_or_junk(tmp_path):
    touch(tmp_path, "2.JPG", "10.jfif", "sub/1.ppm", "a.heic", "b.HEIC", "notes.txt", "README", "x.npz")
    touch(tmp_path, "Thumbs.db", "desktop.ini", "._2.jpg", ".hidden.png")
    touch(tmp_path, "__MACOSX/2.jpg", "__MACOSX/3.jpg", "@eaDir/x/2.jpg", ".ipynb_checkpoints/2.jpg")
    found = images.find_all(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in found.images]
    assert names == ["2.JPG", "10.jfif", "sub/1.ppm", "x.npz"]
    assert found.ignored == {".heic": 2, ".txt": 1, "": 1} and found.junk == 7
    assert images.find(tmp_path) == found.images
    heic, *others = found.ignored_kinds()
    assert heic == "2 .heic (convert with `magick mogrify -format png *.heic`)"
    assert sorted(others) == ["1 .txt", "1 without a suffix"]


def test_a_broken_link_is_an_image_that_cannot_be_read(tmp_path):
    (tmp_path / "1.png").symlink_to(tmp_path / "absent.png")
    assert images.find(tmp_path) == [tmp_path / "1.png"]
    with pytest.raises(images.ImageError, match=r"1.png: No such file or directory"):
        images.read(tmp_path / "1.png")


def test_a_folder_without_images(tmp_path):
    touch(tmp_path, "1.heic")
    assert images.find_all(tmp_path).images == []
    with pytest.raises(UsageError, match=r"holds no images \(1 .heic \(convert with .*\)\); known suffixes"):
        images.find(tmp_path)


def test_every_suffix_that_is_written_is_found():
    from twofold.formats.write import HELD

    assert set(HELD) <= images.SUFFIXES
    assert {".pbm", ".gif", ".svs"} <= images.SUFFIXES
