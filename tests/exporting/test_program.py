"""Programs of torch.export: any size and number, and no need of twofold to run."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from twofold.errors import TwofoldError
from twofold.exporting.program import open_program, program_bytes
from twofold.formats.values import to_network
from twofold.networks.layers import Generator


@pytest.mark.parametrize("network", ["skips", "unet"])
def test_a_program_takes_any_size_and_number(made, values, network):
    translator = made(network)
    program = open_program(program_bytes(translator.generator, translator.header))
    for count, height, width in ((1, 40, 64), (2, 33, 50), (1, 7, 5)):
        images = np.stack([values(translator.source, height, width, seed) for seed in range(count)])
        padded = np.stack([translator.pad(image) for image in images])
        inputs, larger = (
            to_network(torch.from_numpy(each).permute(0, 3, 1, 2), translator.source)
            for each in (images, padded)
        )
        difference = program(inputs) - translator.forward(larger)[:, :, :height, :width]
        assert difference.shape == (count, 3, height, width) and difference.abs().max() < 2e-4


def test_torch_alone_runs_it_and_finds_the_header(made, tmp_path):
    translator = made("resnet", "grey to RGB")
    (tmp_path / "x.pt2").write_bytes(program_bytes(translator.generator, translator.header))
    code = (
        "import sys, json, torch\nfiles = {'twofold': ''}\nprogram = torch.export.load('x.pt2', extra_files=files)\n"
        "y = program.module()(torch.zeros(1, 1, 20, 31))\nassert 'twofold' not in sys.modules\n"
        "print(json.dumps([list(y.shape), json.loads(files['twofold'])['direction']]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[1, 3, 20, 31], "ab"]


class Branching(Generator):
    multiple_of, minimum, per_image = 1, 1, True
    arguments = {"in_channels": 3, "out_channels": 3}  # noqa: RUF012

    def forward(self, images):
        return images if images.mean() > 0 else -images


def test_a_network_that_decides_by_values_is_refused_in_a_line(made):
    with pytest.raises(TwofoldError, match="this network cannot be exported: ") as caught:
        program_bytes(Branching(), made().header)
    assert "\n" not in str(caught.value)
