"""Dataset roots: every spelling, what is used for what, and what is refused because it is not clear."""

from pathlib import Path

import pytest

from twofold.data.layouts import find_layout, is_split
from twofold.errors import UsageError


@pytest.fixture
def root(tmp_path):
    """Make folders of two files each below tmp_path/root: root("trainA", "B/test")."""

    def make(*folders):
        home = tmp_path / "root"
        for folder in folders:
            (home / folder).mkdir(parents=True, exist_ok=True)
            for i in range(2):
                (home / folder / f"{i}.png").touch()
        return home

    return make


def relative(found, home):
    """a, b, val_a, val_b of a layout by their paths in the root."""
    return [path and path.relative_to(home).as_posix() for path in found[:4]]


@pytest.mark.parametrize(
    ("folders", "used", "test"),
    [
        ("trainA trainB", ["trainA", "trainB", None, None], []),
        ("trainA trainB testA testB", ["trainA", "trainB", None, None], ["testA", "testB"]),
        ("trainA trainB valA valB testA testB", ["trainA", "trainB", "valA", "valB"], ["testA", "testB"]),
        ("train_A train_B val_A val_B test_A", ["train_A", "train_B", "val_A", "val_B"], ["test_A"]),
        ("Train-a Train-b validation-A valid-B", ["Train-a", "Train-b", "validation-A", "valid-B"], []),
        ("A_train B_TRAIN A_dev B_dev", ["A_train", "B_TRAIN", "A_dev", "B_dev"], []),
        ("domainA/train domain_b/training", ["domainA/train", "domain_b/training", None, None], []),
        ("A/train B/train A/test B/test", ["A/train", "B/train", None, None], ["A/test", "B/test"]),
        ("a/Train a/valid b/Train b/valid", ["a/Train", "b/Train", "a/valid", "b/valid"], []),
        ("A/trainA A/testA B/trainB B/testB", ["A/trainA", "B/trainB", None, None], ["A/testA", "B/testB"]),
        ("train/A train/B test/A test/B", ["train/A", "train/B", None, None], ["test/A", "test/B"]),
        ("train/trainA train/trainB val/A val/B", ["train/trainA", "train/trainB", "val/A", "val/B"], []),
        ("A B", ["A", "B", None, None], []),
        ("A B test", ["A", "B", None, None], ["test"]),
        ("deep/trainA deep/trainB", ["deep/trainA", "deep/trainB", None, None], []),
        ("train", ["train", None, None, None], []),
        ("train val test", ["train", None, "val", None], ["test"]),
        ("Training validation Testing", ["Training", None, "validation", None], ["Testing"]),
        ("trainA trainB valA __MACOSX/valB .git/valB", ["trainA", "trainB", None, None], []),
    ],
)
@pytest.mark.parametrize("paired", [False, True])
def test_what_a_root_holds(root, folders, used, test, paired):
    home = root(*folders.split())
    found = find_layout(home, None, paired)
    assert relative(found, home) == used
    assert sorted(path.relative_to(home).as_posix() for path in found.test) == sorted(test)
    for folder in [*filter(None, used), *test]:
        assert folder.removeprefix("deep/") in found.line


def test_the_line_says_every_use(root):
    home = root("trainA", "trainB", "valA", "valB", "testA", "masks")
    found = find_layout(home, None, paired=False)
    assert found.line == (
        f"{home}: trainA and trainB are trained on, valA and valB are held out, testA and masks are not used"
    )
    without = find_layout(home, None, paired=False, val=False)
    assert without.val_a is without.val_b is None
    assert "trainA and trainB are trained on, testA, valA, valB and masks are not used" in without.line


def test_folders_without_files_are_not_there(root):
    home = root("trainA", "trainB")
    for name in ("valA", "valB/deep", "test"):
        (home / name).mkdir(parents=True)
    found = find_layout(home, None, paired=False)
    assert relative(found, home) == ["trainA", "trainB", None, None] and found.test == ()
    assert found.line.endswith(": trainA and trainB are trained on")


