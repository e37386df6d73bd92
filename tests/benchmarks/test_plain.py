"""The plain steps of the benchmarks give the losses and weights of the original implementations, in float64."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

ROOT = Path(__file__).parents[2]
NAMES = {
    "cyclegan_lsgan_5steps": {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a"},
    "pix2pix_vanilla_4steps": {"G": "gen_ab", "D": "disc_b"},
    "cut_4steps": {"G": "gen_ab", "D": "disc_b", "F": "heads"},
}
LOSSES = {
    "cyclegan_lsgan_5steps": {
        **{"G_A": "gan_ab", "G_B": "gan_ba", "D_A": "disc_b", "D_B": "disc_a", "cycle_A": "cycle_a"},
        **{"cycle_B": "cycle_b", "idt_A": "idt_b", "idt_B": "idt_a"},
    },
    "pix2pix_vanilla_4steps": {"G_GAN": "gan_ab", "G_L1": "l1"},
    "cut_4steps": {"G_GAN": "gan_ab"},
}


@pytest.fixture(scope="module")
def plain(load_benchmark):
    return load_benchmark("plain")


class Golden:
    def __init__(self, name):
        with safe_open(ROOT / "tests" / "goldens" / f"{name}.safetensors", "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.losses = json.loads(file.metadata()["losses"])
            self.options = json.loads(file.metadata()["options"])

    def weights(self, moment, network):
        """Under the plain networks' names, which lack the originals' outermost one."""
        start = f"{moment}/{network}/"
        inner = {key.removeprefix(start): t for key, t in self.tensors.items() if key.startswith(start)}
        return {key.removeprefix("model.").removeprefix("mlp_"): t for key, t in inner.items()}

    def places(self):
        """CUT's draws in their order: for each step a's feature maps, then b's."""
        for step in range(len(self.losses)):
            for term in ("nce", "nce_idt"):
                for layer in (0, 4, 8, 12, 16):
                    yield self.tensors[f"step{step}/patch_ids/{term}/layer{layer}"].long()


def build(plain, name, golden):
    if name.startswith("cyclegan"):
        return plain.cyclegan(width=4, blocks=6)
    if name.startswith("pix2pix"):
        return plain.pix2pix(width=2, depth=7, disc_width=4)
    draws = golden.places()
    return plain.cut(width=4, head_width=16, draw=lambda count: next(draws))


@pytest.mark.parametrize("name", NAMES)
def test_plain_steps_equal_the_originals(plain, name):
    golden = Golden(name)
    method = build(plain, name, golden)
    for theirs, ours in NAMES[name].items():
        method.networks[ours].load_state_dict(golden.weights("init", theirs))
        method.networks[ours].double()
    for step, expected in enumerate(golden.losses):
        batch = [golden.tensors[f"step{step}/real_{side}"].double() / 127.5 - 1 for side in "AB"]
        losses = method.step(*batch)
        for theirs, ours in LOSSES[name].items():
            assert losses[ours].item() == pytest.approx(expected[theirs], rel=1e-6), (step, theirs)
    for theirs, ours in NAMES[name].items():
        final = golden.weights("final", theirs)
        without_gradient = before_instance_norms(method.networks[ours])
        for key, value in method.networks[ours].named_parameters():
            if key not in without_gradient:
                torch.testing.assert_close(value.detach(), final[key].double(), rtol=1e-5, atol=1e-7, msg=key)


def before_instance_norms(network):
    """Biases that a norm takes away again: their true gradient is zero, and Adam makes steps of its rounding."""
    found = set()
    for path, module in network.named_modules():
        if isinstance(module, torch.nn.Sequential):
            for (name, _), (_, after) in zip(
                module.named_children(), list(module.named_children())[1:], strict=False
            ):
                if isinstance(after, torch.nn.InstanceNorm2d):
                    found.add(f"{path}.{name}.bias".lstrip("."))
    return found
