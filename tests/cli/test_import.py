"""`twofold import`: checkpoints of the original implementation."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from twofold.formats import images

GOLDENS = Path(__file__).parents[1] / "goldens" / "networks.safetensors"


def golden(case):
    with safe_open(GOLDENS, "pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{case}/")]  # noqa: SIM118
        return {name.removeprefix(f"{case}/"): file.get_tensor(name) for name in names}


@pytest.mark.parametrize("case", ["G0", "G1", "G4", "G5", "G6"])
def test_an_imported_model_translates_as_the_original(call, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    state = golden(case)
    given, expected = state.pop("input")[0], images.to_uint8(state.pop("output")[:1])[0]
    torch.save(state, "latest_net_G_A.pth")
    images.write(given.permute(1, 2, 0).numpy(), "x.png")
    assert call("import", "latest_net_G_A.pth", "-o", "model.safetensors").code == 0
    exact = ["--precision", "float32"]
    assert call("translate", "model.safetensors", "x.png", "-o", "y.png", *exact).code == 0
    result = images.read("y.png")
    difference = np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy())
    # Without norms the last bits of float32 grow to two levels, and the golden is float32 too.
    assert result.std() > 0 and difference.max() <= (2 if case == "G6" else 1)
    facts = json.loads(call("info", "model.safetensors", "--json").out)
    assert (facts["size"], facts["origin"]["imported"]) == (None, "latest_net_G_A.pth")


class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def test_import_refuses_what_it_should(refuses, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model.1.weight": Hostile()}, "hostile.pth")
    Path("damaged.pth").write_bytes(b"no checkpoint")
    torch.save({"weight": torch.zeros(1)}, "other.pth")
    to = ["-o", "model.safetensors"]
    assert "holds no named weights" in refuses("import", "hostile.pth", *to, code=1)  # and no folder was made
    assert "damaged" in refuses("import", "damaged.pth", *to, code=1)
    assert "not those of a generator" in refuses("import", "other.pth", *to, code=1)
    assert "there is no file" in refuses("import", "nowhere.pth", *to)
    assert "-o model.safetensors" in refuses("import", "other.pth", "-o", "model.pth")
    assert "--size must be a whole number, not x" in refuses("import", "other.pth", *to, "--size", "x")
    assert "--size must be 1 to" in refuses("import", "other.pth", *to, "--size", "0")
