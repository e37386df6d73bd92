"""The CycleGAN step against the original implementation, over the golden steps, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from twofold.methods.adversarial import AdversarialObjective
from twofold.methods.base import Batch
from twofold.methods.cyclegan import CycleGAN
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.presets import PRESETS
from twofold.training.trainer import Trainer

OURS = {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a"}
"""The original's D_A judges images of domain B."""
LOSSES = {
    **{"G_A": "gan_ab", "G_B": "gan_ba", "D_A": "disc_b", "D_B": "disc_a", "cycle_A": "cycle_a"},
    **{"cycle_B": "cycle_b", "idt_A": "idt_b", "idt_B": "idt_a"},
}
"""The original's idt_A is |G_A(B) - B|."""


def build(golden: Any) -> CycleGAN:
    options = golden.options
    generators = [ResnetGenerator(3, 3, width=options["ngf"], blocks=6) for _ in range(2)]
    discs = [PatchDiscriminator(3, width=options["ndf"]) for _ in range(2)]
    method = CycleGAN(
        *generators,
        *discs,
        adversarial=AdversarialObjective({"lsgan": "lsgan", "vanilla": "bce"}[options["gan_mode"]]),
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
@pytest.mark.usefixtures("mode")
def test_golden_steps(golden: Any, close: Any, name: str, channels_last: bool, fused: bool) -> None:
    told = golden(name)
    trainer = Trainer(build(told), lr=told.options["lr"], channels_last=channels_last, fused=fused)
    for step, expected in enumerate(told.losses):
        batch = told.batch(step)
        if step == len(told.losses) - 1:
            check_images(told, close, trainer, batch)
        trainer.step(batch, told.options["lr"])
        losses = trainer.sums.report()
        for theirs, value in expected.items():
            assert losses.get(LOSSES[theirs], 0.0) == pytest.approx(value, rel=1e-6, abs=1e-9), (step, theirs)
    for theirs, ours in OURS.items():
        network = trainer.method.get_submodule(ours)
        final = in_order(told.weights("final", theirs))
        for (key, mine), value in zip(network.named_parameters(), final, strict=True):
            if mine.requires_grad:
                close(mine, value, f"{theirs} {key}")


def check_images(golden: Any, close: Any, trainer: Trainer, batch: Batch) -> None:
    method = trainer.method
    assert isinstance(method, CycleGAN)
    with torch.no_grad():
        fake_b, fake_a = method.gen_ab(batch.a), method.gen_ba(batch.b)
        close(fake_b, golden.tensors["last/fake_B"], "fake_B")
        close(fake_a, golden.tensors["last/fake_A"], "fake_A")
        close(method.gen_ba(fake_b), golden.tensors["last/rec_A"], "rec_A")
        close(method.gen_ab(fake_a), golden.tensors["last/rec_B"], "rec_B")


# ---- switches

GENERATORS = {"gan_ab", "gan_ba", "cycle_a", "cycle_b", "idt_a", "idt_b"}
DISCRIMINATORS = {"disc_a", "disc_b"}
ALONE = {  # what a weight of 0 leaves out, and the discriminator that is not trained then
    "gan_ab": ({"gan_ab", "disc_b"}, "disc_b"),
    "gan_ba": ({"gan_ba", "disc_a"}, "disc_a"),
    "cycle_a": ({"cycle_a", "idt_a"}, None),  # the identity is a share of the cycle's weight
    "cycle_b": ({"cycle_b", "idt_b"}, None),
    "identity": ({"idt_a", "idt_b"}, None),
}


def tiny(**switches: Any) -> CycleGAN:
    count = 4 if switches.pop("adversarial_cycle", False) else 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [ResnetGenerator(3, 3, width=2, blocks=1) for _ in range(2)]
        discs = [PatchDiscriminator(3, width=2, layers=1) for _ in range(count)]
        for network in (*networks, *discs):
            initialise(network, "normal", 0.2)
    return CycleGAN(*networks, *discs, **{"replay": 0, **switches})


def images() -> Batch:
    draws = torch.Generator().manual_seed(5)
    return Batch(*(torch.rand(1, 3, 16, 16, generator=draws) * 2 - 1 for _ in "ab"))


def first_losses(method: CycleGAN) -> dict[str, float]:
    return {name: loss.item() for update in method.step(images()) for name, loss in update.losses.items()}


def test_all_terms_without_switches():
    assert first_losses(tiny()).keys() == GENERATORS | DISCRIMINATORS


@pytest.mark.parametrize("switch", ALONE)
def test_a_weight_of_0_leaves_out_its_term_and_its_discriminator(switch: str) -> None:
    absent, disc = ALONE[switch]
    everything, without = first_losses(tiny()), first_losses(tiny(**{switch: 0}))
    assert everything.keys() - without.keys() == absent
    assert without == pytest.approx({name: everything[name] for name in without}, rel=1e-6)
    trainer = Trainer(tiny(**{switch: 0}))
    before = {name: tensor.clone() for name, tensor in trainer.method.state_dict().items()}
    trainer.step(images(), 1e-2)
    for network in ("gen_ab", "gen_ba", "disc_a", "disc_b"):
        now = trainer.method.get_submodule(network).state_dict()
        moved = any(not torch.equal(tensor, before[f"{network}.{name}"]) for name, tensor in now.items())
        assert moved == (network != disc), network


@pytest.mark.parametrize("switch", ["gan_ab", "gan_ba", "cycle_a", "cycle_b", "identity"])
def test_losses_are_in_proportion_to_their_weights(switch: str) -> None:
    usual = {"gan_ab": 1.0, "gan_ba": 1.0, "cycle_a": 10.0, "cycle_b": 10.0, "identity": 0.5}
    before, after = first_losses(tiny()), first_losses(tiny(**{switch: 3 * usual[switch]}))
    grown = {name for name in before if after[name] == pytest.approx(3 * before[name], rel=1e-5)}
    assert grown == ALONE[switch][0] - DISCRIMINATORS
    assert all(after[name] == pytest.approx(before[name], rel=1e-6) for name in before.keys() - grown)


@pytest.mark.parametrize("generators_learn", [True, False])
def test_an_adversarial_cycle_is_the_least_squares_loss_of_further_discriminators(
    generators_learn: bool,
) -> None:
    steps = 1 if generators_learn else 2  # of two discriminator updates the first is alone
    method = tiny(adversarial_cycle=True, adversarial=AdversarialObjective(critic_steps=steps))
    a, b = images()[:2]
    losses = first_losses(method)
    assert ("gan_ab" in losses) == generators_learn
    with torch.no_grad():
        rounds = {"a": (a, method.gen_ba(method.gen_ab(a))), "b": (b, method.gen_ab(method.gen_ba(b)))}
        for domain, (image, rec) in rounds.items():
            disc = method.get_submodule(f"rec_disc_{domain}")
            ((of_image,), (of_rec,)) = disc(image), disc(rec)
            told_apart = ((of_image - 1).square().mean() + of_rec.square().mean()) / 2
            assert losses[f"rec_disc_{domain}"] == pytest.approx(told_apart.item(), rel=1e-5)
            fooled = 10 * (of_rec - 1).square().mean()
            assert losses.get(f"cycle_{domain}", fooled.item()) == pytest.approx(fooled.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("preset", "terms"),
    [
        ("cyclegan", GENERATORS | DISCRIMINATORS),
        ("cycle-alone", {"cycle_a", "cycle_b"}),
        ("gan-alone", {"gan_ab", "gan_ba"} | DISCRIMINATORS),
        ("gan-forward", {"gan_ab", "gan_ba", "cycle_a"} | DISCRIMINATORS),
        ("gan-backward", {"gan_ab", "gan_ba", "cycle_b"} | DISCRIMINATORS),
    ],
)
def test_presets_of_table_4(preset: str, terms: set[str]) -> None:
    settings = {**PRESETS[preset].settings["cyclegan"], "replay": 0}
    losses = first_losses(tiny(**settings))
    assert losses.keys() == terms
    usual = first_losses(tiny())
    assert losses == pytest.approx({name: usual[name] for name in terms}, rel=1e-6)
    Trainer(tiny(**settings)).step(images(), 1e-3)


@pytest.mark.parametrize("loss", ["lsgan", "bce", "hinge", "wgan"])
def test_the_generator_loss_leaves_the_discriminator_alone(loss: Any) -> None:
    method = tiny()
    fake = method.gen_ab(images().a)
    fake.retain_grad()
    takes_gradient = [weight.requires_grad for weight in method.disc_b.parameters()]
    AdversarialObjective(loss).generator_loss(method.disc_b, fake).backward()
    assert all(weight.grad is None for weight in method.disc_b.parameters())
    assert [weight.requires_grad for weight in method.disc_b.parameters()] == takes_gradient
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert any(weight.grad is not None for weight in method.gen_ab.parameters())


def test_each_update_reaches_its_own_networks_only() -> None:
    """Backpropagated without `inputs=`, the generators' update gives no discriminator a gradient, and the reverse."""
    method = tiny()
    updates = list(method.step(images()))
    assert [(update.phase, update.complete) for update in updates] == [("G", False), ("G", True), ("D", True)]
    for update in updates:
        others = method.phases["D" if update.phase == "G" else "G"]
        method.zero_grad()
        torch.stack(list(update.losses.values())).sum().backward()
        for name in others:
            grads = [weight.grad for weight in method.get_submodule(name).parameters()]
            assert all(grad is None for grad in grads), (update.phase, name)


def test_whole_images_of_different_sizes() -> None:
    trainer = Trainer(tiny(replay=2))
    for height, width in ((16, 20), (24, 16), (16, 20), (20, 20), (16, 24)):
        trainer.step(Batch(torch.rand(1, 3, height, width), torch.rand(1, 3, width, height)), 1e-3)
    assert all(torch.tensor(value).isfinite() for value in trainer.sums.report().values())


def test_the_state_holds_the_stored_images() -> None:
    method, again = tiny(replay=3, recent_updates=1), tiny(replay=3, recent_updates=1)
    torch.manual_seed(0)
    for _ in range(2):
        list(method.step(images()))
    storages = method.image_storages()
    recent = {f"recent.{kind}_{domain}" for kind in ("real", "fake") for domain in "ab"}
    assert storages.keys() == {"replay_a", "replay_b"} | recent
    assert all(int(storage.count) == 2 for storage in storages.values())
    again.load_state_dict(method.state_dict())
    state = again.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in method.state_dict().items())
    trained = sum(p.numel() for network in method.networks().values() for p in network.parameters())
    assert trained == sum(p.numel() for p in method.parameters())  # no stored image is a parameter
