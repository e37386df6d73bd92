"""Compiled networks: the same numbers, the same names, and only where compiling pays and can be done."""

import re
import shutil

import pytest
import torch
from torch import nn

from twofold import config as configs
from twofold import hardware
from twofold.cpu import native
from twofold.cpu.accelerate import accelerate
from twofold.errors import UsageError
from twofold.methods.adversarial import Adversary
from twofold.methods.base import Batch
from twofold.methods.cut import CUT
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.training import compiled, start
from twofold.training import trainer as trainers
from twofold.training.trainer import Trainer

pytestmark = [  # of torch's compiler about itself
    pytest.mark.filterwarnings("ignore:The .grad attribute"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def batch(seed, size=16):
    draws = torch.Generator().manual_seed(seed)
    return Batch(*(torch.rand(1, 3, size, size, generator=draws) * 2 - 1 for _ in "ab"))


@pytest.fixture
def traced(monkeypatch):
    """Compiling as far as a C++ compiler is not needed: networks are traced with their gradients, then run as torch."""
    compile_, made = nn.Module.compile, []

    def traced(network, **given):
        made.append(network)
        compile_(network, **given, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", traced)
    yield made
    torch.compiler.reset()


def losses(method, steps=4, **given):
    trainer = Trainer(method, **given)
    reports = []
    for step in range(steps):
        trainer.step(batch(step), 1e-3)
        reports.append(trainer.sums.report())
    return trainer, reports


def test_traced_networks_train_to_the_same_losses(tiny, traced):
    plain, expected = losses(tiny(), ema=4)
    trainer, found = losses(tiny(), ema=4, compiled=True)
    assert {id(network) for network in traced} == {id(x) for x in trainer.method.networks().values()}
    for mine, right in zip(found, expected, strict=True):
        assert mine == pytest.approx(right, rel=1e-4)
    assert trainer.method.state_dict().keys() == plain.method.state_dict().keys()
    for name, value in plain.method.state_dict().items():
        torch.testing.assert_close(trainer.method.state_dict()[name], value, rtol=1e-3, atol=3e-4, msg=name)


def test_traced_networks_in_bf16(tiny, traced):
    _, expected = losses(tiny(), 2, precision="bf16")
    _, found = losses(tiny(), 2, precision="bf16", compiled=True)
    assert traced and found[0] == pytest.approx(expected[0], rel=0.02)


def test_cuts_pass_with_features_is_compiled_too(traced, monkeypatch):
    compile_, made = torch.compile, []

    def compile_eagerly(function, **given):
        made.append(function.__name__)
        return compile_(function, **{**given, "backend": "aot_eager"})

    monkeypatch.setattr(torch, "compile", compile_eagerly)

    def cut():
        torch.manual_seed(0)
        method = CUT(
            ResnetGenerator(width=2, blocks=1), PatchDiscriminator(width=2, layers=1), layers=(0, 4, 10)
        )
        for network in method.networks().values():
            initialise(network, "normal", 0.2)
        return method

    _, expected = losses(cut(), 2)
    _, found = losses(cut(), 2, compiled=True)
    assert "forward_with_features" in made
    for mine, right in zip(found, expected, strict=True):
        assert mine == pytest.approx(right, rel=1e-4)


def test_looking_runs_networks_as_they_are_written(tiny, traced):
    trainer, _ = losses(tiny(), 2, compiled=True)
    counts = torch._dynamo.utils.counters["stats"]
    before = counts["unique_graphs"]
    assert before > 0
    with trainer.looking(), torch.no_grad():
        for size in (20, 24, 28):
            trainer.generator("ab").eval()(torch.zeros(3, 3, size, size))
    trainer.generator("ab").train()
    assert counts["unique_graphs"] == before


def test_penalised_critics_are_left_as_they_are(tiny, traced):
    adversary = Adversary("lsgan", r1=1.0)
    method = tiny(adversary=adversary)
    _, found = losses(method, 2, compiled=True)
    assert {id(network) for network in traced} == {id(method.gen_ab), id(method.gen_ba)}
    _, expected = losses(tiny(adversary=adversary), 2)
    assert found[1] == pytest.approx(expected[1], rel=1e-3)


@pytest.mark.slow
def test_compiled_networks_train_to_the_same_losses(tiny):
    """With torch's own compiler; gradients and norms are other kernels, and Adam makes steps of rounding."""
    if not compiled.available(CPU):
        pytest.skip("there is no C++ compiler")
    _, expected = losses(tiny())
    _, found = losses(tiny(), compiled=True)
    torch.compiler.reset()
    for mine, right in zip(found, expected, strict=True):
        assert mine == pytest.approx(right, rel=1e-3)


@pytest.mark.parametrize(
    ("device", "size", "images", "pays"),
    [
        (CPU, 256, 1_000_000, False),
        (CUDA, 256, 266_800, True),
        (CUDA, 256, 2_000, True),
        (CUDA, 256, 1_999, False),
        (CUDA, 512, 500, True),
        (torch.device("mps"), 256, 266_800, False),
    ],
)
def test_compiling_is_chosen_where_it_pays(monkeypatch, device, size, images, pays):
    monkeypatch.setattr(compiled, "available", lambda device: True)
    assert compiled.pays(device, size, images) == pays
    monkeypatch.setattr(compiled, "available", lambda device: False)
    assert not compiled.pays(device, size, images)


def settled(monkeypatch, total=100_000, device=CPU, can=True, **said):
    monkeypatch.setattr(compiled, "available", lambda device: can)
    monkeypatch.setattr(hardware, "pick_device", lambda *given: device)
    config = configs.compose({"a": "A", "b": "B", "data": {"size": 256}}, configs.nest(said))
    machine = start.with_speed(config, total).machine
    return machine.compile, machine.capture


def test_a_new_run_settles_both(monkeypatch):
    assert settled(monkeypatch, **{"machine.precision": "float32"}) == ("off", False)
    assert settled(monkeypatch, **{"machine.precision": "bf16"}) == ("off", False)
    assert settled(monkeypatch, device=CUDA) == ("on", True)
    assert settled(monkeypatch, total=10, device=CUDA) == ("off", True)
    assert settled(monkeypatch, device=CUDA, **{"machine.compile": "off"}) == ("off", False)
    assert settled(monkeypatch, device=CUDA, **{"machine.capture": False}) == ("on", False)
    assert settled(monkeypatch, device=CUDA, **{"data.resize": "none"}) == ("on", False)
    assert settled(monkeypatch, device=CUDA, **{"machine.checkpoint": True}) == ("on", False)
    both = {"machine.compile": "off", "machine.capture": True}
    assert settled(monkeypatch, device=CUDA, **both) == ("off", True)
    monkeypatch.setattr(start, "world", lambda: 2)
    assert settled(monkeypatch, device=CUDA) == ("on", False)


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler, which is not here"):
        settled(monkeypatch, can=False, **{"machine.compile": "on"})
    with pytest.raises(UsageError, match=r"and Triton, which is not here"):
        settled(monkeypatch, device=CUDA, can=False, **{"machine.compile": "on"})
    with pytest.raises(UsageError, match=r"machine\.capture is for one process on CUDA"):
        settled(monkeypatch, **{"machine.capture": True})


def test_a_compiled_run_goes_on_where_there_is_a_compiler(lab, finished, tmp_path, command, monkeypatch):
    shutil.copytree(finished, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("compile: 'off'", "compile: 'on'"))
    monkeypatch.setattr(compiled, "available", lambda device: False)
    ended = command("train", "--resume", str(tmp_path / "run"))
    assert ended.code == 1 and "this machine has no C++ compiler" in ended.output.splitlines()[-1]


def test_yaml_has_truth_values_for_on_and_off(tmp_path):
    file = tmp_path / "given.yaml"
    for word in ("on", "off", "auto", "'on'"):
        file.write_text(f"a: A\nb: B\nmachine:\n  compile: {word}\n")
        assert configs.compose(configs.from_file(file)).machine.compile == word.strip("'")
    written = configs.to_yaml(configs.compose({"a": "A", "b": "B", "machine": {"compile": "off"}}))
    file.write_text(written)
    assert configs.compose(configs.from_file(file)).machine.compile == "off"


def natively(monkeypatch, *, can=True, device=CPU, precision="float32", said=None):
    monkeypatch.setattr(native, "available", lambda: can)
    given = {"machine.precision": precision, "machine.native": said}
    monkeypatch.setattr(compiled, "available", lambda device: True)
    monkeypatch.setattr(hardware, "pick_device", lambda *given: device)
    config = configs.compose({"a": "A", "b": "B"}, configs.nest(given))
    return start.with_speed(config, 1000).machine.native


def test_c_code_where_there_is_a_compiler(monkeypatch):
    assert natively(monkeypatch) and natively(monkeypatch, said=True)
    assert natively(monkeypatch, said=False) is False
    assert natively(monkeypatch, can=False) is False
    assert natively(monkeypatch, precision="bf16")
    assert natively(monkeypatch, device=CUDA) is False
    with pytest.raises(UsageError, match=r"machine\.native is for a CPU"):
        natively(monkeypatch, can=False, said=True)


def test_kernels_are_the_runs_own_choice_and_need_no_compiler_to_resume(
    finished, tmp_path, command, monkeypatch
):
    """A run started with C code goes on without a compiler, by torch's operations."""
    shutil.copytree(finished, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    text = config.read_text()
    (line,) = re.findall(r"  native: \w+\n", text)
    seen = []
    monkeypatch.setattr(
        trainers, "accelerate", lambda network, kernels: seen.append(kernels) or accelerate(network, kernels)
    )
    monkeypatch.setattr(native, "kernels", lambda: None)
    for written, kernels in ((line, True), ("  native: false\n", False), ("", False)):
        config.write_text(text.replace(line, written.replace("false", str(kernels).lower())))
        assert command("train", "--resume", str(tmp_path / "run"), "--decay-epochs", "3").code == 0
        assert seen.pop() is kernels
