"""Runs written files where resfu can't be imported: prints each one's largest difference and, for ONNX, its nodes."""

import json
import sys
from pathlib import Path

sys.modules["resfu"] = None  # pyright: ignore  # every import of it fails

import torch  # noqa: E402

torch.set_num_threads(1)
SIZES = [4**n for n in range(4, 12)]


def runner(path: Path):
    """(a function from inputs to the output, number of nodes after the runtime's optimisation or None)."""
    if path.suffix == ".onnx":
        import onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = f"{path}.optimised"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        nodes = len(onnx.load(options.optimized_model_filepath).graph.node)
        return lambda x: session.run(None, dict(zip(names, [t.numpy() for t in x], strict=True)))[0], nodes
    if path.suffix == ".xml":
        import openvino

        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda x: compiled([t.numpy() for t in x])[0].copy(), None
    if path.suffix == ".pt2":
        package = torch._inductor.aoti_load_package(str(path))
        return lambda x: package(*x).numpy(), None
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return lambda x: method.execute(list(x))[0].numpy(), None


def leave_nan_behind() -> None:
    """In memory that is free: whoever reads what it has not written finds it there."""
    _ = [torch.full((size,), float("nan")) for size in SIZES]


for tests in sorted(Path(sys.argv[1]).glob("*.tests")):
    path = tests.with_suffix("")
    run, nodes = runner(path)
    worst = 0.0
    for inputs, wanted in torch.load(tests):
        leave_nan_behind()
        found = torch.from_numpy(run(inputs))
        assert found.shape == wanted.shape, (path, found.shape, wanted.shape)
        assert found.isfinite().all(), path
        worst = max(worst, ((found - wanted).abs().max() / wanted.abs().max()).item())
    print(json.dumps({path.name: [worst, nodes]}), flush=True)
