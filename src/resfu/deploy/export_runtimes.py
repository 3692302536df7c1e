"""The runtimes: how each writes a program to a file and runs it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

OPSET = 20


class Runtime:
    """One runtime.

    Attributes:
        name: as users know it.
        packages: that writing and running need.
        largest: how many times larger than the example open sizes may become; None for any.
        dtypes: of weights and inputs that it takes.
    """

    name = ""
    packages: tuple[str, ...] = ()
    largest: int | None = None
    dtypes = (torch.float32,)

    def check(self, dtype: torch.dtype, module: nn.Module) -> None:
        """Refuse what this runtime does not support, before anything is written."""
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            raise ValueError(
                f"{self.name} needs {', '.join(missing)}, not installed here: pip install 'resfu[deploy]'."
            )
        if dtype not in self.dtypes:
            raise ValueError(f"{self.name} files are written in {', '.join(map(str, self.dtypes))}, got {dtype}.")

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """Write the file; returns files beside it that belong to it."""
        raise NotImplementedError

    def run(self, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
        """Run the file."""
        raise NotImplementedError


class OnnxRuntime(Runtime):
    """ONNX of opset 20, run by ONNX Runtime on the CPU."""

    name, packages = "ONNX Runtime", ("onnx", "onnxscript", "onnxruntime")
    dtypes = (torch.float32, torch.float16)

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """One file, weights inside."""
        onnx_program(program).save(path)
        return []

    def run(self, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
        """With all of the runtime's optimisations."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        feed = {name: x.contiguous().numpy() for name, x in zip(names, inputs, strict=False)}
        return torch.from_numpy(session.run(None, feed)[0])


class OpenVino(Runtime):
    """OpenVINO's own format, converted from ONNX."""

    name, packages = "OpenVINO", ("onnx", "onnxscript", "openvino")
    dtypes = (torch.float32, torch.float16)

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """The graph in .xml, the weights in .bin."""
        import openvino

        middle = path.with_suffix(".onnx")
        onnx_program(program).save(middle)
        openvino.save_model(openvino.Core().read_model(middle), path, compress_to_fp16=False)
        middle.unlink()
        return [path.with_suffix(".bin")]

    def run(self, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
        """On the CPU, in the dtype of the file."""
        import openvino

        precision = "f32" if inputs[0].dtype == torch.float32 else "f16"
        options = {"INFERENCE_PRECISION_HINT": precision}
        compiled = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU", options)
        found = compiled([x.contiguous().numpy() for x in inputs][: len(compiled.inputs)])[0]
        return torch.from_numpy(found.copy())


class ExecuTorch(Runtime):
    """ExecuTorch: XNNPACK where it can, portable kernels for the rest. Memory is planned for sizes up to 4 times."""

    name, packages, largest = "ExecuTorch", ("executorch",), 4

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """One file."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # pyright: ignore[reportMissingImports]
            XnnpackPartitioner,
        )
        from executorch.exir import to_edge_transform_and_lower  # pyright: ignore[reportMissingImports]

        with _quiet():
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        path.write_bytes(lowered.buffer)
        return []

    def run(self, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
        """By the runtime's Python binding."""
        from executorch.runtime import Runtime as Binding  # pyright: ignore[reportMissingImports]

        method = Binding.get().load_program(path).load_method("forward")
        return method.execute([x.contiguous() for x in inputs])[0].clone()


class AotInductor(Runtime):
    """A library compiled for this machine, loaded by torch or by C++ without Python."""

    name = "AOTInductor"

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """One package."""
        with _quiet():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        return []

    def run(self, path: Path, inputs: tuple[Tensor, ...]) -> Tensor:
        """By torch."""
        return torch._inductor.aoti_load_package(str(path))(*inputs)


RUNTIMES: dict[str, Runtime] = {".onnx": OnnxRuntime(), ".xml": OpenVino(), ".pte": ExecuTorch(), ".pt2": AotInductor()}


def runtime_of(path: Path) -> Runtime:
    """The runtime that a file's ending names.

    Raises:
        ValueError: for another ending.
    """
    if path.suffix not in RUNTIMES:
        known = ", ".join(f"{suffix} ({runtime.name})" for suffix, runtime in RUNTIMES.items())
        raise ValueError(f"{path.name} must end in one of {known}.")
    return RUNTIMES[path.suffix]


def onnx_program(program: ExportedProgram) -> torch.onnx.ONNXProgram:
    """The program in ONNX, opset `OPSET`."""
    with _quiet():
        written = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSET)
    assert written is not None
    return written


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of their own deprecations, and log each pass."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
