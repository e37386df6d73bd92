"""A record holds the machine, the commit, the command, the figures and what was printed, but no folder of the machine."""

import json
import sys

import pytest


@pytest.fixture
def record(load_benchmark, tmp_path, monkeypatch):
    module = load_benchmark("record")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RECORDS", tmp_path / "benchmarks" / "records")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "benchmarks" / "step.py"), "--out", str(tmp_path / "x")])
    return module


def test_figures_and_output_are_kept(record, tmp_path, capsys):
    with record.measurement("step", device="cpu") as figures:
        figures["seconds"] = 1.5
        sys.stdout.write("1.5 s a step\n")
    (folder,) = (tmp_path / "benchmarks" / "records").iterdir()
    assert folder.name.endswith("-step")
    stored = json.loads((folder / "record.json").read_text())
    assert stored["figures"] == {"seconds": 1.5} and stored["device"] == "cpu"
    assert stored["command"] == "python benchmarks/step.py --out x"
    assert stored["commit"] == "unknown"  # no git checkout
    assert {"cpu", "cores", "torch"} <= stored["machine"].keys()
    log = (folder / "log.txt").read_text()
    assert log.endswith("1.5 s a step\n") and "python benchmarks/step.py --out x" in log
    assert capsys.readouterr().out.startswith(log)


def test_without_a_name_or_after_an_error_nothing_is_written(record, tmp_path):
    with record.measurement():
        pass
    with pytest.raises(ValueError), record.measurement("step"):
        raise ValueError
    assert not (tmp_path / "benchmarks").exists()
