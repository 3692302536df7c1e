"""What the benchmark measures: counts and memory of known cases, medians of the recorded rounds. Never speed."""

import math
import statistics
from itertools import pairwise

import pytest
import torch

from resfu import UPSAMPLERS, Bilinear
from resfu.evaluation.bench import Workload, build, measure
from resfu.evaluation.cost import Latency
from resfu.upsamplers import Iterative

SMALL = Workload(channels=32, guidance_channels=32, low=(8, 6), ratio=2)


@pytest.fixture(scope="module")
def small():
    torch.set_num_threads(1)
    steps = []
    rows, left_out = measure(tuple(UPSAMPLERS), SMALL, repeats=3, progress=lambda *step: steps.append(step))
    return rows, left_out, steps


def test_every_upsampler_is_measured(small):
    rows, left_out, steps = small
    assert list(rows) == list(UPSAMPLERS)
    assert left_out == {}
    assert [done for done, _, _ in steps] == list(range(1, len(UPSAMPLERS) * (1 + 2 * 4) + 1))
    assert {total for _, total, _ in steps} == {steps[-1][0]}
    assert {words.partition(" of ")[0] for _, _, words in steps} == {"memory", "forward", "forward and backward"}


def test_medians_quartiles_and_ratios_are_those_of_the_rounds(small):
    rows, _, _ = small
    for kind in ("forward", "forward_backward"):
        base = statistics.median(getattr(rows["bilinear"], kind).rounds_ms)
        for row in rows.values():
            measured = getattr(row, kind)
            assert len(measured.rounds_ms) == 3
            assert min(measured.rounds_ms) > 0
            assert measured.latency == Latency.of(measured.rounds_ms)
            assert measured.latency.median_ms == statistics.median(measured.rounds_ms)
            assert measured.over_bilinear == pytest.approx(statistics.median(measured.rounds_ms) / base)
        assert getattr(rows["bilinear"], kind).over_bilinear == 1


def test_counts_and_memory_of_known_cases(small):
    rows, _, _ = small
    output = 4 * 32 * 16 * 12  # bytes
    assert rows["bilinear"].parameters == 0
    assert rows["bilinear"].multiply_accumulates == output  # four an element, which has four bytes
    assert rows["deconv"].parameters == 32 * 32 * 4 + 32
    assert rows["deconv"].multiply_accumulates == 32 * 32 * 4 * 8 * 6
    assert rows["sapa"].parameters == 2 * 64 + 2 * 33 * 32
    assert rows["stack-jbu"].parameters == 6233 + 32 * 32 + 32  # guided by 3 channels
    for row in rows.values():
        assert row.steps == 1
        for measured in (row.forward, row.forward_backward):
            assert measured.peak_bytes >= output
            assert measured.peak_over_output == measured.peak_bytes / output
    # Unfolded in memory, 25 neighbours of 32 channels alone would be 25 outputs. A convolution may lay out its weights.
    carafe = rows["carafe"]
    assert carafe.forward.peak_bytes - 4 * carafe.parameters < 10 * output


def test_training_needs_the_memory_of_all_gradients(small):
    deconv = small[0]["deconv"]
    parts = 32 * 16 * 12 + 32 * 8 * 6 + deconv.parameters  # output, and gradients of the features and the parameters
    assert deconv.forward_backward.peak_bytes >= 4 * parts > deconv.forward.peak_bytes - 4 * 32 * 16 * 12


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_high_ratios_go_in_steps_only_where_they_must(name):
    up = build(name, Workload(channels=32, guidance_channels=32, low=(4, 4), ratio=8))
    if UPSAMPLERS[name].ratios != "2":
        assert isinstance(up, UPSAMPLERS[name])
        return
    assert isinstance(up, Iterative)
    assert [type(step) for step in up.steps] == 3 * [UPSAMPLERS[name]]
    assert all(a is not b for a, b in pairwise(up.steps))
    assert isinstance(build(name, Workload(channels=32, guidance_channels=32, ratio=2)), UPSAMPLERS[name])
    for ratio in (1, 1.5, 6):
        with pytest.raises(ValueError, match=f"{name} has the ratio 2 alone, got scale_factor = {ratio}"):
            build(name, Workload(channels=32, guidance_channels=32, ratio=ratio))


