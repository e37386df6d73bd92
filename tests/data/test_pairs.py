import json
from itertools import islice

import numpy as np
import pytest
import torch

from twofold.data.build import build_manifest
from twofold.data.dataset import ImageStore, open_images
from twofold.data.geometry import LoadRule
from twofold.data.loader import Loader
from twofold.data.manifest import Manifest
from twofold.data.pairs import read_list
from twofold.data.sampler import offset, pick, placement
from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.formats.lab import to_lab


@pytest.fixture
def pair_up(small):
    """Build a manifest of pairs, and return it with the printed lines."""

    def run(a, b=None, seed=0, **changes):
        lines = []
        settings = small(**{"paired": True, **changes})
        return build_manifest(a, b, settings, seed, lines.append, multiple_of=4), lines

    return run


@pytest.fixture
def jpg_png(fill):
    """A folder of jpg photographs, and of png files under the same names."""

    def make(name, count, **options):
        folder = fill(name, count, suffix="jpg", **options)
        return fill(name, count, suffix="png", **options) and folder

    return make


def names(entries):
    return [entry.name for entry in entries]


def label_map(colours, height, width, seed=0):
    """Blocks of a few colours, 4 px wide: (height, width, 3)."""
    rng = np.random.default_rng(seed)
    palette = np.array([[40 * i, 255 - 30 * i, 17 * i] for i in range(colours)], np.uint8)
    blocks = rng.integers(0, colours, (height // 4 + 1, width // 4 + 1))
    return palette[blocks.repeat(4, 0).repeat(4, 1)[:height, :width]]


# ---- where pairs come from


def test_halves(fill, pair_up, small):
    folder = fill("pairs", 3, size=(40, 16))
    manifest, lines = pair_up(folder)
    assert lines == [
        "3 pairs: the left and the right half of each image; the first is the input (--direction ba exchanges them)"
    ]
    assert manifest.paired and manifest.epoch == 3
    assert names(manifest.a.train) == names(manifest.b.train) == ["0.png", "1.png", "2.png"]
    assert manifest.a.train[0][4:6] == (20, 16)  # the size of a half
    stores = open_images(manifest, small(paired=True), print)
    whole = images.read(folder / "1.png")
    for store, half in ((stores.a, whole[:, :20]), (stores.b, whole[:, 20:])):
        assert store.pixels is not None
        assert np.array_equal(store[1].numpy(), images.resize(half.copy(), 9, 9))


def test_two_suffixes(jpg_png, pair_up, small):
    folder = jpg_png("pairs", 2)
    manifest, lines = pair_up(folder)
    assert lines[0].startswith("2 pairs: X.jpg with X.png; the first is the input")
    assert (names(manifest.a.train), names(manifest.b.train)) == (["0.jpg", "1.jpg"], ["0.png", "1.png"])
    assert pair_up(folder, pairs="png:jpg")[0].a.train == manifest.b.train
    (folder / "3.tif").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(
        UsageError, match=r"3 kinds \(.jpg .png .tif\); give those that are pairs: --pairs jpg:png"
    ):
        pair_up(folder)
    assert pair_up(folder, pairs="JPG:png")[0] == manifest  # what is not asked for is left alone
    with pytest.raises(UsageError, match=r"no X.webp with an X.bmp|holds no X.webp"):
        pair_up(folder, pairs="webp:bmp")
    with pytest.raises(UsageError, match="one suffix twice"):
        pair_up(folder, pairs="jpg:jpg")


def test_two_folders_of_the_same_names(fill, pair_up, small):
    a, b = fill("A", 11), fill("B", 11, size=(40, 32), suffix="jpg")
    for folder, suffix in ((a, "png"), (b, "jpg")):
        (folder / "deep").mkdir()
        (folder / f"0.{suffix}").rename(folder / "deep" / f"x.y.{suffix}")
    manifest, lines = pair_up(a, b)
    assert lines[0].startswith("11 pairs: files of one name in A and B")
    assert [name[:-3] for name in names(manifest.a.train)] == [name[:-3] for name in names(manifest.b.train)]
    assert "deep/x.y.png" in names(manifest.a.train)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("header", [True, False])
def test_a_list(fill, pair_up, changes, tmp_path, suffix, header):
    fill("A", 3), fill("B", 3)
    rows = [("A/0.png", "B/2.png"), (str(tmp_path / "A/2.png"), "./B/0.png")]
    if suffix == "csv":
        lines = ["a,b"] * header + [f"{a},{b}" for a, b in rows] + [""]
    else:
        lines = [json.dumps({"a": a, "b": b, **({"more": 1} if header else {})}) for a, b in rows]
    source = tmp_path / f"list.{suffix}"
    source.write_text("\ufeff" * header + "\n".join(lines))
    manifest, lines = pair_up(source)
    assert lines[0].startswith(f"2 pairs: the lines of list.{suffix}")
    assert names(manifest.a.train) == ["A/0.png", str(tmp_path / "A/2.png")]
    assert names(manifest.b.train) == ["B/2.png", "B/0.png"]
    assert changes(Manifest.from_json(manifest.to_json())) == []
    source.write_text(source.read_text() + "\n")
    assert changes(manifest) == []  # the same rows
    source.write_text(source.read_text() + source.read_text().lstrip("\ufeff").removeprefix("a,b\n"))
    assert changes(manifest) == [f"{side}: list.{suffix} was altered" for side in "AB"]


SEPARATORS = ["\n", "\r\n", "\r"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "CSV"])
def test_lists_of_any_lines_and_encodings(tmp_path, suffix, separator, encoding):
    rows = [("x y.png", "b/\u00fc.png"), ("a,b;c.png", "a\u2028b\x85.png"), ('"q".png', "z.png")]
    source = tmp_path / f"list.{suffix}"
    if suffix == "jsonl":
        lines = [json.dumps({"a": a, "b": b}, ensure_ascii=False) for a, b in rows]
    else:
        lines = [[name.replace('"', '""') for name in row] for row in [("A", "b"), *rows]]
        lines = ["\t,"[suffix != "tsv"].join(f'"{name}"' for name in row) for row in lines]
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    source.write_bytes((mark + separator.join([*lines, ""])).encode(encoding))
    assert list(read_list(source)) == rows


def test_lists_without_quotes(tmp_path):
    for delimiter in ",;\t":
        (tmp_path / "list.csv").write_text(f'a{delimiter}B\r\n x.png {delimiter} "./y.png"\r\n\r\n')
        assert list(read_list(tmp_path / "list.csv")) == [("x.png", "y.png")]
    (tmp_path / "list.csv").write_text('x"1.png,y.png\rz.png,"w\n.png"')
    assert list(read_list(tmp_path / "list.csv")) == [('x"1.png', "y.png"), ("z.png", "w\n.png")]


def test_lines_of_lists_are_counted(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"a": "1", "b": "2"}\r\n\r\n{"a": "3", "b": "4"}\r{"a": "5"}')
    with pytest.raises(UsageError, match="line 4: a pair reads"):
        list(read_list(tmp_path / "list.jsonl"))
    (tmp_path / "list.tsv").write_text("1\t2\r3\t4\r5,6\r")
    with pytest.raises(UsageError, match="line 3: a pair is two paths, of A and of B, not"):
        list(read_list(tmp_path / "list.tsv"))


def test_a_list_names_what_is_missing(fill, pair_up, tmp_path):
    fill("A", 2), fill("B", 2)
    rows = [("A/0.png", "B/0.png"), ("A/1.png", "B/7.png"), ("n" * 300, "B/1.png"), ("A", "x\0.png")]
    (tmp_path / "list.tsv").write_text("\r".join("\t".join(row) for row in rows))
    with pytest.raises(UsageError) as caught:
        pair_up(tmp_path / "list.tsv")
    message = str(caught.value)
    assert message.startswith(f"broken pairs in {tmp_path / 'list.tsv'}: files that do not exist: n")
    assert "B/7.png" in message and ", A," in message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "x.png\n", "line 1: a pair is two paths"),
        ("l.csv", "a,b\nx.png,y.png,z.png\n", "line 2: a pair is two paths"),
        ("l.csv", "x.png,\n", "line 1: a pair is two paths"),
        ("l.csv", "a,b\n", "lists no pairs"),
        ("l.csv", 'x.png,"y.png\n' + "z" * 200_000, "line 2: "),
        ("l.jsonl", "[1]\n", "line 1: a pair reads"),
        ("l.jsonl", '{"a": "x.png"}\n', "line 1: a pair reads"),
        ("l.jsonl", '{"a": "x.png", "b": 3}\n', "line 1: a pair is two paths"),
        ("l.jsonl", "[" * 100_000, "line 1: a pair reads"),
        ("l.csv", "x.png,y.png\n", r"files that do not exist: x.png, y.png"),
        ("l.csv", b"\xff\xfe\x00", "cannot read the list"),
        (
            "l.txt",
            "x.png y.png\n",
            r"neither a folder nor a list of pairs; the name of a list ends with \.csv, ",
        ),
    ],
)
def test_lists_that_are_none(pair_up, tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message) as caught:
        pair_up(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_direction_exchanges_input_and_output(fill, jpg_png, pair_up, build):
    folder = jpg_png("pairs", 2)
    manifest, lines = pair_up(folder, direction="ba")
    assert "the second is the input (--direction ab" in lines[0]
    assert (manifest.a.train[0].name, manifest.b.train[0].name) == ("0.png", "0.jpg")
    halves, _ = pair_up(fill("halves", 2, size=(40, 16)), direction="ba")
    assert (halves.a.folder.part, halves.b.folder.part) == ("right", "left")
    manifest, _ = build(fill("A", 2), fill("B", 3), direction="ba")
    assert (len(manifest.a.train), len(manifest.b.train)) == (3, 2)


# ---- pairs that are broken


def test_odd_widths_are_refused(fill, pair_up):
    folder = fill("pairs", 2, size=(40, 16))
    fill("pairs", 2, size=(41, 16), first=2)
    with pytest.raises(UsageError, match=r"odd widths, which cannot be halved: 2.png \(41 x 16\), 3.png"):
        pair_up(folder)


def test_names_without_a_partner_are_refused(fill, jpg_png, pair_up):
    folder = jpg_png("pairs", 3)
    (folder / "1.png").unlink()
    (folder / "2.jpg").unlink()
    with pytest.raises(UsageError, match=r"no .png file for: 1.jpg; no .jpg file for: 2.png"):
        pair_up(folder)
    a, b = fill("A", 3), fill("B", 9, first=2)
    with pytest.raises(
        UsageError, match=r"no file in .*B for: 0.png, 1.png; no file in .*A for: 3.png, .* and 3 more"
    ):
        pair_up(a, b)
    for i in range(3):
        (a / f"{i}.png").rename(a / f"z{i}.png")
    with pytest.raises(UsageError, match=r"no name in .*A is a name in .*B \(z0.png, 2.png\)"):
        pair_up(a, b)
    fill("B", 1, suffix="jpg", first=2)
    (a / "z2.png").rename(a / "2.png")
    with pytest.raises(UsageError, match=r"more than one file in .*B of one name: 2.jpg = 2.png"):
        pair_up(a, b)


def test_a_file_in_two_pairs_of_a_list_is_refused(fill, pair_up, tmp_path):
    fill("A", 2), fill("B", 2)
    (tmp_path / "list.csv").write_text("A/0.png,B/0.png\nA/0.png,B/1.png\n")
    with pytest.raises(UsageError, match=r"files in several pairs: A/0.png"):
        pair_up(tmp_path / "list.csv")


def test_sizes_must_agree_up_to_scaling(fill, pair_up):
    a, b = fill("A", 1, size=(20, 16)), fill("B", 1, size=(40, 33))
    assert len(pair_up(a, b)[0].a.train) == 1
    with pytest.raises(UsageError, match=r"sizes that differ: 0.png \(20 x 16\) with 0.png \(40 x 33\)"):
        pair_up(a, b, resize="crop")
    fill("A", 1, size=(20, 16), first=1), fill("B", 1, size=(40, 36), first=1)
    with pytest.raises(UsageError, match=r"shapes that differ: 1.png \(20 x 16\) with 1.png \(40 x 36\)"):
        pair_up(a, b)


def test_a_pair_with_a_bad_file_is_skipped_whole(fill, pair_up, small):
    a, b = fill("A", 50), fill("B", 50)
    (a / "3.png").write_text("no image")
    (b / "7.png").write_text("no image")
    manifest, lines = pair_up(a, b)
    assert len(lines) == 2 and lines[1].startswith(
        f"2 of 50 pairs in {a} cannot be read and are skipped: 3.png, 7.png (not"
    )
    assert names(manifest.a.train) == names(manifest.b.train)
    assert names(manifest.a.held_out) == names(manifest.b.held_out)
    assert len(manifest.a.train) == 40 and len(manifest.a.held_out) == 8
    assert names(manifest.a.folder.skipped) == names(manifest.b.folder.skipped) == ["3.png", "7.png"]
    assert Manifest.from_json(manifest.to_json()) == manifest
    (b / "9.png").write_text("no image")
    with pytest.raises(
        TwofoldError, match=r"only 47 of 50 pairs .* 95 % must; repair or remove 3.png, 7.png, 9.png \(not"
    ):
        pair_up(a, b)


# ---- what a run does with them


def test_whole_pairs_are_held_out(jpg_png, pair_up, small):
    folder = jpg_png("pairs", 41)
    manifest, _ = pair_up(folder)
    assert len(manifest.a.held_out) == 8
    for a, b in ((manifest.a.train, manifest.b.train), (manifest.a.held_out, manifest.b.held_out)):
        assert [name[:-4] for name in names(a)] == [name[:-4] for name in names(b)]
    assert not set(names(manifest.a.train)) & set(names(manifest.a.held_out))
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    stores = open_images(again, small(paired=True), print)
    assert [len(store) for store in stores] == [33, 33, 8, 8]
    assert stores.held_out_b.paths[0] == folder / names(manifest.b.held_out)[0]


def test_held_out_pairs_of_their_own(fill, jpg_png, pair_up, small):
    folder, val = jpg_png("pairs", 3), fill("val", 4, size=(40, 16))
    manifest, lines = pair_up(folder, val_a=val)
    assert lines[1].startswith("held out: 4 pairs: the left and the right half")
    stores = open_images(Manifest.from_json(manifest.to_json()), small(paired=True, val_a=val), print)
    assert [len(store) for store in stores] == [3, 3, 4, 4]
    whole = images.read(val / "2.png")
    assert np.array_equal(stores.held_out_b[2].numpy(), images.resize(whole[:, 20:].copy(), 9, 9))


def test_changes_of_pairs_are_named(jpg_png, pair_up, changes):
    folder = jpg_png("pairs", 3)
    manifest, _ = pair_up(folder)
    assert changes(manifest) == []
    (folder / "1.jpg").unlink()
    (folder / "2.png").write_bytes(b"other")
    (folder / "new.png").write_bytes(b"other")
    (folder / "new.tif").write_bytes(b"no part of the pairs")
    assert changes(manifest) == ["A: 1.jpg was removed", "B: new.png was added", "B: 2.png was altered"]


def test_both_of_a_pair_get_the_same_crop_and_flip(fill, small):
    settings = small(jitter=0.4)
    stores = []
    for suffix in ("png", "npy"):
        folder = fill("pairs", 5, suffix=suffix)
        paths = [path for path in images.find(folder) if path.suffix == f".{suffix}"]
        stores.append(ImageStore(paths, LoadRule(settings, Contract(), 4)))
    with Loader(*stores, settings, 7, batch=2, device=torch.device("cpu"), paired=True) as loader:
        for k, (a, b, *_) in enumerate(islice(loader, 8)):
            assert torch.equal(a, b)
            i = pick(7, "a", 5, 2 * k)
            place = placement(7, "a", 2 * k)
            top, left = offset(place.y, 1), offset(place.x, 1)
            crop = stores[0][i][top : top + 8, left : left + 8].permute(2, 0, 1) / 127.5 - 1
            plain = (crop.flip(2) if place.flip else crop).mean(0)
            assert torch.corrcoef(torch.stack([a[0].mean(0).flatten(), plain.flatten()]))[0, 1] > 0.9


def test_a_stream_of_pairs_goes_on_anywhere_and_on_any_ranks(fill, small):
    settings = small()
    store = ImageStore(images.find(fill("A", 5)), LoadRule(settings, Contract(), 4))

    def stream(steps, **options):
        with Loader(store, store, settings, 3, device=torch.device("cpu"), paired=True, **options) as loader:
            return torch.cat([torch.cat(pair[:2], 1) for pair in islice(loader, steps)])

    whole = stream(12, batch=1)
    assert torch.equal(stream(7, batch=1, start=5), whole[5:])
    ranks = [stream(2, batch=3, rank=rank, world=2).split(3) for rank in range(2)]
    assert torch.equal(torch.cat([part for parts in zip(*ranks, strict=True) for part in parts]), whole)


def test_scaled_pairs_of_a_pixel_less_get_the_same_crop(small):
    from twofold.data.loader import same_crop

    grid = torch.arange(12 * 10).view(12, 10, 1)
    for y, x in ((0.99, 0.99), (0.0, 0.5)):
        one, other = same_crop([grid, grid[:11, :9]], 8, y, x)
        assert torch.equal(one, other) and one.shape == (8, 8, 1)


# ---- label maps


def test_label_maps_are_never_assumed_and_keep_their_colours(fill, pair_up, small):
    a, b = fill("A", 3, size=(60, 48)), fill("B", 0)
    for i in range(3):
        images.write(label_map(5, 48, 60, i), b / f"{i}.png")
    mixed, lines = pair_up(a, b)
    assert not mixed.b.labels and mixed.b.contract.labels is None and len(lines) == 1
    store = open_images(mixed, small(paired=True), print).b
    known = {tuple(colour) for colour in images.read(b / "0.png").reshape(-1, 3)}
    assert not {tuple(colour) for colour in store[0].reshape(-1, 3).tolist()} <= known
    manifest, lines = pair_up(a, b, labels_b=True)
    assert lines[1] == "B: uint8, label maps of 5 classes: #00ff00, #28e111, #50c322, #78a533, #a08744"
    assert (manifest.a.labels, manifest.b.labels) == (False, True)
    assert Manifest.from_json(manifest.to_json()) == manifest
    store = open_images(manifest, small(paired=True), print).b
    assert {tuple(colour) for colour in store[0].reshape(-1, 3).tolist()} <= known


def test_nearest_takes_the_pixel_under_the_centre():
    image = np.arange(7 * 5, dtype=np.uint8).reshape(7, 5, 1)
    for height, width in ((3, 2), (7, 5), (20, 11), (1, 1)):
        resized = images.resize(image, height, width, nearest=True)
        for i in range(height):
            for j in range(width):
                assert resized[i, j] == image[int((i + 0.5) * 7 / height), int((j + 0.5) * 5 / width)]


def test_jitter_beside_label_maps_is_refused(fill, pair_up, build):
    a, b = fill("A", 2, size=(60, 48)), fill("B", 0)
    for i in range(2):
        images.write(label_map(5, 48, 60, i), b / f"{i}.png")
    with pytest.raises(UsageError, match="jitter would change the colours of the label maps of B"):
        pair_up(a, b, jitter=0.1, labels_b=True)
    assert build(a, b, jitter=0.1, labels_b=True)[
        0
    ].b.labels  # without pairs the photographs alone are jittered


def test_half_of_an_image_can_be_a_label_map(fill, pair_up):
    folder = fill("pairs", 0)
    for i in range(2):
        photo = np.random.default_rng(i).integers(0, 256, (48, 60, 3), dtype=np.uint8)
        images.write(np.concatenate([label_map(5, 48, 60, i), photo], 1), folder / f"{i}.png")
    manifest, _ = pair_up(folder, labels_a=True)
    assert (manifest.a.labels, manifest.b.labels) == (True, False)
    assert len(manifest.a.contract.labels.values) == 5


# ---- Lab


def test_lab_of_one_folder_pairs_each_image_with_itself(fill, pair_up, small):
    folder = fill("photos", 3)
    manifest, lines = pair_up(folder, paired=False, lab=True)
    assert lines == ["3 pairs: the lightness of each image and its colour"]
    assert manifest.paired and (manifest.a.channels, manifest.b.channels) == (1, 2)
    stores = open_images(Manifest.from_json(manifest.to_json()), small(lab=True), print)
    lab = to_lab(images.resize(images.read(folder / "1.png"), 9, 9))
    assert stores.a.pixels is not None and stores.b.pixels is not None
    assert np.array_equal(torch.cat([stores.a[1], stores.b[1]], 2).numpy(), lab)


def test_lab_of_two_folders_needs_no_pairs(fill, build, small):
    manifest, lines = build(fill("A", 3, channels=1), fill("B", 2), lab=True)
    assert lines == [] and not manifest.paired
    assert (manifest.a.channels, manifest.b.channels) == (1, 2)
    stores = open_images(manifest, small(lab=True), print)
    assert (stores.a[2].shape, stores.b[1].shape) == ((9, 9, 1), (9, 9, 2))
