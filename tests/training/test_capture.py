"""A step asks the device nothing, and captured once and repeated it does what steps run one by one do.

Asking is found on the meta device, whose tensors have no values: whatever asks for one is an error. CUDA's graphs need a
GPU; here a tape stands in for one. It writes down every operation of a step with the tensors that it read and wrote,
and repeating does the operations again on whatever then lies in those tensors. A number that a method had taken from
the program would be the recorded step's for ever, and the weights would differ. What a kernel in C writes is no
operation, so that torch's stand for it here, as they do on CUDA.

That a run on CUDA can be repeated bit for bit is held to torch's list of operations that cannot.
"""

import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from twofold.config import compose
from twofold.data.augment import Moves, augment
from twofold.losses.perceptual import Perceptual
from twofold.methods.base import Batch
from twofold.runs import Run
from twofold.training.build import build
from twofold.training.capture import WARM_UP, CaptureFailed, CudaRecorder
from twofold.training.loss_sums import LossSums
from twofold.training.session import own_torch_state
from twofold.training.trainer import Trainer

CPU = torch.device("cpu")

ASKING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::is_nonzero",
    "aten::equal",
    "aten::masked_select",
}

SETTINGS = {
    "cyclegan": {"cyclegan": {"replay": 1}},
    "adversarial cycles": {"cyclegan": {"cycle": "adversarial"}},
    "wgan": {"adversarial": {"loss": "wgan", "critic_steps": 3}, "discriminator": {"norm": "none"}},
    "hinge with R1, augmented": {
        "adversarial": {"loss": "hinge", "r1": 1.0, "augment": ["colour", "translation", "cutout"]}
    },
    "spectral": {"discriminator": {"spectral": True, "scales": 2}},
    "rehearsed": {"cyclegan": {"recent_updates": 2, "replay": 0}, "discriminator": {"extra_layers": [2]}},
    "pix2pix": {"method": "pix2pix", "data": {"paired": True, "size": 256}},
    "cut": {"method": "cut"},
    "fastcut": {"method": "fastcut"},
    "masks": {"data": {"masks_a": "M", "masks_b": "M"}, "cyclegan": {"mask": 1.0, "replay": 1}},
    "masks of fastcut": {"method": "fastcut", "data": {"masks_a": "M"}, "cut": {"mask": 1.0}},
    "clipped": {"optim": {"clip": 1.0, "weight_decay": 0.01}},
    "checkpointed": {"machine": {"checkpoint": True}},
}


@pytest.fixture(autouse=True)
def plain_layers(monkeypatch):
    """Accelerated ones would be plain only where a dispatch mode records them, which is another rounding."""
    monkeypatch.setattr("twofold.training.trainer.accelerate", lambda network, kernels: network)


