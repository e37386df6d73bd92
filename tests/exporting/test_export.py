"""`twofold.export`: the proof before anything is written, its report, and files whole or not at all."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import twofold
from twofold.errors import TwofoldError, UsageError
from twofold.exporting import export as exporting
from twofold.exporting import pictures as found
from twofold.exporting import web_runtime
from twofold.exporting.page import write_page
from twofold.exporting.proof import Proof, check, default_tolerance
from twofold.files import replacing
from twofold.formats import images
from twofold.formats.contract import Contract

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")


@pytest.fixture
def run(made, tmp_path):
    """A folder with a snapshot, and a data.json with four held-out images, one of which is broken."""
    made("resnet", resize="shortest").save(tmp_path / "run/snapshots/000000001-ab.safetensors")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "d.png"):
        images.write(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8), tmp_path / "held" / name)
    (tmp_path / "held/c.png").write_bytes(b"no picture")
    files = [{"name": f"{name}.png", "hash": name, "error": ""} for name in "abcd"]
    domain = {
        "folder": str(tmp_path / "train"),
        "files": [],
        "held_out": [],
        "val": {"folder": str(tmp_path / "held"), "files": files},
    }
    (tmp_path / "run/data.json").write_text(json.dumps({"a": domain}))
    (tmp_path / "run/config.yaml").write_text("{}")
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["x.onnx", "x.pt2"])
def test_a_file_and_its_report(run, name):
    report = twofold.export(run, run.parent / name)
    assert report.file.stat().st_size == report.bytes
    assert [row.name for row in report.rows] == ["a.png", "b.png", "d.png", "a.png", "a.png", "a batch"]
    assert [row.size for row in report.rows] == [(40, 48)] * 3 + [(130, 201), (67, 41), (130, 201)]
    assert [row.images for row in report.rows] == [1, 1, 1, 1, 1, 2]
    assert all(0 <= row.mean <= row.max < 0.1 and row.psnr > 80 and row.torch_ms > 0 for row in report.rows)
    stored = json.loads((run.parent / f"{name}.report.json").read_text())
    assert stored == json.loads(json.dumps(report.to_dict())) and stored["kind"] == name[2:]
    assert stored["model"]["direction"] == "ab" and stored["rows"][3]["size"] == [130, 201]


def test_the_other_forms(run, made, tmp_path):
    fixed = twofold.export(run, tmp_path / "f.onnx", fixed=48, io="uint8")
    assert [(row.name, row.size) for row in fixed.rows] == [(f"{name}.png", (48, 48)) for name in "abd"]
    wide = twofold.export(run, tmp_path / "w", to="onnx", fixed=(40, 80), fp16=True)
    assert {row.size for row in wide.rows} == {(40, 80)} and wide.tolerance == 8
    weights = twofold.export(run, tmp_path / "latest_net_G.pth")
    assert weights.rows == () and not (tmp_path / "latest_net_G.pth.report.json").exists()
    translator = made("unet", "4 bands of 12 bits")
    device = next(translator.generator.parameters()).device
    deep = twofold.export(translator, tmp_path / "deep.onnx", io="uint8")
    assert deep.tolerance == 4.095 and all(row.max <= 2 for row in deep.rows)
    assert next(translator.generator.parameters()).device == device


@pytest.mark.parametrize(
    "contracts", ["grey to RGB", "own ranges", "floats", "ids", "one-hot ids", "one-hot colours", "colours"]
)
def test_every_kind_of_domain_is_proven_on_built_in_pictures(made, tmp_path, contracts):
    translator = made("resnet", contracts, resize="shortest")
    for io in ("float", "uint8"):
        report = twofold.export(translator, tmp_path / "x.onnx", io=io)
        assert report.rows[0].name == "built-in 0" and report.rows[0].max <= report.tolerance


def test_a_network_in_lab(made, tmp_path):
    assert twofold.export(made(lab=True), tmp_path / "x.onnx").rows[0].max < 0.1


def test_a_file_that_differs_is_refused_and_nothing_is_left(run, monkeypatch):
    out = run.parent / "x.onnx"
    out.write_bytes(b"older")
    before = sorted(run.parent.iterdir())
    with pytest.raises(
        TwofoldError, match=r"differs .* by up to .* levels \(.*, \d+x\d+\), more than --tolerance 1e-09"
    ):
        twofold.export(run, out, tolerance=1e-9)
    other = exporting.export_bytes
    monkeypatch.setattr(
        exporting,
        "export_bytes",
        lambda generator, *given, **named: other(changed(generator), *given, **named),
    )
    with pytest.raises(TwofoldError, match="more than --tolerance 1; nothing was written: allow more"):
        twofold.export(run, out)
    assert out.read_bytes() == b"older" and sorted(run.parent.iterdir()) == before


def changed(generator):
    """A copy whose last bias is another."""
    copied = exporting.copy.deepcopy(generator)
    copied.leave.conv.bias += 0.05
    return copied


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.5])
def test_numbers_that_are_none_differ(made, wrong):
    translator = made()
    proof = Proof(translator, lambda images: np.full_like(images, wrong), stored=False)
    rows = [proof.compare("x", [np.zeros((40, 40, 3), np.uint8)])]
    with pytest.raises(TwofoldError, match="differs"):
        check(rows, 1.0, fp16=False)


def test_no_space_leaves_neither_file(run, monkeypatch):
    def full(path, content, **_):
        with replacing(path) as aside:
            aside.write_bytes(content[:9])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "write_atomically", full)
    before = sorted(run.parent.iterdir())
    with pytest.raises(TwofoldError, match="no space left under"):
        twofold.export(run, run.parent / "x.onnx")
    assert sorted(run.parent.iterdir()) == before


def test_halves_of_pairs_and_drawn_images_are_used(made, tmp_path):
    images.write(np.arange(2400, dtype=np.uint8).reshape(20, 40, 3), tmp_path / "p.png")
    domain = {
        "folder": str(tmp_path),
        "part": "right",
        "files": [{"name": "p.png", "hash": "p"}, {"name": "q.png", "hash": "q"}],
        "held_out": ["p.png"],
        "val": None,
    }
    (tmp_path / "data.json").write_text(json.dumps({"a": domain}))
    ((name, pixels),) = found.pictures(made().header, tmp_path)
    assert name == "p.png" and pixels.shape == (20, 20, 3)
    (tmp_path / "p.png").unlink()
    assert [each.name for each in found.pictures(made().header, tmp_path)] == [
        "built-in 0",
        "built-in 1",
        "built-in 2",
    ]
    for damaged in (
        "{",
        "[]",
        '{"a": {}}',
        '{"a": {"folder": 3, "files": [{"name": "x", "hash": "x"}], "held_out": ["x"]}}',
    ):
        (tmp_path / "data.json").write_text(damaged)
        assert found.pictures(made().header, tmp_path)[0].name == "built-in 0", damaged


def test_default_tolerances():
    deep, floats = Contract("uint16", 1, (0.0,), (65535.0,)), Contract("float32", 1, (0.0,), (1e-3,))
    tolerances = [
        default_tolerance(each, half) for each in (Contract(), deep, floats) for half in (False, True)
    ]
    assert tolerances == pytest.approx([1, 8, 65.5, 2056, 4.1, 128.5], rel=1e-2)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("x.tflite", {}, "no suffix that tells what to write; use .onnx, .html, .pt2 or .pth"),
        ("x.pt2", {"fixed": 64}, "--fixed, --io and --fp16 are for .onnx files, not for x.pt2"),
        ("x.pth", {"tolerance": 1}, "--tolerance is for .onnx and .pt2 files"),
        ("x.onnx", {"direction": "ba"}, "no snapshot of direction ba"),
        ("x.onnx", {"fixed": 63}, "use 60 or 64"),
        ("x.onnx", {"fixed": "64"}, r"fixed must be a side in pixels or \(height, width\), not '64'"),
        ("x.onnx", {"fixed": (64,)}, "fixed must be a side in pixels"),
        ("x.onnx", {"io": "int8"}, "io must be float or uint8, not 'int8'"),
        ("x.onnx", {"tolerance": -1}, "--tolerance must be 0 or more levels, not -1"),
        ("x.onnx", {"to": "tflite"}, "to must be onnx, pt2 or pth, not 'tflite'"),
        ("x.html", {}, "only the command line writes web pages"),
    ],
)
def test_wrong_arguments(run, name, given, message):
    with pytest.raises(UsageError, match=message):
        twofold.export(run, run.parent / name, **given)
    assert not Path(run.parent, name).exists()


def test_a_web_page_names_a_missing_package_before_any_download(made, tmp_path, monkeypatch):
    monkeypatch.setattr(web_runtime, "_installed", lambda: iter(()))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("npm was started"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    model = made("resnet", resize="shortest")
    with pytest.raises(UsageError, match=r"needs the package onnx: pip install 'twofold\[export\]'"):
        write_page({"ab": (model.generator, model.header)}, tmp_path / "x.html", title="x", consent=True)


def test_the_model_is_not_overwritten(run):
    model = run / "snapshots/000000001-ab.safetensors"
    before = model.read_bytes()
    for source in (model, run):
        with pytest.raises(UsageError, match="is the model itself; name another file"):
            twofold.export(source, model, to="pth")
    assert model.read_bytes() == before


def test_an_exported_file_is_not_exported_again(run, tmp_path):
    twofold.export(run, tmp_path / "x.onnx")
    for model in (tmp_path / "x.onnx", twofold.load(tmp_path / "x.onnx")):
        with pytest.raises(UsageError, match="ONNX"):
            twofold.export(model, tmp_path / "y.onnx")
