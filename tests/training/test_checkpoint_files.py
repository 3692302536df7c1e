"""Checkpoints that are damaged are named, with the one to take instead."""

import os
import resource

import pytest
import torch

from resfu.training.checkpoint_files import WholeCheckpoints, read_checkpoint
from resfu.training.last_checkpoint import read_progress

CONTENT = {"state_dict": {"w": torch.arange(5000.0)}, "global_step": 3, "callbacks": {}}


def save(path):
    WholeCheckpoints().save_checkpoint(CONTENT, path)
    return path


def test_it_is_what_pytorch_writes(tmp_path):
    file = save(tmp_path / "folder" / "last.ckpt")
    assert torch.equal(torch.load(file, weights_only=True)["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert WholeCheckpoints().load_checkpoint(file)["global_step"] == read_progress(file)[0] == 3
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "missing.ckpt")


@pytest.mark.parametrize("read", [read_checkpoint, read_progress, WholeCheckpoints().load_checkpoint])
@pytest.mark.parametrize(("part", "words"), [(0, "is empty"), (0.6, r"is cut off or damaged \([\d,]+ bytes\)")])
def test_damage_is_named_with_the_checkpoint_to_take(tmp_path, part, words, read):
    file, best = save(tmp_path / "last.ckpt"), tmp_path / "best.ckpt"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=rf"the checkpoint .*last\.ckpt {words}.* There is no other in its folder"):
        read(file)
    save(best)
    with pytest.raises(ValueError, match=rf"{words}, as after a full disk .* Take .*best\.ckpt instead"):
        read(file)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"Remove .*: the next `resfu compare` trains that network again"):
        read(file)


@pytest.mark.parametrize("read", [read_checkpoint, WholeCheckpoints().load_checkpoint])
def test_a_byte_that_changed_is_noticed(tmp_path, read):
    file = save(tmp_path / "last.ckpt")
    content = bytearray(file.read_bytes())
    content[content.index(CONTENT["state_dict"]["w"].numpy().tobytes()) + 1000] ^= 1
    file.write_bytes(content)
    assert not torch.equal(torch.load(file, weights_only=True)["state_dict"]["w"], CONTENT["state_dict"]["w"])
    with pytest.raises(ValueError, match="is cut off or damaged"):
        read(file)


def test_another_file_is_no_checkpoint(tmp_path):
    (tmp_path / "x.ckpt").write_text("steps: 3")
    torch.save([1, 2], tmp_path / "list.ckpt")
    for name in ("x", "list"):
        with pytest.raises(ValueError, match=rf"{name}\.ckpt is not a checkpoint of resfu"):
            read_checkpoint(tmp_path / f"{name}.ckpt")


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    file = save(tmp_path / "last.ckpt")
    large = {**CONTENT, "state_dict": {"w": torch.ones(1_000_000)}}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"^cannot write .*last\.ckpt: File too large\. What was there before is kept"
        ):
            WholeCheckpoints().save_checkpoint(large, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_checkpoint(file)["global_step"] == 3
    assert os.listdir(tmp_path) == ["last.ckpt"]
