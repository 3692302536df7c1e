"""What the documents say is so: their examples run, and the table of upsamplers agrees with the code."""

import re
from pathlib import Path

import pytest
import torch

from resfu import UPSAMPLERS, create_upsampler
from resfu.evaluation.cost import count_parameters

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = "# not run"


def examples():
    for name in ("README.md", "docs/upsamplers.md", "docs/own_data.md", "docs/your_network.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            line = text.count("\n", 0, fence.start()) + 2
            marks = [pytest.mark.skip(reason="marked '# not run'")] if NOT_RUN in fence[1] else []
            yield pytest.param(ROOT / name, line, fence[1], id=f"{name}:{line}", marks=marks)


@pytest.mark.parametrize(("file", "line", "code"), list(examples()))
def test_the_examples_run(file, line, code, tmp_path, monkeypatch):
    for package in ("segmentation_models_pytorch", "monai", "timm", "torchvision", "transformers"):
        if f"import {package}" in code or f"from {package}" in code:
            pytest.importorskip(package, reason="needs the dev group")
    if "create_host" in code:
        pytest.importorskip("transformers", reason="needs the extra hosts")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "__main__"}
    exec(compile("\n" * (line - 1) + code, file, "exec"), names)  # an error shows the document's own line
    for expected in re.findall(r"^ *hr = .*?# .*?(\[[\d, ]+\])", code, re.MULTILINE):
        assert list(names["hr"].shape) == [int(size) for size in expected.strip("[]").split(",")]


def test_every_document_of_examples_has_some():
    found = [param.values[0].name for param in examples()]
    assert found.count("README.md") >= 3
    assert found.count("upsamplers.md") >= 9
    assert found.count("own_data.md") >= 3
    assert found.count("your_network.md") >= 6


def table():
    lines = (ROOT / "docs" / "upsamplers.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def test_the_table_lists_every_upsampler_in_order():
    assert list(table()) == list(UPSAMPLERS)


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_the_table_of_upsamplers_agrees_with_the_code(name):
    method = UPSAMPLERS[name]
    guidance, ratios, border, constants, formula, count = table()[name]
    c = 3 if method.image_guided else 256
    up = create_upsampler(name, channels=256, guidance_channels=c, scale_factor=2).eval()
    assert guidance == ("none" if not method.guided else "image" if method.image_guided else "features")
    words = {"any": "any real", "integer": "any integer", "2": "x2", "fixed": "fixed at construction"}
    assert ratios == ("power of two" if name == "stack-jbu" else words[method.ratios])

    assert int(count.replace(",", "")) == count_parameters(up)
    assert eval(in_python(formula), {"C": 256, "c": c, "r": 2, "s": 1}) == count_parameters(up)

    kept, edges = constant_after(up, c)
    assert constants == {(True, True): "yes", (True, False): "inside", (False, False): "no"}[kept]
    if ": " in border:
        assert edges == pytest.approx([float(number) for number in border.partition(": ")[2].split(", ")], abs=0.005)


def in_python(formula):
    """Write out the products: 64 (c + C) r² becomes 64 * (c + C) * r**2."""
    factors = re.sub(r"([\d)²A-Za-z]) ?(?=[A-Za-z(])", r"\1*", formula.replace(",", ""))
    return factors.replace("²", "**2")


@torch.no_grad()
def constant_after(up, guidance_channels):
    """Whether a constant 1 is kept (inside, everywhere), and what it is in the corner and at the edge."""
    for name, parameter in up.named_parameters():
        if name.startswith(("encoder", "key", "query", "spread")):
            parameter.zero_()  # equal weights
    out = up(torch.ones(1, 256, 12, 12), torch.randn(1, guidance_channels, 24, 24), size=(24, 24))[0, 0]
    ones = torch.ones_like(out)
    inside = torch.allclose(out[8:16, 8:16], ones[8:16, 8:16], atol=1e-4)
    return (inside, torch.allclose(out, ones, atol=1e-4)), [out[0, 0].item(), out[0, 12].item()]
