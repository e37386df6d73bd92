"""The page that holds its models, in Chromium, opened from a file and without a network, against `Translator`."""

import base64
import re
import subprocess
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from twofold.errors import TwofoldError, UsageError
from twofold.exporting import page as page_module
from twofold.exporting import web_runtime
from twofold.exporting.page import describe, find_runtime, write_page
from twofold.formats.contract import Contract, Labels
from twofold.formats.metadata import srgb_profile
from twofold.formats.resize import resize
from twofold.formats.scale import Geometry
from twofold.networks.layers import initialise
from twofold.networks.registry import describe as describe_network
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator
from twofold.translation.header import Header
from twofold.translation.sizes import working_size
from twofold.translation.translator import Translator

WORKER = Path(__file__).parents[2] / "twofold" / "pages" / "static" / "translate-worker.js"
PHONE = {"width": 360, "height": 740, "has_touch": True}
FITS = "document.documentElement.scrollWidth <= innerWidth"
SHORTEST = Geometry("shortest", 64, 64)


def swapped_profile() -> bytes:
    """The profile of sRGB with red and green exchanged."""
    icc = bytearray(srgb_profile())
    tags = {
        bytes(icc[at : at + 4]): int.from_bytes(icc[at + 4 : at + 8], "big")
        for at in range(132, 132 + 12 * icc[131], 12)
    }
    red, green = (slice(tags[name] + 8, tags[name] + 20) for name in (b"rXYZ", b"gXYZ"))
    icc[red], icc[green] = icc[green], icc[red]
    return bytes(icc).replace(b"s\0R\0G\0B", b"o\0t\0h\0r")


@pytest.fixture(scope="session", autouse=True)
def runtime() -> None:
    if find_runtime() is None:
        pytest.skip("onnxruntime-web is not installed: npm install --no-save onnxruntime-web")


@pytest.fixture(autouse=True)
def packed_once(monkeypatch) -> None:
    """The runtime is compressed once for all tests."""
    monkeypatch.setattr(page_module, "pack", pack_once)


pack_once = cache(page_module.pack)