class NoAsking(TorchDispatchMode):
    """Refuses every operation by which a value would come from the device to the program, or go there; and float64 there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        on_device = any(isinstance(x, torch.Tensor) and x.is_meta for x in args)
        copied = func.name().startswith("aten::_to_copy") and str((kwargs or {}).get("device")) == "cpu"
        if on_device and (copied or func.name().split(".")[0] in ASKING):
            raise AssertionError(f"{func.name()} asks the device")
        made = func(*args, **(kwargs or {}))
        met = [x for x in tensors((args, kwargs, made)) if x.is_meta]
        assert len(met) in (0, len(tensors((args, kwargs, made)))), (
            f"{func.name()} brings the device something"
        )
        assert all(x.dtype != torch.float64 for x in met), f"{func.name()} in float64"
        return made


BASE = {
    **{"a": "A", "b": "B", "data": {"size": 32, "channels_a": 3, "channels_b": 3}},
    **{"generator": {"width": 4}, "discriminator": {"width": 4, "layers": 1}, "training": {"ema": 4}},
}


def steps_on_meta(settings, watched, perceptual=False):
    """A few steps on the meta device, inside `watched`."""
    config = compose(BASE, settings)
    with torch.device("meta"):
        method = build(config)
        if perceptual:
            method.perceptual = Perceptual(torch.nn.Conv2d(3, 4, 3), 1.0)
        clip = config.optim.clip
        trainer = Trainer(method, device="meta", ema=config.training.ema, channels_last=True, clip=clip)
    size = config.data.size
    a, b = (torch.empty(2, 3, size, size, device="meta") for _ in "ab")
    masks = dict.fromkeys(("mask_a", "mask_b"), torch.empty(2, 1, size, size, device="meta"))
    steps = max(2, config.adversarial.critic_steps)
    with watched:
        for _ in range(steps):
            trainer.step(Batch(a, b, **masks), 2e-4)
    assert trainer.images == 2 * steps
    assert {"perceptual", "perceptual_a"} & {*trainer.sums._losses} or not perceptual
    assert any(name.startswith("mask") for name in trainer.sums._losses) == ("mask" in str(settings))
    return trainer


@pytest.mark.parametrize("name", SETTINGS)
def test_no_method_asks_the_device(name):
    trainer = steps_on_meta(SETTINGS[name], NoAsking())
    with NoAsking(), pytest.raises(AssertionError, match="asks the device"):  # not: "in float64"
        trainer.sums.state()


@pytest.mark.parametrize("name", ["cyclegan", "pix2pix"])
def test_the_perceptual_loss_does_not_ask_the_device(name):
    steps_on_meta(SETTINGS[name], NoAsking(), perceptual=True)


def test_images_of_a_batch_are_changed_without_a_copy_from_the_program():
    pixels = torch.empty(2, 3, 8, 8, dtype=torch.uint8, device="meta")
    moves = torch.empty(4, 2, dtype=torch.bool, device="meta")
    with NoAsking():
        changed = augment(pixels, Moves(*moves.unbind(0)), torch.empty(2, 3, device="meta"))
    assert changed.is_meta and changed.shape == pixels.shape


@pytest.mark.parametrize(
    "ask", [lambda x: x.item(), lambda x: bool(x > 0), lambda x: x.cpu(), torch.nonzero, lambda x: x[x > 0]]
)
def test_asking_is_noticed(ask):
    sums = LossSums(torch.device("meta"))
    sums.add({"x": torch.empty((), device="meta")}, 0)
    with NoAsking(), pytest.raises(AssertionError, match="asks the device"):
        ask(sums._losses["x"][0])


NOT_REPEATABLE = re.compile(
    r"aten::(reflection_pad|_?adaptive_avg_pool|adaptive_max_pool|fractional_max_pool|max_pool2d_with_indices|"
    r"upsample_(linear|bilinear|bicubic|trilinear)|grid_sampler)\w*_backward|"
    r"aten::(cumsum|median|histc|bincount|kthvalue|max_unpool\w*|nll_loss2d\w*|put_)\b"
)
"""What torch refuses to do on CUDA with deterministic algorithms: its own list, as far as 2.13 tells."""


class Repeatable(TorchDispatchMode):
    """Refuses what `NOT_REPEATABLE` names."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not NOT_REPEATABLE.match(func.name()), f"{func.name()} differs from time to time"
        return func(*args, **(kwargs or {}))


BLURRED = {
    "method": "cut",
    "generator": {"antialias": True, "upsample": "blur"},
    "discriminator": {"antialias": True},
}


@pytest.mark.parametrize("settings", [*SETTINGS.values(), BLURRED], ids=[*SETTINGS, "blurred"])
def test_every_method_is_repeatable(settings):
    with own_torch_state(CPU, 1, deterministic=True, one_size=True):
        steps_on_meta(settings, Repeatable())


