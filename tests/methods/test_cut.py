"""The CUT step against the original implementation, over the golden steps, in float64; and its switches.

The golden steps were recorded where torch's instance norm gives one image a wrong gradient on a CPU, if that comes
channels-last (docs/LOG.md), as it does from the original's way to gather patches. So the golden is met with that norm
and that way put in; ours, which have no such fault, are held to a norm written out as a formula.
"""

import pytest
import torch
import torch.nn.functional as F

from twofold.errors import UsageError
from twofold.exchange.original import (
    discriminator_from_original,
    generator_of,
    original_keys,
    to_original,
)
from twofold.losses.patchnce import PatchHeads, unit
from twofold.methods.base import Batch, apply_to_each
from twofold.methods.cut import CUT, flip_if
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import InstanceNorm, initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.training.trainer import Trainer

LAYERS = (0, 4, 8, 12, 16)


def networks(told, moment):
    return (
        generator_of(told.weights(moment, "G")),
        discriminator_from_original(told.weights(moment, "D")),
    )


def heads(state):
    """The original's `mlp_1.0.weight` is our `heads.1.0.weight`."""
    return {f"heads.{name.removeprefix('mlp_')}": tensor for name, tensor in state.items()}


class Golden(CUT):
    """Takes the places that the original drew, in its order: those of A in each layer, then those of B."""

    drawn: list[torch.Tensor]

    def draw_places(self, count, device):
        place = self.drawn.pop(0)
        assert place.max() < count
        return place

    def features(self, images):
        """Each image alone: the golden numbers have torch's wrong gradient of one channels-last image's norm."""
        return [self.gen_ab.features(x, self.layers) for x in images]


def build(told):
    options = told.options
    method = Golden(
        *networks(told, "init"),
        layers=[int(layer) for layer in options["nce_layers"].split(",")],
        nce=options["lambda_NCE"],
        temperature=options["nce_T"],
        patches=options["num_patches"],
        head_width=options["netF_nc"],
    )
    method.heads.load_state_dict(heads(told.weights("init", "F")))
    return method.double()


def gathered_as_in_the_original(self, features, places):
    """Patches by way of (N, H, W, C), whose gradient is channels-last."""
    patches = [x.permute(0, 2, 3, 1).flatten(1, 2)[:, at] for x, at in zip(features, places, strict=True)]
    return [unit(head(x)) for head, x in zip(self.heads, patches, strict=True)]


@pytest.mark.usefixtures("mode")
def test_golden_steps(golden, close, monkeypatch):
    told = golden("cut_4steps")
    monkeypatch.setattr(InstanceNorm, "forward", lambda self, x: F.instance_norm(x, eps=self.eps))
    monkeypatch.setattr(PatchHeads, "forward", gathered_as_in_the_original)
    method = build(told)
    trainer = Trainer(method)
    for step, expected in enumerate(told.losses):
        batch = told.batch(step)
        if step == len(told.losses) - 1:
            with torch.no_grad():
                close(method.gen_ab(batch.a), told.tensors["last/fake_B"], "fake_B")
        method.drawn = places(told, step)
        trainer.step(batch, told.options["lr"])
        assert not method.drawn
        losses = trainer.sums.report()
        assert losses["gan_ab"] == pytest.approx(expected["G_GAN"], rel=1e-6), step
        assert 2 * losses["disc_b"] == pytest.approx(expected["D_real"] + expected["D_fake"], rel=1e-6), step
        assert 2 * losses["nce_a"] == pytest.approx(expected["NCE"], rel=1e-6), step
        assert 2 * losses["nce_b"] == pytest.approx(expected["NCE_Y"], rel=1e-6), step
        assert sum(losses.values()) - losses["disc_b"] == pytest.approx(expected["G"], rel=1e-6), step
    for theirs, ours in (("G", "gen_ab"), ("D", "disc_b")):
        network = method.get_submodule(ours)
        final, parameters = told.weights("final", theirs), dict(network.named_parameters())
        for key, name in original_keys(network).items():
            if name in parameters and parameters[name].requires_grad:
                close(parameters[name], final[key], f"{theirs} {key}")
    mine = dict(method.heads.named_parameters())
    for name, value in heads(told.weights("final", "F")).items():
        close(mine[name], value, f"F {name}")


def places(told, step):
    drawn = told.under(f"step{step}/patch_ids/")
    return [drawn[f"{term}/layer{layer}"] for term in ("nce", "nce_idt") for layer in LAYERS]


def formula(self, x):
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / (x.var((2, 3), unbiased=False, keepdim=True) + self.eps).sqrt()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_a_norm_written_as_a_formula(golden, monkeypatch, layout):
    told = golden("cut_4steps")

    def gradients():
        method = build(told).to(memory_format=layout)
        method.drawn = places(told, 0)
        for update in method.step(told.batch(0)):
            last = update
        torch.stack(list(last.losses.values())).sum().backward()
        trained = {"gen_ab": method.gen_ab, "heads": method.heads}
        return {
            f"{name}.{key}": weight.grad
            for name, network in trained.items()
            for key, weight in network.named_parameters()
            if weight.requires_grad
        }

    mine = gradients()
    monkeypatch.setattr(InstanceNorm, "forward", formula)
    for name, gradient in gradients().items():
        scale = gradient.abs().max()
        torch.testing.assert_close(mine[name] / scale, gradient / scale, rtol=1e-5, atol=1e-7, msg=name)


