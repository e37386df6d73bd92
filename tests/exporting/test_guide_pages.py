"""The commands and the examples of the guide pages "Export" and "Use a model in your program" run as they stand."""

import ast
import asyncio
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twofold.cli import app as cli
from twofold.formats import images

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
PROGRAM = (GUIDE / "use-in-a-program.md").read_text(encoding="utf-8")
EXPORT = (GUIDE / "export.md").read_text(encoding="utf-8")


def examples(page):
    """Heading to the Python examples below it."""
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    return {each.partition("\n")[0]: re.findall(r"```python\n(.*?)```", each, re.S) for each in sections}


def commands(page):
    """The commands of a page; test_page.py writes web pages, which need ONNX Runtime Web."""
    lines = [line for line in page.splitlines() if line.startswith("    twofold ") and ".html" not in line]
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture(scope="module")
def place(made, tmp_path_factory):
    """A folder with runs/h2z, horse.jpg, photos, and the files that the pages' commands export."""
    home = tmp_path_factory.mktemp("guide")
    made(resize="shortest", load_size=286).save(home / "runs/h2z/snapshots/000000001-ab.safetensors")
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    coarse.resize((400, 300), Image.Resampling.BICUBIC).save(home / "horse.jpg", quality=95)
    images.write(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), home / "photos/a.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for tokens in (*commands(EXPORT), *commands(PROGRAM)):
            assert cli.run(tokens) == 0, tokens
    return home


def run(place, monkeypatch, code):
    """The names that an example leaves."""
    monkeypatch.chdir(place)
    (place / "zebra.png").unlink(missing_ok=True)
    names = {"__name__": "guide"}
    exec(compile(code, "use-in-a-program.md", "exec"), names)
    return names


def expected(place):
    import twofold

    return twofold.load(place / "runs/h2z", device="cpu").array(place / "horse.jpg").astype(int)


def difference(place, wanted):
    found = np.asarray(Image.open(place / "zebra.png")).astype(int)
    assert found.shape == wanted.shape == (300, 400, 3) and wanted.std() > 20
    return np.abs(found - wanted)


def test_the_exported_files_are_there(place):
    names = {path.name for path in place.iterdir()}
    assert {"h2z.onnx", "h2z.onnx.report.json", "h2z-256.onnx", "h2z.pt2", "zebras"} <= names


def test_opencv_arrays(place, monkeypatch):
    pytest.importorskip("cv2", reason="needs opencv-python-headless")
    (code,) = examples(PROGRAM)["OpenCV users: BGR arrays"]
    run(place, monkeypatch, code)
    found = difference(place, expected(place))
    assert found.max() <= 8 and found.mean() < 0.5  # OpenCV decodes JPEG in its own way


def test_onnx_runtime_alone(place, monkeypatch):
    (code,) = examples(PROGRAM)["ONNX Runtime alone"]
    assert "twofold" not in code
    run(place, monkeypatch, code)
    found = difference(place, expected(place))
    assert found.max() <= 8 and found.mean() < 0.5  # Pillow's resize and torch's differ by a level


def test_opencv_alone(place, monkeypatch):
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    (code,) = examples(PROGRAM)["OpenCV alone"]
    assert "twofold" not in code
    run(place, monkeypatch, code)
    import twofold

    squashed = cv2.resize(cv2.imread(str(place / "horse.jpg"))[..., ::-1], (256, 256))
    seen = twofold.load(place / "runs/h2z", device="cpu").array(np.ascontiguousarray(squashed), at="native")
    assert difference(place, cv2.resize(seen, (400, 300)).astype(int)).max() <= 2


def test_pytorch(place, monkeypatch):
    with_twofold, alone = examples(PROGRAM)["PyTorch"]
    names = run(place, monkeypatch, with_twofold)
    photo = names["photos"][0].permute(1, 2, 0).numpy()
    zebra = names["zebras"][0].permute(1, 2, 0).numpy()
    assert np.abs(names["translator"].array(photo, at="native").astype(int) - zebra).max() <= 1
    assert "twofold" not in alone
    assert run(place, monkeypatch, alone)["zebras"].shape == (2, 3, 130, 201)


def test_a_starlette_app(place, monkeypatch):
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    (code,) = examples(PROGRAM)["A web server of your own"]
    app = run(place, monkeypatch, code)["app"]

    async def post():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post("/translate", content=(place / "horse.jpg").read_bytes())

    answer = asyncio.run(post())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    (place / "zebra.png").write_bytes(answer.content)
    assert difference(place, expected(place)).max() <= 1


def test_the_gradio_example_calls_what_exists(place, monkeypatch):
    (code,) = examples(PROGRAM)["Gradio"]
    ast.parse(code)

    class Gradio:
        def Image(self, **named):
            return named

        def Interface(self, translate, *ends, title):
            translate(Image.open("horse.jpg")).save("zebra.png")
            return self

        def launch(self):
            pass

    monkeypatch.setitem(sys.modules, "gradio", Gradio())
    run(place, monkeypatch, code)
    assert difference(place, expected(place)).max() <= 1


def test_examples_are_short():
    for page in (PROGRAM, EXPORT):
        for codes in examples(page).values():
            for code in codes:
                assert sum(bool(line.strip()) for line in code.splitlines()) <= 15, code


def test_export_in_python(place, monkeypatch, capsys):
    (code,) = examples(EXPORT)["In Python"]
    run(place, monkeypatch, code)
    assert re.fullmatch(r"[\d.e-]+ levels\n", capsys.readouterr().out)
