"""The monitor asked over HTTP, by a browser and by worse."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from html.parser import HTMLParser
from http.client import HTTPConnection

import pytest

from twofold.cli import app as cli
from twofold.errors import TwofoldError
from twofold.runs import Run
from twofold.serving import doctor, listening, monitor, samples, views, watch
from twofold.serving.listening import Access

EVIL = "</script><script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


class Seen(HTMLParser):
    """What a browser would see."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags, self.handlers, self.images, self.words = [], [], [], []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.images += [
            value.replace("../", "/").replace("./", "/")  # both pages' way to the root
            for name, value in attrs
            if tag == "img" and name == "src"
        ]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def charts(page: str) -> dict[str, dict]:
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', page)
    return {data["title"]: data for data in map(json.loads, blocks)}


def keys(page: str) -> list[str]:
    return re.findall(r'name=run value="(.*?)"', page)


# ---- pages


def test_a_run_is_shown_whole(serve, run):
    run.evaluate_at(100, PSNR=18.5)
    run.evaluation.write_text(json.dumps({"title": "Against the truth", "columns": ["PSNR"], "rows": []}))
    page = serve(run.path).page()
    text = Seen(page).text
    assert "40% · horse2zebra · twofold" in text
    assert "A horses ⇄ B zebras training · last report 1 s ago" in text
    assert (
        "images seen 400 of 1,000 epoch 4.0 of 10 images/s 4 time left 2 min time spent 2 min device cpu"
        in text
    )
    assert "Against the truth" in text
    assert list(charts(page)) == [
        "PSNR",
        "Adversarial",
        "Cycle",
        "Discriminator",
        "Learning rate",
        "Throughput",
    ]
    assert charts(page)["Adversarial"]["axes"][0][-1] == 400
    assert charts(page)["PSNR"]["curves"][0]["values"] == [18.5]
    assert len(Seen(page).images) == 6


def test_a_page_is_sent_again_only_when_something_changed(serve, run):
    served = serve(run.path)
    answer, _ = served.ask("/")
    tag = answer.headers["ETag"]
    changes = [
        lambda: run.report_at(410),
        lambda: run.sample_at(400),
        lambda: run.evaluate_at(400, KID=0.1),
        lambda: run.config.write_text(run.config.read_text() + "seed: 1\n"),
    ]
    for change in changes:
        again, body = served.ask("/", if_none_match=tag)
        assert (again.status, body) == (304, b"")
        change()
        again, body = served.ask("/", if_none_match=tag)
        assert again.status == 200
        assert body
        tag = again.headers["ETag"]


def test_a_run_that_becomes_quiet_is_sent_again(serve, run, monkeypatch):
    served = serve(run.path)
    tag = served.ask("/")[0].headers["ETag"]
    monkeypatch.setattr(watch, "last_written", lambda run: 1e9)
    answer, body = served.ask("/", if_none_match=tag)
    assert answer.status == 200
    assert "quiet · last report <time data-at=1000000000>" in body.decode()


def test_a_new_diagnosis_is_shown(serve, run, monkeypatch):
    served = serve(run.path)
    answer, body = served.ask("/")
    assert "How it is going The doctor is examining this run…" in Seen(body.decode()).text
    won = doctor.Diagnosis([], "The discriminator has won.")
    monkeypatch.setattr(doctor.BackgroundDoctor, "diagnosis", lambda self, each: won)
    answer, body = served.ask("/", if_none_match=answer.headers["ETag"])
    assert answer.status == 200
    assert "How it is going The discriminator has won." in Seen(body.decode()).text


def test_half_a_line_waits_for_its_other_half(serve, run):
    served = serve(run.path)
    with run.metrics.open("a") as file:
        file.write('{"images": 410, "epoch": 4.1, "losses": {"gan')
    assert "images seen 400 of" in Seen(served.page()).text
    with run.metrics.open("a") as file:
        file.write('_ab": 1}}\n')
    assert "images seen 410 of" in Seen(served.page()).text


