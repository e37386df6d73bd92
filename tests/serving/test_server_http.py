"""The translation server over real HTTP: its API document, damaged uploads, and its end under load."""

import asyncio
import contextlib
import http.client
import inspect
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import hypothesis
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from twofold.cli import app as cli
from twofold.cli import serve as cli_serve
from twofold.exchange.load import load
from twofold.serving import uploads
from twofold.serving.openapi import ROUTES
from twofold.translation.sources import FORMATS

from .service import LOCAL, Client, encoded, error, make_service, picture, served, write_model, write_run

# ---- the API document


def test_the_server_does_what_its_document_says(tmp_path):
    run = write_run(tmp_path / "run", 100, 200)
    # Random bytes are no image, so the server may refuse requests that the document allows.
    excluded = [positive_data_acceptance]
    with served(run.path, write_model(tmp_path / "h2z.safetensors")) as (address, _):
        schema, asked = schemathesis.openapi.from_url(f"{address}/openapi.json"), set()
        for operation in (each.ok() for each in schema.get_all_operations()):
            for mode in GenerationMode:
                with contextlib.suppress(
                    hypothesis.errors.Unsatisfiable
                ):  # nothing can be wrong in a plain GET

                    @given(operation.as_strategy(generation_mode=mode))
                    @settings(
                        max_examples=25,
                        derandomize=True,
                        deadline=None,
                        database=None,
                        suppress_health_check=[*HealthCheck],
                    )
                    def check(case):
                        asked.add(case.call_and_validate(excluded_checks=excluded).status_code)

                    check()
    assert {200, 404, 422} <= asked


# ---- damaged uploads


def test_damaged_uploads_get_an_answer(loop, load_benchmark, tmp_path):
    service = make_service(write_model(tmp_path / "h2z.safetensors"))
    client, damage = Client(loop, service, LOCAL), load_benchmark("damage")

    async def post_all():
        places = asyncio.Semaphore(8)

        async def post(name, content):
            async with places:
                return name, content, await client.http.post("/translate?format=npy", content=content)

        return await asyncio.gather(*(post(*each) for each in damage.damaged(2000, seed=1)))

    answers = client.wait(post_all())
    client.close()
    statuses = {}
    for name, content, answer in answers:
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 400, 413, 415, 422), (name, content, answer.text)
        if answer.status_code != 200:
            error(answer, answer.status_code)
    assert statuses[200] > 100 and statuses[422] > 500  # some damage does not matter
    assert (service.open, service.working, service.held) == (0, 0, 0)


def test_broken_requests_do_not_end_the_server(load_benchmark, tmp_path):
    body = encoded(picture())
    head = f"POST /translate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with served(write_model(tmp_path / "h2z.safetensors")) as (address, service):
        port = int(address.rpartition(":")[2])
        for sent in (
            b"\0\xff\n\n",
            b"GET",
            head,
            head + body[:50],
            b"POST /translate HTTP/1.1\r\n\r\n",
            body,
        ):
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(sent)
        for _, content in load_benchmark("damage").damaged(40, seed=2):
            answer = httpx.post(f"{address}/translate", content=content)
            assert answer.status_code in (200, 400, 413, 415, 422)
        assert httpx.post(f"{address}/translate", content=body).status_code == 200
        end = time.monotonic() + 5
        while service.open:
            assert time.monotonic() < end, "an upload that was cut off is still waited for"
            time.sleep(0.02)


def test_an_upload_that_never_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_SECONDS", 0.2)
    head = b"POST /translate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"
    with served(write_model(tmp_path / "h2z.safetensors")) as (address, _):
        place = ("127.0.0.1", int(address.rpartition(":")[2]))
        with socket.create_connection(place, 5) as connection:
            connection.sendall(head + b"x")
            answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408") and b"took more than" in answer


def test_requests_of_clients_that_left_are_not_translated(tmp_path):
    body, free, sizes = encoded(picture()), threading.Event(), []
    head = f"POST /translate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with served(write_model(tmp_path / "h2z.safetensors")) as (address, service):

        def on_batch(size, _):
            sizes.append(size)
            free.wait(10)

        service.batcher.on_batch = on_batch
        port = int(address.rpartition(":")[2])
        connections = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(6)]
        for number, connection in enumerate(connections, 1):
            connection.sendall(head + body)
            end = time.monotonic() + 5
            while service.working < number or (number == 1 and not sizes):
                assert time.monotonic() < end
                time.sleep(0.01)
        for connection in connections:
            connection.close()
        while service.working:
            assert time.monotonic() < end + 5
            time.sleep(0.01)
        free.set()
        assert httpx.post(f"{address}/translate", content=body).status_code == 200
    assert sum(sizes) == 2


# ---- people and programs


def test_the_page_translates(show, tmp_path):
    run = write_run(tmp_path / "run", 100, 200)
    (tmp_path / "horse.png").write_bytes(encoded(picture()))
    with served(run.path) as (address, _):
        page = show(f"{address}/")
        page.set_input_files("input[type=file]", tmp_path / "horse.png")
        page.get_by_text("48 × 40 pixels").wait_for()
        with page.expect_download() as found:
            page.get_by_text("Download").click()
        shown = Image.open(found.value.path())
        expected = load(run.snapshot(200, "ab")).array(picture())
        assert np.array_equal(np.array(shown), expected)


