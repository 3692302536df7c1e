"""The runtimes for export: how each one writes a program to a file and runs the file."""

import logging
import operator
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from resfu.ops.portable import known

OPSET = 20


Run = Callable[[tuple[Tensor, ...]], Tensor]


class Runtime:
    """Base class of the runtimes.

    Attributes:
        name: the name for messages.
        packages: the packages that are needed to write and run files.
        largest: how many times larger than the example dynamic sizes may become; None for any size.
        times: by which factor the traced example is enlarged, as in `Shapes`.
        dtypes: supported dtypes of weights and inputs.
    """

    name = ""
    packages: tuple[str, ...] = ()
    largest: int | None = None
    times = 1
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
        """Write the file; return other files that were written next to it and belong to it."""
        raise NotImplementedError

    def load(self, path: Path, threads: int | None = None) -> Run:
        """Load the file, as a function of its inputs.

        Args:
            path: the file.
            threads: number of threads; None leaves it to the runtime. ExecuTorch and AOTInductor ignore it and use the
                number of torch's threads.
        """
        raise NotImplementedError


class OnnxRuntime(Runtime):
    """ONNX of opset 20, run by ONNX Runtime on the CPU."""

    name, packages = "ONNX Runtime", ("onnx", "onnxscript", "onnxruntime")
    dtypes = (torch.float32, torch.float16)

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """Write one file, which includes the weights."""
        onnx_program(program).save(path)
        return []

    def load(self, path: Path, threads: int | None = None) -> Run:
        """Load the file with all of the runtime's optimisations."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]

        def run(inputs: tuple[Tensor, ...]) -> Tensor:
            feed = {name: x.contiguous().numpy() for name, x in zip(names, inputs, strict=False)}
            return torch.from_numpy(session.run(None, feed)[0])

        return run


class OpenVino(Runtime):
    """OpenVINO's own format, converted from ONNX."""

    name, packages = "OpenVINO", ("onnx", "onnxscript", "openvino")
    dtypes = (torch.float32, torch.float16)

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """Write the graph to .xml and the weights to .bin."""
        import openvino

        middle = path.with_suffix(".onnx")
        onnx_program(program).save(middle)
        openvino.save_model(openvino.Core().read_model(middle), path, compress_to_fp16=False)
        middle.unlink()
        return [path.with_suffix(".bin")]

    def load(self, path: Path, threads: int | None = None) -> Run:
        """Load the file for the CPU, in the file's dtype."""
        import openvino

        core = openvino.Core()
        network = core.read_model(path)
        half = network.inputs[0].element_type == openvino.Type.f16
        options: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f16" if half else "f32"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(network, "CPU", options)

        def run(inputs: tuple[Tensor, ...]) -> Tensor:
            return torch.from_numpy(compiled([x.contiguous().numpy() for x in inputs][: len(compiled.inputs)])[0])

        return run


class ExecuTorch(Runtime):
    """ExecuTorch, with XNNPACK where possible and portable kernels elsewhere, for sizes up to 4 times the example's."""

    name, packages, largest = "ExecuTorch", ("executorch",), 4

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """Write one file."""
        from executorch.backends.xnnpack.partition.config import (
            ALL_PARTITIONER_CONFIGS,
            UnsqueezeCopyConfig,
            ViewCopyConfig,
        )
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        # In this runtime both operators would fix the batch size.
        table = {
            **torch.export.default_decompositions(),
            torch.ops.aten.native_group_norm.default: _group_norm,
            torch.ops.aten.split_with_sizes.default: _parts,
        }
        program = program.run_decompositions(table)
        # XNNPACK's reshapes support only one dynamic size; ours have batch, height and width.
        reshapes = (ViewCopyConfig, UnsqueezeCopyConfig)
        partitioner = XnnpackPartitioner([each for each in ALL_PARTITIONER_CONFIGS if each not in reshapes])
        with _quiet():
            lowered = to_edge_transform_and_lower(program, partitioner=[partitioner]).to_executorch()
        path.write_bytes(lowered.buffer)
        return []

    def load(self, path: Path, threads: int | None = None) -> Run:
        """Load the file with the runtime's Python binding."""
        from executorch.runtime import Runtime as Binding

        method = Binding.get().load_program(path).load_method("forward")
        assert method is not None
        return lambda inputs: method.execute([x.contiguous() for x in inputs])[0].clone()


