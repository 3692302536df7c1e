"""Upsamplers and maps for the tests of bands."""

import torch

import resfu

SIZES = {
    "any": ((13, 11), (90, 75)),
    "integer": ((13, 10), (78, 60)),
    "fixed": ((37, 11), (148, 44)),
    "2": ((67, 21), (133, 42)),
}
SMALL = {
    "any": ((7, 6), (38, 31)),
    "integer": ((7, 6), (28, 24)),
    "fixed": ((17, 6), (68, 24)),
    "2": ((33, 10), (66, 20)),
}
_OPTIONS = {"naf": {"dim": 32}, "anyup": {"dim": 16, "window_ratio": 0.2}}  # as wide as tests have time for


def make(name, dtype=torch.float32, sizes=SIZES, **options):
    torch.manual_seed(0)
    method = resfu.UPSAMPLERS[name]
    low, size = sizes[method.ratios]
    ratio = 2 if method.ratios == "2" else size[0] // low[0]
    guidance_channels = 3 if method.image_guided else 32
    options = {"channels": 16, "guidance_channels": guidance_channels, "scale_factor": ratio} | options
    up = resfu.create_upsampler(name, **options | _OPTIONS.get(name, {})).eval()
    for parameter in up.parameters():  # away from zeros and from uniform kernels
        parameter.data += 0.1 * torch.randn_like(parameter)
    features = torch.randn(2, 16, *low)
    guidance = torch.randn(2, guidance_channels, *size) if method.guided else None
    return up.to(dtype), features.to(dtype), None if guidance is None else guidance.to(dtype), size