def test_an_empty_run_says_what_is_to_come(serve, tmp_path, made):
    text = Seen(serve(made(tmp_path / "new", 0, 0).path).page()).text
    assert "starting · settings written" in text
    assert "No sample yet" in text
    assert "No curves yet" in text


def test_a_folder_without_runs_waits_for_one(serve, tmp_path, made):
    served = serve(tmp_path)
    assert "0 runs" in served.page()
    assert "appears here as soon as it starts" in served.page()
    made(tmp_path / "first")
    assert "<h1>first</h1>" in served.page()
    made(tmp_path / "second")
    assert "2 runs" in served.page()
    assert "All runs" in served.page(f"/run/{keys(served.page())[0]}")


def test_a_run_of_a_later_format_is_not_guessed_at(serve, tmp_path, made):
    for name in ("one", "two"):
        made(tmp_path / name).config.write_text("format: 7\nmethod: new\n")
    served = serve(tmp_path)
    listed = served.page()
    assert listed.count("format 7") == 2
    page = served.page(f"/run/{keys(listed)[0]}")
    assert "This run has format 7; this twofold reads up to 1. Update twofold" in Seen(page).text


@pytest.mark.parametrize(
    "junk", [b"", b"{torn", b"[[1], null, 7]", b'"x"', b"\xff\xfe\x00", b"{a: !!python/x"]
)
def test_junk_in_every_file_makes_a_page(serve, run, junk):
    for path in (run.config, run.env, run.metrics, run.timing, run.evaluation, run.evaluations):
        path.write_bytes(junk)
    run.sample(100, "ab").write_bytes(junk)
    assert "images seen 0" in Seen(serve(run.path).page()).text


def test_a_run_whose_folder_vanishes_is_not_found(serve, tmp_path, made, capfd):
    made(tmp_path / "stays")
    served = serve(tmp_path, made(tmp_path / "goes").path)
    address = next(f"/run/{key}" for key in keys(served.page()) if "goes" in key)
    sample = Seen(served.page(address)).images[0]
    shutil.rmtree(tmp_path / "goes")
    assert "moved or deleted" in served.page(address, 404)
    assert served.ask(sample)[0].status == 404
    assert "<h1>stays</h1>" in served.page()
    shutil.rmtree(tmp_path)
    assert "0 runs" in served.page()
    tmp_path.mkdir()
    assert capfd.readouterr() == ("", "")


def test_errors_are_shown_on_the_page_and_not_in_the_terminal(serve, run, monkeypatch, capfd):
    served = serve(run.path)
    monkeypatch.setattr(views, "run_charts", lambda run: 1 / 0)
    text = Seen(served.page("/", 500)).text
    assert "mistake in twofold: ZeroDivisionError: division by zero" in text
    monkeypatch.setattr(Run, "samples", lambda run, direction: (run.path / "gone").read_bytes())
    assert "moved or deleted" in served.page("/", 404)
    assert capfd.readouterr() == ("", "")


# ---- many runs


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for n in range(1000):
        run = Run(folder / f"run-{n:03d}")
        run.path.mkdir()
        run.config.write_text("format: 1\nmethod: cyclegan\n")
    return folder


def test_a_thousand_runs_are_listed_by_the_page(serve, thousand):
    served = serve(thousand)
    first = served.page()
    assert "<h1 data-part=count>1,000 runs</h1>" in first
    assert len(keys(first)) == views.RUNS_PER_PAGE
    last = keys(served.page("/?page=25"))
    assert keys(served.page("/?page=99")) == last
    assert not set(last) & set(keys(first))
    assert [keys(served.page(f"/?page={odd}")) for odd in ("-1", "9999999", "%D9%A1")] == [keys(first)] * 3


def test_every_run_is_on_one_page(thousand):
    runs = list(watch.Watch([thousand]).runs().values())
    pages = [views.listing(runs, [runs[70].key, "none"], "", page) for page in range(1, 26)]
    assert {page.pages for page in pages} == {25}
    assert all(page.selected == [runs[70]] for page in pages)
    assert [each for page in pages for each in page.found] == [*runs[:70], *runs[71:]]


