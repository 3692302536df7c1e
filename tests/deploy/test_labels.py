"""Labels without large logits are those of interpolation and argmax, to the last tie."""

from threading import Thread

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import resfu
from resfu.deploy import labels
from resfu.deploy.boxes import boxes_within
from resfu.deploy.decisions import largest_class
from resfu.deploy.linear import linear_taps

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def naive(logits, size):
    mode = "bilinear" if logits.dim() == 4 else "trilinear"
    return F.interpolate(logits, size=size, mode=mode, align_corners=False).argmax(1)


def content(kind, shape, seed):
    """Noise, ties, smooth maps as networks give them, and damage."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if kind == "ties":
        return noise.round()
    if kind == "smooth":
        coarse = noise[..., ::4, ::4] if len(shape) == 4 else noise[..., ::4, ::4, ::4]
        mode = "bilinear" if len(shape) == 4 else "trilinear"
        return F.interpolate(coarse, size=shape[2:], mode=mode) * 4
    if kind == "damaged":
        noise[noise > 2.5] = float("nan")
        noise[noise < -2.5] = float("-inf")
        noise[(noise > 2.2) & (noise < 2.4)] = float("inf")
    return noise


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.tuples(st.floats(0.3, 9), st.floats(0.3, 9)),
    st.integers(1, 150),
    st.sampled_from(_DTYPES),
    st.sampled_from(["noise", "ties", "smooth", "damaged"]),
    st.integers(0, 99),
)
def test_equal_to_the_naive_form(low, ratios, classes, dtype, kind, seed):
    size = tuple(max(1, round(p * r)) for p, r in zip(low, ratios, strict=True))
    classes = max(1, min(classes, 1_000_000 // (size[0] * size[1])))  # the naive form's memory
    logits = content(kind, (1 + seed % 2, classes, *low), seed).to(dtype)
    assert torch.equal(resfu.upsample_labels(logits, size, budget="80MB").long(), naive(logits, size))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.tuples(*[st.integers(1, 24)] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.integers(1, 20),
    st.sampled_from(_DTYPES),
    st.sampled_from(["noise", "ties", "smooth", "damaged"]),
)
def test_equal_to_the_naive_form_in_volumes(low, ratios, classes, dtype, kind):
    size = tuple(max(1, min(64, round(p * r))) for p, r in zip(low, ratios, strict=True))
    logits = content(kind, (1, classes, *low), 3).to(dtype)
    assert torch.equal(resfu.upsample_labels(logits, size).long(), naive(logits, size))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", _DTYPES)
def test_three_classes_as_pytorch_computes_them_on_so_many_threads(threads, dtype):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for low, size in (((33, 40), (129, 161)), ((20, 24), (60, 69)), ((50, 60), (400, 300)), ((20, 24), (40, 50))):
            logits = content("noise", (2, 3, *low), 0).to(dtype)
            assert torch.equal(resfu.upsample_labels(logits, size).long(), naive(logits, size))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_many_boxes_and_many_classes(kind):
    logits = content(kind, (1, 300, 30, 40), 0)
    labels = resfu.upsample_labels(logits, (400, 500), budget="24MB")
    assert labels.dtype == torch.int16
    assert torch.equal(labels.long(), naive(logits, (400, 500)))


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("kind", ["noise", "ties", "damaged"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_output_computed_at_once_has_the_labels_of_boxes(threads, kind, dtype):
    torch.set_num_threads(threads)
    for classes in (2, 3, 11):
        logits = content(kind, (3, classes, 20, 24), classes).to(dtype)
        at_once, likely = resfu.upsample_labels(logits, (90, 77), return_confidence=True)
        in_boxes, as_likely = resfu.upsample_labels(logits, (90, 77), return_confidence=True, threads=2)
        assert torch.equal(resfu.upsample_labels(logits, (90, 77)).long(), naive(logits, (90, 77)))
        assert torch.equal(at_once, in_boxes)
        torch.testing.assert_close(likely, as_likely, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_boxes_cover_every_pixel_once_and_need_no_more_than_the_budget():
    taps = [linear_taps(P, p, torch.float32, torch.device("cpu")) for P, p in ((70, 30), (50, 100))]
    count = torch.zeros(70, 50)

    def needed(pixels, reads):
        return reads[0] * max(pixels[1], reads[1]) * 100.0

    for rows, columns in boxes_within((70, 50), taps, needed, 20_000):
        count[slice(*rows), slice(*columns)] += 1
        height = linear_taps(70, 30, torch.float32, torch.device("cpu")).part(*rows).span()
        assert needed([0, columns[1] - columns[0]], [height[1] - height[0], 0]) <= 20_000
    assert torch.equal(count, torch.ones(70, 50))


def test_a_budget_that_nothing_fits_says_what_is_needed():
    with pytest.raises(ValueError, match=r"budget must be at least \d+\.\d MB"):
        resfu.upsample_labels(torch.randn(1, 3, 64, 64), (512, 512), budget="1KB")


def test_the_channels_of_one_logit_regions_and_confidence():
    logits = content("noise", (2, 1, 20, 30), 0)
    large = F.interpolate(logits, size=(90, 100), mode="bilinear")
    found = resfu.upsample_labels(logits, (90, 100), threshold=0.25)
    assert torch.equal(found, (large[:, 0] > 0.25).to(torch.uint8))

    logits = content("noise", (2, 3, 20, 30), 0)
    large = F.interpolate(logits, size=(90, 100), mode="bilinear")
    expected = torch.zeros(2, 90, 100, dtype=torch.uint8)
    for channel, label in enumerate((1, 2, 7)):
        expected[large[:, channel] > 0] = label
    assert torch.equal(resfu.upsample_labels(logits, (90, 100), regions=(1, 2, 7)), expected)

    labels, confidence = resfu.upsample_labels(logits, (90, 100), return_confidence=True, ignore_below=0.5)
    largest, classes = large.softmax(1).max(1)
    torch.testing.assert_close(confidence, largest)
    sure = (largest - 0.5).abs() > 1e-5
    assert torch.equal(labels[sure].long(), classes.masked_fill(largest < 0.5, 255)[sure])


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("kind", ["noise", "ties", "damaged"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_largest_class_is_that_of_argmax(layout, kind, dtype):
    for classes in (1, 2, 19, 300):
        logits = content(kind, (2, classes, 24, 33), classes).to(dtype).to(memory_format=layout)
        assert torch.equal(largest_class(logits), logits.argmax(1))


def test_axes_of_their_own_as_medical_tools_resample_thick_slices():
    logits = content("smooth", (1, 5, 6, 20, 20), 1)
    found = resfu.upsample_labels(logits, (17, 50, 70), mode=("nearest-exact", "linear", "linear"))
    planes = F.interpolate(logits[0].movedim(1, 0), size=(50, 70), mode="bilinear")
    place = ((torch.arange(17) + 0.5) * 6 / 17).long()
    assert torch.equal(found[0].long(), planes[place].argmax(1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.sampled_from(["nearest", "nearest-exact"]),
    st.sampled_from([*_DTYPES, torch.float64]),
)
def test_nearest_is_pytorchs(low, size, mode, dtype):
    logits = content("noise", (1, 5, *low), 0).to(dtype)
    want = F.interpolate(logits, size=size, mode=mode).argmax(1)
    assert torch.equal(resfu.upsample_labels(logits, size, mode=mode).long(), want)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_positions_in_fp64_are_rounded_less(mode):
    logits, size = content("noise", (1, 5, 2, 12), 0).double(), (82, 191)
    want = F.interpolate(logits, size=size, mode=mode).argmax(1)
    assert not torch.equal(F.interpolate(logits.float(), size=size, mode=mode).argmax(1), want)
    assert torch.equal(resfu.upsample_labels(logits, size, mode=mode).long(), want)


def test_what_cannot_hold_the_labels_is_refused():
    logits = torch.zeros(1, 300, 4, 4)
    logits[:, 299] = 1
    for out in (np.empty((1, 9, 9), np.uint8), torch.empty(1, 9, 9, dtype=torch.int8), torch.empty(9, 9).bfloat16()):
        with pytest.raises(ValueError, match=r"labels go up to 299: use torch\.int16"):
            resfu.upsample_labels(logits, (9, 9), out=out)
    with pytest.raises(ValueError, match="labels go up to 200"):
        resfu.upsample_labels(logits[:, :201], (9, 9), out=np.empty((9, 9), np.int8))
    with pytest.raises(ValueError, match="out holds bool, but labels go up to 2: use torch"):
        resfu.upsample_labels(logits[:, :3], (9, 9), out=np.empty((9, 9), bool))
    for out in (torch.empty(9, 9, dtype=torch.int64), np.empty((9, 9), np.uint16), torch.empty(9, 9)):
        assert resfu.upsample_labels(logits, (9, 9), out=out) is out
        assert (out == 299).all()
    for out in (
        torch.zeros(9, dtype=torch.int16).expand(9, 9),
        np.lib.stride_tricks.as_strided(np.zeros(9, np.int16), (9, 9), (0, 2)),
    ):
        with pytest.raises(ValueError, match="out must have memory for each of its numbers"):
            resfu.upsample_labels(logits, (9, 9), out=out)
    mask = torch.zeros(9, 9, dtype=torch.bool)
    assert resfu.upsample_labels(logits[:, -1:], (9, 9), threshold=0, out=mask).all()


def test_labels_go_straight_into_a_file(tmp_path):
    logits = content("smooth", (1, 4, 8, 9, 10), 2)
    file = np.memmap(tmp_path / "labels", np.uint8, "w+", shape=(30, 31, 32))
    assert resfu.upsample_labels(logits, file.shape, out=file) is file
    np.testing.assert_array_equal(file, naive(logits, file.shape)[0].numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (9,)}, r"size must be \(H, W\), got \(9,\)"),
        ({"mode": 3}, "mode must be linear, nearest, nearest-exact or 2 of them"),
        ({"budget": [1]}, r"budget must be bytes from 1, .* got \[1\]"),
        ({"mode": "cubic"}, "mode must be linear, nearest, nearest-exact or 2 of them"),
        ({"size": 50}, r"size must be \(H, W\), got 50"),
        ({"size": (9, 0)}, r"size must be whole numbers from 1, got \(9, 0\)"),
        ({"threshold": 0.5}, "threshold is for one channel, got 3"),
        ({"regions": (1, 2)}, "a label from 0 for each of the 3 channels"),
        ({"regions": (1, 2, 3), "return_confidence": True}, "exclude one another"),
        ({"ignore_below": 2}, "ignore_below must be a probability, got 2"),
        (
            {"ignore_below": 0.5, "ignore_index": 2},
            "ignore_index = 2 is the label of a class too: choose one from 3 on",
        ),
        ({"logits": torch.randn(1, 1, 4, 4), "threshold": float("nan")}, "threshold must be a number, got nan"),
        ({"out": [1]}, r"out must be a tensor or an array \[1, 9, 9\], got list"),
        ({"budget": "a lot"}, "budget must be bytes from 1"),
        ({"out": torch.empty(2, 9, 9, dtype=torch.uint8)}, r"out must be \[1, 9, 9\]"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        resfu.upsample_labels(**{"logits": torch.randn(1, 3, 4, 4), "size": (9, 9), **options})


def test_sizes_of_numpy():
    logits = torch.randn(1, 3, 4, 4)
    assert torch.equal(resfu.upsample_labels(logits, np.array([9, 9])), resfu.upsample_labels(logits, (9, 9)))


def test_calls_at_once_leave_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with labels._one_thread_each():
            found = []
            other = Thread(target=lambda: found.append(resfu.upsample_labels(torch.randn(1, 3, 4, 4), (9, 9))))
            other.start()  # this thread begins with one
            other.join()
        later = Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert found[1] == torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dims", [2, 3])
def test_threads_work_in_inference_mode(dims):
    # Lightning predicts in it, and its tensors take no writing from a thread outside it.
    with torch.inference_mode():
        logits = torch.randn(1, 5, *[24] * dims)
        size = (150,) * 2 if dims == 2 else (40,) * 3
        got = resfu.upsample_labels(logits, size, threads=2)
        assert torch.equal(got.long(), naive(logits, size))
