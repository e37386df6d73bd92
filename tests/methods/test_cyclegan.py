"""The CycleGAN step against the original implementation, over the golden steps, in float64."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from twofold.methods.base import Batch
from twofold.methods.cyclegan import CycleGAN
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.resnet import ResnetGenerator
from twofold.training.trainer import Trainer

GOLDENS = Path(__file__).parents[1] / "goldens"
OURS = {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a"}
"""The original's D_A judges images of domain B."""
LOSSES = {
    **{"G_A": "gan_ab", "G_B": "gan_ba", "D_A": "disc_b", "D_B": "disc_a", "cycle_A": "cycle_a"},
    **{"cycle_B": "cycle_b", "idt_A": "idt_b", "idt_B": "idt_a"},
}
"""The original's idt_A is |G_A(B) - B|."""


class Golden:
    def __init__(self, name: str) -> None:
        with safe_open(GOLDENS / f"{name}.safetensors", "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.losses: list[dict[str, float]] = json.loads(file.metadata()["losses"])
            self.options = json.loads(file.metadata()["options"])

    def weights(self, moment: str, network: str) -> dict[str, Tensor]:
        prefix = f"{moment}/{network}/"
        return {k.removeprefix(prefix): t for k, t in self.tensors.items() if k.startswith(prefix)}

    def batch(self, step: int) -> Batch:
        return Batch(*(self.tensors[f"step{step}/real_{d}"].double() / 127.5 - 1 for d in "AB"))


def build(golden: Golden) -> CycleGAN:
    options = golden.options
    generators = [ResnetGenerator(3, 3, width=options["ngf"], blocks=6) for _ in range(2)]
    critics = [PatchDiscriminator(3, width=options["ndf"]) for _ in range(2)]
    method = CycleGAN(
        *generators,
        *critics,
        adversarial={"lsgan": "lsgan", "vanilla": "bce"}[options["gan_mode"]],
        cycle_a=options["lambda_A"],
        cycle_b=options["lambda_B"],
        identity=options["lambda_identity"],
        replay=options["pool_size"],
    )
    for theirs, ours in OURS.items():
        copy_weights(golden.weights("init", theirs), method.get_submodule(ours))
    return method.double()


def in_order(theirs: dict[str, Tensor]) -> list[Tensor]:
    """The original's tensors from input to output, each weight before its bias."""

    def place(key: str) -> tuple[tuple[int, ...], bool]:
        return tuple(int(part) for part in key.split(".") if part.isdigit()), key.endswith("bias")

    return [theirs[key] for key in sorted(theirs, key=place)]


def copy_weights(theirs: dict[str, Tensor], network: torch.nn.Module) -> None:
    network.load_state_dict(dict(zip(network.state_dict(), in_order(theirs), strict=True)))


@pytest.mark.parametrize("name", ["cyclegan_lsgan_5steps", "cyclegan_vanilla_noidt_4steps"])
@pytest.mark.parametrize(("channels_last", "fused"), [(False, False), (True, True)])
def test_golden_steps(name: str, channels_last: bool, fused: bool) -> None:
    golden = Golden(name)
    trainer = Trainer(build(golden), lr=golden.options["lr"], channels_last=channels_last, fused=fused)
    for step, expected in enumerate(golden.losses):
        batch = golden.batch(step)
        if step == len(golden.losses) - 1:
            check_images(golden, trainer, batch)
        trainer.step(batch, golden.options["lr"])
        losses = trainer.sums.report()
        for theirs, value in expected.items():
            assert losses.get(LOSSES[theirs], 0.0) == pytest.approx(value, rel=1e-6, abs=1e-9), (step, theirs)
    for theirs, ours in OURS.items():
        network = trainer.method.get_submodule(ours)
        final = in_order(golden.weights("final", theirs))
        for (key, mine), value in zip(network.named_parameters(), final, strict=True):
            if mine.requires_grad:
                close(mine, value, f"{theirs} {key}")


def check_images(golden: Golden, trainer: Trainer, batch: Batch) -> None:
    method = trainer.method
    assert isinstance(method, CycleGAN)
    with torch.no_grad():
        fake_b, fake_a = method.gen_ab(batch.a), method.gen_ba(batch.b)
        close(fake_b, golden.tensors["last/fake_B"], "fake_B")
        close(fake_a, golden.tensors["last/fake_A"], "fake_A")
        close(method.gen_ba(fake_b), golden.tensors["last/rec_A"], "rec_A")
        close(method.gen_ab(fake_a), golden.tensors["last/rec_B"], "rec_B")


def close(mine: Tensor, value: Tensor, what: str) -> None:
    torch.testing.assert_close(mine.detach(), value.double(), rtol=1e-5, atol=1e-7, msg=what)
