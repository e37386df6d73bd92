"""`twofold export`: its kinds, its table, and what it refuses."""

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return made.run


@pytest.mark.parametrize(
    "words", [[], ["--fixed", "64x32", "--io", "uint8", "--fp16"], ["--direction", "ba", "--to", "pt2"]]
)
def test_the_table_fits_80_columns_and_says_how_to_use_the_file(call, run, words):
    result = call("export", run, "-o", "x.onnx", *words)
    assert result.code == 0 and result.err == ""
    assert all(len(line) <= 80 for line in result.out.splitlines()), result.out
    told = " ".join(result.out.split())
    assert "x.onnx: network resnet" in told and "PyTorch" in told
    assert json.loads(Path("x.onnx.report.json").read_text())["rows"]
    if "--fixed" in words:
        assert "takes uint8 (1, 32, 64, 3) as `images`" in told and "scale images to 64×32 px first" in told
    elif not words:
        assert "scale images like this first" in told
        assert "takes float32 (N, 3, H, W) from -1 to 1" in told and "201×130" in told


def test_weights_for_the_original(call, run):
    result = call("export", run, "-o", "latest_net_G_A.pth")
    assert result.code == 0 and "python test.py" in " ".join(result.out.split())
    assert sorted(path.name for path in Path().iterdir()) == ["latest_net_G_A.pth"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "x"], "no suffix that tells what to write"),
        (["-o", "x.onnx", "--fixed", "63"], "instead of 63 use 60 or 64"),
        (
            ["-o", "x.onnx", "--fixed", "64,64"],
            "--fixed must be a number of pixels such as 512, or WIDTHxHEIGHT",
        ),
        (["-o", "x.onnx", "--fixed", "0x64"], "--fixed must be a number of pixels"),
        (["-o", "x.onnx", "--tolerance", "-1"], "--tolerance must be 0 or more levels"),
        (["-o", "x.onnx", "--tolerance", "nan"], "--tolerance must be 0 or more levels"),
        (["-o", "x.onnx", "--webgpu"], "are for web pages"),
        (["-o", "x.html", "--io", "uint8"], "leave them out for a web page"),
        (["-o", "x.pt2", "--fp16"], "are for .onnx files"),
        (["-o", "x.onnx", "--to", "tflite"], "--to"),
    ],
)
def test_wrong_options(refuses, run, words, message):
    assert message in refuses("export", run, *words)


def test_a_web_page_needs_its_runtime_or_consent(call, run, monkeypatch):
    from twofold.exporting import page

    written = []
    monkeypatch.setattr(page, "find_runtime", lambda ort: None)
    monkeypatch.setattr(
        page, "write_page", lambda generators, out, **named: written.append((list(generators), named))
    )
    for words, ways, consent in (
        ([], ["ab", "ba"], False),
        (["--direction", "ba", "--yes", "--fp16"], ["ba"], True),
    ):
        assert call("export", run, "-o", "x.html", *words).code == 0
        generators, named = written.pop()
        assert (generators, named["consent"], named["fp16"]) == (ways, consent, consent)


def test_a_run_without_snapshots(refuses, run):
    Path("empty").mkdir()
    Path("empty/config.yaml").write_text("{}")
    assert "has no snapshot of direction ab" in refuses("export", "empty", "-o", "x.onnx")
    assert "missing does not exist" in refuses("export", "missing", "-o", "x.onnx")


def test_a_tolerance_that_is_not_kept(refuses, run):
    assert "more than --tolerance 1e-09" in refuses(
        "export", run, "-o", "x.onnx", "--tolerance", "1e-9", code=1
    )
