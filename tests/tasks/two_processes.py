"""Train and validate a toy network in two processes, then in one; run by test_distributed.py.

Usage: two_processes.py FOLDER
"""

import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torchvision import tv_tensors

import resfu.data
import resfu.hosts
from resfu.data import SegmentationDataset
from resfu.hosts.set_loss import Prediction, set_losses
from resfu.tasks.label_maps import LabelMapData, LabelMapModule
from resfu.training.parameter_groups import Optimisation
from resfu.training.quiet import known_warnings_ignored


class Host(nn.Module):
    """No BatchNorm: its statistics would depend on how the batch is split."""

    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, upsampler, num_classes, pretrained, upsampler_options) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, images):
        return self.head(self.encoder(images))

    def losses(self, images, label, cross_entropy):
        return {"main": cross_entropy(self(images), label)}


class Data(SegmentationDataset):
    """The part that is ignored grows with the index, so that processes have unequal shares of labelled pixels."""

    classes = ("a", "b", "c")
    palette = torch.zeros(3, 3, dtype=torch.uint8)

    def __init__(self, split, root=None, transform=None) -> None:
        super().__init__(transform)
        self.split = split

    def __len__(self) -> int:
        return 8 if self.split == "train" else 5

    def load(self, index):
        generator = torch.Generator().manual_seed(index + 100 * (self.split == "val"))
        image = torch.randint(0, 256, (3, 12, 16), generator=generator, dtype=torch.uint8)
        label = image[0].long() * 3 // 256
        label[: index + 2] = 255
        return {"image": tv_tensors.Image(image), "label": tv_tensors.Mask(label), "name": str(index)}


class Recorder(Callback):
    """Saves what each process ends up with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gradients = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.gradients.append([parameter.grad.clone() for parameter in pl_module.host.parameters()])

    def on_train_end(self, trainer, pl_module) -> None:
        result = {
            "weights": list(pl_module.host.parameters()),
            "gradients": [gradient for step in self.gradients for gradient in step],
            "metrics": pl_module.results,
            "logged": {key: float(value) for key, value in trainer.callback_metrics.items()},
            "images": len(trainer.val_dataloaders),
            "set_loss": set_loss(trainer.global_rank, trainer.world_size),
        }
        torch.save(result, self.folder / f"{trainer.world_size}-{trainer.global_rank}.pt")


def set_loss(rank: int, processes: int) -> dict[str, torch.Tensor]:
    """MaskFormer's loss on a process's share of four images, which show 1, 2, 3 and 3 classes."""
    generator = torch.Generator().manual_seed(5)
    classes, masks = (torch.randn(4, 6, *size, generator=generator) for size in ((4,), (3, 4)))
    label = torch.arange(16).expand(4, 12, 16) % torch.tensor([1, 2, 3, 3])[:, None, None]
    part = slice(rank * 4 // processes, (rank + 1) * 4 // processes)
    return set_losses([Prediction(classes[part], masks[part])], label[part], num_classes=3)


def train(processes: int, folder: Path) -> None:
    torch.manual_seed(0)
    optimisation = Optimisation(method="sgd", learning_rate=0.1, weight_decay=1e-3)
    task = LabelMapModule("toy", "bilinear", num_classes=3, optimisation=optimisation)
    data = LabelMapData("toy", mean=Host.mean, std=Host.std, crop_size=(12, 16), batch_size=4 // processes)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        max_steps=4,
        logger=False,
        callbacks=[Recorder(folder)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with known_warnings_ignored():
        trainer.fit(task, datamodule=data)


if __name__ == "__main__":
    torch.set_num_threads(1)
    resfu.hosts.HOSTS["toy"] = Host
    resfu.data.DATASETS["toy"] = Data
    for number in (2, 1):  # a process that has used autograd must not be forked
        train(number, Path(sys.argv[1]))
