"""The front end of the server's page, in Chromium, against answers made here in place of `twofold serve`."""

import json
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from twofold.pages.translate import server_page

ADDRESS = "http://twofold.test/prefix/"
FITS = "document.documentElement.scrollWidth <= innerWidth"


def picture(colour, size=(40, 30), kind="PNG") -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def run(direction="ab", snapshots=(100, 200), best=True):
    domain = {"dtype": "uint8", "channels": 3, "labels": False}
    known = {
        "source": domain,
        "target": domain,
        "formats": ["png", "tif"],
        "best": best,
        "samples": [100, 200],
    }
    return {"direction": direction, "newest": max(snapshots, default=None), "snapshots": [*snapshots]} | known


class Server:
    """Answers to the page's requests, and what it asked."""

    def __init__(self) -> None:
        self.models = [{"name": "horse2zebra", "ready": True, "directions": [run(), run("ba")]}]
        self.asked, self.sent, self.samples, self.failures = [], [], [], []

    def answer(self, route) -> None:
        address = urlsplit(route.request.url)
        path = address.path.removeprefix("/prefix/")
        if path == "":
            route.fulfill(body=server_page("Translate"), content_type="text/html")
        elif path == "models":
            route.fulfill(json=self.models)
        elif path.startswith("samples/"):
            self.samples.append(path)
            route.fulfill(body=picture("teal", (90, 60), "WEBP"), content_type="image/webp")
        elif path == "translate" and self.failures:
            status, message = self.failures.pop(0)
            route.fulfill(status=status, headers={"Retry-After": "0"}, json={"error": message})
        elif path == "translate":
            self.asked.append({name: values[0] for name, values in parse_qs(address.query).items()})
            self.sent.append(route.request.post_data_buffer)
            tif = self.asked[-1]["format"] == "tif"
            body = picture("red", kind="TIFF" if tif else "PNG")
            route.fulfill(body=body, content_type="image/tiff" if tif else "image/png")
        else:
            route.fulfill(status=404)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def opened(server, show, browser):
    def open_page(**options):
        page = show("about:blank", **options)
        page.route("http://twofold.test/**", server.answer)
        page.goto(ADDRESS)
        page.locator("main:visible").wait_for()
        return page

    return open_page


def give(page, content=None, name="horse.png"):
    content = content or picture("blue")
    page.locator("input[type=file]").first.set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": content}
    )
    page.locator(".results:visible, .problem:visible").first.wait_for()


def until(page, condition) -> None:
    """Wait for a condition while the routes answer."""
    for _ in range(400):
        if condition():
            return
        page.wait_for_timeout(20)
    pytest.fail("waited in vain")


def test_a_picture_goes_to_the_server_and_comes_back(opened, server):
    page = opened()
    give(page)
    assert server.sent == [picture("blue")]
    assert server.asked == [{"model": "horse2zebra", "direction": "ab", "at": "trained", "format": "png"}]
    with page.expect_download() as download:
        page.locator(".save").click()
    assert download.value.suggested_filename == "horse-ab.png"
    assert download.value.path().read_bytes() == picture("red")
    page.locator(".scale").select_option("native")
    page.get_by_role("button", name="B→A", exact=True).click()
    page.get_by_role("button", name="Translate back A→B").wait_for()
    assert server.asked[-1] == {"model": "horse2zebra", "direction": "ba", "at": "native", "format": "png"}


def test_snapshots_are_chosen_and_show_the_samples_of_their_time(opened, server):
    page = opened()
    slider = page.get_by_label("Snapshot of the run")
    assert page.locator(".moment").inner_text() == "200 images, the newest"
    until(page, lambda: server.samples == ["samples/horse2zebra/000000200-ab.webp"])
    give(page)
    slider.press("ArrowLeft")
    assert page.locator(".moment").inner_text() == "100 images"
    until(page, lambda: server.asked[-1].get("snapshot") == "100")
    assert server.samples[-1] == "samples/horse2zebra/000000100-ab.webp"
    slider.press("Home")
    until(page, lambda: server.asked[-1].get("snapshot") == "best")
    assert page.locator(".moment").inner_text() == "the best on held-out images"


def test_a_new_snapshot_is_followed_and_the_picture_translated_again(opened, server):
    page = opened()
    give(page)
    server.models = [{"name": "horse2zebra", "ready": True, "directions": [run(snapshots=(100, 200, 300))]}]
    page.evaluate("look()")
    until(page, lambda: len(server.asked) == 2)
    assert page.locator(".moment").inner_text() == "300 images, the newest"
    page.evaluate("look()")
    assert len(server.asked) == 2


def test_a_run_without_snapshots_yet_is_waited_for(opened, server, show):
    server.models = [{"name": "new", "ready": False, "directions": []}]
    page = show("about:blank")
    page.route("http://twofold.test/**", server.answer)
    page.goto(ADDRESS)
    page.get_by_text("No model yet").wait_for()
    server.models = [{"name": "new", "ready": True, "directions": [run()]}]
    page.evaluate("look()")
    page.get_by_text("Choose a picture").wait_for()
    assert not page.get_by_text("No model yet").is_visible()


def test_several_models_are_listed(opened, server):
    file = run(snapshots=(), best=False) | {"samples": []}
    server.models.append({"name": "maps <b>", "ready": True, "directions": [file]})
    page = opened()
    page.get_by_label("Model").select_option("maps <b>")
    assert not page.locator(".snapshots").is_visible() and not page.locator(".switch").is_visible()
    give(page)
    assert server.asked[-1]["model"] == "maps <b>" and "snapshot" not in server.asked[-1]


def test_errors_are_shown_and_a_full_server_is_asked_again(opened, server, show):
    page = opened()
    server.failures = [(503, "full")]
    give(page)
    assert len(server.asked) == 1
    for status, message in ((422, "damaged <i>"), (413, "too large")):
        server.failures = [(status, message)]
        give(page)
        assert page.locator(".problem").inner_text() == message
    server.failures = [(503, "full: try later")] * 5
    give(page)
    assert page.locator(".problem").inner_text() == "full: try later"
    page.complaints.clear()  # Chromium's own lines about the statuses


def test_a_result_that_a_browser_cannot_show_can_be_downloaded(opened, server):
    page = opened()
    page.get_by_label("Format").select_option("tif")
    give(page, b"II*\0 not shown", "bands.tif")
    assert "cannot show" in page.locator(".about").inner_text()
    assert page.locator(".save").get_attribute("download") == "bands-ab.tif"
    assert server.asked[-1]["format"] == "tif"


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_a_phone(opened, width):
    page = opened(width=width, height=740)
    give(page)
    assert page.evaluate(FITS)


def test_the_page_contains_no_data_and_escapes_its_title():
    document = server_page("</title><script>alert(1)</script>")
    assert "<script>alert" not in document
    assert "connect-src 'self'" in document and "wasm-unsafe-eval" not in document
    assert json.dumps(None) not in document.split("<body>")[1].split("<script>")[0]
