"""The translation server asked in this process: results, limits, errors, models, following."""

import asyncio
import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from twofold.errors import UsageError
from twofold.exchange.load import load
from twofold.formats.contract import Contract, Labels
from twofold.serving import models, server, service, uploads

from .service import (
    DEFAULTS,
    GREY_12,
    LOCAL,
    Client,
    encoded,
    error,
    make_service,
    picture,
    pixels_of,
    write_model,
    write_run,
)


@pytest.fixture
def ask(loop):
    """`ask(path, …)` serves these models in this process and gives a client; `client.service` is the server's state."""
    clients = []

    def start(*paths, limits=DEFAULTS, access=LOCAL, follow=False, load=load, said=None):
        service = make_service(*paths, limits=limits, follow=follow, load=load, said=said)
        client = Client(loop, service, access)
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "h2z.safetensors")


# ---- results


def test_the_answer_is_the_translation_in_the_size_of_the_image(ask, model):
    client, image = ask(model), picture()
    expected = load(model).array(image)
    body = encoded(image)
    answer = client.post("/translate", content=body)
    assert np.array_equal(pixels_of(answer), expected)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-twofold-model"] == "h2z"
    assert answer.headers["x-twofold-direction"] == "ab"
    assert answer.headers["server-timing"].startswith("decode;dur=")
    for files in ({"image": body}, {"image": ("misleading.txt", body, "text/plain")}):
        assert np.array_equal(pixels_of(client.post("/translate", files=files)), expected)
    native = client.post("/translate?at=native", content=body)
    assert np.array_equal(pixels_of(native), load(model).array(image, "native"))
    assert not np.array_equal(pixels_of(native), expected)


@pytest.mark.parametrize(
    ("format", "media", "kind"),
    [
        ("png", "image/png", "PNG"),
        ("jpg", "image/jpeg", "JPEG"),
        ("jpeg", "image/jpeg", "JPEG"),
        ("webp", "image/webp", "WEBP"),
        ("tif", "image/tiff", "TIFF"),
        ("avif", "image/avif", "AVIF"),
    ],
)
def test_a_format_can_be_chosen(ask, model, format, media, kind):
    answer = ask(model).post(f"/translate?format={format}", content=encoded(picture(), "JPEG"))
    assert answer.headers["content-type"] == media
    shown = Image.open(io.BytesIO(answer.content))
    assert (shown.format, shown.size) == (kind, (48, 40))


def test_parameters_may_be_form_fields(ask, model):
    answer = ask(model).post("/translate", files={"image": encoded(picture())}, data={"format": "npy"})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert np.load(io.BytesIO(answer.content)).shape == (40, 48, 3)
    empty = {"format": "", "at": ""}  # as a form of a page sends a field that was left out
    answer = ask(model).post("/translate?format=npy", files={"image": encoded(picture())}, data=empty)
    assert answer.headers["content-type"] == "application/octet-stream"


def test_deep_models_take_and_give_their_own_type(ask, tmp_path):
    path = write_model(tmp_path / "ct.safetensors", source=GREY_12, target=GREY_12)
    client, image = ask(path), picture(channels=1, dtype=np.uint16, top=4095)
    expected = load(path).array(image)
    raw, tiff = io.BytesIO(), io.BytesIO()
    np.save(raw, image)
    tifffile.imwrite(tiff, image[..., 0])
    for body in (encoded(image), raw.getvalue(), tiff.getvalue()):
        shown = pixels_of(client.post("/translate", content=body))
        assert shown.dtype == np.uint16
        assert np.array_equal(shown, expected[..., 0])
    answer = client.post("/translate?format=tif", content=encoded(image))
    assert np.array_equal(tifffile.imread(io.BytesIO(answer.content)), expected[..., 0])
    line = error(client.post("/translate?format=jpg", content=encoded(image)), 422)
    assert "does not hold uint16" in line and ".png" in line
    assert client.get("/models").json()[0]["directions"][0]["formats"][0] == "png"


