"""Does an exchange pay in a network that is trained already? Trainings for docs/your_network.md, one JSON each.

    python -m benchmarks.upgrade_camvid --root data/camvid --seeds 0,1,2 --runs runs/upgrade-camvid

An FPN and a U-Net of segmentation-models-pytorch, on the EfficientNet-Lite0 of ImageNet weights that a Python package
carries (frozen), learn CamVid with their own upsampling. Then it is exchanged, and every variant is trained further
on the same crops, beside the network that kept its own. A training that is done is not done again, and one that
was interrupted begins anew. `python -m benchmarks.upgrade_camvid_table` prints the tables.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.results import FOLDER
from resfu import keep_pages, upgrade
from resfu.compare.machine import describe_machine, describe_versions
from resfu.data import create_dataset
from resfu.data.transforms import eval_transform, train_transform
from resfu.evaluation.semantic import SemanticMetrics
from resfu.files.atomic import replacing, write_json
from resfu.hosts.efficientnet import MEAN, STD, EfficientNetLite
from resfu.training.schedule import Schedule

CLASSES, CROP, STRIDE = 11, 224, 32
SCHEDULE = Schedule(power=0.9, warmup_steps=20)
# The U-Net's last place, to the image's own size, keeps its interpolation: it costs more than the others together.
UNET_PLACES = [f"decoder.blocks.{n}#0" for n in range(4)]


@dataclass(frozen=True)
class Phase:
    """A training of one network.

    Attributes:
        steps: of the optimiser.
        batch: crops a step.
        rate: highest learning rate.
        measured: steps after which the network is measured.
    """

    steps: int
    batch: int
    rate: float
    measured: tuple[int, ...]


BASE = Phase(500, 4, 2e-3, (500,))
FURTHER = Phase(250, 2, 1e-3, (0, 200, 250))

NETWORKS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "FPN": (smp.FPN, {"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32}, None),
    "Unet": (smp.Unet, {"decoder_channels": (64, 48, 32, 24, 16)}, UNET_PLACES),
}
VARIANTS: dict[str, tuple[str, str] | None] = {
    "its own": None,
    "resfu": ("resfu", "as-before"),
    "resfu, published": ("resfu", "published"),
    "carafe": ("carafe", "as-before"),
}


def build(name: str, seed: int) -> nn.Module:
    """The network on its pretrained encoder."""
    torch.manual_seed(seed)
    make, options, _ = NETWORKS[name]
    net = make("tu-tf_efficientnet_lite0", encoder_weights=None, classes=CLASSES, **options)
    encoder = EfficientNetLite()
    encoder.load(True)
    net.encoder.model.load_state_dict(encoder.state_dict())
    net.encoder.requires_grad_(False)
    return net


def exchanged(net: nn.Module, name: str, variant: str, seed: int) -> nn.Module:
    """The network with other upsamplers; itself where the variant keeps its own."""
    if (choice := VARIANTS[variant]) is None:
        return net
    torch.manual_seed(seed)
    upsampler, start = choice
    return upgrade(net, upsampler, torch.randn(1, 3, CROP, CROP), where=NETWORKS[name][2], start=start)


def learn(net: nn.Module, phase: Phase, seed: int, root: str, every: int) -> dict[str, Any]:
    """Train, and measure on the way.

    Returns:
        "scores": mIoU and bIoU in percent by step; "training_seconds": of one thread, without the measuring.
    """
    dataset = create_dataset("camvid", "train", root, train_transform((CROP, CROP), MEAN, STD, (1.0, 1.0), True, False))
    order = torch.Generator().manual_seed(seed)
    numbers = torch.cat([torch.randperm(len(dataset), generator=order) for _ in range(20)]).tolist()
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], phase.rate, weight_decay=0.01)
    scores, seconds = {}, 0.0
    for step in range(phase.steps + 1):
        if step in phase.measured:
            scores[step] = measured(net, root, every)
        if step == phase.steps:
            break
        began = time.thread_time()
        # The variants draw different numbers in their layers: the crops have a seed of their own at each step.
        torch.manual_seed(seed * 100_000 + step)
        samples = [dataset[n] for n in numbers[step * phase.batch : (step + 1) * phase.batch]]
        images, labels = (torch.stack([sample[key] for sample in samples]) for key in ("image", "label"))
        net.train()
        net.encoder.eval()  # pyright: ignore[reportCallIssue]
        for group in optimiser.param_groups:
            group["lr"] = SCHEDULE.learning_rate(step, phase.rate, phase.steps)
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels, ignore_index=255).backward()
        optimiser.step()
        seconds += time.thread_time() - began
    return {"scores": scores, "training_seconds": round(seconds, 1)}


@torch.no_grad()
def measured(net: nn.Module, root: str, every: int) -> dict[str, float]:
    """mIoU and bIoU in percent on one of so many validation images, whole."""
    dataset = create_dataset("camvid", "val", root, eval_transform(MEAN, STD))
    metrics = SemanticMetrics(CLASSES)
    net.eval()
    for n in range(0, len(dataset), every):
        sample = dataset[n]
        metrics.update(labelled(net, sample["image"][None]), sample["label"][None])
    found = metrics.compute()
    return {key: found[key] for key in ("miou", "biou")}


def labelled(net: nn.Module, images: Tensor) -> Tensor:
    """[B, 3, H, W] -> classes [B, H, W]; the network takes multiples of its stride, so the border is repeated."""
    H, W = images.shape[-2:]
    whole = F.pad(images, (0, -W % STRIDE, 0, -H % STRIDE), mode="replicate")
    return net(whole).argmax(1)[..., :H, :W]


def trained_base(name: str, seed: int, options: argparse.Namespace) -> nn.Module:
    """The network after its own training, from the file where there is one."""
    net, file = build(name, seed), Path(options.runs) / f"{name}-seed{seed}.pt"
    if file.is_file():
        net.load_state_dict(torch.load(file, weights_only=True))
        return net
    result = learn(net, BASE, seed, options.root, options.every)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as draft:
        torch.save(net.state_dict(), draft)
    write(options.out / f"{name}-seed{seed}.json", name, "", seed, BASE, result, options)
    return net


def write(
    file: Path, name: str, variant: str, seed: int, phase: Phase, result: dict[str, Any], options: argparse.Namespace
) -> None:
    record = {"network": name, "variant": variant, "seed": seed, "phase": phase.__dict__, "every": options.every}
    machine = {"threads": torch.get_num_threads(), "machine": describe_machine(), "versions": describe_versions()}
    write_json(file, {**record, **result, **machine})
    print(file.stem, json.dumps(result), flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of CamVid")
    parser.add_argument("--networks", type=lambda word: word.split(","), default=list(NETWORKS))
    parser.add_argument("--seeds", type=lambda word: [int(n) for n in word.split(",")], default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=2, help="validation images are taken one in so many")
    parser.add_argument("--runs", default="runs/upgrade-camvid", help="folder of the networks before the exchange")
    parser.add_argument("--out", type=Path, default=FOLDER / "upgrade-camvid")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_pages()
    for seed in options.seeds:
        for name in options.networks:
            base = trained_base(name, seed, options)
            for variant in VARIANTS:
                file = options.out / f"{name}-{variant.replace(', ', '-').replace(' ', '-')}-seed{seed}.json"
                if file.is_file():
                    continue
                net = build(name, seed)
                net.load_state_dict(base.state_dict())
                # Other crops than those of the first training.
                result = learn(exchanged(net, name, variant, seed), FURTHER, 1000 + seed, options.root, options.every)
                write(file, name, variant, seed, FURTHER, result, options)


if __name__ == "__main__":
    main()