def test_features_and_keys_are_the_originals(golden, close):
    told = golden("cut_4steps")
    generator, discriminator = (network.double() for network in networks(told, "init"))
    image = told.tensors["features/input"].double() / 127.5 - 1
    found = generator.features(image, LAYERS)
    for layer, feature, channels in zip(LAYERS, found, generator.feature_channels(LAYERS), strict=True):
        close(feature, told.tensors[f"features/layer{layer}"], f"layer {layer}")
        assert feature.shape[1] == channels
    for network, theirs in ((generator, "G"), (discriminator, "D")):
        written, state = to_original(network), told.weights("init", theirs)
        assert written.keys() == state.keys()
        for name, tensor in state.items():
            torch.testing.assert_close(written[name].to(tensor.dtype), tensor)


def test_every_layer_gives_what_a_walk_through_the_network_gives():
    torch.manual_seed(0)
    generator = ResnetGenerator(3, 3, width=2, blocks=2)
    image = torch.rand(1, 3, 16, 16)
    layers = list(range(len(generator.encoder()) + 1))
    found = generator.features(image, layers)
    x = image
    for layer, feature in zip(generator.encoder(), found[1:], strict=True):
        x = layer(x.clone())  # activations work in place
        torch.testing.assert_close(feature, x)
    assert [feature.shape[1] for feature in found] == generator.feature_channels(layers)


@pytest.mark.parametrize("layers", [(0, 4, 40), (-1, 4), (4, 0), (4, 4)])
def test_layers_that_do_not_exist(layers):
    with pytest.raises(UsageError, match="the layers 0 to 18"):
        CUT(ResnetGenerator(width=2), PatchDiscriminator(width=2), layers=layers)


def tiny(**switches):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator, discriminator = ResnetGenerator(width=2, blocks=2), PatchDiscriminator(width=2, layers=1)
        method = CUT(
            generator, discriminator, **{"layers": (0, 4, 10), "patches": 8, "head_width": 6, **switches}
        )
        for network in (generator, discriminator, method.heads):
            initialise(network, "normal", 0.2)
    return method


def images():
    draws = torch.Generator().manual_seed(5)
    return Batch(*(torch.rand(1, 3, 16, 16, generator=draws) * 2 - 1 for _ in "ab"))


def first_losses(method):
    torch.manual_seed(3)
    return {name: loss.item() for update in method.step(images()) for name, loss in update.losses.items()}


@pytest.mark.parametrize(
    ("switches", "terms"),
    [
        ({}, {"disc_b", "gan_ab", "nce_a", "nce_b"}),
        ({"nce_identity": False}, {"disc_b", "gan_ab", "nce_a"}),
        ({"gan": 0}, {"nce_a", "nce_b"}),
    ],
)
def test_switches_leave_out_their_terms(switches, terms):
    assert first_losses(tiny(**switches)).keys() == terms
    Trainer(tiny(**switches)).step(images(), 1e-3)


def test_without_the_identity_contrast_the_other_has_its_whole_weight():
    both, alone = first_losses(tiny()), first_losses(tiny(nce_identity=False))
    assert alone["nce_a"] == pytest.approx(2 * both["nce_a"], rel=1e-5)


def test_flip_equivariance_compares_places_across_the_mirror():
    """A generator that is one with its mirror image is contrasted alike, mirrored or not."""
    method = tiny(layers=(4,), patches=10_000)
    with torch.no_grad():
        for layer in method.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.weight.copy_((layer.weight + layer.weight.flip(3)) / 2)
    conv = method.gen_ab.down[0].conv
    conv.stride = (1, 1)  # a stride of 2 starts at the left edge, and so is not one with its mirror
    a = images().a
    shown = method.gen_ab.enter(a)
    torch.testing.assert_close(method.gen_ab.enter(a.flip(3)).flip(3), shown)
    result = a + 0.1
    keys, queries, mirrored = method.features((a, result, result.flip(3)))
    torch.manual_seed(0)
    plain = method.patch_nce(queries, keys)
    torch.manual_seed(0)
    torch.testing.assert_close(
        method.patch_nce([flip_if(x, torch.tensor(True)) for x in mirrored], keys), plain
    )


def test_fastcut_mirrors_half_of_the_steps():
    method = tiny(flip=True, nce_identity=False)
    asked, a = [], images().a
    method.gen_ab.register_forward_pre_hook(lambda _, given: asked.append(torch.equal(given[0], a.flip(3))))
    for step in range(40):
        torch.manual_seed(step)
        list(method.step(images()))
    assert len(asked) == 40 and 10 < sum(asked) < 30


def test_features_seen_on_the_way_are_those_of_the_image():
    """Losses and gradients are as if the sources had gone through the encoder once more."""

    def learnt(separately):
        method = tiny()
        if separately:
            method.translate = lambda images: (apply_to_each(method.gen_ab, *images), None)
        torch.manual_seed(3)
        *_, last = method.step(images())
        weights = [p for p in method.gen_ab.parameters() if p.requires_grad]
        return last.losses, torch.autograd.grad(sum(last.losses.values()), weights)

    (losses, gradients), (others, again) = learnt(False), learnt(True)
    torch.testing.assert_close(losses, others)
    torch.testing.assert_close(gradients, again)


@pytest.mark.parametrize(
    ("generator", "switches", "seen"),
    [
        ({}, {}, True),
        ({"dropout": True}, {}, False),
        ({"norm": "batch"}, {}, False),
        ({}, {"flip": True}, False),
    ],
)
def test_when_features_are_taken_on_the_way(generator, switches, seen):
    method = tiny(**switches)
    method.gen_ab = ResnetGenerator(width=2, blocks=2, **generator)
    translated, keys = method.translate(images()[:2])
    assert len(translated) == 2 and (keys is not None) == seen
    if keys is not None:
        assert not any(x.requires_grad for each in keys for x in each)