def test_runs_are_found_by_name_and_selected_ones_stay(serve, thousand):
    served = serve(thousand)
    found = keys(served.page("/?find=RUN-12"))
    assert len(found) == 10
    assert all("run-12" in key for key in found)
    other = keys(served.page(f"/?find=run-99&run={found[0]}&run=none"))
    assert other[0] == found[0]
    assert len(other) == 11
    assert served.page(f"/?find=run-99&run={found[0]}").count(" checked ") == 1
    assert "No run name contains “zebra”" in served.page("/?find=zebra")


def test_a_search_is_shown_as_text(serve, thousand):
    query = urllib.request.quote(EVIL)
    seen = Seen(serve(thousand).page(f"/?find={query}&page={query}&run={query}"))
    assert seen.handlers == []
    assert seen.tags.count("script") == 1


def test_runs_are_compared_in_a_colour_each(serve, tmp_path, made):
    for name, reports in (("one", 10), ("two", 20), ("three", 0)):
        made(tmp_path / name, reports).evaluate_at(100, KID=0.1)
    served = serve(tmp_path)
    chosen = sorted(keys(served.page()))  # one, three, two
    page = served.page("/compare?" + "&".join(f"run={key}" for key in [*chosen, chosen[0], "none"]))
    assert "3 runs side by side" in page
    drawn = charts(page)
    assert list(drawn)[:4] == ["KID A→B", "Adversarial A→B", "Adversarial B→A", "Cycle A"]
    adversarial = drawn["Adversarial A→B"]
    assert [(c["label"], c["colour"]) for c in adversarial["curves"]] == [("one", "a"), ("two", "c")]
    assert [adversarial["axes"][c["axis"]][-1] for c in adversarial["curves"]] == [100, 200]
    assert [c["label"] for c in drawn["KID A→B"]["curves"]] == ["one", "three", "two"]
    assert len(Seen(page).images) == 18  # three moments of either direction


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_or_too_many_runs_to_compare_are_refused(serve, thousand, count):
    served = serve(thousand)
    query = "&".join(f"run={key}" for key in keys(served.page())[:count])
    page = served.page(f"/compare?{query}", 400)
    assert f"Select 2 to 8 runs to see them side by side, not {count}." in page
    assert f'<a href="./?{query.replace("&", "&amp;")}">' in page  # the selection stays


def test_settings_that_differ_are_named_and_others_are_not(serve, tmp_path, made):
    for name, width in (
        ("one", "{width: 16, blocks: 6}"),
        ("two", "{width: 32, blocks: 6}"),
        ("three", "null"),
    ):
        run = made(tmp_path / name)
        run.config.write_text(run.config.read_text() + f"generator: {width}\n")
    served = serve(tmp_path)
    one, three, two = sorted(keys(served.page()))
    text = Seen(served.page(f"/compare?run={one}&run={two}")).text
    assert "Setting one two generator.width 16 32 Read from" in text
    text = Seen(served.page(f"/compare?run={one}&run={three}")).text
    assert "generator.width 16 not set generator.blocks 6 not set generator not set – Read" in text
    (tmp_path / "two" / "config.yaml").write_text((tmp_path / "one" / "config.yaml").read_text())
    page = served.page(f"/compare?run={one}&run={two}")
    assert "All settings of these runs are equal." in page


# ---- CSV


def csv_rows(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(body.decode().splitlines()))


def test_a_csv_has_every_report_and_every_evaluation(serve, tmp_path, made):
    run = made(tmp_path / "run", 2000)  # more than a curve has points
    run.evaluate_at(100, PSNR=18.5)
    run.evaluate_at(105, PSNR=19.5)
    with run.evaluations.open("a") as file:
        file.write(json.dumps({"images": 100, "values": {"PSNR": 17.5}, "direction": "ba"}) + "\n{torn")
    served = serve(run.path)
    (address,) = re.findall(r'href="\./(.*?curves\.csv)"', served.page())
    answer, body = served.ask(f"/{address}")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="run-')
    rows = csv_rows(body)
    assert len(rows) == 2001
    assert rows[9] == {
        "run": "run",
        "images": "100",
        "epoch": "1.0",
        "lr": "0.0002",
        "loss.gan_ab": "0.54",
        "loss.gan_ba": "0.27",
        "loss.cycle_a": "0.2",
        "loss.disc_b": "0.25",
        "seconds": "25.0",
        "images_per_s": "4.0",
        "waiting": "0.01",
        "held_out.ab.PSNR": "18.5",
        "held_out.ba.PSNR": "17.5",
    }
    assert (rows[10]["images"], rows[10]["held_out.ab.PSNR"], rows[10]["loss.gan_ab"]) == ("105", "19.5", "")