class AotInductor(Runtime):
    """AOTInductor: a library compiled for this machine, which torch loads, also in C++ without Python."""

    name, times = "AOTInductor", 4

    def write(self, program: ExportedProgram, path: Path) -> list[Path]:
        """Write one package file."""
        with _quiet():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        return []

    def load(self, path: Path, threads: int | None = None) -> Run:
        """Load the package with torch."""
        package = torch._inductor.aoti_load_package(str(path))
        return lambda inputs: package(*inputs)


RUNTIMES: dict[str, Runtime] = {".onnx": OnnxRuntime(), ".xml": OpenVino(), ".pte": ExecuTorch(), ".pt2": AotInductor()}


def runtime_of(path: Path) -> Runtime:
    """The runtime for a file's extension.

    Raises:
        ValueError: for an unknown extension.
    """
    if path.suffix not in RUNTIMES:
        known = ", ".join(f"{suffix} ({runtime.name})" for suffix, runtime in RUNTIMES.items())
        raise ValueError(f"{path.name} must end in one of {known}.")
    return RUNTIMES[path.suffix]


def onnx_program(program: ExportedProgram) -> torch.onnx.ONNXProgram:
    """Convert a program to ONNX, opset `OPSET`."""
    with _quiet():
        written = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            custom_translation_table={operator.floordiv: _floor_division()} if _rounds_up(program) else {},
        )
    assert written is not None
    return written


def _rounds_up(program: ExportedProgram) -> bool:
    """Whether a program divides a size expression that may be negative."""
    divided = [node.args[0] for node in program.graph.nodes if node.target is operator.floordiv]
    return any(not known(getattr(n, "meta", {}).get("val", n) >= 0) for n in divided)


def _floor_division() -> Callable[..., Any]:
    """Floor division of sizes for ONNX, whose own rounds towards zero; programs round up by -(-n // m)."""
    import onnxscript

    operators: Any = onnxscript.opset20

    def floordiv(n: Any, m: Any) -> Any:
        return operators.Div(operators.Sub(n, operators.Mod(n, m)), m)

    return floordiv


def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, B: int, C: int, pixels: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`aten.native_group_norm` by elementary operators.

    It returns the output, and for each group the mean and 1 / deviation, [B, groups].
    """
    grouped = x.reshape(B, groups, C // groups, *x.shape[2:])
    mean = _mean(grouped)
    centred = grouped - mean
    scale = (_mean(centred.square()) + eps).rsqrt()
    out = (centred * scale).reshape(x.shape)
    shape = (1, C, *[1] * (x.dim() - 2))
    if weight is not None:
        out = out * weight.reshape(shape)
    if bias is not None:
        out = out + bias.reshape(shape)
    return out, mean.reshape(B, groups), scale.reshape(B, groups)


def _mean(x: Tensor) -> Tensor:
    """Mean over all axes but the first two, one after the other, because short sums are more accurate."""
    for axis in reversed(range(2, x.dim())):
        x = x.mean(axis, keepdim=True)
    return x


def _parts(x: Tensor, sizes: list[int], dim: int = 0) -> list[Tensor]:
    """`aten.split_with_sizes` by slices."""
    ends = list(accumulate(sizes))
    return [x.narrow(dim, end - size, size) for end, size in zip(ends, sizes, strict=True)]


@contextmanager
def _quiet() -> Iterator[None]:
    """A context without the exporters' deprecation warnings and logs."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
