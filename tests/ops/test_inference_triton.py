"""ReSFU at inference on the GPU path: its kernels interpreted and compiled without a GPU, what it launches, and all of
it on one where there is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resfu import ReSFU

pytest.importorskip("triton", reason="needs the package triton")


def run(script: str, *words: str) -> list[str]:
    command = [sys.executable, str(Path(__file__).parent / script), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def interpreted():
    return [json.loads(line) for line in run("inference_interpreted.py")]


def test_the_interpreter_agrees_with_the_definitions(interpreted):
    results = [result for result in interpreted if "difference" in result]
    assert len(results) == 9 + 6 + 4 + 11 + 4
    for result in results:
        eps = torch.finfo(getattr(torch, result["dtype"][6:])).eps
        # Rounding of a map of mean m and deviation 2 is m / 4 units in the normalised one. Half precision is no worse
        # than PyTorch's operators in that type by more than a quarter of a unit.
        exact = result["dtype"] == "torch.float32"
        bound = 4e-6 + eps * result["mean"] / 4 if exact else result["eager"] + eps / 4
        assert result["difference"] <= bound, result
        assert result["wrong"] > 0.05, result


def test_what_is_not_a_number_stays_in_its_image(interpreted):
    (result,) = (result for result in interpreted if result["case"] == "not a number")
    assert all(result["found"]), result


def test_every_kernel_compiles_for_ampere_and_hopper():
    assert len(run("triton_compiled.py", "inference")) == 10 * 3 * 2


@pytest.fixture(scope="module")
def launches():
    """By case and dtype."""
    found = [json.loads(line) for line in run("launches.py")]
    return {(each["case"], each["dtype"]): each["launches"] for each in found}


PROJECTION = ["affine_kernel", "projection_kernel"]
PASSES = ["similarity_kernel", "hidden_affine_kernel", "similarity_kernel"]
SEMANTIC = ["affine_kernel", "affine_kernel", "paired_kernel", "convolved_key_kernel", *PASSES]
DETAIL = ["gaussian_kernel", "affine_kernel", "affine_kernel", "paired_kernel", *PASSES]
PLAIN = [
    *PROJECTION, *PROJECTION, "coefficients_kernel", "line_kernel", *SEMANTIC, *DETAIL,
    "add", "replication_pad2d", "window_sum_kernel",
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
class TestLaunches:
    """By the counter of launches.py. docs/performance_gpu.md names the number."""

    def test_inference(self, launches, dtype):
        assert launches["plain", str(dtype)] == PLAIN
        assert launches["frozen", str(dtype)] == PLAIN  # autograd is on, and nothing has a gradient
        page = (Path(__file__).parents[2] / "docs" / "performance_gpu.md").read_text(encoding="utf-8")
        assert f"to {len(PLAIN)} launches" in page

    def test_gradients_run_the_operators(self, launches, dtype):
        names = launches["gradients", str(dtype)]
        assert "affine_kernel" not in names
        assert "projection_kernel" not in names
        assert "gaussian_kernel" not in names

    def test_a_layer_that_somebody_sees_is_called(self, launches, dtype):
        """One branch or projection less from the kernels, and no more than that."""
        affine = PLAIN.count("affine_kernel")
        for case, left in (
            ("a hook on the guidance's norm", affine - 1),
            ("a hook on the query's projection", affine - 1),
            ("a hook on the block's norm", affine - 2),
            ("a hook on the last layer", affine - 2),
            ("a hook on a block", affine),  # it sees the smoothed key, and is called like any other
            ("a norm of another class", affine - 1),
            ("a projection of another class", affine - 1),
            ("a block's norm of another class", affine - 2),
            ("a compressor of another class", affine - 2),
        ):
            names = launches[case, str(dtype)]
            assert names != PLAIN, case
            assert names.count("affine_kernel") == left, case


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnTheGPU:
    @pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("neighbours", ["fine", "coarse"])
    @pytest.mark.parametrize("size", [(128, 128), (97, 113)], ids=str)
    @torch.no_grad()
    def test_agrees_with_fp64_on_the_cpu(self, size, neighbours, dtype, last):
        torch.manual_seed(0)
        up = self.upsampler(neighbours).to(dtype)
        maps = torch.randn(2, 96, 32, 32).to(dtype), (3 + torch.randn(2, 32, *size)).to(dtype)
        eager = up(*maps)
        exact = self.upsampler(neighbours, "reference")
        exact.load_state_dict(up.state_dict())
        want = exact.double()(*(t.double() for t in maps))
        form = torch.channels_last if last else torch.contiguous_format
        up, on_gpu = up.cuda(), [t.cuda().contiguous(memory_format=form) for t in maps]
        got, again = up(*on_gpu), up(*on_gpu)
        assert torch.equal(got, again), "not deterministic"
        rounding = 1e-4 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
        error = (eager.double() - want).abs().max()
        assert (got.double().cpu() - want).abs().max() <= 2 * error + rounding * want.abs().max()

    def test_as_with_gradients_without_the_host_and_as_a_graph(self):
        torch.manual_seed(0)
        up = self.upsampler("fine").cuda()
        maps = torch.randn(2, 96, 32, 32, device="cuda"), torch.randn(2, 32, 128, 128, device="cuda")
        want = up(*maps).detach()
        with torch.no_grad():
            torch.testing.assert_close(up(*maps), want, rtol=1e-4, atol=1e-4)
            torch.cuda.set_sync_debug_mode("error")
            try:
                got = up(*maps)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = up(*maps)
            graph.replay()
            assert torch.equal(out, got)
            with torch.autocast("cuda", torch.bfloat16):
                half = up(*maps)
        assert (half - want).abs().max() <= 0.05 * want.abs().max()

    @staticmethod
    def upsampler(neighbours: str, backend: str = "auto") -> ReSFU:
        up = ReSFU(96, 32, neighbours=neighbours, backend=backend).eval()
        assert isinstance(up, ReSFU)
        for p in up.parameters():
            torch.nn.init.normal_(p, std=p[0].numel() ** -0.5 if p.dim() > 1 else 1.0)
        return up