def test_several_runs_are_one_csv(serve, tmp_path, made):
    made(tmp_path / "one", 3)
    made(tmp_path / "=cmd()", 2).metrics.write_bytes(b"[1]\n\xff\n")
    served = serve(tmp_path)
    query = "&".join(f"run={key}" for key in [*sorted(keys(served.page())), "none"])
    answer, body = served.ask(f"/compare.csv?{query}")
    assert answer.status == 200
    assert [row["run"] for row in csv_rows(body)] == ["'=cmd()"] * 2 + ["one"] * 3
    assert served.ask("/compare.csv?run=none")[1] == b"run,images\r\n"
    assert served.ask("/run/none/curves.csv")[0].status == 404


# ---- pictures


def test_samples_are_served_for_good_under_an_address_of_their_own(serve, run):
    served = serve(run.path)
    sample = Seen(served.page()).images[0]
    answer, content = served.ask(sample)
    assert content == run.sample(100, "ab").read_bytes()
    assert answer.headers["Content-Type"] == "image/webp"
    assert "immutable" in answer.headers["Cache-Control"]
    run.sample(100, "ab").unlink()
    run.sample_at(100)
    assert Seen(served.page()).images[0] != sample


def test_only_pictures_of_the_run_are_served(serve, run, tmp_path, monkeypatch):
    served = serve(run.path)
    base = Seen(served.page()).images[0].partition("/0")[0]
    secret = tmp_path / "secret.webp"
    secret.write_bytes(run.sample(100, "ab").read_bytes())
    run.sample(500, "ab").symlink_to(secret)
    run.sample(600, "ab").symlink_to(run.config)
    run.sample(700, "ab").mkdir()
    run.sample(800, "ab").write_bytes(b"RIFF\0\0\0\0WAVE")
    names = [
        "config.yaml",
        "..%2fconfig.yaml",
        "%2e%2e/metrics.jsonl",
        "../../etc/passwd",
        "000000100-ab.webp%00",
        "000000100-ab.webp/",
    ]
    names += ["000000100-AB.webp", "100-ab.webp", "000000900-ab.webp", "%00", "%ff", "9" * 400 + "-ab.webp"]
    names += [f"000000{n}00-ab.webp" for n in (5, 6, 7, 8)] + [urllib.request.quote("٠" * 9) + "-ab.webp"]
    for name in names:
        answer, body = served.ask(f"{base}/{name}")
        assert answer.status in (404, 307), name
        assert b"format: 1" not in body
    assert served.ask(f"{base}/000000100-ab.webp")[0].status == 200
    monkeypatch.setattr(samples, "MAX_SAMPLE_BYTES", 10)
    assert served.ask(f"{base}/000000100-ab.webp")[0].status == 404


# ---- strangers


def test_hostile_names_stay_text(serve, tmp_path, made):
    name = EVIL.replace("/", "\\")
    for n in range(2):
        run = made(tmp_path / f"{name}{n}")
        run.config.write_text(json.dumps({"method": EVIL, "a": EVIL, "b": EVIL, EVIL: {EVIL: EVIL}}))
        run.metrics.write_text(json.dumps({"images": 1, "epoch": EVIL, "losses": {EVIL: 1.0}}) + "\n")
        run.evaluate_at(1, **{EVIL: 1.0})
        run.env.write_text(json.dumps([{"device": EVIL}]))
    served = serve(tmp_path)
    chosen = keys(served.page())
    for path in ("/", f"/run/{chosen[0]}", f"/compare?run={chosen[0]}&run={chosen[1]}"):
        seen = Seen(served.page(path))
        assert seen.handlers == []
        assert all(source.startswith("/run/") for source in seen.images)
        assert "onerror=alert(1)" in seen.text