def size_of(file):
    with Image.open(file) as shown:
        return shown.size


GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "serve.md").read_text(encoding="utf-8")


def test_the_guides_examples_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save("horse.jpg")
    (tmp_path / "runs").mkdir()
    run = write_run(tmp_path / "runs" / "h2z", 100)
    with served(run.path) as (address, _):
        for block in re.findall(r"```python\n(.*?)```", GUIDE, re.S):
            exec(compile(block.replace("http://127.0.0.1:8708", address), "serve.md", "exec"), {})
            assert size_of("zebra.png") == (48, 40)
            Path("zebra.png").unlink()
        for line in re.findall(r"^    curl (.*8708/translate -o .*)$", GUIDE, re.M)[:2]:
            command = ["curl", "-sf", *shlex.split(line.replace("http://127.0.0.1:8708", address))]
            subprocess.run(command, check=True)
            assert size_of(command[-1]) == (48, 40)


def test_the_guide_names_options_and_addresses_that_exist():
    options = {f"--{name.replace('_', '-')}" for name in inspect.signature(cli_serve.serve).parameters}
    assert set(re.findall(r"`(--[a-z-]+)", GUIDE)) <= options
    assert {
        line.split("#")[0].split()[2] for line in re.findall(r"^    (twofold serve .*)", GUIDE, re.M)
    } == {"runs/h2z"}
    paths = {path for path, _ in ROUTES}
    named = set(re.findall(r"`(?:GET|POST) (/[a-z.]+)`", GUIDE))
    assert named <= paths and len(named) > 5
    assert {*FORMATS} == set(re.findall(r"`(\w+)`", re.search(r"\| `format` \|(.*?)\|", GUIDE)[1]))


# ---- the command


@contextlib.contextmanager
def commanded(*tokens, environment=None):
    """`twofold serve` in a process of its own: the process and its port."""
    command = [sys.executable, "-m", "twofold", "serve", *map(str, tokens), "--no-open", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            line = process.stdout.readline()
            yield process, int(re.search(r":(\d+)", line)[1]), line
        finally:
            process.kill()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_end_under_load_loses_no_accepted_request(tmp_path, sent, code):
    body, outcomes = encoded(picture()), []

    def client(port):
        """One request after another on new and kept connections; what became of each."""
        for _ in range(100):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                connection.connect()
            except OSError:
                outcomes.append("refused")
                return
            with contextlib.closing(connection):
                for number in range(5):
                    try:
                        connection.request("POST", "/translate", body)
                        answer = connection.getresponse()
                        outcomes.append(answer.status)
                        content = answer.read()
                    except ConnectionResetError:
                        outcomes.append("reset" if number else "new and reset")
                        break
                    except (OSError, http.client.HTTPException) as problem:
                        outcomes.append(repr(problem))
                        break
                    assert answer.status == 503 or content[:4] == b"\x89PNG"
                    if answer.will_close:
                        break

    with commanded(write_model(tmp_path / "h2z.safetensors")) as (process, port, _):
        threads = [threading.Thread(target=client, args=(port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        while outcomes.count(200) < 20:
            time.sleep(0.01)
        process.send_signal(sent)
        start = time.monotonic()
        assert process.wait(20) == code
        assert time.monotonic() - start < 10
        for thread in threads:
            thread.join()
    assert {*outcomes} <= {200, 503, "refused", "new and reset"}, {*outcomes}
    assert outcomes.count("new and reset") <= 1  # the system may make a connection as the socket closes
    assert 503 in outcomes


def test_another_host_needs_the_token_that_is_printed(tmp_path):
    model = write_model(tmp_path / "h2z.safetensors")
    with commanded(model, "--host", "0.0.0.0") as (_, port, line):
        address = f"http://127.0.0.1:{port}"
        token = re.search(r"\?token=([\w-]{32})  h2z \(ab\); Ctrl-C ends it", line)[1]
        assert httpx.get(f"{address}/models").status_code == 401
        assert httpx.get(f"{address}/healthz").status_code == 200
        assert httpx.get(f"{address}/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        with httpx.Client(follow_redirects=True) as browser:
            page = browser.get(f"{address}/?token={token}", headers={"Accept": "text/html"})
            assert page.status_code == 200 and "token" not in str(page.url)
            assert browser.get(f"{address}/models").status_code == 200


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([], "MODELS is missing"),
        (["none"], "none does not exist"),
        (["MODEL", "--queue", "0"], "--queue must be 1 to 100,000, not 0"),
        (["MODEL", "--port", "70000"], "--port is 70000"),
        (["MODEL", "--token", "short"], "the token (--token or TWOFOLD_TOKEN) must be 8 to 200"),
        (["MODEL", "--allow-host", "http://x"], "--allow-host must be a name"),
        (["MODEL", "--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["MODEL", "--prot", "1"], "Did you mean --port"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, capsys, tokens, words):
    model = str(write_model(tmp_path / "h2z.safetensors"))
    assert cli.run(["serve", *(model if token == "MODEL" else token for token in tokens), "--no-open"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_without_its_extra_it_names_it(tmp_path, capsys, monkeypatch):
    for name in ("server", "service", "measured"):
        monkeypatch.delitem(sys.modules, f"twofold.serving.{name}")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert cli.run(["serve", str(tmp_path / "none")]) == 2
    assert "needs prometheus_client: pip install 'twofold[serve]'" in capsys.readouterr().err