def test_label_maps_refuse_unknown_ids_and_lossy_formats(ask, tmp_path):
    maps = Contract(
        "uint8",
        1,
        (0.0,),
        (255.0,),
        "labels",
        Labels(((1,), (2,)), palette=((0, 0, 0), (255, 0, 0), (0, 0, 255))),
    )
    path = write_model(tmp_path / "maps.safetensors", source=maps, target=maps)
    client = ask(path)
    answer = client.post("/translate", content=encoded(np.full((16, 16, 1), 2, np.uint8)))
    assert set(np.unique(pixels_of(answer))) <= {1, 2}
    assert Image.open(io.BytesIO(answer.content)).mode == "P"
    line = error(client.post("/translate", content=encoded(np.full((16, 16, 1), 7, np.uint8))), 422)
    assert "7" in line
    line = error(
        client.post("/translate?format=jpg", content=encoded(np.full((16, 16, 1), 2, np.uint8))), 422
    )
    assert "png" in line


def test_alpha_and_orientation_are_kept(ask, model):
    client = ask(model)
    rgba = np.dstack([picture(), np.full((40, 48), 9, np.uint8)])
    assert (pixels_of(client.post("/translate", content=encoded(rgba)))[..., 3] == 9).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = client.post("/translate", content=encoded(picture(), "JPEG", exif=exif))
    assert pixels_of(turned).shape == (48, 40, 3)


# ---- bad input


BAD = [
    ("", b"", 400, "empty"),
    ("", b"hello, world, this is no image", 415, "PNG, JPEG"),
    ("", b"%PDF-1.7 and so on and so on", 415, "not an image"),
    ("", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 415, "HEIC"),
    ("", b"\x89PNG\r\n\x1a\n" + b"x" * 40, 422, "damaged"),
    ("", b"II*\0" + b"\xff" * 40, 422, "damaged"),
    ("", b"\x93NUMPY\x01\0\xff\xff", 422, ""),
    ("", b"PK\x03\x04 no archive", 422, ""),
    ("?direction=x", None, 422, "direction must be ab or ba, not 'x'"),
    ("?direction=ba", None, 404, "no direction ba; it has ab"),
    ("?at=0", None, 422, "at must be trained, native or a number"),
    ("?at=-5", None, 422, "not '-5'"),
    ("?at=%D9%A3", None, 422, "at must be"),
    ("?at=1" + "0" * 400, None, 422, "at must be"),
    ("?at=5000", None, 422, "use a smaller at"),
    ("?format=exe", None, 422, "format must be one of png, "),
    ("?snapshot=best", None, 404, "is a model file"),
    ("?snapshot=newest", None, 422, "snapshot must be best or"),
    ("?model=other", None, 404, "unknown model 'other'; the models are h2z"),
    ("?fromat=png", None, 422, "did you mean format?"),
    ("?at=native&at=trained", None, 422, "twice"),
]


@pytest.mark.parametrize(("query", "body", "status", "words"), BAD)
def test_bad_requests_are_one_line_with_the_right_status(ask, model, query, body, status, words):
    client = ask(model)
    body = encoded(picture()) if body is None else body
    assert words in error(client.post(f"/translate{query}", content=body), status)


def test_broken_forms_are_refused(ask, model):
    client, body = ask(model), encoded(picture())
    assert "curl -F image=@FILE" in error(client.post("/translate", files={"file": body}), 422)
    assert "curl -F image=@FILE" in error(
        client.post("/translate", data={"image": "x"}, files={"x": b""}), 422
    )
    for kind, content in [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"no such boundary"),
        ("multipart/form-data; boundary=a", b"--a\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a--\r\n"),
        ("multipart/form-data; boundary=" + "a" * 5000, body),
        ("multipart/form-data; boundary=\xff", body),
    ]:
        answer = client.post("/translate", content=content, headers={"Content-Type": kind.encode("latin-1")})
        assert answer.status_code in (400, 422), kind
        error(answer, answer.status_code)
    many = [("image", body), ("image", body)]
    error(client.post("/translate", files=many), 400)


def test_unknown_paths_and_methods_are_json_too(ask, model):
    client = ask(model)
    assert "GET /none: Not Found; GET /openapi.json lists the addresses" in error(client.get("/none"), 404)
    answer = client.get("/translate")
    assert error(answer, 405) == "GET /translate: Method Not Allowed; use POST"
    assert answer.headers["allow"] == "POST"


def test_limits_on_bytes(ask, model):
    client = ask(model, limits=uploads.Limits(bytes=2000))
    body = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))

    async def in_parts():
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    assert "over the limit of 2,000 bytes" in error(client.post("/translate", content=body), 413)
    error(client.post("/translate", content=in_parts()), 413)
    error(client.post("/translate", content=body[:2001]), 413)
    assert client.service.held == 0


