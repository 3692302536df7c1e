"""Validate a toy network on volumes in two processes, then in one; run by test_volumes.py.

Usage: volumes_in_two_processes.py ROOT FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

import resfu.hosts
from resfu.tasks.volumes import SliceData, VolumeModule
from resfu.training.quiet import known_warnings_ignored
from resfu.training.scores import plain


class Host(nn.Module):
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, upsampler, num_classes, pretrained, upsampler_options) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, images):
        return self.head(self.encoder(images).relu())


class Writer(Callback):
    """Saves what each process ends up with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer, pl_module) -> None:
        if trainer.sanity_checking:
            return
        found = {
            "shared": len(trainer.val_dataloaders),
            "results": plain(pl_module.results),
            "logged": float(trainer.callback_metrics["val/dice"]),
        }
        (self.folder / f"{trainer.world_size}-{trainer.global_rank}.json").write_text(json.dumps(found))


def validate(processes: int, root: str, folder: Path) -> None:
    torch.manual_seed(0)
    task = VolumeModule(host="toy", upsampler="bilinear", num_classes=4)
    data = SliceData("acdc", mean=Host.mean, std=Host.std, root=root, crop_size=(32, 32), batch_size=1)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        logger=False,
        callbacks=[Writer(folder)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with known_warnings_ignored():
        trainer.validate(task, datamodule=data, verbose=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    resfu.hosts.HOSTS["toy"] = Host
    for number in (2, 1):
        validate(number, sys.argv[1], Path(sys.argv[2]))
