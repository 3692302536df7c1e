"""`python -m benchmarks.deployment_int8 RUN ...`: what 16- and 8-bit files cost a trained network in mIoU.

Each RUN is a folder of `resfu compare --recipe scenes` (`make demo` writes two). The network is exported to ONNX in
fp32 and fp16, and quantised by onnxruntime: static, per channel, calibrated on 64 training images, convolutions and
products only. All are measured on the 100 validation scenes with ONNX Runtime. Writes
benchmarks/results/deployment-int8.json.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

import resfu
from benchmarks.results import save
from resfu.data import create_dataset
from resfu.data.transforms import eval_transform
from resfu.deploy.export_runtimes import RUNTIMES
from resfu.evaluation.cost import Latency, rounds
from resfu.evaluation.semantic import SemanticMetrics

CALIBRATION, THREADS, ROUNDS = 64, 2, 9
QUANTISED = ["Conv", "MatMul", "Gemm"]


class Images(quantization.CalibrationDataReader):
    """Batches of one image, as onnxruntime's calibration asks for them."""

    def __init__(self, name: str, images: Iterator[Tensor]) -> None:
        self._feeds = ({name: image[None].numpy()} for image in images)

    def get_next(self) -> Any:
        """The next one, or None."""
        return next(self._feeds, None)


def files(net: Any, folder: Path, train: Any) -> dict[str, Path]:
    """Precision to file."""
    example = train[0]["image"][None]
    written = {"fp32": resfu.export(net.host, example, folder / "fp32.onnx", dynamic=False)}
    written["fp16"] = resfu.export(net.host, example, folder / "fp16.onnx", dynamic=False, dtype=torch.float16)
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(written["fp32"]), str(prepared), skip_symbolic_shape=True)
    import onnx

    name = onnx.load(prepared).graph.input[0].name
    step = len(train) // CALIBRATION
    images = (train[i * step]["image"] for i in range(CALIBRATION))
    written["int8"] = folder / "int8.onnx"
    quantization.quantize_static(
        str(prepared), str(written["int8"]), Images(name, images), op_types_to_quantize=QUANTISED, per_channel=True
    )
    return written


def quality(run: Callable[[tuple[Tensor, ...]], Tensor], dataset: Any, dtype: torch.dtype) -> dict[str, float]:
    """mIoU and boundary IoU over a data set, in percent."""
    metrics = SemanticMetrics(dataset.num_classes)
    for n in range(len(dataset)):
        sample = dataset[n]
        logits = run((sample["image"][None].to(dtype),)).float()
        metrics.update(logits.argmax(1), sample["label"][None])
    return {key: round(float(metrics.compute()[key]), 2) for key in ("miou", "biou")}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows = []
    for path in options.runs:
        net: Any = resfu.load(path)
        transform = eval_transform(net.image_mean, net.image_std)
        train, val = (create_dataset("scenes", split, transform=transform) for split in ("train", "val"))
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            written = files(net, Path(folder), train)
            runs = {who: RUNTIMES[".onnx"].load(file, THREADS) for who, file in written.items()}
            dtypes = {"fp16": torch.float16}
            found = {who: quality(run, val, dtypes.get(who, torch.float32)) for who, run in runs.items()}
            found = {"PyTorch": quality(lambda x, net=net: net.host(*x), val, torch.float32)} | found
            image = val[0]["image"][None]
            inputs = {who: (image.to(dtypes.get(who, torch.float32)),) for who in runs}
            calls = {who: lambda run=run, x=inputs[who]: run(x) for who, run in runs.items()}
            times = {who: asdict(Latency.of(taken)) for who, taken in rounds(calls, ROUNDS, settle=1).items()}
            sizes = {who: round(file.stat().st_size / 1e6, 2) for who, file in written.items()}
        rows.append({"run": path.name, "quality": found, "megabytes": sizes, "times": times})
        for who, value in found.items():
            print(
                path.name, who, value, sizes.get(who, ""), f"{times[who]['median_ms']:.1f} ms" if who in times else ""
            )
    save("deployment-int8", ROUNDS, rows)


if __name__ == "__main__":
    main()
