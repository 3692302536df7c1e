"""Interpolation, CARAFE and DySample of volumes: against plain loops, with gradients, in bounded memory."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import resfu
from resfu.evaluation.cost import peak_memory
from resfu.upsamplers import volumes

_CT = Path(__file__).parents[3] / "shared" / "data" / "mini-ct"
_MAKE = {
    "bilinear": lambda **o: resfu.Bilinear(2, dims=3),
    "carafe": lambda **o: resfu.CARAFE(8, 2, 3, compressed_channels=4, dims=3, **o),
    "dysample": lambda **o: resfu.DySample(8, 2, dims=3, **o),
}


def make(name, **options):
    torch.manual_seed(0)
    up = _MAKE[name](**options).double()
    for parameter in up.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return up


@pytest.fixture(autouse=True)
def _thin_slabs(monkeypatch):
    monkeypatch.setattr(volumes, "_SLAB", 1)


def carafe_by_loops(up, x):
    r, K, G = up.ratio, up.kernel_size, up.groups
    scores = up.encoder(up.compressor(x)).unflatten(1, (G, K**3, r, r, r)).softmax(2)
    padded = F.pad(x, (K // 2,) * 6)
    B, C, d, h, w = x.shape
    out = torch.zeros(B, C, d * r, h * r, w * r, dtype=x.dtype)
    for b, c, z, y, q in itertools.product(range(B), range(C), range(d * r), range(h * r), range(w * r)):
        window = padded[b, c, z // r : z // r + K, y // r : y // r + K, q // r : q // r + K].flatten()
        kernel = scores[b, c * G // C, :, z % r, y % r, q % r, z // r, y // r, q // r]
        out[b, c, z, y, q] = (window * kernel).sum()
    return out


def dysample_by_loops(up, x):
    r, G = up.ratio, up.groups
    features = x
    if up.style == "pl":
        features = volumes.voxel_shuffle(x, r)
    offsets = up.offset(features) * (0.25 if up.scope is None else 0.5 * up.scope(features).sigmoid())
    B, C, *low = x.shape
    high = [n * r for n in low]
    out = torch.zeros(B, C, *high, dtype=x.dtype)
    for b, c, *place in itertools.product(range(B), range(C), *map(range, high)):
        g = c * G // C
        at = []
        for axis, (p, n) in enumerate(zip(place, low, strict=True)):
            channel = (2 - axis) * G + g
            if up.style == "lp":
                sub = [q % r for q in place]
                shift = offsets[(b, ((channel * r + sub[0]) * r + sub[1]) * r + sub[2], *(q // r for q in place))]
            else:
                shift = offsets[(b, channel, *place)]
            at.append(((p + 0.5) / r - 0.5 + shift.item(), n))
        total = 0.0
        for corner in itertools.product((0, 1), repeat=3):
            weight, index = 1.0, []
            for (position, n), one in zip(at, corner, strict=True):
                position = min(max(position, 0), n - 1)
                below = min(int(position), max(n - 2, 0))
                fraction = position - below
                weight *= fraction if one else 1 - fraction
                index.append(min(below + one, n - 1))
            total += weight * x[(b, c, *index)].item()
        out[(b, c, *place)] = total
    return out


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options", "loops"),
    [
        ("carafe", {}, carafe_by_loops),
        ("carafe", {"groups": 2}, carafe_by_loops),
        ("dysample", {"groups": 2}, dysample_by_loops),
        ("dysample", {"groups": 2, "style": "pl", "dynamic_scope": False}, dysample_by_loops),
    ],
)
def test_as_plain_loops_have_it(name, options, loops):
    up = make(name, **options)
    x = torch.randn(1, 8, 2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(up(x), loops(up, x), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", list(_MAKE))
def test_gradients(name):
    up = make(name)
    x = torch.randn(1, 8, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(up, (x,), nondet_tol=0, fast_mode=True)
    parameters = list(up.parameters())
    if parameters:
        assert torch.autograd.gradcheck(lambda *_: up(x.detach()), parameters, fast_mode=True)


def test_interpolation_by_matrices_is_interpolation():
    x = torch.randn(1, 2, 3, 5, 4, dtype=torch.float64)
    size, matrices = (7, 9, 11), x
    for dim, P in ((-1, 11), (-2, 9), (-3, 7)):
        U = volumes.interpolation_matrix(P, matrices.shape[dim], matrices)
        matrices = (matrices.movedim(dim, -1) @ U.mT).movedim(-1, dim)
    expected = F.interpolate(x, size=size, mode="trilinear")
    torch.testing.assert_close(matrices, expected)
    assert torch.equal(resfu.Bilinear(dims=3)(x, size=size), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", list(_MAKE))
def test_contract_of_volumes(name):
    up = make(name).float()
    x = torch.randn(2, 8, 3, 4, 5)
    out = up(x)
    assert out.shape == (2, 8, 6, 8, 10)
    torch.testing.assert_close(up(x[1:]), out[1:])
    torch.testing.assert_close(
        up(x, size=(5, 7, 10)), out[:, :, :5, :7] if name != "bilinear" else up(x, size=(5, 7, 10))
    )
    assert up.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"features must be \[B, C, d, h, w\]"):
        up(x[:, :, 0])
    with pytest.raises(ValueError, match=r"size must be \(D, H, W\)"):
        up(x, size=(6, 8))
    with pytest.raises(ValueError, match="at least as large as the features"):
        up(x, size=(2, 8, 10))
    again = make(name)
    again.load_state_dict(up.state_dict())


@torch.no_grad()
@pytest.mark.parametrize(("name", "outputs"), [("carafe", 4), ("dysample", 4), ("bilinear", 1.1)])
def test_memory_in_outputs(name, outputs, monkeypatch):
    monkeypatch.setattr(volumes, "_SLAB", 1 << 16)
    torch.manual_seed(0)
    up = {"carafe": resfu.CARAFE(32, 2, 3, dims=3, compressed_channels=16), "dysample": resfu.DySample(32, 2, dims=3)}
    module = up.get(name, resfu.Bilinear(2, dims=3))
    x = torch.randn(1, 32, 12, 12, 12)
    size = 32 * 24**3 * 4
    assert peak_memory(module, x) < outputs * size


def test_dims_are_checked():
    with pytest.raises(ValueError, match="dims must be 2 for maps or 3 for volumes, got 4"):
        resfu.CARAFE(8, dims=4)


@torch.no_grad()
@pytest.mark.skipif(not _CT.is_dir(), reason="the small CT in ../shared is not here")
@pytest.mark.parametrize("name", list(_MAKE))
def test_a_real_scan(name):
    with np.load(_CT / "abdomen_3mm.npz") as file:
        voxels = next(file[key] for key in file.files if file[key].ndim == 3)
    part = torch.from_numpy(voxels[:16, 40:72, 40:72].astype(np.float32))[None, None] / 1000
    up = {
        "carafe": resfu.CARAFE(1, 2, 3, dims=3, compressed_channels=4),
        "dysample": resfu.DySample(1, 2, groups=1, dims=3),
    }
    out = up.get(name, resfu.Bilinear(2, dims=3))(part)
    assert out.shape == (1, 1, *(2 * n for n in part.shape[2:]))
    assert min(part.min().item(), 0) - 1e-3 <= out.min()  # beyond the border CARAFE sees zeros
    assert out.max() <= part.max() + 1e-3
