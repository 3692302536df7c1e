"""Train and validate a panoptic host in two processes, then in one; run by test_objects_distributed.py.

The sampling of proposals differs between processes, and its losses are means over what is sampled. Here all proposals
count and all training images are one and the same, so that one process with both images must take the same step.

Usage: objects_in_two_processes.py FOLDER
"""

import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from torchvision.models.detection import faster_rcnn

from resfu.data.coco import INSTANCE_DATASETS, PANOPTIC_DATASETS, SceneInstances, ScenePanoptic
from resfu.tasks.panoptic import PanopticData, PanopticModule
from resfu.training.parameter_groups import Optimisation
from resfu.training.quiet import known_warnings_ignored
from tests.support.box_head import NarrowBoxHead

ALL = 100_000
NETWORK = {
    "layers": [1, 1, 1, 1],
    "frozen": True,
    "min_size": 64,
    "max_size": 64,
    "rpn_pre_nms_top_n_train": 20,
    "rpn_post_nms_top_n_train": 8,
    "rpn_pre_nms_top_n_test": 20,
    "rpn_post_nms_top_n_test": 8,
    "rpn_batch_size_per_image": ALL,
    "box_batch_size_per_image": ALL,
    "box_positive_fraction": 1.0,
    "rpn_positive_fraction": 1.0,
    "box_score_thresh": 0.0,
    "box_detections_per_img": 5,
}


class Twins(ScenePanoptic):
    """For training the same scene again and again."""

    def load(self, index):
        return super().load(0 if self.training else index)


class Recorder(Callback):
    """Keeps the gradients of the step, and answers for the network at validation: every other image is right."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_start(self, trainer, pl_module) -> None:
        evaluated = trainer.datamodule.evaluated
        items = [evaluated[index] for index in range(len(evaluated))]
        answers = {float(item["image"].sum()): (place % 2 == 0, item) for place, item in enumerate(items)}
        pl_module.host.forward = lambda images: [answer(*answers[float(image.sum())]) for image in images]

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        named = pl_module.host.named_parameters()
        self.gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}

    def on_train_end(self, trainer, pl_module) -> None:
        images = len(trainer.val_dataloaders)
        result = {"gradients": getattr(self, "gradients", {}), "metrics": pl_module.results, "images": images}
        torch.save(result, self.folder / f"{trainer.world_size}-{trainer.global_rank}.pt")


def answer(right: bool, item: dict) -> dict:
    return {"panoptic": {"ids": item["ids"] * right, "segments": item["segments"] if right else []}}


def train(processes: int, folder: Path) -> None:
    torch.manual_seed(0)
    optimisation = Optimisation(method="sgd", learning_rate=1e-3, weight_decay=1e-4)
    task = PanopticModule("panoptic-fpn-resnet50", "bilinear", 9, 7, host_options=NETWORK, optimisation=optimisation)
    data = PanopticData(
        "twins",
        root=str(folder / "cache"),
        options={"size": [64, 64]},
        train_options={"count": 4},
        eval_options={"count": 3},
        flip=False,
        batch_size=2 // processes,
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        max_steps=1,
        val_check_interval=1,
        num_sanity_val_steps=0,
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
    faster_rcnn.TwoMLPHead = NarrowBoxHead  # pyright: ignore
    PANOPTIC_DATASETS["twins"], INSTANCE_DATASETS["twins"] = Twins, SceneInstances
    for number in (2, 1):  # a process that has used autograd must not be forked
        train(number, Path(sys.argv[1]))
