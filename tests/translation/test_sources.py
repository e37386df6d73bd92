from pathlib import Path

import pytest

from twofold.errors import UsageError
from twofold.translation.sources import plan


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Make empty files below the current folder: tree("A/x.png", "A/deep/y.jpg")."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


def planned(*inputs, out="out", suffix=".png"):
    jobs = plan([Path(given) for given in inputs], Path(out), lambda _: suffix)
    return {str(job.source): str(job.target) for job in jobs}


def test_relative_names_are_kept(tree):
    tree("A/x.jpg", "A/deep/er/y.webp", "A/notes.txt", "A/.hidden.png", "A/img.001.png")
    assert planned("A") == {
        "A/deep/er/y.webp": "out/deep/er/y.png",
        "A/img.001.png": "out/img.001.png",
        "A/x.jpg": "out/x.png",
    }
    assert planned("A/x.jpg", "A/deep", suffix=".webp") == {
        "A/x.jpg": "out/x.webp",
        "A/deep/er/y.webp": "out/er/y.webp",
    }


def test_same_stems_never_collide(tree):
    tree("A/x.jpg", "A/x.png", "A/X.webp", "A/x.jpeg", "A/x.jpg.png")
    targets = list(planned("A").values())
    assert len({target.lower() for target in targets}) == 5
    assert {"out/x.png", "out/x.png.png", "out/x.jpg.png"} <= set(targets)


def test_files_of_the_same_name_from_two_places(tree):
    tree("A/x.png", "B/x.png", "C/x.png")
    assert planned("A/x.png", "B/x.png", "C/x.png") == {
        "A/x.png": "out/x.png",
        "B/x.png": "out/x.png.png",
        "C/x.png": "out/x.png-2.png",
    }


def test_folders_that_share_names_get_subfolders(tree):
    tree("A/x.png", "B/x.jpg", "B/y.png", "more/A/X.png", "single.png")
    assert planned("A", "B", "single.png") == {
        "A/x.png": "out/A/x.png",
        "B/x.jpg": "out/B/x.png",
        "B/y.png": "out/B/y.png",
        "single.png": "out/single.png",
    }
    assert planned("A", "more/A") == {"A/x.png": "out/A/x.png", "more/A/X.png": "out/A/X.png.png"}


def test_folders_without_shared_names_are_merged(tree):
    tree("A/x.png", "B/y.png")
    assert planned("A", "B") == {"A/x.png": "out/x.png", "B/y.png": "out/y.png"}


def test_a_source_given_twice_is_translated_once(tree):
    tree("A/x.png", "A/y.png")
    assert planned("A", "A/x.png", "A", "A/../A/y.png") == {"A/x.png": "out/x.png", "A/y.png": "out/y.png"}


def test_the_current_folder(tree):
    tree("x.png", "A/y.png")
    assert planned(".") == {"A/y.png": "out/A/y.png", "x.png": "out/x.png"}


def test_one_file_may_name_its_result(tree):
    tree("A/x.png", "B/y.png")
    assert planned("A/x.png", out="z.jpg") == {"A/x.png": "z.jpg"}
    assert planned("A/x.png", out="deep/z.webp") == {"A/x.png": "deep/z.webp"}
    Path("folder.png").mkdir()
    assert planned("A/x.png", "B", out="folder.png") == {
        "A/x.png": "folder.png/x.png",
        "B/y.png": "folder.png/y.png",
    }


@pytest.mark.parametrize("given", [["A"], ["A/x.png", "A/y.png"]])
def test_several_images_need_a_folder(tree, given):
    tree("A/x.png", "A/y.png")
    with pytest.raises(UsageError, match=r"is a file name, for one image; name a folder: -o 'a z'$"):
        planned(*given, out="a z.png")


@pytest.mark.parametrize(
    ("given", "out"),
    [("A", "A"), ("A/x.png", "A"), ("A/x.png", "A/x.png"), ("A", "B/../A"), ("A", "link"), (".", ".")],
)
def test_sources_are_never_overwritten(tree, given, out):
    tree("A/x.png", "A/deep/y.png", "B/z.png")
    Path("link").symlink_to("A")
    with pytest.raises(UsageError, match=r"would be overwritten|is the folder of the images"):
        planned(given, out=out)


def test_results_inside_a_folder_are_no_sources_of_the_next_translation(tree):
    tree("A/x.jpg", "A/deep/y.png", "A/out/x.png", "A/out/deep/y.png", "A/output/z.png", "B/out/x.png")
    assert [*planned("A", out="A/out")] == ["A/deep/y.png", "A/output/z.png", "A/x.jpg"]
    with pytest.raises(UsageError, match="B holds images in B/out only"):
        planned("B", out="B/out")


def test_an_output_may_not_be_another_input(tree):
    tree("A/x.jpg", "B/x.png")
    with pytest.raises(UsageError, match=r"-o B is the folder of the images"):
        planned("A/x.jpg", "B", out="B")
    with pytest.raises(UsageError, match=r"B/x\.png is one of the inputs"):
        planned("A/x.jpg", "B/x.png", out="B")


def test_a_missing_input_is_named(tree):
    tree("A/notes.txt")
    with pytest.raises(UsageError, match="nowhere does not exist"):
        planned("nowhere")
    with pytest.raises(UsageError, match="no images"):
        planned("A")
