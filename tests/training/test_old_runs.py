"""Runs of 0.1 that were stopped in the middle: their states are restored exactly, and they finish as 0.1 finished them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from twofold.runs import Run, read_lines
from twofold.training import start, state
from twofold.training.build import build
from twofold.training.train import trainer_for

OLD = Path(__file__).parents[1] / "old_runs"
STOPPED = 6
TOTALS = {"cyclegan": 12, "pix2pix": 8}


@pytest.fixture(params=TOTALS)
def old(request, tmp_path):
    """A copy of a run with its images, stopped at image 6, that a user has moved here."""
    run = Run(shutil.copytree(OLD / request.param, tmp_path / request.param))
    for path in (run.config, run.data):
        path.write_text(path.read_text().replace("/images", str(run.path / "images")))
    total = f"{TOTALS[request.param]:09d}"
    for snapshot in (run.path / "snapshots").glob(f"{total}-*"):
        snapshot.rename(run.path / snapshot.name.replace(total, "final"))
    return run


def test_everything_in_its_state_is_restored_exactly(old):
    config = start.stored(old)
    trainer = trainer_for(config, build(config), torch.device("cpu"))
    progress = state.load(old, trainer, pytest.fail)
    saved = load_file(old.state(STOPPED) / "state.safetensors")
    now = state.content(trainer)
    assert trainer.images == STOPPED and progress is not None and progress["losses"]
    weights = {name for name in saved if name.startswith(("method/", "average/", "adam/", "sums/"))}
    assert {"method/", "adam/", "sums/"} <= {name.split("/")[0] + "/" for name in weights}
    assert all(torch.equal(saved[name], now[name]) for name in weights)
    assert weights == {name for name in now if not name.startswith("memory/")}
    for name, storage in trainer.method.image_storages().items():
        prefix = f"memory/{name.removeprefix('recent.')}"
        if name.startswith("recent."):
            assert torch.equal(saved[f"{prefix}/rows"], storage.rows)
            assert torch.equal(saved[f"{prefix}/count"], storage.count)
        else:
            images = storage.content()
            assert len(images) == 3
            assert all(torch.equal(saved[f"{prefix}/{i:06d}"], image) for i, image in enumerate(images))


def test_it_finishes_as_the_old_version_did(old, command):
    total = TOTALS[old.path.name]
    ended = command("train", "--resume", old.path)
    assert ended.code == 0, ended.output
    assert f"{STOPPED} of {total} images seen" in ended.output
    assert [images for images, _ in old.states()] == [STOPPED, total]
    assert read_lines(old.metrics)[-1]["images"] == total
    assert json.loads((old.state(total) / "progress.json").read_text())["format"] == state.FORMAT
    for direction in ("ab", "ba") if old.path.name == "cyclegan" else ("ab",):
        mine = load_file(old.snapshot(total, direction))
        before = load_file(old.snapshot(STOPPED, direction))
        (final,) = old.path.glob(f"final-{direction}.safetensors")
        expected = load_file(final)
        assert mine.keys() == expected.keys()
        far = max(float((mine[name] - value).abs().max()) for name, value in expected.items())
        moved = max(float((before[name] - value).abs().max()) for name, value in expected.items())
        assert far < 2e-3 and far < moved / 2, (far, moved)


def test_its_final_state_is_read_by_the_new_format(old, command):
    assert command("train", "--resume", old.path).code == 0
    ended = command("train", "--resume", old.path)
    assert ended.code == 0 and f"is finished with {TOTALS[old.path.name]} images" in ended.output
