"""Runs that start from trained weights: which weights they get, what they keep, and what is refused."""

import json
import re
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from twofold import UsageError
from twofold import train as train_from_python
from twofold.config import compose
from twofold.exchange.original import to_original
from twofold.methods.base import Batch
from twofold.networks.discriminators import PatchDiscriminator, PixelDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.registry import build_generator, describe
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.settings import GeneratorSettings
from twofold.networks.unet import UnetGenerator
from twofold.runs import Run
from twofold.training.build import arguments, build
from twofold.training.freezing import fitting, frozen, named_parameters
from twofold.training.pretrained import fit_channels, generator_settings, load, open_source, with_networks
from twofold.training.trainer import Trainer
from twofold.translation import model_file
from twofold.translation.header import Header, read_header

NETWORKS = {"generator": {"width": 2, "blocks": 1}, "discriminator": {"width": 2, "layers": 1}}


def config(**rooms):
    data = {"data": {"size": 16, "channels_a": 3, "channels_b": 3}}
    return compose({"a": "A", "b": "B", **data, **rooms})


def equal(network, state):
    mine = network.state_dict()
    return mine.keys() == state.keys() and all(torch.equal(mine[name], state[name]) for name in mine)


def fresh(network, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        initialise(network, "normal", 0.2)
    return network


def started(path, **rooms):
    """The method of a run that starts from this source, the source, and what it prints."""
    source, lines = open_source(path), []
    given = {"training": {"start_from": path}, **rooms}
    made = config(**with_networks(given, source, config(**given)))
    method = build(made)
    load(source, method, lines.append)
    return method, source, "\n".join(lines)


# ---- which weights


def test_from_a_run(finished):
    method, _, said = started(finished)
    newest = {way: load_file(Run(finished).newest_snapshot(way)) for way in ("ab", "ba")}
    state = load_file(Run(finished).states()[-1][1] / "state.safetensors")
    assert equal(method.gen_ab, newest["ab"]) and equal(method.gen_ba, newest["ba"])
    for name in ("disc_a", "disc_b"):
        saved = {
            k.removeprefix(f"method/{name}."): t for k, t in state.items() if k.startswith(f"method/{name}.")
        }
        assert saved and equal(getattr(method, name), saved)
    assert "disc_a, disc_b from the state at 12 images" in said and "new weights" not in said


def test_from_a_model_with_one_direction(finished):
    snapshot = Run(finished).newest_snapshot("ba")
    method, _, said = started(snapshot, discriminator=NETWORKS["discriminator"])
    assert equal(method.gen_ba, load_file(snapshot))
    assert "gen_ba from 000000012-ba.safetensors" in said
    assert "new weights: gen_ab, disc_a, disc_b" in said


def test_to_another_method(finished):
    """CycleGAN's generator and discriminator of A→B; CUT's heads are new."""
    method, _, said = started(finished, method="cut", cut={"layers": [0, 4, 8]})
    assert equal(method.gen_ab, load_file(Run(finished).newest_snapshot("ab")))
    assert "new weights: heads" in said and "not used: gen_ba, disc_a" in said


@pytest.mark.parametrize(("options", "swapped"), [(None, False), ("direction: BtoA\n", True)])
def test_from_a_folder_of_checkpoints(tmp_path, options, swapped):
    nets = {
        f"G_{way}": fresh(ResnetGenerator(width=3, blocks=2, norm="batch"), seed)
        for seed, way in enumerate("AB")
    }
    nets |= {
        f"D_{way}": fresh(PatchDiscriminator(width=5, layers=2), seed) for seed, way in enumerate("AB", 5)
    }
    for name, network in nets.items():
        torch.save(to_original(network), tmp_path / f"latest_net_{name}.pth")
    if options:
        (tmp_path / "train_opt.txt").write_text(options)
    method, source, said = started(tmp_path)
    a, b = "BA" if swapped else "AB"
    for mine, theirs in {
        "gen_ab": f"G_{a}",
        "gen_ba": f"G_{b}",
        "disc_b": f"D_{a}",
        "disc_a": f"D_{b}",
    }.items():
        assert equal(getattr(method, mine), nets[theirs].state_dict()), mine
        assert f"{mine} from latest_net_{theirs}.pth" in said
    assert source.settings["generator"]["norm"] == "batch"
    assert {"width": 5, "layers": 2}.items() <= source.settings["discriminator"].items()


def test_from_a_checkpoint_of_two_generators(tmp_path):
    nets = {
        f"netG_{way}": fresh(ResnetGenerator(width=2, blocks=1), seed)
        for seed, way in enumerate(("A2B", "B2A"))
    }
    torch.save({name: to_original(network) for name, network in nets.items()}, tmp_path / "both.pth")
    method, *_ = started(tmp_path / "both.pth", discriminator=NETWORKS["discriminator"])
    assert equal(method.gen_ab, nets["netG_A2B"].state_dict()) and equal(
        method.gen_ba, nets["netG_B2A"].state_dict()
    )
    torch.save(
        {"netG": to_original(nets["netG_A2B"]), "ema": to_original(nets["netG_B2A"])}, tmp_path / "ema.pth"
    )
    with pytest.raises(UsageError, match=r"holds 2 generators: .*twofold import .* --key NAME"):
        open_source(tmp_path / "ema.pth")


def test_pixel_discriminator_beside_the_generator_of_pix2pix(tmp_path):
    generator, disc = (
        fresh(UnetGenerator(width=2, depth=5), 1),
        fresh(PixelDiscriminator(6, width=3, norm="batch"), 2),
    )
    torch.save(to_original(generator), tmp_path / "7_net_G.pth")
    torch.save(to_original(disc), tmp_path / "7_net_D.pth")
    data = {"size": 32, "channels_a": 3, "channels_b": 3, "paired": True}
    method, source, _ = started(tmp_path, method="pix2pix", data=data)
    assert equal(method.gen_ab, generator.state_dict()) and equal(method.disc_b, disc.state_dict())
    assert "dropout" not in source.settings["generator"] and method.gen_ab.arguments["dropout"]


@pytest.mark.parametrize(
    "settings",
    [
        {"network": "resnet-9", "width": 3},
        {"network": "resnet-6", "halvings": 1, "skips": True, "upsample": "resize"},
        {"network": "resnet-9", "blocks": 3, "antialias": True, "upsample": "blur"},
        {"network": "pytorch-gan", "norm": "instance-affine"},
        {"network": "unet", "norm": "batch"},
        {"network": "unet-256", "width": 2},
        {"network": "unet-128", "width": 2, "dropout": True},
        {"network": "encoder-decoder", "width": 2},
    ],
)
def test_networks_are_taken_over(settings):
    size = {"unet-256": 256, "unet-128": 128}.get(settings["network"], 64)
    with torch.device("meta"):
        chosen = GeneratorSettings(**settings)
        made = build_generator(chosen.network, size=size, in_channels=3, out_channels=3, **arguments(chosen))
        again = GeneratorSettings(**generator_settings(made))
        same = build_generator(again.network, size=size, in_channels=3, out_channels=3, **arguments(again))
    assert describe(same) == describe(made)


# ---- other channels


@pytest.mark.parametrize(("old", "new"), [(3, 1), (1, 3), (3, 4), (4, 2)])
@pytest.mark.parametrize("kind", [ResnetGenerator, UnetGenerator])
def test_channels(kind, old, new):
    """Equal channels in: the same values after the first layer. Out: each new one is the mean before tanh."""
    sizes = {"depth": 2, "norm": "none"} if kind is UnetGenerator else {"blocks": 1}
    before, after = fresh(kind(old, old, 2, **sizes), 0), fresh(kind(new, new, 2, **sizes), 1)
    state, lines = fit_channels(after, before.state_dict())
    after.load_state_dict(state)
    assert lines == [f"{old} {side} channels are averaged and become {new}" for side in ("input", "output")]
    before, after, gray = (
        before.double(),
        after.double(),
        torch.rand(1, 1, 16, 16, dtype=torch.float64) * 2 - 1,
    )
    with torch.no_grad():
        one, other = before(gray.expand(-1, old, -1, -1)), after(gray.expand(-1, new, -1, -1))
    mean = torch.atanh(one).mean(1, keepdim=True).expand(-1, new, -1, -1)
    torch.testing.assert_close(torch.atanh(other), mean, rtol=1e-4, atol=1e-5)


def test_gray_images_from_a_colour_run(finished, lab, many, tmp_path, command):
    from PIL import Image

    folders = [shutil.copytree(folder, tmp_path / folder.name) for folder in (lab.a, lab.b)]
    for file in (file for folder in folders for file in folder.iterdir()):
        Image.open(file).convert("L").save(file)
    tokens = lab.tokens(tmp_path / "run", from_=finished)
    ended = command("train", *folders, *(x.replace("--from-", "--from") for x in tokens[3:]))
    assert ended.code == 0, ended.output
    assert "gen_ab: 3 input channels are averaged and become 1" in ended.output
    assert "new weights: disc_a, disc_b" in ended.output


# ---- frozen weights


def test_only_what_the_patterns_name_is_counted_as_frozen():
    method = build(config(**NETWORKS, training={"freeze": ("gen_ba.enter",), "start_from": "x"}))
    count = sum(parameter.numel() for parameter in method.get_submodule("gen_ba.enter").parameters())
    assert re.fullmatch(rf"{count:,} of [\d,]+ parameters, in gen_ba", frozen(method, ["gen_ba.enter"]))


@pytest.mark.parametrize("patterns", [("encoder",), ("gen_ab.down.0", "disc_?.convs.0.*"), ("*.bias",)])
def test_frozen_weights_stay(patterns):
    made = config(**NETWORKS, training={"freeze": patterns, "start_from": "x", "ema": 5})
    trainer = Trainer(build(made), ema=5, weight_decay=0.5, channels_last=True, fused=True)
    named = named_parameters(trainer.method)
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    excluded = {name for pattern in patterns for name in fitting(named, pattern)}
    assert excluded and named.keys() - excluded
    for step in range(3):
        draws = torch.Generator().manual_seed(step)
        trainer.step(Batch(*(torch.rand(1, 3, 16, 16, generator=draws) * 2 - 1 for _ in "ab")), 1e-2)
    moved = {name for name, parameter in named.items() if not torch.equal(before[name], parameter)}
    assert not moved & excluded
    assert moved == {name for name, parameter in named.items() if parameter.requires_grad}
    optimized = {
        id(p) for each in trainer.optimizers.values() for group in each.param_groups for p in group["params"]
    }
    assert optimized == {id(named[name]) for name in moved}
    averaged = dict(trainer.averages["gen_ab"].named_parameters())
    for name in excluded:
        if name.startswith("gen_ab."):
            torch.testing.assert_close(averaged[name.removeprefix("gen_ab.")], named[name])


def test_a_frozen_encoder_of_cut_keeps_its_biases():
    """Its features come before the norm: the accelerated layer adds a bias that the norm would subtract."""
    rooms = {
        **NETWORKS,
        "method": "cut",
        "cut": {"layers": [1, 4]},
        "data": {"size": 16, "channels_a": 3, "channels_b": 3},
    }
    images, features = torch.rand(1, 3, 16, 16), []
    for freeze in ((), ("encoder",)):
        method = build(config(**rooms, training={"freeze": freeze, "start_from": "x"}))
        with torch.no_grad():
            method.gen_ab.enter.conv.bias.fill_(3.0)
        trained = Trainer(method).method
        features.append(trained.gen_ab.features(images, [1, 4]))
    for one, other in zip(*features, strict=True):
        torch.testing.assert_close(one, other)
        assert one.mean() > 1 or one is features[0][1]


# ---- whole runs


def test_a_run_records_its_source_and_needs_it_no_more(finished, lab, tmp_path):
    source = shutil.copytree(finished, tmp_path / "source")
    tokens = [*lab.tokens(tmp_path / "undisturbed"), f"--from={source}", "--freeze=encoder"]
    ended = lab.run(tokens)
    assert ended.code == 0, ended.output
    assert "frozen: " in ended.output and "parameters, in gen_ab, gen_ba" in ended.output
    out = tmp_path / "run"
    tokens[tokens.index("--out") + 1] = str(out)
    assert lab.run(tokens, ("after step", 1)).code == -signal.SIGKILL
    assert [images for images, _ in Run(out).states()] == [0]
    shutil.rmtree(source)
    assert lab.run(["train", "--resume", str(out)]).code == 0
    assert lab.outcome(out) == lab.outcome(tmp_path / "undisturbed")
    first, second = json.loads(Run(out).env.read_text())
    assert first["start_from"]["ab"]["file"] == "000000012-ab.safetensors" and "start_from" not in second
    for way in ("ab", "ba"):
        origin = read_header(Run(out).newest_snapshot(way)).origin
        assert origin == {"method": "cyclegan", "images": 12, "start_from": first["start_from"][way]}


def test_from_python(finished, lab, tmp_path):
    lines = []
    rooms = {"training": {"epochs": 0.4, "decay_epochs": 0}, "machine": {"threads": 1}}
    run = train_from_python(
        lab.a, lab.b, out=tmp_path / "run", size=16, start_from=finished, freeze=["encoder"], settings=rooms,
        notify=lines.append,
    )  # fmt: skip
    assert any(line.startswith("starting from trained weights") for line in lines)
    weight = "down.0.conv.weight"
    then, now = (load_file(each.newest_snapshot("ab")) for each in (Run(finished), run))
    assert torch.equal(then[weight], now[weight])


# ---- what is refused


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (["--from", "nothing"], "there is no such file or folder"),
        (["--from", "RUN", "--generator.norm", "batch"], "generator.norm = instance, not batch"),
        (["--from", "RUN", "--generator.network", "resnet-9"], "generator.blocks = 6, not 9"),
        (
            ["--from", "RUN", "--generator.network", "unet"],
            "has generator.network = resnet-6, not unet; leave this setting out to take over its networks",
        ),
        (
            ["--from", "RUN", "--generator.width", "3", "--discriminator.layers", "2"],
            "width = 2, not 3, disc",
        ),
        (["--from", "RUN", "--discriminator.layers", "2"], "to start with new discriminators"),
        (["--from", "RUN", "--freeze", "gen_*"], "leaves nothing to train in gen_ab and gen_ba"),
        (
            ["--from", "RUN", "--freeze", "encoder,nose"],
            "--freeze nose fits no weight; the networks have gen_ab.enter",
        ),
        (["--freeze", "encoder"], "give --from"),
        (["--from", "BA", "--method", "cut"], "translates ba, and cut trains ab"),
        (
            ["--from", "RUN", "--method", "cut"],
            "--cut.layers: the generator has the layers 0 to 15, not 0,4,8,12,16",
        ),
        (["--from", "TORN"], "incomplete or damaged"),
        (["--from", "TEXT"], "not a checkpoint"),
        (["--from", "DISC"], "discriminator"),
        (["--from", "EMPTY"], "holds no generator"),
        (["--from", "STATELESS"], "has no snapshot"),
    ],
)
def test_refusals(finished, lab, tmp_path, command, said, named):
    snapshot = Run(finished).newest_snapshot("ba")
    (tmp_path / "torn.safetensors").write_bytes(snapshot.read_bytes()[:3000])
    (tmp_path / "text.pth").write_text("weights")
    torch.save(to_original(PatchDiscriminator(width=2)), tmp_path / "latest_net_D_A.pth")
    (tmp_path / "empty").mkdir()
    (tmp_path / "stateless").mkdir()
    shutil.copy(finished / "config.yaml", tmp_path / "stateless")
    places = {
        **{
            "RUN": finished,
            "BA": snapshot,
            "TORN": tmp_path / "torn.safetensors",
            "TEXT": tmp_path / "text.pth",
        },
        **{
            "DISC": tmp_path / "latest_net_D_A.pth",
            "EMPTY": tmp_path / "empty",
            "STATELESS": tmp_path / "stateless",
        },
    }
    tokens = [token for token in said if token != "--method"]
    ended = command(
        "train", lab.a, lab.b, "--size", "16", "--out", tmp_path / "run", *(places.get(x, x) for x in said)
    )
    assert ended.code == 2, tokens
    assert named in ended.output and ended.output.count("\n") == 1, ended.output
    assert not (tmp_path / "run").exists()


def test_a_unet_of_another_depth(tmp_path):
    generator = fresh(UnetGenerator(width=2, depth=5), 1)
    header = Header(describe(generator), "ab", 32, {})
    model_file.save(generator, header, tmp_path / "unet.safetensors")
    from twofold.training.pretrained import check

    source = open_source(tmp_path / "unet.safetensors")
    given = {
        "training": {"start_from": tmp_path / "unet.safetensors"},
        "data": {"size": 64, "channels_a": 3, "channels_b": 3},
    }
    made = compose(with_networks({"a": "A", "b": "B", **given}, source, config()))
    with pytest.raises(UsageError, match=r"generator.depth = 5, not 6; its U-Net takes --size 32"):
        check(source, made, build(made))


def test_another_source_on_resume(finished, lab, tmp_path, command):
    ended = command(*lab.tokens(finished), f"--from={tmp_path}")
    assert ended.code == 2
    assert "started with training.start_from = none" in ended.output