def test_every_answer_forbids_what_no_page_needs(serve, run):
    served = serve(run.path)
    for path in ("/", "/none", Seen(served.page()).images[0]):
        headers = served.ask(path)[0].headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
    assert "default-src 'none'" in served.page()
    assert re.findall(r"(?:src|href|action)=\"?https?:", served.page()) == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_nothing_can_be_sent(serve, run, method):
    answer, _ = serve(run.path).ask("/", method)
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD"}


def test_head_is_get_without_the_body(serve, run):
    served = serve(run.path)
    answer, body = served.ask("/", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert answer.headers["ETag"] == served.ask("/")[0].headers["ETag"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "[::2]:80", "[", "", "192.168.0.7"]
)
def test_a_foreign_host_name_gets_nothing(serve, run, host):
    answer, body = serve(run.path).ask("/", host=host)
    assert answer.status in (400, 421)
    assert b"horse2zebra" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1234"])
def test_its_own_names_are_answered(serve, run, host):
    assert serve(run.path).ask("/", host=host)[0].status == 200


EVERYWHERE = Access(frozenset({"gpu-box"}), frozenset({"hub.lan"}), addresses=True, token="a-long-secret")


def test_other_machines_need_a_known_name_and_the_token(serve, run):
    served = serve(run.path, access=EVERYWHERE)
    bearer = "Bearer a-long-secret"
    for host in ("gpu-box:8707", "hub.lan", "192.168.0.7:80", "[fe80::1]:80"):
        assert served.ask("/", host=host, authorization=bearer)[0].status == 200, host
    for host in ("evil.example", "lan", "evil.hub.lan", "192.168.0.7.evil.example"):
        assert served.ask("/", host=host, authorization=bearer)[0].status == 421, host
    for wrong in ("", "Bearer", "Bearer a-long-secre", "Basic a-long-secret", "Bearer \xe9"):
        answer, body = served.ask("/", host="gpu-box", authorization=wrong)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert b"horse2zebra" not in body


def test_a_browser_keeps_the_token_in_a_cookie_and_not_in_its_address_bar(serve, run):
    served = serve(run.path, access=EVERYWHERE)
    answer, _ = served.ask("/compare?run=x&token=a-long-secret", host="gpu-box", accept="text/html")
    assert (answer.status, answer.headers["Location"]) == (303, "./compare?run=x")
    cookie, *flags = answer.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=lax"} <= {*flags}
    assert served.ask("/", host="gpu-box", cookie=cookie)[0].status == 200
    assert served.ask("/?token=a-long-secret", host="gpu-box")[0].status == 200  # a program gets its answer
    answer, body = served.ask("/?token=wrong-secret", host="gpu-box", accept="text/html")
    assert answer.status == 401 and b"needs its token" in body


@pytest.mark.parametrize(
    ("sent", "more"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /", b"x"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n", b"x"),
    ],
)
def test_a_request_that_never_arrives_is_given_up(serve, run, monkeypatch, sent, more):
    monkeypatch.setattr(listening, "STALLED_SECONDS", 0.3)
    port, start = serve(run.path).port, time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 0.05) as slow, contextlib.suppress(ConnectionError):
        slow.sendall(sent)
        while not closed(slow):
            assert time.monotonic() - start < 3  # an idle connection is closed after 5 s
            slow.sendall(more)


def closed(connection):
    try:
        return not connection.recv(1 << 16)
    except TimeoutError:
        return False


