"""The doctor beside a training: each warning once, and nothing else changed by it."""

import numpy as np

from twofold.evaluation.doctor import examine as doctor
from twofold.formats import images
from twofold.reporting.report import write_report
from twofold.runs import Run
from twofold.training import records


def test_a_warning_is_said_once_and_changes_nothing(lab, tmp_path, command, monkeypatch):
    """Its translators start as copies and are hardly moved; three grids show it."""
    slope = np.linspace(0, 100, 20).astype(np.uint8)[:, None, None] + np.zeros((1, 20, 3), np.uint8)
    for name, light in (("dark", 0), ("bright", 150)):
        for i in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            images.write(slope + np.uint8(light + i), tmp_path / name / f"{i}.png")
    said = {"training__sample_every": 4, "generator__skips": True, "optim__lr": 1e-9}

    def train(out):
        start, _, _, *rest = lab.tokens(tmp_path / out, **said)
        ended = command(start, tmp_path / "dark", tmp_path / "bright", *rest)
        assert ended.code == 0
        return ended.output

    monkeypatch.setattr(doctor, "YOUNG", 0)
    monkeypatch.setattr(doctor, "CERTAIN", 0)
    warned = train("warned")
    assert warned.count("trouble: A→B returns its input") == 1
    assert warned.count("trouble: B→A returns its input") == 1
    monkeypatch.setattr(records, "examine", lambda run: [])
    assert "trouble:" not in train("silent")
    assert lab.outcome(tmp_path / "warned") == lab.outcome(tmp_path / "silent")


def test_what_the_start_says_of_the_files_is_not_said_again(lab, tmp_path, command, many):
    mixed = many(tmp_path / "mixed", 3)
    images.write(images.read(lab.a / "0.png"), mixed / "same.png")
    (mixed / "same.png").write_bytes((lab.a / "0.png").read_bytes())
    tokens = lab.tokens(tmp_path / "run")
    tokens[2] = str(mixed)
    said = command(*tokens).output
    assert "1 image of A also in B" in said and "byte for byte" not in said


def test_the_report_shows_the_findings_and_escapes_them(copied):
    run = Run(copied)
    assert "No problem found" in write_report(run).read_text()
    run.metrics.write_text('{"images": 5, "not_finite": ["<script>"]}\n')
    page = write_report(run).read_text()
    assert "&lt;script&gt; stopped being finite" in page and "<script> stopped" not in page
