import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from twofold.pages.run_folder import POINTS
from twofold.reporting.report import FRAME_BYTES, FRAMES, PICTURE_BYTES, write_report
from twofold.runs import Run

EVIL = "</script><script>alert('x')</script></table><!--\"'><img src=x onerror=alert(1)>"
VOID = {"meta", "img", "input", "link"}


class Seen(HTMLParser):
    """What a browser would see; asserts that every tag opened is closed, in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags, self.images, self.handlers, self.words, self.open = [], [], [], [], []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.images += [dict(attrs)["src"]] if tag == "img" else []
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def webp(body: bytes = b"WEBP") -> bytes:
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def add_samples(run: Run, count: int, size: int = 4) -> None:
    (run.path / "samples").mkdir(exist_ok=True)
    for n in range(1, count + 1):
        for direction in ("ab", "ba"):
            body = f"WEBP{direction}{n:06d}".encode().ljust(size, b".")
            run.sample(100 * n, direction).write_bytes(webp(body))


def add_logs(run: Run, lines: int) -> None:
    with run.metrics.open("w") as metrics, run.timing.open("w") as timing:
        for n in range(1, lines + 1):
            losses = {
                "gan_ab": 0.4,
                "gan_ba": 0.3,
                "cycle_a": 1 / n,
                "idt_a": 0.2,
                "disc_a": 0.25,
                "disc_b": 0.2,
            }
            row = {"images": 10 * n, "epoch": n / 100, "lr": 2e-4, "losses": losses}
            metrics.write(json.dumps(row) + "\n")
            clock = {"images": 10 * n, "seconds": n * 2.0, "images_per_s": 5.0, "waiting": 0.01}
            timing.write(json.dumps(clock) + "\n")


@pytest.fixture
def run(tmp_path) -> Run:
    path = tmp_path / "horse2zebra"
    path.mkdir()
    return Run(path)


@pytest.fixture
def full(run) -> Run:
    run.config.write_text(
        "method: cyclegan\nseed: 7\ngenerator: {name: resnet-9, norm: instance}\n"
        "training: {epochs: 10, decay_epochs: 10, deep: {er: 1}}\n"
    )
    torn = {"name": "torn.jpg", "bytes": 0, "error": "truncated JPEG"}
    horses = {"folder": "/data/horses", "files": [{"name": "1.jpg", "bytes": 2_500_000}] * 40 + [torn]}
    zebras = {
        "folder": "/data/zebras",
        "files": [{"name": f"{i}.jpg", "hash": str(i), "bytes": 1} for i in range(1200)],
        "held_out": ["9.jpg"],
    }
    run.data.write_text(json.dumps({"a": horses, "b": zebras}))
    first = {"started": "2025-11-22T09:00:00+00:00", "images": 0, "command": "twofold train horses zebras"}
    again = {"started": "2025-11-23T09:00:00+00:00", "images": 3000, "command": "twofold train --resume x"}
    run.env.write_text(json.dumps([first | {"torch": "2.13.0", "device": "cpu"}, again | {"device": "H100"}]))
    add_logs(run, 500)
    add_samples(run, 3)
    return run


def read(run: Run) -> Seen:
    assert write_report(run) == run.report
    return Seen(run.report.read_text(encoding="utf-8"))


def curves(run: Run) -> dict[str, dict]:
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', run.report.read_text())
    return {data["title"]: data for data in map(json.loads, blocks)}


def test_the_headline_says_how_far_and_how_fast(full):
    text = read(full).text
    assert "horse2zebra · twofold" in text
    assert "A horses ⇄ B zebras" in text
    # 5,000 images are 5 epochs of 1,000; 20 epochs make 20,000; the clock says 1,000 s
    assert "images seen 5,000 of 20,000 epoch 5.0 of 20 images/s 5 time spent 17 min device H100" in text


def test_total_images_in_the_settings_is_believed(full):
    full.config.write_text("training: {epochs: 10, total_images: 8000}\n")
    assert "5,000 of 8,000" in read(full).text


def test_the_page_shows_settings_data_machine_and_command(full):
    text = read(full).text
    assert "name resnet-9 norm instance" in text
    assert "deep.er 1" in text
    assert "images 40 (100.0 MB) held out 0 skipped 1 values uint8, 3 channels, 0…255" in text
    assert "torn.jpg truncated JPEG" in text
    assert "images 1,200 (0.0 MB) held out 1 skipped 0" in text
    assert "How to reproduce twofold train horses zebras Started at 0 images" in text
    assert "torch 2.13.0" in text
    assert "Started at 3000 images" in text


def test_images_of_a_validation_folder_are_held_out(full):
    data = json.loads(full.data.read_text())
    rows = [
        {"name": "1.jpg", "hash": "1"},
        {"name": "2.jpg", "hash": "2"},
        {"name": "3.jpg", "error": "torn"},
    ]
    data["a"]["val"] = {"files": rows}
    full.data.write_text(json.dumps(data))
    assert "images 40 (100.0 MB) held out 2 skipped 1" in read(full).text


def test_the_epoch_has_the_decimals_of_the_run(full):
    with full.metrics.open("a") as file:
        file.write(json.dumps({"images": 5010, "epoch": 0.75, "lr": 0, "losses": {}}) + "\n")
    full.config.write_text("training: {epochs: 0.5, decay_epochs: 0.25}\n")
    assert "epoch 0.75 of 0.75" in read(full).text


def test_losses_are_charted_by_group_in_the_colours_of_their_domain(full):
    text = read(full).text
    charts = curves(full)
    assert list(charts) == [
        "Adversarial",
        "Cycle",
        "Identity",
        "Discriminator",
        "Learning rate",
        "Throughput",
    ]
    adversarial = [(c["label"], c["colour"]) for c in charts["Adversarial"]["curves"]]
    assert adversarial == [("A→B", "b"), ("B→A", "a")]
    assert [(c["label"], c["colour"]) for c in charts["Discriminator"]["curves"]] == [("A", "a"), ("B", "b")]
    assert "do not say when to stop" in text
    assert "gan_ab, gan_ba How far a generator" in text


def test_losses_of_any_other_method_are_charted_too(run):
    run.metrics.write_text('{"images": 1, "losses": {"new_ab": 2.0, "k": 3.0, "x": 1, "y": 1, "z": 1}}\n')
    read(run)
    labels = [curve["label"] for curve in curves(run)["Other losses"]["curves"]]
    assert labels == ["new_ab", "k", "x", "y"]  # as many as there are colours


def test_losses_of_the_other_methods_have_charts_of_their_own(run):
    losses = dict.fromkeys(("gan_ab", "nce_a", "nce_b", "l1", "perceptual", "rec_disc_a"), 1.0)
    run.metrics.write_text(json.dumps({"images": 1, "losses": losses}))
    read(run)
    labels = {title: [curve["label"] for curve in data["curves"]] for title, data in curves(run).items()}
    assert labels == {
        "Adversarial": ["A→B"],
        "Patch contrast": ["A", "B"],
        "Pixel difference": ["l1"],
        "Perceptual": ["perceptual"],
        "Discriminator of reconstructions": ["A"],
    }


def test_long_logs_are_thinned(full):
    add_logs(full, 20_000)
    read(full)
    charts = curves(full)
    for data in charts.values():
        (images,) = data["axes"]
        assert POINTS / 4 < len(images) <= POINTS
        assert (images[0], images[-1]) == (10, 200_000)
        assert all(len(curve["values"]) == len(images) for curve in data["curves"])


def grids(run: Run) -> list[bytes]:
    return [base64.b64decode(source.partition(",")[2])[8:] for source in read(run).images]


def test_samples_are_thinned_evenly_with_the_first_and_the_newest(run):
    add_samples(run, 100)
    found = grids(run)
    assert len(found) == 2 * FRAMES
    assert found[0] == b"WEBPab000001"
    assert found[FRAMES - 1] == b"WEBPab000100"
    assert found[FRAMES] == b"WEBPba000001"


def test_heavy_samples_are_thinned_to_the_budget(run):
    add_samples(run, 30, size=FRAME_BYTES // 10)
    assert len(grids(run)) == 2 * 9  # with their headers, ten are just too many
    add_samples(run, 5, size=FRAME_BYTES)
    newest = [found[:12] for found in grids(run)][:2]
    assert newest == [b"WEBPab000001", b"WEBPab000030"]
    assert run.report.stat().st_size < 12_000_000


def test_a_torn_sample_is_left_out(run):
    add_samples(run, 3)
    run.sample(200, "ab").write_bytes(webp(b"WEBP" * 100)[:50])
    run.sample(200, "ba").write_bytes(b"")
    assert [found[4:] for found in grids(run)] == [b"ab000001", b"ab000003", b"ba000001", b"ba000003"]


def test_a_folder_with_nothing_in_it_makes_a_page(run):
    text = read(run).text
    assert "images seen 0" in text
    assert "No sample yet" in text
    assert "No curves yet" in text
    assert "Settings" not in text
    assert "How to reproduce" not in text


@pytest.mark.parametrize(
    "junk", [b"", b"{torn", b"[[1], null, 7]", b'"text"', b"\xff\xfe\x00", b"{a: !!python/x"]
)
def test_junk_in_every_file_makes_a_page(run, junk):
    for path in (run.config, run.data, run.env, run.metrics, run.timing, run.evaluation):
        path.write_bytes(junk)
    assert "images seen 0" in read(run).text


@pytest.mark.parametrize(
    "junk", [None, 1.5, "text", [None], {"x": None}, {"folder": 3, "files": [5], "held_out": 4}]
)
def test_wrong_types_make_a_page(run, junk):
    run.config.write_text(json.dumps({"training": junk, "method": junk, "x": junk}))
    run.data.write_text(json.dumps({"a": junk, "b": junk}))
    run.env.write_text(json.dumps([junk, {"device": junk, "images": junk, "command": junk}]))
    run.evaluation.write_text(
        json.dumps({"title": junk, "columns": junk, "rows": [junk], "pictures": [junk]})
    )
    rows = [{"images": junk}, {"images": 5, "epoch": junk, "lr": junk, "losses": junk}, {"images": 4}]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "images seen 5" in read(run).text


def test_losses_that_are_no_numbers_leave_gaps(run):
    rows = [
        {"images": 10 * n, "losses": {"gan_ab": value}} for n, value in enumerate((1.0, float("nan"), None))
    ]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read(run)
    assert curves(run)["Adversarial"]["curves"][0]["values"] == [1.0, None, None]


def test_an_evaluation_stands_first_with_its_winner_marked(full):
    rows = [{"name": "untouched", "values": [13.4172, 0.55123], "best": False}]
    rows += [{"name": "twofold", "values": [19.61, None], "best": True}]
    words = {"title": "Against the truth", "summary": "Nearer by 6 dB.", "note": "Higher is better."}
    full.evaluation.write_text(json.dumps(words | {"columns": ["PSNR", "SSIM"], "rows": rows}))
    text = read(full).text
    assert "untouched twofold best PSNR 13.4 19.6 SSIM 0.551 – Higher is better." in text
    assert text.index("Against the truth Nearer by 6 dB.") < text.index("Over time")
    assert full.report.read_text().count("<td class=best>") == 2


def test_an_evaluation_shows_only_pictures_of_the_run_that_fit(run, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (run.path / "link.png").symlink_to(tmp_path / "secret.png")
    (run.path / "good.png").write_bytes(b"good")
    (run.path / "large.png").write_bytes(bytes(PICTURE_BYTES))
    paths = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "config.yaml",
        "none.png",
        "large.png",
    ]
    pictures = [{"caption": "x", "path": path} for path in [*paths[:5], "good.png", "large.png"]]
    run.evaluation.write_text(json.dumps({"pictures": pictures}))
    assert read(run).images == ["data:image/png;base64," + base64.b64encode(b"good").decode()]


def test_hostile_names_stay_text(tmp_path):
    run = Run(tmp_path / EVIL.replace("/", "\\"))
    run.path.mkdir()
    add_samples(run, 1)
    run.config.write_text(
        json.dumps({"method": EVIL, EVIL: {EVIL: EVIL}, "list": [EVIL], "x": {"y": [EVIL]}})
    )
    side = {"folder": EVIL, "files": [{"name": EVIL + "\udc80", "error": EVIL}]}
    run.data.write_text(json.dumps({"a": side, "b": side}))
    run.env.write_text(json.dumps([{"command": EVIL, "device": EVIL, "images": EVIL, EVIL: EVIL}]))
    losses = {EVIL: 1.0, f"gan_{EVIL}": 2.0}
    run.metrics.write_text(json.dumps({"images": 1, "epoch": EVIL, "lr": EVIL, "losses": losses}))
    picture = {"caption": EVIL, "path": "samples/000000100-ab.webp"}
    rows = [{"name": EVIL, "values": [EVIL], "best": EVIL}]
    words = {"title": EVIL, "summary": EVIL, "note": EVIL, "columns": [EVIL]}
    run.evaluation.write_text(json.dumps(words | {"rows": rows, "pictures": [picture]}))
    seen = read(run)
    assert seen.tags.count("script") == 4  # the page's own, the times, and the data of two charts
    assert seen.handlers == []
    assert all(source.startswith("data:image/webp;") for source in seen.images)
    assert seen.text.count("onerror=alert(1)") > 20


def test_a_report_is_written_whole_or_not_at_all(full, monkeypatch):
    write_report(full)
    before = full.report.read_bytes()
    assert write_report(full).read_bytes() == before  # nothing of the clock in it

    def no_space(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(OSError, match="No space"):
        write_report(full)
    assert full.report.read_bytes() == before
    assert [path.name for path in full.path.iterdir() if "report" in path.name] == ["report.html"]


def test_the_report_needs_no_torch():
    check = "import sys, twofold.reporting.report; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
