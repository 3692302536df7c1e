"""What `import resfu` gives and what it costs."""

import importlib.resources
import subprocess
import sys

import pytest

import resfu

PUBLIC = {
    "A2U", "AnyUp", "CARAFE", "FADE", "HOSTS", "JBU", "NAF", "SAPA", "UPSAMPLERS", "Bicubic", "Bilinear", "Deconv",
    "DySample", "IndexNet", "Nearest", "PixelFeatures", "PixelShuffle", "ReSFU", "ReSFUImage", "StackJBU",
    "Upsampler", "__version__", "checkpointed", "create_host", "create_upsampler", "export", "find_upsampling",
    "from_pretrained", "fuse_classifier", "keep_pages", "load", "load_upgraded", "ops", "refine", "save_upgraded",
    "stream", "upgrade", "upsample_labels", "upsamplers",
}  # fmt: skip
OPS = {
    "Compressor", "box_filter", "correlate", "gaussian_filter", "guided_filter", "inner_product_scores",
    "reassemble", "similarity_scores", "upsampled_group_norm", "which_backend", "window_softmax",
}  # fmt: skip

PROBE = """
import sys, time
import torch
start = time.perf_counter()
import resfu
print(time.perf_counter() - start)
heavy = {"lightning", "timm", "transformers", "torchvision", "matplotlib", "triton"}
resfu.UPSAMPLERS, resfu.create_host, resfu.load, resfu.ReSFU, resfu.ops.reassemble, resfu.upgrade
print(sorted(heavy & set(sys.modules)))
"""


def test_public_names():
    assert set(resfu.__all__) == set(dir(resfu)) == PUBLIC
    for name in PUBLIC:
        assert getattr(resfu, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        resfu.nothing  # noqa: B018
    assert set(resfu.ops.__all__) == OPS


def test_type_checkers_may_read_the_annotations():
    assert importlib.resources.files("resfu").joinpath("py.typed").is_file()


def test_import_is_light():
    seconds, heavy = [], set()
    for _ in range(3):  # the best of three: a loaded machine is no fault of ours
        output = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
        time, modules = output.splitlines()
        seconds.append(float(time))
        heavy.add(modules)
        if seconds[-1] < 0.2:
            break
    assert heavy == {"[]"}
    assert min(seconds) < 0.2
