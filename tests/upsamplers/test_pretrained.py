"""Upsamplers in a folder and, from the Hub's cache, without a network."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch

import resfu
from resfu.upsamplers import Iterative


@pytest.mark.parametrize("name", resfu.UPSAMPLERS)
def test_round_trip(name, create, maps, tmp_path):
    up = create(name)
    up.save_pretrained(tmp_path / "a" / "b")
    again = resfu.from_pretrained(tmp_path / "a" / "b")
    assert type(again) is type(up)
    assert again.arguments == up.arguments
    features, guidance = maps(up)
    assert torch.equal(again(features, guidance), up(features, guidance))


def test_arguments_that_are_no_defaults_come_back(tmp_path):
    up = resfu.ReSFU(16, 8, kernel_size=5, alignment="detail", guided_filter_eps=0.01).half()
    up.save_pretrained(tmp_path)
    again = resfu.from_pretrained(tmp_path)
    assert again.arguments == up.arguments | {"channels": 16, "kernel_size": 5, "alignment": "detail"}
    assert {value.dtype for value in again.state_dict().values() if value.is_floating_point()} == {torch.float16}
    assert not again.training


def test_copies_keep_their_arguments():
    up = resfu.CARAFE(8, scale_factor=4)
    for other in (copy.deepcopy(up), pickle.loads(pickle.dumps(up))):
        assert other.arguments == up.arguments
        assert other.arguments["scale_factor"] == 4


def test_a_chain(tmp_path):
    chain = Iterative([resfu.CARAFE(8), resfu.DySample(8)]).eval()
    chain.save_pretrained(tmp_path)
    features = torch.randn(1, 8, 4, 5)
    assert torch.equal(resfu.from_pretrained(tmp_path)(features), chain(features))
    twice = Iterative([chain.steps[0], chain.steps[0]]).eval()
    twice.save_pretrained(tmp_path)
    assert torch.equal(resfu.from_pretrained(tmp_path)(features), twice(features))


def test_the_card_says_what_was_measured(tmp_path):
    resfu.SAPA(8, 8).save_pretrained(tmp_path, measured="| mIoU |\n|--:|\n| 52.5 |")
    card = (tmp_path / "README.md").read_text()
    assert "| 52.5 |" in card
    assert "2209.12866" in card
    assert "SAPA(channels=8, guidance_channels=8" in card


HUB = """
import resfu, torch
up = resfu.from_pretrained("someone/carafe")
print(up.arguments["channels"], sum(p.double().sum().item() for p in up.parameters()))
try:
    resfu.from_pretrained("someone/nothing")
except ValueError as error:
    print(error)
"""


def test_a_repository_in_the_cache_needs_no_network(tmp_path):
    up, repository = resfu.CARAFE(8), tmp_path / "hub" / "models--someone--carafe"
    up.save_pretrained(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    words = [sys.executable, "-c", HUB]
    found, missing = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    channels, total = found.split()
    assert int(channels) == 8
    assert float(total) == pytest.approx(sum(p.double().sum().item() for p in up.parameters()))
    assert missing.startswith("someone/nothing is no folder here, and cannot be fetched")


def test_what_cannot_be_saved_or_loaded(tmp_path):
    class Own(resfu.CARAFE):
        pass

    with pytest.raises(ValueError, match="Own is not one of them"):
        Own(8).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        resfu.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="neither a folder nor the name of a repository"):
        resfu.from_pretrained(tmp_path / "missing")
    with pytest.raises(ValueError, match="a folder or the name of a repository, got CARAFE"):
        getattr(resfu.from_pretrained, "__wrapped__", resfu.from_pretrained)(
            resfu.CARAFE(8)
        )  # without our checks of types
    folder = tmp_path / "good"
    resfu.CARAFE(8).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())

    def changed(**values):
        shutil.copytree(folder, tmp_path / "bad", dirs_exist_ok=True)
        (tmp_path / "bad" / "config.json").write_text(json.dumps(config | values))
        return tmp_path / "bad"

    with pytest.raises(ValueError, match="names the class 'os'; known are Nearest"):
        resfu.from_pretrained(changed(**{"class": "os"}))
    with pytest.raises(ValueError, match="expected format 1"):
        resfu.from_pretrained(changed(format=2))
    with pytest.raises(ValueError, match=r"does not fit this version of resfu: .*'colour'"):
        resfu.from_pretrained(changed(arguments={"channels": 8, "colour": 1}))
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit its config\.json"):
        resfu.from_pretrained(changed(arguments={"channels": 9}))


def test_a_damaged_file_is_named(tmp_path):
    resfu.CARAFE(8).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged, or not what safetensors writes"):
        resfu.from_pretrained(tmp_path)