def test_steps_are_counted_and_what_cannot_run_says_why():
    rows, left_out = measure(["indexnet", "a2u"], Workload(32, 16, low=(4, 4), ratio=4), repeats=1)
    assert list(rows) == ["bilinear", "indexnet"]
    assert rows["indexnet"].steps == 2
    assert rows["indexnet"].parameters == 2 * (32 * 16**2 + 12 * 16)
    assert left_out == {"a2u": "guidance_channels must be a multiple of 32, got 16."}

    wanted = ["nearest", "bilinear", "stack-jbu", "indexnet", "fade", "dysample", "resfu"]
    rows, left_out = measure(wanted, Workload(32, 32, low=(8, 6), ratio=1.5), repeats=1)
    assert list(rows) == ["nearest", "bilinear", "resfu"]
    assert list(left_out) == ["stack-jbu", "indexnet", "fade", "dysample"]
    assert left_out["dysample"] == "DySample needs an integer ratio, got 1.5."
    assert "8 x 6" in left_out["fade"]


def test_the_total_shrinks_by_what_is_left_out():
    steps = []
    measure(["indexnet"], Workload(8, 8, low=(3, 3), ratio=3), repeats=2, progress=lambda *step: steps.append(step))
    assert steps[-1][:2] == (2 + 2 * 3, 2 + 2 * 3)


def test_the_yardstick_may_fail_too(monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel for this\nand many lines more")

    monkeypatch.setattr(Bilinear, "upsample", broken)
    rows, left_out = measure(["nearest"], SMALL, repeats=1)
    assert left_out == {"bilinear": "no kernel for this"}
    assert rows["nearest"].forward.over_bilinear is None


def test_inputs_are_placed_as_asked():
    x = Workload(channels=8, dtype="bfloat16", channels_last=True, batch=2).random_map(8, (3, 5))
    assert x.dtype == torch.bfloat16
    assert x.shape == (2, 8, 3, 5)
    assert x.is_contiguous(memory_format=torch.channels_last)
    up = build("deconv", Workload(channels=8, dtype="float16", channels_last=True))
    assert {p.dtype for p in up.parameters()} == {torch.float16}
    rows, left_out = measure(
        ["resfu"], Workload(8, 8, (6, 6), dtype="bfloat16", channels_last=True, batch=2), repeats=1
    )
    assert list(rows) == ["bilinear", "resfu"], left_out
    assert rows["resfu"].forward.peak_over_output == rows["resfu"].forward.peak_bytes / (2 * 2 * 8 * 12 * 12)


def test_random_numbers_of_the_caller_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    measure(["carafe"], Workload(8, 8, (4, 4)), repeats=1)
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "must be at least 1"),
        ({"low": (0, 4)}, "must be at least 1"),
        ({"ratio": 0.5}, r"ratio must be a number of at least 1, got 0.5"),
        ({"ratio": math.nan}, "got nan"),
        ({"ratio": math.inf}, "got inf"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ({"device": "tpu"}, "device must be cpu or cuda, got 'tpu'"),
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
    ],
)
def test_workloads_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Workload(**options)


def test_unknown_names_and_no_rounds_are_refused():
    with pytest.raises(ValueError, match="unknown upsampler 'carfae'; choose from nearest"):
        measure(["carfae"], SMALL)
    with pytest.raises(ValueError, match="at least one round, got 0"):
        measure(["carafe"], SMALL, repeats=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_upsampler_is_measured_on_the_gpu():
    rows, left_out = measure(tuple(UPSAMPLERS), Workload(32, 32, (8, 6), device="cuda"), repeats=2)
    assert list(rows) == list(UPSAMPLERS), left_out