def test_an_answer_that_nobody_reads_is_given_up(serve, run, monkeypatch, until):
    monkeypatch.setattr(listening, "STALLED_SECONDS", 0.3)
    os.truncate(run.sample(100, "ab"), samples.MAX_SAMPLE_BYTES)  # more than sockets hold
    served = serve(run.path)
    sample, connections = Seen(served.page()).images[0], served.server.server_state.connections
    until(lambda: not connections)
    with socket.create_connection(("127.0.0.1", served.port), 10) as asleep:
        asleep.sendall(f"GET {sample} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert asleep.recv(15) == b"HTTP/1.1 200 OK"
        assert connections
        until(lambda: not connections)


def test_a_request_that_is_whole_may_take_its_time(serve, run, monkeypatch):
    monkeypatch.setattr(listening, "STALLED_SECONDS", 0.1)
    render = views.run_page
    monkeypatch.setattr(views, "run_page", lambda *each: time.sleep(1.5) or render(*each))
    assert "horse2zebra" in serve(run.path).page()


# ---- the command


@pytest.fixture
def notify(capsys):
    def call(*tokens):
        code = cli.run(["monitor", *map(str, tokens)])
        return code, capsys.readouterr().err

    return call


@contextlib.contextmanager
def commanded(run, *options):
    """`twofold monitor` in a process of its own: its port; after Ctrl-C it must end with code 0 and print nothing more."""
    command = [
        sys.executable,
        "-m",
        "twofold",
        "monitor",
        str(run.path),
        "--no-open",
        "--port",
        "0",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            words = r"http://127\.0\.0\.1:(\d+)  +1 run; Ctrl-C ends it\n"
            yield int(re.fullmatch(words, process.stdout.readline())[1])
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_the_command_says_where_and_ends_quietly(run):
    with commanded(run) as port, urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as answer:
        assert b"horse2zebra" in answer.read()


def test_the_command_answers_to_a_proxys_name(run):
    with commanded(run, "--allow-host", "hub.example") as port:
        for name, status in (("hub.example", 200), ("hub.example:443", 200), ("other.example", 421)):
            with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                connection.request("GET", "/", headers={"Host": name})
                assert connection.getresponse().status == status


def test_a_reader_who_stopped_reading_does_not_hold_up_the_end(run):
    os.truncate(run.sample(100, "ab"), samples.MAX_SAMPLE_BYTES)  # more than sockets hold
    with socket.socket() as asleep, commanded(run) as port:
        address = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            sample = Seen(answer.read().decode()).images[0]
        asleep.settimeout(10)
        asleep.connect(("127.0.0.1", port))
        asleep.sendall(f"GET {sample} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert asleep.recv(15) == b"HTTP/1.1 200 OK"


def test_a_port_in_use_is_one_line_with_what_to_do(serve, run, notify):
    code, line = notify(run.path, "--port", serve(run.path).port, "--no-open")
    assert code == 1
    assert "in use" in line
    assert "--port 0 takes a free one" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([], "RUNS is missing"),
        (["nowhere"], "nowhere is not a folder; give a run folder"),
        ([".", "--port", "70000"], "--port is 70000; give 0 to 65535"),
        ([".", "--allow-host", "http://hub"], "--allow-host must be a name such as hub.example.org"),
        ([".", "--port", "x"], "--port must be a whole number, not x"),
        ([".", "--host", "no such host"], "--host no such host is not an address of this machine"),
        (
            [".", "--host", "192.0.2.1", "--port", "0"],
            "--host 192.0.2.1 is not an address of this machine; 0.0.0.0",
        ),
    ],
)
def test_a_wrong_command_is_one_line(tmp_path, monkeypatch, notify, tokens, words):
    monkeypatch.chdir(tmp_path)
    code, line = notify(*tokens, "--no-open")
    assert code in (1, 2)
    assert words in line
    assert line.count("\n") == 1


def test_without_its_extra_it_names_it(run, monkeypatch, notify):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "twofold.serving.monitor")
    code, line = notify(run.path)
    assert code == 2
    assert "pip install 'twofold[monitor]'" in line


def test_addresses_can_be_typed():
    assert monitor.address("::1", 80) == "http://[::1]:80"
    assert monitor.address("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert re.fullmatch(r"http://[^:]+:80", monitor.address("0.0.0.0", 80))


def test_a_listening_socket_is_closed_when_it_cannot_be_had(serve, run):
    with pytest.raises(TwofoldError, match="in use"):
        monitor.listen(
            "127.0.0.1", serve(run.path).port
        )  # an open socket would be a ResourceWarning, an error here