def test_limits_on_pixels(ask, model):
    client = ask(model, limits=uploads.Limits(pixels=48 * 40))
    assert pixels_of(client.post("/translate", content=encoded(picture()))).shape == (40, 48, 3)
    large = encoded(picture(48, 48))
    assert "48×48 pixels are over the limit of 1,920" in error(client.post("/translate", content=large), 413)
    bomb = bytearray(large)
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    assert "bomb" in error(client.post("/translate", content=bytes(bomb)), 422)
    bands = io.BytesIO()
    np.save(bands, np.zeros((40, 40, 100)))
    assert "decoded" in error(client.post("/translate", content=bands.getvalue()), 413)
    error(client.post("/translate?at=100", content=encoded(picture())), 422)


def test_an_answer_is_held_until_it_is_sent(ask, model):
    state, held = ask(model).service, []
    file = bytes(200_000)

    async def send(message):
        held.append((state.held, len(message.get("body", b""))))

    async def fail(message):
        raise OSError

    def answer(send):  # in a thread of its own: a browser's test may have left a loop in this one
        sent = service.Answer(state, file, "image/png", {})({"type": "http"}, None, send)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, sent).result()

    answer(send)
    assert {each for each, _ in held} == {200_000} and state.held == 0
    assert max(sent for _, sent in held) == 65536 and sum(sent for _, sent in held) == 200_000
    with pytest.raises(OSError):
        answer(fail)
    assert state.held == 0


