"""Short runs of each method and each adversarial loss: the doctor has no trouble to report."""

import pytest

from twofold.cli import app as cli
from twofold.evaluation.doctor.examine import examine
from twofold.runs import Run
from twofold.seasons import dataset as seasons

SETTINGS = """
data: {size: 32, load_size: 32}
generator: {network: resnet-6, width: 16, blocks: 4, upsample: resize, skips: true}
discriminator: {width: 16, layers: 2}
cyclegan: {identity: 0}
cut: {head_width: 64, layers: [0, 3, 5]}
optim: {lr: 1e-3}
training: {epochs: 1.2, decay_epochs: 1.2, samples: 4, sample_every: 1000, report_every: 20, snapshot_every: 1000}
evaluation: {every: 0}
machine: {device: cpu, threads: 1}
"""

PAIRS = ["--method", "pix2pix", "--epochs", "10", "--decay-epochs", "6"]

ROWS = {
    "cyclegan": [],
    "cut": ["--method", "cut"],
    "fastcut": ["--method", "fastcut", "--cut.nce", "1", "--optim.disc-lr", "0.5"],
    "pix2pix": PAIRS,
    "bce": ["--adversarial.loss", "bce"],
    "hinge": ["--adversarial.loss", "hinge"],
    "wgan": ["--adversarial.loss", "wgan", "--adversarial.critic-steps", "2"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """200 landscapes of each season, and 25 pairs."""
    folder = tmp_path_factory.mktemp("seasons")
    seasons.make(folder / "seasons", 200, 48, 0, lambda line: None)
    return folder / "seasons"


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_healthy_run_has_no_trouble(pictures, tmp_path, capsys, row):
    (tmp_path / "small.yaml").write_text(SETTINGS)
    folders = ("valA", "valB") if row == "pix2pix" else ("trainA", "trainB")
    tokens = ["train", *(str(pictures / each) for each in folders), "-c", str(tmp_path / "small.yaml")]
    assert cli.run([*tokens, "--out", str(tmp_path / "run"), *ROWS[row]]) == 0
    printed = capsys.readouterr()
    assert "trouble:" not in printed.out + printed.err  # nor at any time before
    assert [
        found for found in examine(Run(tmp_path / "run"), models=True) if found.severity == "trouble"
    ] == []
