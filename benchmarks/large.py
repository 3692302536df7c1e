"""Large images and volumes: time and memory of labels and bands, and what refinement gains.

    python -m benchmarks.large labels|volumes|bands|classifier|refine|fitted [--small]

Time is the median of several calls, both forms side by side in one process, on two threads. Memory is what the process
holds beyond its inputs at the most, measured every 2 ms, each form in a process of its own. Writes
benchmarks/results/large-NAME.json; `python -m benchmarks.pages` brings the tables of docs/large_images.md up to
date.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

import resfu
from benchmarks.results import save

_THREADS = 2
_KINDS = {
    "labels": ("noise", "smooth"),
    "volumes": ("noise", "smooth"),
    "bands": ("1024", "2048"),
    "classifier": ("pspnet-resnet50", "segmenter-vit-s", "efficientnet-lite0"),
}
_ENOUGH = 60.0  # seconds of one form, after which it is not called again
_FIT = 30  # steps of a stack-JBU for one image


def resident() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def peak(run: Callable[[], object]) -> float:
    """MiB beyond what was held before the call, at the most."""
    before = most = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.002):
            most = max(most, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return (max(most, resident()) - before) / 2**20


def logits_of(kind: str, small: bool, dims: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Noise, or smooth maps with some noise as networks give them; and the size wanted."""
    torch.manual_seed(0)
    classes, low, high = (150, 128, 2048) if dims == 2 else (14, 96, 512)
    if small:
        classes, low, high = classes // 5, low // 4, high // 4
    noise = torch.randn(1, classes, *[low] * dims)
    if kind == "noise":
        return noise, (high,) * dims
    mode = "bicubic" if dims == 2 else "trilinear"
    smooth = F.interpolate(torch.randn(1, classes, *[low // 16] * dims), size=(low,) * dims, mode=mode)
    return 3 * smooth + 0.1 * noise, (high,) * dims


def forms_of(what: str, kind: str, small: bool) -> dict[str, Callable[[], object]]:
    """The ways to do the same, by name; the yardstick last."""
    if what == "labels":
        x, size = logits_of(kind, small, 2)
        return {
            "upsample_labels": lambda: resfu.upsample_labels(x, size),
            "interpolate + max": lambda: F.interpolate(x, size=size, mode="bilinear").max(1).indices,
        }
    if what == "volumes":
        import numpy as np
        from scipy.ndimage import zoom

        x, size = logits_of(kind, small, 3)
        ratio = size[0] / x.shape[2]

        def by_scipy() -> object:
            best = labels = None
            for c, channel in enumerate(x[0].numpy()):
                large = zoom(channel, ratio, order=1, mode="nearest", grid_mode=True)
                if best is None:
                    best, labels = large, np.zeros(large.shape, np.uint8)
                    continue
                labels[large > best] = c
                np.maximum(best, large, out=best)
            return labels

        return {"upsample_labels": lambda: resfu.upsample_labels(x, size), "scipy zoom + running argmax": by_scipy}
    if what == "classifier":
        torch.manual_seed(0)
        host = resfu.create_host(kind, "resfu", num_classes=150, pretrained=False).eval()
        fused, images = resfu.fuse_classifier(host), torch.randn(1, 3, 64 if small else 512, 64 if small else 512)

        def of(network: torch.nn.Module) -> Callable[[], object]:
            def run() -> None:
                with torch.no_grad():
                    network(images)

            return run

        return {"classifier first": of(fused), "as it is": of(host)}
    torch.manual_seed(0)
    low, high = (32, 256) if small else (128, 2048 if kind == "2048" else 1024)
    up = resfu.ReSFU(64, 32).eval()
    x, guidance = torch.randn(1, 64, low, low), torch.randn(1, 32, high, high)

    def bands() -> None:
        for _ in resfu.stream(up, x, guidance, budget="512MB"):
            pass

    def whole() -> None:
        with torch.no_grad():
            up(x, guidance)

    return {"stream, 512 MB": bands, "whole call": whole}


def compare(what: str, kinds: tuple[str, ...], rounds: int, small: bool) -> list[dict]:
    """One row a kind of input."""
    rows = []
    for kind in kinds:
        forms = forms_of(what, kind, small)
        seconds: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(rounds):
            for name, run in forms.items():
                if sum(seconds[name]) > _ENOUGH:
                    continue
                start = time.perf_counter()
                run()
                seconds[name].append(round(time.perf_counter() - start, 3))
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        ours, yardstick = medians.values()
        memory = {}
        for name in forms:
            words = [sys.executable, "-m", "benchmarks.large", what, "--peak", kind, "--form", name]
            words += ["--small"] if small else []
            memory[name] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        rows.append({"input": kind, "seconds": seconds, "times faster": round(yardstick / ours, 2), "peak MiB": memory})
    return rows


def refinement(images: int, split: str, fitted: bool = False) -> list[dict]:
    """CamVid's labels reduced by 8 and 16, by centre and by average, and brought back.

    Args:
        images: how many, evenly spread.
        split: of CamVid.
        fitted: also fit a stack-JBU to each image.
    """
    from resfu.data import create_dataset
    from resfu.evaluation.semantic import SemanticMetrics

    data = create_dataset("camvid", split, root=Path(__file__).parents[2] / "shared" / "data" / "camvid")
    places = torch.linspace(0, len(data) - 1, min(images, len(data))).long().tolist()
    ways = {
        "nearest": lambda x, image: F.interpolate(x, size=image.shape[-2:], mode="nearest-exact"),
        "bilinear": lambda x, image: F.interpolate(x, size=image.shape[-2:], mode="bilinear"),
        "guided": lambda x, image: resfu.refine(x, image, method="guided"),
        "bilateral": lambda x, image: resfu.refine(x, image, method="bilateral"),
    }
    if fitted:
        ways["upsampler"] = lambda x, image: resfu.refine(x, image, method="upsampler", fit=_FIT)
    rows = []
    for ratio in (8,) if fitted else (8, 16):  # a fit at 16 would leave 1 x 1 pixels
        for kind in ("labels", "averages"):
            metrics, seconds = {name: SemanticMetrics(11) for name in ways}, dict.fromkeys(ways, 0.0)
            for place in places:
                sample = data[place]
                label, image = sample["label"].long()[None], torch.as_tensor(sample["image"])[None].float() / 255
                H, W = label.shape[-2:]
                hot = F.one_hot(torch.where(label == 255, 11, label), 12).permute(0, 3, 1, 2).float()
                low = (H // ratio, W // ratio)
                small = F.interpolate(hot, size=low, mode="nearest-exact")
                small = small if kind == "labels" else F.adaptive_avg_pool2d(hot, low)
                for name, way in ways.items():
                    torch.manual_seed(0)
                    start = time.perf_counter()
                    large = way(small, image)
                    seconds[name] += time.perf_counter() - start
                    metrics[name].update(large[:, :11].argmax(1), label)
            found = {name: metric.compute() for name, metric in metrics.items()}
            scores = {n: {k: round(float(v[k]), 2) for k in ("biou", "miou")} for n, v in found.items()}
            rows.append({"reduced by": ratio, "to": kind, "images": len(places), "split": split, **scores})
            rows[-1]["seconds an image"] = {name: round(total / len(places), 3) for name, total in seconds.items()}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=[*_KINDS, "refine", "fitted"])
    parser.add_argument("--small", action="store_true", help="sizes for a quick look; nothing is written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help="of refine and fitted; default 101 and 4")
    parser.add_argument("--kinds", nargs="*", help="kinds of input, where not all")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--form", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(_THREADS)
    if options.peak:
        forms_of(options.what, options.peak, True)[options.form]()  # libraries and their kernels are loaded then
        print(round(peak(forms_of(options.what, options.peak, options.small)[options.form]), 1))
        return
    if options.what in ("refine", "fitted"):
        fitted, rounds = options.what == "fitted", 1
        rows = refinement(options.images or (4 if fitted else 101), "val", fitted)
    else:
        kinds, rounds = tuple(options.kinds or _KINDS[options.what]), options.rounds
        rows = compare(options.what, kinds, rounds, options.small)
    for row in rows:
        print(json.dumps(row))
    if not options.small:
        print(save(f"large-{options.what}", rounds, rows))


if __name__ == "__main__":
    main()
