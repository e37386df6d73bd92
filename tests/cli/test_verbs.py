"""The smaller verbs: info, report, presets, data."""

import json
import shutil
import subprocess
import sys

from twofold.runs import Run


def test_info_of_a_run_and_of_a_model(made, call):
    text = call("info", made.run).out
    assert "000000005-ab.safetensors" in text and "network resnet" in text and "origin:" in text
    assert max(map(len, (line for line in text.splitlines() if "/" not in line))) <= 80
    assert "gives:      uint8, 3 channels, 0…255\n" in text and "shorter side is 36 px" in text
    facts = json.loads(call("info", made.run, "--direction", "ba", "--json").out)
    assert (facts["direction"], facts["geometry"]["size"], facts["method"]) == ("ba", 32, "cyclegan")
    assert facts["source"]["dtype"] == facts["target"]["dtype"] == "uint8"
    assert facts["states"] == [5] and facts["metrics"]["images"] == 5
    file = Run(made.run).newest_snapshot("ab")
    facts = json.loads(call("info", file, "--json").out)
    assert (facts["model"], facts["origin"]) == (str(file), {"images": 5, "method": "cyclegan"})


def test_info_of_a_run_and_of_a_model_is_quick(made):
    check = (
        "import sys; from twofold.cli import app; sys.exit(app.run(sys.argv[1:]) or 'torch' in sys.modules)"
    )
    for path in (made.run, Run(made.run).newest_snapshot("ab")):
        subprocess.run([sys.executable, "-c", check, "info", path], check=True, stdout=subprocess.DEVNULL)


def test_info_of_a_run_that_has_no_model_yet(made, call, tmp_path):
    shutil.copy(made.run / "config.yaml", tmp_path)
    result = call("info", tmp_path, "--json")
    assert result.code == 0 and json.loads(result.out)["states"] == []


def test_report_is_written_anew(made, call, tmp_path):
    run = shutil.copytree(made.run, tmp_path / "run")
    (run / "report.html").unlink()
    result = call("report", run)
    assert (result.code, result.out) == (0, f"{run / 'report.html'}\n")
    assert "<html" in (run / "report.html").read_text()


def test_presets_are_listed_with_their_sources(call):
    assert "  cycle-alone             both cycles, no discriminators\n" in call("presets").out
    text = call("presets", "gan-forward").out
    assert "arXiv 1703.10593, §5.1.4" in text and "\n--cyclegan.cycle-b 0\n" in text
    assert call("presets", "gan-foward").line == "there is no preset gan-foward; did you mean gan-forward?"


def test_data_check_reads_calmly(unchanged, made, call, folders, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TWOFOLD_CACHE", str(folders / "cache"))
    (folders / "A" / "bad.jpg").write_bytes(b"no image")
    shutil.copy(folders / "A" / "summer-00000.png", folders / "B" / "same.png")
    with unchanged(folders):
        result = call("data", "check", "A", "B", "--size", "32")
    assert result.code == 1  # five of six decode, which training would refuse
    assert "A  " in result.out and "   5 images (1 bad), 3 channels, all 32 × 32 px\n" in result.out
    assert "bad.jpg" in result.out and "1 image of A also in B" in result.out
    assert result.out.rstrip().endswith("not ready: `twofold train` would stop at the errors above")
    assert max(map(len, (line for line in result.out.splitlines() if str(folders) not in line))) <= 80
    found = json.loads(call("data", "check", "A", "B", "--size", "32", "--json").out)
    assert found["ready"] is False and found["folders"]["B"]["good"] == 6
    errors = [problem["names"] for problem in found["problems"] if problem["severity"] == "error"]
    assert ["bad.jpg"] in errors
    assert call("data", "check", made.pictures / "trainA", "--size", "32").code == 0


def test_make_seasons_refuses_what_it_cannot(call, made, tmp_path):
    assert "not an empty folder" in call("data", "make", "seasons", made.pictures).line
    assert "at least 1" in call("data", "make", "seasons", tmp_path / "x", "--count", "0").line
    assert list(tmp_path.iterdir()) == []
