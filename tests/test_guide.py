"""The guide's examples run as they stand."""

import re
from pathlib import Path

import pytest
import torch

GUIDE = Path(__file__).parents[1] / "docs" / "guide"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (GUIDE / page).read_text(encoding="utf-8"), re.S)


def test_adding_a_method(capsys):
    method, use = blocks("adding-a-method.md")
    assert sum(bool(line.strip()) for line in method.splitlines()) < 60
    names = {"__name__": "guide"}
    torch.manual_seed(0)
    for block in (method, use):
        exec(compile(block, "adding-a-method.md", "exec"), names)
    assert capsys.readouterr().out.startswith("20 {'gan_ab': ")
    trainer, images = names["trainer"], names["images"]
    before = names["l1"](
        trainer.method.gen_ab(images.a.flip(3)), trainer.method.gen_ab(images.a).flip(3)
    ).item()
    for _ in range(40):
        trainer.step(images, 2e-3)
    after = names["l1"](
        trainer.method.gen_ab(images.a.flip(3)), trainer.method.gen_ab(images.a).flip(3)
    ).item()
    assert after < 0.8 * before, "the wish for geometry consistency moves nothing"


@pytest.mark.parametrize("page", sorted(path.name for path in GUIDE.glob("*.md")))
def test_links_and_pictures_are_there(page):
    text = (GUIDE / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (GUIDE / target).exists(), target