def test_two_roots_for_two_domains(root):
    home = root("A/train", "A/val", "A/test", "B/train", "B/val", "B/test", "B/notes")
    found = find_layout(home / "A", home / "B", paired=True)
    assert relative(found, home) == ["A/train", "B/train", "A/val", "B/val"]
    assert found.line == (
        f"{home}: A/train and B/train are trained on, A/val and B/val are held out, A/test, B/test and B/notes are"
        " not used"
    )
    plain = root("photos/deep", "photos/other")
    found = find_layout(home / "A", plain / "photos", paired=False)
    assert relative(found, home) == ["A/train", "photos", None, None]
    assert found.line.endswith("A/train and photos are trained on, A/test and A/val are not used")


def test_a_held_out_folder_of_pairs_beside_two_folders(root):
    home = root("trainA", "trainB", "val")
    assert relative(find_layout(home, None, paired=True), home) == ["trainA", "trainB", "val", None]
    assert relative(find_layout(home, None, paired=False), home) == ["trainA", "trainB", None, None]


@pytest.mark.parametrize("folders", ["cats dogs", "a b c", "A", "A B masks", "deep/cats deep/dogs", "x"])
def test_other_folders_are_no_roots(root, folders):
    home = root(*folders.split())
    for paired in (False, True):
        assert find_layout(home, None, paired) == (home, None, None, None, (), "")


def test_a_folder_that_does_not_exist_is_no_part_of_a_root(root):
    home = root("trainA", "trainB", "testA", "testB")
    for given in ((home, home / "absent"), (home / "absent", home)):
        assert find_layout(*given, paired=False)[:2] == given


def test_plain_folders_files_and_lists_are_no_roots(root, tmp_path):
    home = root("x/1", "y/train_station")
    assert find_layout(home / "x", home / "y", paired=False) == (home / "x", home / "y", None, None, (), "")
    for path in (tmp_path / "list.csv", tmp_path / "nowhere"):
        assert find_layout(path, None, paired=True) == (path, None, None, None, (), "")
    (tmp_path / "root" / "x" / "loop").symlink_to(tmp_path / "root" / "x")
    assert find_layout(home / "x", None, paired=True).line == ""


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            "trainA",
            "found trainA, but no trainB; add it, or give two folders: `twofold train {}/trainA OTHER`",
        ),
        ("trainB testA testB", "but no trainA; add it, or give two folders: `twofold train {}/trainB OTHER`"),
        ("A/train B/test", "found A/train and B/test, but no trainB"),
        ("val test", "found test and val, but no train; add it, or give the folders to train on"),
        ("trainA trainB train_a", "trainA and train_a could all be meant"),
        ("train trainA trainB", "trainA and train could all be meant"),
        ("train Training", "Training and train could all be meant"),
        ("A A/train B/train", "holds 2 images beside the folder train"),
        (". trainA trainB", "holds 2 images beside the folders trainA and trainB; move the images"),
        (". train", "such as {}/train"),
        (". A B", "beside the folders A and B"),
        ("train train/A train/B", "train holds 2 images beside the folders A and B"),
    ],
)
def test_a_root_that_is_not_clear_is_refused(root, folders, message):
    home = root(*folders.split())
    with pytest.raises(UsageError) as caught:
        find_layout(home, None, paired=True)
    assert message.replace("{}", str(home)) in str(caught.value) and "\n" not in str(caught.value)


def test_images_beside_a_test_folder_are_refused(root):
    home = root("A", "A/test", "B", "two/trainA", "two/trainB")
    with pytest.raises(UsageError, match=r"A holds 2 images beside the folder test; move the images"):
        find_layout(home / "A", home / "B", paired=False)
    with pytest.raises(UsageError, match="trainA and two/trainB could all be meant"):
        find_layout(home / "two", home / "B", paired=False)


def test_a_split_of_a_root_of_pairs(root):
    home = root(
        "train", "val", "A/train", "A/test", "lonely/train", "trainA", "x/trainA", "x/train", "x/test"
    )
    splits = ("train", "val", "A/train", "x/test")
    assert all(is_split(home / name) for name in splits)
    assert not any(is_split(home / name) for name in ("lonely/train", "trainA", "x/trainA", "A"))
    assert not is_split(Path("nowhere/train"))