class InLayout(TorchDispatchMode):
    """Refuses torch's reflection, which copies channels-last images to the other layout on CUDA."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not func.name().startswith("aten::reflection_pad2d")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", [{}, BLURRED], ids=["cyclegan", "blurred"])
def test_channels_last_images_are_not_reflected_by_torch(settings):
    steps_on_meta(settings, InLayout())


def test_what_is_not_repeatable_is_noticed():
    with pytest.raises(AssertionError, match="upsample_bilinear2d_backward differs"):
        steps_on_meta(BLURRED, Repeatable())


def test_float64_is_noticed():
    with NoAsking(), pytest.raises(AssertionError, match="in float64"):
        torch.empty(3, device="meta").double()


@pytest.mark.parametrize("bring", [lambda x: x * torch.ones(()), lambda x: x.fill_(torch.ones(()))])
def test_bringing_is_noticed(bring):
    with NoAsking(), pytest.raises(AssertionError, match="brings the device something"):
        bring(torch.empty(3, device="meta"))


class Tape(TorchDispatchMode):
    """Records operations while it does them; then takes back what they changed of what was there before."""

    def __init__(self):
        super().__init__()
        self.entries, self.made, self.before = [], set(), {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        written = [
            value
            for place, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
            for value in tensors(args[place] if place < len(args) else kwargs.get(argument.name))
        ]
        if func.name().startswith("aten::native_batch_norm"):
            written += tensors(args[3:5])  # running statistics, of which its signature does not tell
        for storage in (tensor.untyped_storage() for tensor in written):
            if storage.data_ptr() not in self.made:
                self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        made = func(*args, **kwargs)
        given = {tensor.data_ptr() for tensor in tensors((args, kwargs))}
        self.made |= {x.untyped_storage().data_ptr() for x in tensors(made) if x.data_ptr() not in given}
        self.entries.append((func, args, kwargs, made))
        return made

    def take_back(self):
        for storage, content in self.before.values():
            storage.copy_(content)

    @torch.no_grad()
    def repeat(self):
        for func, args, kwargs, made in self.entries:
            for old, new in zip(tensors(made), tensors(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():  # else a view, or written in place
                    old.copy_(new)


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class TapeRecorder:
    recorded = 0

    def run(self, work):
        work()

    def record(self, work):
        """As `CudaRecorder.record`; like a GPU's generator, the CPU's may not be read meanwhile."""
        draws, read = torch.get_rng_state(), torch.get_rng_state
        torch.get_rng_state = lambda: pytest.fail("the generator's state was read while a step was recorded")
        try:
            return self._record(work, draws)
        finally:
            torch.get_rng_state = read

    def _record(self, work, draws):
        with Tape() as tape:
            work()
        tape.take_back()
        torch.set_rng_state(draws)
        self.recorded += 1
        return tape.repeat


def trained(name, recorder, monkeypatch, **how):
    """A few steps at falling rates, the first of each kind run as they are; the trainer, and its reported losses."""
    monkeypatch.setattr("twofold.training.trainer.CudaRecorder", lambda device: recorder)
    config = compose(BASE, SETTINGS[name])
    size, draws = config.data.size, torch.Generator().manual_seed(1)
    how |= config.optim.model_dump(include={"clip", "weight_decay"})
    trainer = Trainer(
        build(config), ema=config.training.ema, channels_last=True, fused=True, capture=True, **how
    )
    period = config.adversarial.critic_steps  # each kind is recorded, then repeated
    for step in range(period * (WARM_UP + 1) + 2):
        a, b = (torch.rand(2, 3, size, size, generator=draws) * 2 - 1 for _ in "ab")
        mask_a, mask_b = (torch.rand(2, 1, size, size, generator=draws).round() for _ in "ab")
        trainer.step(Batch(a, b, mask_a=mask_a, mask_b=mask_b), 1e-3 / (step + 1))
    return trainer, trainer.sums.report()


def everything(trainer):
    """All that a step changes, by name."""
    averages = {
        f"{name}/{key}": x for name, net in trainer.averages.items() for key, x in net.state_dict().items()
    }
    return trainer.method.state_dict() | averages


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, {}) for name in SETTINGS),
        ("cyclegan", {"precision": "fp16"}),
        ("wgan", {"precision": "fp16"}),
    ],
)
def test_a_step_captured_and_repeated_is_that_step(name, how, monkeypatch):
    recorder = TapeRecorder()
    captured, losses = trained(name, recorder, monkeypatch, **how)
    monkeypatch.setattr("twofold.training.capture.WARM_UP", 1000)
    plain, expected = trained(name, TapeRecorder(), monkeypatch, **how)
    assert recorder.recorded == (2 if name == "wgan" else 1)  # with generators that learn, and without
    assert losses == expected
    assert captured.images == plain.images
    assert equal(everything(captured), everything(plain))


def test_a_number_of_the_programs_is_noticed(monkeypatch):
    """The same, but for a learning rate that is no tensor: the recorded step's is then every later step's."""

    def set_(self, lr, count):
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] = lr

    monkeypatch.setattr(Trainer, "_set_step_values", set_)
    captured, _ = trained("cyclegan", TapeRecorder(), monkeypatch)
    monkeypatch.setattr("twofold.training.capture.WARM_UP", 1000)
    plain, _ = trained("cyclegan", TapeRecorder(), monkeypatch)
    assert not equal(everything(captured), everything(plain))


class Failing(TapeRecorder):
    """Fails as CUDA does: torch's end of the recording raises an error of its own."""

    def _record(self, work, draws):
        try:
            super()._record(work, draws)
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")