def model(direction="ab", source=None, target=None, geometry=SHORTEST, network=ResnetGenerator, **arguments):
    """A generator with weights of its own, and its header."""
    source, target = source or Contract(), target or Contract()
    sizes = {"width": 4} | ({"blocks": 1} if network is ResnetGenerator else {}) | arguments
    generator = network(source.network_channels, target.network_channels, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        initialise(generator, "normal", 0.3)
    header = Header.of(describe_network(generator), direction, source, target, geometry)
    return generator.eval(), header


def pixels(height: int, width: int, channels: int = 3, seed: int = 0):
    """Smooth shapes with noise and edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [127 + 110 * np.sin(5 * (c + 1) * x + (7 - c) * y) for c in range(channels)]
    image = np.stack(waves, 2) + rng.normal(0, 6, (height, width, channels))
    image[height // 3 : height // 2, width // 4 : width // 2] = 250
    return image.clip(0, 255).astype(np.uint8)


class Page:
    """An open page, and the models in it."""

    def __init__(self, browser_page, models) -> None:
        self.page, self.models = browser_page, models

    def give(self, content: bytes, name: str = "picture.png"):
        self.page.locator("input[type=file]").first.set_input_files(
            {"name": name, "mimeType": "image/png", "buffer": content}
        )
        return self

    def result(self) -> Image.Image:
        """The file behind "Download", once the translation is done."""
        self.page.locator(".results:visible, .problem:visible").first.wait_for(timeout=30000)
        self.page.locator(".work").wait_for(state="hidden")
        assert self.page.locator(".problem").inner_text() == ""
        with self.page.expect_download() as download:
            self.page.locator(".save").click()
        return Image.open(BytesIO(download.value.path().read_bytes()))

    def problem(self) -> str:
        self.page.locator(".problem:visible").wait_for(timeout=30000)
        return self.page.locator(".problem").inner_text()

    def translated(self, content: bytes, at: str = "trained") -> Image.Image:
        self.page.locator(".scale").select_option(at)
        return self.give(content).result()

    def expected(self, content: bytes, at="trained", direction: str = "ab") -> Image.Image:
        translator = Translator(*self.models[direction], noise=False)
        return translator(Image.open(BytesIO(content)), at=int(at) if at.isdecimal() else at)


@pytest.fixture
def opened(tmp_path, show) -> Callable[..., Page]:
    """`opened({"ab": model()}, **options)` writes a page and opens it from the file, without a network."""

    def open_models(models, fp16=False, webgpu=False, **options) -> Page:
        write_page(models, tmp_path / "page.html", title="horse2zebra", fp16=fp16, webgpu=webgpu)
        return Page(show((tmp_path / "page.html").as_uri(), offline=True, **options), models)

    return open_models


def png(image, **options) -> bytes:
    file = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "PNG", **options)
    return file.getvalue()


def difference(found: Image.Image, wanted: Image.Image) -> int:
    assert (found.size, found.mode) == (wanted.size, wanted.mode)
    return int(np.abs(np.asarray(found).astype(int) - np.asarray(wanted)).max())


def exif_jpeg() -> bytes:
    """A portrait that a camera stored lying on its side."""
    file, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(120, 90)).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


# ---- the pixels are those of Translator


def test_pictures_of_all_sizes_and_kinds_give_pythons_pixels(opened):
    page = opened({"ab": model()})
    pictures = {
        "trained size": png(pixels(64, 64)),
        "odd": png(pixels(131, 203)),
        "large": png(pixels(600, 900)),
        "portrait": png(pixels(150, 67)),
        "tiny": png(pixels(5, 3)),
        "grey": png(pixels(80, 64, 1)),
        "16 bits": png16(pixels(70, 80, 1)),
        "JPEG on its side": exif_jpeg(),
    }
    differences = {
        name: difference(page.translated(each), page.expected(each)) for name, each in pictures.items()
    }
    differences |= {
        at: difference(page.translated(pictures["odd"], at), page.expected(pictures["odd"], at))
        for at in ("native", "512")
    }
    assert max(differences.values()) <= 2, differences


def png16(image) -> bytes:
    file = BytesIO()
    Image.fromarray(image[..., 0].astype(np.uint16) * 257).save(file, "PNG")
    return file.getvalue()


def test_transparent_parts_stay_transparent(opened):
    page = opened({"ab": model()})
    picture = pixels(70, 90, 4)
    picture[..., 3] = np.linspace(0, 255, 90).astype(np.uint8)
    found, wanted = page.translated(png(picture)), page.expected(png(picture))
    assert difference(found, wanted) <= 2
    assert np.array_equal(np.asarray(found)[..., 3], picture[..., 3])


def test_a_colour_profile_counts_where_the_model_says_so(opened):
    page = opened({"ab": model(source=Contract(icc="srgb")), "ba": model("ba", source=Contract(icc="keep"))})
    picture = png(pixels(64, 70), icc_profile=swapped_profile())
    converted, kept = (page.expected(picture, direction=way) for way in ("ab", "ba"))
    assert difference(page.translated(picture), converted) <= 2
    page.page.get_by_role("button", name="B→A", exact=True).click()
    assert difference(page.result(), kept) <= 2 < difference(kept, converted)


def test_grey_ranges_and_a_unet_that_needs_padding(opened):
    grey = Contract(channels=1, low=(20.0,), high=(210.0,), found="settings")
    unet = model("ba", target=grey, network=UnetGenerator, depth=4, geometry=Geometry("none", 64, 64))
    page = opened({"ab": model(source=grey), "ba": unet})
    picture = png(pixels(75, 101))
    assert difference(page.translated(picture), page.expected(picture)) <= 2
    page.page.get_by_role("button", name="B→A", exact=True).click()
    assert difference(page.result(), page.expected(picture, direction="ba")) <= 2


IDS = Contract(
    channels=1,
    found="labels",
    labels=Labels(((0,), (7,), (9,)), palette=tuple((9 * i, 255 - i, i) for i in range(10))),
)
COLOURS = Contract(found="labels", labels=Labels(((0, 0, 0), (0, 0, 255), (255, 0, 0)), onehot=True))


def test_label_maps_keep_their_classes(opened):
    page = opened({"ab": model(source=IDS), "ba": model("ba", source=COLOURS)})
    rng = np.random.default_rng(0)
    labels, file = Image.fromarray(np.array([0, 7, 9], np.uint8)[rng.integers(0, 3, (33, 47))]), BytesIO()
    labels.putpalette([part for colour in IDS.labels.palette for part in colour])
    labels.save(file, "PNG")
    assert difference(page.translated(file.getvalue()), page.expected(file.getvalue())) <= 2
    assert "none of the model's 3 classes" in page.give(png(pixels(20, 20))).problem()
    page.page.get_by_role("button", name="B→A", exact=True).click()
    colours = png(np.array(COLOURS.labels.values, np.uint8)[rng.integers(0, 3, (50, 70))])
    assert difference(page.translated(colours), page.expected(colours, direction="ba")) <= 2


def test_half_weights_halve_the_model_and_keep_the_pixels(opened, tmp_path):
    models = {"ab": model(width=16)}
    whole = write_page(models, tmp_path / "whole.html", title="x")
    half = write_page(models, tmp_path / "half.html", title="x", fp16=True)
    assert half.models < 0.6 * whole.models
    page, picture = opened(models, fp16=True), png(pixels(64, 64))
    found, wanted = np.asarray(page.translated(picture)), np.asarray(page.expected(picture))
    assert 0 < np.abs(found.astype(int) - wanted).mean() < 1


def test_the_page_for_graphics_cards_falls_back_to_the_processor(opened):
    page, picture = opened({"ab": model()}, webgpu=True), png(pixels(64, 64))
    assert difference(page.translated(picture), page.expected(picture)) <= 2


RESIZE = """([text, height, width, channels, rows, columns, nearest]) => {
  const data = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  return [...resize({ data, height, width, channels }, rows, columns, nearest).data];
}"""


def test_resizing_equals_pythons_in_every_pixel(show):
    page = show("about:blank")
    page.add_script_tag(path=WORKER)
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width, rows, columns = (int(side) for side in np.exp(rng.uniform(0, 4.6, 4)))
        image = rng.integers(0, 256, (height, width, int(rng.choice([1, 3, 4]))), dtype=np.uint8)
        for nearest in (False, True):
            text = base64.b64encode(image.tobytes()).decode()
            found = page.evaluate(RESIZE, [text, *image.shape, rows, columns, nearest])
            wanted = resize(image, rows, columns, nearest)
            assert np.array_equal(np.array(found, np.uint8).reshape(wanted.shape), wanted), image.shape


@pytest.mark.parametrize(
    "rule", ["shortest", "resize-and-crop", "scale-width", "scale-width-and-crop", "crop"]
)
def test_working_sizes_equal_pythons(show, rule):
    page = show("about:blank")
    page.add_script_tag(path=WORKER)
    generator, new = model(geometry=Geometry(rule, 75, 64))
    old = Header(new.network, "ab", size=None if rule == "crop" else 75)
    rng = np.random.default_rng(0)
    shapes = [
        (*shape, at) for shape in rng.integers(1, 900, (100, 2)).tolist() for at in ("trained", "native", 512)
    ]
    for header in (new, old):
        known = describe(generator, header, "x")
        found = page.evaluate(
            "([known, shapes]) => shapes.map((shape) => sizeAt(known, ...shape))", [known, shapes]
        )
        assert [tuple(each) for each in found] == [
            working_size(header, generator.multiple_of, *shape) for shape in shapes
        ]


# ---- the page in use


def test_the_page_loads_nothing_and_its_policy_forbids_it(opened):
    page, requests = opened({"ab": model()}), []
    page.page.on("request", lambda request: requests.append(request.url))
    page.translated(png(pixels(64, 64)))
    assert all(address.startswith("blob:") for address in requests)
    policy = page.page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy and "connect-src" not in policy
    document = page.page.content()
    assert not re.search(r"(?:src|href)=[\"']?https?:", document)
    assert "Copyright (c) Microsoft Corporation" in document
    assert "Permission is hereby granted" in page.page.locator(".licence pre").text_content()


def test_translate_back_and_the_name_of_the_file(opened):
    page = opened({"ab": model(), "ba": model("ba")})
    first = png(pixels(50, 64))
    between = BytesIO()
    page.give(first, "horse.of.mine.jpeg").result().save(between, "PNG")
    assert page.page.locator(".save").get_attribute("download") == "horse.of.mine-ab.png"
    assert "64 × 50 pixels" in page.page.locator(".about").inner_text()
    page.page.get_by_role("button", name="Translate back B→A").click()
    page.page.locator(".save[download='horse.of.mine-ab-ba.png']").wait_for()
    assert difference(page.result(), page.expected(between.getvalue(), direction="ba")) <= 2


def test_what_is_no_picture_is_refused_and_the_next_picture_works(opened):
    page = opened({"ab": model()})
    assert "cannot read that file as a picture" in page.give(b"hello").problem()
    page.translated(png(pixels(64, 64)))


def test_a_new_picture_replaces_one_that_is_being_translated(opened):
    page = opened({"ab": model(width=16, blocks=3)})
    page.page.locator(".scale").select_option("1024")
    page.give(png(pixels(64, 64))).page.get_by_text("Translating", exact=True).wait_for()
    page.page.get_by_role("button", name="Cancel").click()
    assert not page.page.locator(".work").is_visible()
    page.page.locator(".scale").select_option("trained")
    second = png(pixels(64, 80, seed=1))
    assert difference(page.give(second).result(), page.expected(second)) <= 2


def test_a_picture_beyond_the_memory_is_refused_with_a_size_that_fits(show):
    page = show("about:blank")
    page.add_script_tag(path=WORKER)
    generator, header = model(width=64)
    known = describe(generator, header, "x")
    message = page.evaluate(
        "(known) => { try { checkMemory(known, 4000, 3000); } catch (error) { return error.message; } }",
        known,
    )
    assert re.search(r"3000 × 4000 pixels need about \d+ GiB .* of up to \d+ × \d+ pixels", message), message


def test_drop_paste_and_the_divider(opened):
    page = opened({"ab": model()})
    send = """([kind, text]) => {
      const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0)), transfer = new DataTransfer();
      if (text) transfer.items.add(new File([bytes], `${kind}.png`, { type: "image/png" }));
      const given = { bubbles: true, cancelable: true, clipboardData: transfer, dataTransfer: transfer };
      document.body.dispatchEvent(kind === "paste" ? new ClipboardEvent(kind, given) : new DragEvent(kind, given));
    }"""
    for kind in ("paste", "drop"):
        page.page.evaluate(send, [kind, base64.b64encode(png(pixels(64, 48))).decode()])
        page.page.locator(f".save[download='{kind}-ab.png']").wait_for()
    page.page.locator(".results:visible").wait_for()
    slider = page.page.locator(".stage input")
    slider.press("ArrowRight")
    assert page.page.locator(".stage").evaluate("stage => stage.style.getPropertyValue('--cut')") == "51%"
    page.page.evaluate(send, ["drop", ""])
    assert "save the picture first" in page.problem()


def test_a_picture_from_the_camera(opened, until):
    page = opened({"ab": model()})
    page.page.get_by_role("button", name="Camera").click()
    until(lambda: page.page.locator("video").evaluate("video => video.videoWidth") > 0)
    page.page.get_by_role("button", name="Take the picture").click()
    page.page.locator(".save[download='camera-ab.png']").wait_for()
    assert page.result().size[0] >= 320
    assert (
        page.page.evaluate("document.querySelector('video').srcObject.getTracks()[0].readyState") == "ended"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(opened, scheme):
    page = opened({"ab": model(), "ba": model("ba")}, color_scheme=scheme, **PHONE)
    assert page.page.evaluate(FITS)
    page.translated(png(pixels(150, 64)))
    assert page.page.evaluate(FITS)
    box = page.page.locator(".stage").bounding_box()
    assert box["height"] <= 0.76 * PHONE["height"] and box["height"] / box["width"] == pytest.approx(
        150 / 64, abs=0.05
    )
    for control in page.page.locator("button:visible, select:visible, .tools label").all():
        assert control.bounding_box()["height"] >= 38


# ---- writing the page


def test_the_sizes_are_those_of_the_file_and_equal_models_give_equal_bytes(tmp_path):
    files = [tmp_path / "a.html", tmp_path / "deep" / "b.html"]
    sizes = [write_page({"ab": model()}, file, title="x") for file in files]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sizes[0].total == files[0].stat().st_size
    assert 0 < sizes[0].total - sizes[0].models - sizes[0].runtime < 60_000
    assert re.fullmatch(r"\d\.\d MB \(models \d\.\d MB, ONNX Runtime Web \d\.\d MB\)", str(sizes[0]))


DEEP = Contract("uint16", 1, (0.0,), (4095.0,), "bits")


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"source": DEEP}, r"this model takes uint16, 1 channel, 0…4,095: use `twofold serve`"),
        ({"target": DEEP}, r"this model gives uint16"),
        ({"source": Contract(channels=4)}, r"this model takes uint8, 4 channels"),
        ({"target": Contract(channels=2)}, r"this model gives uint8, 2 channels"),
        ({"target": IDS}, "this model makes label maps"),
    ],
)
def test_a_model_that_a_browser_cannot_show_is_refused(tmp_path, ends, message):
    with pytest.raises(UsageError, match=message):
        write_page({"ab": model(**ends)}, tmp_path / "page.html", title="x")
    assert not list(tmp_path.iterdir())


def test_a_lab_model_is_refused(tmp_path):
    generator = ResnetGenerator(1, 2, width=2, blocks=1)
    header = Header.of(describe_network(generator), "ab", Contract(), Contract(), SHORTEST, lab=True)
    with pytest.raises(UsageError, match="works in Lab colours"):
        write_page({"ab": (generator, header)}, tmp_path / "page.html", title="x")


# ---- finding the runtime


def test_without_consent_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(web_runtime, "_installed", lambda: iter(()))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("npm was started"))
    with pytest.raises(UsageError, match="npm install onnxruntime-web"):
        write_page({"ab": model()}, tmp_path / "page.html", title="x")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_the_runtime_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match=f"--ort {place} holds no onnxruntime-web"):
            find_runtime(place)


RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def test_the_runtime_is_found_by_its_folder_the_one_around_it_and_its_archive(tmp_path):
    place = find_runtime()
    assert place is not None
    assert find_runtime(place) == find_runtime(place / "dist") == place
    assert find_runtime(place.parent) == place
    archive = tmp_path / "onnxruntime-web.tgz"
    files = [f"dist/{name}" for name in RUNTIME]
    subprocess.run(["tar", "czf", archive, "--transform", "s,^,package/,", *files], cwd=place, check=True)
    assert web_runtime.read_runtime(archive, False, False) == web_runtime.read_runtime(place, False, False)
    with pytest.raises(TwofoldError, match=r"has no file dist/ort\.webgpu\.min\.js"):
        web_runtime.read_runtime(archive, True, False)


def test_with_consent_npm_fetches_it(tmp_path, monkeypatch):
    place = find_runtime()
    monkeypatch.setattr(web_runtime, "_installed", lambda: iter(()))
    npm = tmp_path / "npm"
    files = " ".join(f"onnxruntime-web/dist/{name}" for name in RUNTIME)
    packing = f'tar czf "$4/it.tgz" --transform s,^onnxruntime-web,package, -h {files}'
    npm.write_text(f'#!/bin/sh\ncd "{place.parent}" && {packing}\n')
    npm.chmod(0o755)
    monkeypatch.setattr(web_runtime.shutil, "which", lambda _: str(npm))
    assert web_runtime.read_runtime(None, False, True) == web_runtime.read_runtime(place, False, False)
    npm.write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    with pytest.raises(TwofoldError, match="npm could not fetch onnxruntime-web: npm error network"):
        web_runtime.read_runtime(None, False, True)