def test_too_slow_an_answer_is_503_and_leaves_nothing_behind(ask, model):
    client = ask(model, limits=uploads.Limits(seconds=0.2))
    free = threading.Event()
    client.service.batcher.on_batch = lambda *_: free.wait(10)
    answer = client.post("/translate", content=encoded(picture()))
    assert "no answer within 0.2 s" in error(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1
    free.set()
    client.service.limits = uploads.Limits()
    assert pixels_of(client.post("/translate", content=encoded(picture()))).shape == (40, 48, 3)
    service = client.service
    assert (service.open, service.working, service.held) == (0, 0, 0)


def test_the_end_waits_for_a_bounded_time(ask, model, monkeypatch):
    monkeypatch.setattr(service, "DRAIN_SECONDS", 0.2)
    client, free, answers = ask(model), threading.Event(), []
    client.service.batcher.on_batch = lambda *_: free.wait(10)
    thread = threading.Thread(
        target=lambda: answers.append(client.post("/translate", content=encoded(picture())))
    )
    thread.start()
    wait_for(lambda: client.service.working)
    assert not client.service.drain()
    assert "shutting down" in error(client.post("/translate", content=encoded(picture())), 503)
    assert "shutting down" in error(client.get("/readyz"), 503)
    while not client.wait(drained(client.service)):
        time.sleep(0.05)
    thread.join()
    assert "shutting down" in error(answers[0], 503)
    free.set()


async def drained(service):
    return service.drain()


def test_a_full_queue_is_503_with_the_time_to_wait(ask, model):
    client = ask(model, limits=uploads.Limits(queue=2))
    free, answers = threading.Event(), []
    client.service.batcher.on_batch = lambda *_: free.wait(10)

    def post():
        answers.append(client.post("/translate", content=encoded(picture())))

    threads = [threading.Thread(target=post) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 10
    while client.service.working < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    answer = client.post("/translate", content=encoded(picture()))
    assert "busy with 2 images" in error(answer, 503)
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert client.get("/healthz").status_code == 200
    free.set()
    for thread in threads:
        thread.join()
    assert [each.status_code for each in answers] == [200, 200]


def test_a_mistake_is_500_in_one_line_and_the_server_goes_on(ask, model, monkeypatch):
    said = []
    client = ask(model, said=said)
    with monkeypatch.context() as broken:
        broken.setattr(uploads, "encode", lambda *_: 1 / 0)
        line = error(client.post("/translate", content=encoded(picture())), 500)
    assert "ZeroDivisionError" in line and "ZeroDivisionError" in said[0]
    assert client.post("/translate", content=encoded(picture())).status_code == 200


# ---- models and snapshots


def test_models_tell_their_directions_and_snapshots(ask, tmp_path, model):
    run = write_run(tmp_path / "run", 100, 2000)
    run.best("ab").write_bytes(run.snapshot(100, "ab").read_bytes())
    run.sample(100, "ab").parent.mkdir()
    Image.new("RGB", (8, 8)).save(run.sample(100, "ab"), "WEBP")
    other = tmp_path / "other"
    other.mkdir()
    write_run(other / "run", 5, directions=("ba",))
    client = ask(run.path, other / "run", model)
    first, second, third = client.get("/models").json()
    domain = {"dtype": "uint8", "channels": 3, "labels": False}
    formats = first["directions"][0].pop("formats")
    assert formats[0] == "png" and {"jpg", "webp", "tif", "npy"} <= {*formats}
    assert first["directions"][0] == {
        **{"direction": "ab", "source": domain, "target": domain, "newest": 2000},
        **{"snapshots": [100, 2000], "best": True, "samples": [100]},
    }
    assert [first["name"], second["name"], third["name"]] == ["run", "run-2", "h2z"]
    assert [each["direction"] for each in second["directions"]] == ["ba"]
    assert third["directions"][0]["newest"] is None
    assert client.get("/samples/run/000000100-ab.webp").content == run.sample(100, "ab").read_bytes()
    for name in ("run/000000200-ab.webp", "run/..%2fconfig.yaml", "h2z/000000100-ab.webp", "none/x"):
        error(client.get(f"/samples/{name}"), 404)


def test_a_snapshot_can_be_chosen(ask, tmp_path):
    run = write_run(tmp_path / "run", 100, 2000)
    run.best("ab").write_bytes(run.snapshot(100, "ab").read_bytes())
    client, image = ask(run.path), picture()
    body = encoded(image)
    for query, file, images in [
        ("", run.snapshot(2000, "ab"), "2000"),
        ("?snapshot=100", run.snapshot(100, "ab"), "100"),
        ("?snapshot=000000100", run.snapshot(100, "ab"), "100"),
        ("?snapshot=best", run.best("ab"), "100"),
        ("?direction=ba", run.snapshot(2000, "ba"), "2000"),
        ("?direction=ba&snapshot=100", run.snapshot(100, "ba"), "100"),
    ]:
        answer = client.post(f"/translate{query}", content=body)
        assert np.array_equal(pixels_of(answer), load(file).array(image)), query
        assert answer.headers["x-twofold-snapshot"] == images
    assert "it has 100, 2000" in error(client.post("/translate?snapshot=7", content=body), 404)
    error(client.post("/translate?snapshot=best&direction=ba", content=body), 404)


def test_few_networks_are_kept(ask, tmp_path):
    run = write_run(tmp_path / "run", *range(100, 800, 100), directions=("ab",))
    loaded = []

    def counted(path, **options):
        loaded.append(Path(path).name)
        return load(path, **options)

    client, body = ask(run.path, load=counted), encoded(picture())
    for count in (100, 100, 200, 300, 400, 500, 600, 600):
        assert client.post(f"/translate?snapshot={count}", content=body).status_code == 200
    assert len(client.service.loader._kept) == models.KEPT
    assert len(loaded) == 7  # and the newest at the start


def test_models_that_cannot_be_read_are_refused_at_the_start(tmp_path):
    loader = models.Loader(load)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.safetensors").write_bytes(b"junk")
    write_run(tmp_path / "new")
    for name, words in [("none", "does not exist"), ("empty", "no snapshot"), ("new", "no snapshot")]:
        with pytest.raises(UsageError, match=words):
            models.open_models([tmp_path / name], follow=False, loader=loader)
    with pytest.raises(Exception, match="damaged"):
        models.open_models([tmp_path / "x.safetensors"], follow=False, loader=loader)


def test_a_snapshot_that_vanishes_is_503_and_the_server_goes_on(ask, tmp_path):
    run = write_run(tmp_path / "run", 100, 200)
    client, body = ask(run.path), encoded(picture())
    run.snapshot(100, "ab").write_bytes(b"torn")
    line = error(client.post("/translate?snapshot=100", content=body), 503)
    assert "run cannot be loaded" in line
    assert client.post("/translate", content=body).status_code == 200


# ---- following


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_followed_run_is_served_as_soon_as_it_has_a_snapshot(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "FOLLOW_SECONDS", 0.05)
    run, said = write_run(tmp_path / "run"), []
    client, image = ask(run.path, follow=True, said=said), picture()
    body = encoded(image)
    wait_for(lambda: client.service.warm)
    assert "run: no snapshot yet" in error(client.get("/readyz"), 503)
    assert client.get("/models").json() == [{"name": "run", "ready": False, "directions": []}]
    answer = client.post("/translate", content=body)
    assert "no snapshot yet" in error(answer, 503) and answer.headers["retry-after"]
    for count in (100, 2000):
        write_run(tmp_path / "run", count)
        expected = load(run.snapshot(count, "ab")).array(image)
        wait_for(lambda line=f"run ba: snapshot {count:,}": line in said)
        assert client.get("/readyz").json() == {"status": "ready"}
        answer = client.post("/translate", content=body)
        assert answer.headers["x-twofold-snapshot"] == str(count)
        assert np.array_equal(pixels_of(answer), expected)
    run.snapshot(3000, "ab").write_bytes(b"torn")
    wait_for(lambda: any("damaged" in line for line in said))
    assert client.post("/translate", content=body).headers["x-twofold-snapshot"] == "2000"


def test_requests_go_on_while_snapshots_change(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "FOLLOW_SECONDS", 0.02)
    run = write_run(tmp_path / "run", 1, directions=("ab",))
    client, image = ask(run.path, follow=True), picture()
    body, seen = encoded(image), {}
    for count in range(2, 8):
        write_run(tmp_path / "run", count, directions=("ab",))
        for _ in range(8):
            answer = client.post("/translate", content=body)
            seen.setdefault(answer.headers["x-twofold-snapshot"], []).append(pixels_of(answer))
    wait_for(lambda: client.post("/translate", content=body).headers["x-twofold-snapshot"] == "7")
    assert len(seen) > 2
    for count, results in seen.items():
        expected = load(run.snapshot(int(count), "ab")).array(image)
        assert all(np.array_equal(each, expected) for each in results), count


def test_without_following_the_newest_is_that_of_the_start(ask, tmp_path):
    run = write_run(tmp_path / "run", 100)
    client, body = ask(run.path), encoded(picture())
    write_run(run.path, 200)
    assert client.post("/translate", content=body).headers["x-twofold-snapshot"] == "100"
    assert client.post("/translate?snapshot=200", content=body).headers["x-twofold-snapshot"] == "200"


# ---- who is let in, and what is told


def test_pages_of_other_sites_and_names_are_refused(ask, model):
    client, body = ask(model), encoded(picture())
    for origin in ("http://evil.example", "null", "http://127.0.0.1:3000", "https://127.0.0.1.evil.example"):
        answer = client.post("/translate", content=body, headers={"Origin": origin})
        assert "may not send data" in error(answer, 403)
    assert client.post("/translate", content=body, headers={"Origin": "http://127.0.0.1"}).status_code == 200
    error(client.post("/translate", content=body, headers={"Host": "evil.example"}), 421)


def test_with_a_token_only_health_is_open(ask, model):
    client = ask(model, access=LOCAL._replace(token="a-long-secret", open_paths=frozenset(server.OPEN_PATHS)))
    body = encoded(picture())
    for path in ("/", "/models", "/metrics", "/openapi.json", "/samples/x/y"):
        assert "needs its token" in error(client.get(path), 401)
    error(client.post("/translate", content=body), 401)
    assert client.get("/healthz").status_code == 200
    bearer = {"Authorization": "Bearer a-long-secret"}
    assert client.post("/translate", content=body, headers=bearer).status_code == 200
    assert client.post("/translate?token=a-long-secret", content=body).status_code == 200
    assert client.get("/openapi.json", headers=bearer).json()["paths"]["/models"]["get"]["security"] == [
        {"token": []}
    ]


def test_metrics_count_what_was_answered(ask, model, tmp_path):
    client, body = ask(model), encoded(picture())
    for _ in range(3):
        client.post("/translate", content=body)
    client.post("/translate", content=b"no image at all, at all")
    families = {each.name: each for each in text_string_to_metric_families(client.get("/metrics").text)}

    def value(family, **labels):
        return sum(
            sample.value
            for sample in families[family].samples
            if sample.name.removeprefix(family) in ("", "_total", "_count")
            and labels.items() <= sample.labels.items()
        )

    assert value("twofold_requests", path="/translate", status="200") == 3
    assert value("twofold_requests", path="/translate", status="415") == 1
    assert value("twofold_images", model="h2z", direction="ab") == 3
    assert value("twofold_stage_seconds", stage="network") == 3
    assert value("twofold_requests_open") == 0
    assert value("process_resident_memory_bytes") > 1e6
    assert ask(model).get("/metrics").status_code == 200  # a second server in one process