def test_a_failed_capture_ends_the_run_with_its_first_reason(monkeypatch):
    with pytest.raises(
        CaptureFailed, match=r"CUDA graph: operation not permitted when stream is capturing; resume"
    ):
        trained("cyclegan", Failing(), monkeypatch)


def test_a_run_whose_capture_failed_goes_on_without(lab, tmp_path, command, monkeypatch):
    """On the stand-in: a run that captures on a CPU, which the settings do not allow."""
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("twofold.training.trainer.CudaRecorder", lambda device: Failing())
        patched.setattr("twofold.training.machine.can_capture", lambda config, device: True)
        ended = command(*lab.tokens(out), "--machine.capture")
    assert ended.code == 1 and "Traceback" not in ended.output
    assert "when stream is capturing; resume the run with --machine.no-capture" in ended.output
    assert (
        command("train", "--resume", out, "--machine.no-capture").code
        == command(*lab.tokens(tmp_path / "plain")).code
        == 0
    )
    last = [Run(each).state(12) / "state.safetensors" for each in (out, tmp_path / "plain")]
    assert last[0].read_bytes() == last[1].read_bytes()


class CudaStandIn:
    """What `CudaRecorder` calls in torch.cuda, with the calls it made; `fail` is raised while a graph is recorded."""

    def __init__(self, monkeypatch, fail=None):
        self.calls, self.graphs = [], []

        @contextmanager
        def graph(made, pool, stream, mode):
            self.graphs.append((made, pool, stream, mode))
            yield
            if fail:
                raise fail

        current, draws = SimpleNamespace(wait_stream=lambda other: None), self.generator()
        for name, value in {
            "Stream": lambda device: SimpleNamespace(device_index=1, wait_stream=lambda other: None),
            "graph_pool_handle": lambda: self.calls.append("pool") or "pool",
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
            "current_stream": lambda device: current,
            "set_stream": lambda stream: self.calls.append(("set_stream", stream is current)),
            "default_generators": [None, draws],
            "graph": graph,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch, "Generator", lambda device: self.generator())

    def generator(self):
        made = SimpleNamespace(initial_seed=lambda: 7, graphsafe_get_state=lambda: "fresh")
        made.manual_seed = lambda seed: self.calls.append(("seed", seed)) or made
        made.graphsafe_set_state = lambda state: self.calls.append(("state", state))
        return made


def test_graphs_share_one_pool_and_one_stream(monkeypatch):
    cuda = CudaStandIn(monkeypatch)
    recorder = CudaRecorder(torch.device("cuda", 1))
    for _ in range(2):
        recorder.record(lambda: None)
    assert {(pool, id(stream), mode) for _, pool, stream, mode in cuda.graphs} == {
        ("pool", id(recorder.stream), "thread_local")
    }
    assert cuda.calls == ["pool"] and cuda.graphs[0][0] is not cuda.graphs[1][0]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()])
def test_after_a_failure_the_stream_and_the_generator_can_be_used(monkeypatch, error):
    cuda = CudaStandIn(monkeypatch, error)
    with pytest.raises(type(error)):
        CudaRecorder(torch.device("cuda", 1)).record(lambda: None)
    assert cuda.calls == ["pool", ("set_stream", True), ("seed", 7), ("state", "fresh")]


def test_images_of_another_shape_are_not_put_into_a_graph(monkeypatch):
    trainer, _ = trained("cyclegan", TapeRecorder(), monkeypatch)
    a = torch.zeros(1, 3, 32, 32)
    trainer.step(Batch(a, a), 1e-3)
    assert trainer.sums.broken() is None
