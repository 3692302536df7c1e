"""Published state dicts load strictly and give the published shapes."""

import pytest
import torch
from torch import nn

import resfu
from resfu.upsamplers.checkpoint import upsampler_tensors
from resfu.upsamplers.official import convert_state_dict


def _norm(name, width):
    return {f"{name}.weight": torch.randn(width), f"{name}.bias": torch.randn(width)}


def _layer(name, *shape, bias=True):
    layer = {f"{name}.weight": torch.randn(shape)}
    return layer | ({f"{name}.bias": torch.randn(shape[0])} if bias else {})


def _jbu(prefix=""):
    return {
        f"{prefix}range_temp": torch.tensor(0.1),
        f"{prefix}sigma_spatial": torch.tensor(0.9),
        **_layer(f"{prefix}range_proj.0", 32, 3, 1, 1),
        **_layer(f"{prefix}range_proj.3", 32, 32, 1, 1),
        **_layer(f"{prefix}fixup_proj.0", 49, 52, 1, 1),
        **_layer(f"{prefix}fixup_proj.3", 49, 49, 1, 1),
    }


def _statistics(width):
    return {
        "index.indexnet.1.running_mean": torch.randn(width),
        "index.indexnet.1.running_var": torch.rand(width) + 0.5,
        "index.indexnet.1.num_batches_tracked": torch.tensor(7),
    }


FADE = {
    **_layer("ker_generator.compressor_en", 64, 8, 1, 1),
    **_layer("ker_generator.compressor_de", 64, 8, 1, 1, bias=False),
    **_layer("ker_generator.content_encoder", 25, 64, 3, 3),
}


def _resfu(prefix="", taps=9):
    """One file of the authors' module: every parameter, and the buffer of its guided filter (9 taps at stride 2)."""
    state = _norm("norm_y", 6) | _norm("norm_x", 8) | _layer("q", 32, 6, 1, 1) | _layer("k", 32, 8, 1, 1)
    for scores in ("semantic_scores", "detail_scores"):
        state |= {f"{scores}.weight": torch.randn(128, 8, 3, 3), f"{scores}.bias": torch.randn(1, 128, 1, 1)}
        state |= _norm(f"{scores}.norm", 32) | _layer(f"{scores}.channel_compressor.1", 128, 32, 1, 1)
        state |= _norm(f"{scores}.channel_compressor.3", 128) | _layer(f"{scores}.channel_compressor.4", 9, 128, 1, 1)
    state["GF.kernel"] = torch.ones(32, 1, 1, taps)
    return {prefix + key: value for key, value in state.items()}


COMPUTED = ("init_pos", "GF.kernel")
PUBLISHED = {  # a published state dict, the upsampler it belongs to
    "deconv": ("deconv", resfu.Deconv(8, 2), {"weight": torch.randn(8, 8, 2, 2), "bias": torch.randn(8)}),
    "pixelshuffle": ("pixelshuffle", resfu.PixelShuffle(8, 2, 3), _layer("upsample_conv", 32, 8, 3, 3)),
    "pixelshuffle, a sequence": ("pixelshuffle", resfu.PixelShuffle(8, 2, 3), _layer("0", 32, 8, 3, 3)),
    "resfu": ("resfu", resfu.ReSFU(8, 6, guided_filter_stride=2), _resfu()),
    "resfu, full resolution": ("resfu", resfu.ReSFU(8, 6), _resfu(taps=17)),
    "jbu": ("jbu", resfu.JBU(), _jbu()),
    "stack-jbu": (
        "stack-jbu",
        resfu.StackJBU(8, steps=4),
        {key: value for n in range(1, 5) for key, value in _jbu(f"up{n}.").items()}
        | _layer("fixup_proj.1", 8, 8, 1, 1),
    ),
    "carafe": (
        "carafe",
        resfu.CARAFE(8),
        _layer("channel_compressor", 64, 8, 1, 1) | _layer("content_encoder", 100, 64, 3, 3),
    ),
    "indexnet": (
        "indexnet",
        resfu.IndexNet(8, 6),
        {
            **_layer("index.indexnet.0", 12, 6, 4, 4, bias=False),
            **_norm("index.indexnet.1", 12),
            **_statistics(12),
            **_layer("index.indexnet.3", 4, 12, 1, 1, bias=False),
        },
    ),
    "indexnet, parameters alone": (
        "indexnet",
        resfu.IndexNet(8, 6),
        {
            **_layer("index.indexnet.0", 12, 6, 4, 4, bias=False),
            **_norm("index.indexnet.1", 12),
            **_layer("index.indexnet.3", 4, 12, 1, 1, bias=False),
        },
    ),
    "indexnet, linear": (
        "indexnet",
        resfu.IndexNet(8, 6, nonlinear=False, context=False),
        _layer("index.indexnet", 4, 6, 2, 2, bias=False),
    ),
    "indexnet, the block alone": (
        "indexnet",
        resfu.IndexNet(8, 6, nonlinear=False),
        _layer("indexnet", 4, 6, 4, 4, bias=False),
    ),
    "fade": ("fade", resfu.FADE(8, 8), FADE),
    "fade, first paper": (
        "fade",
        resfu.FADE(8, 8, gated=True),
        {
            **_layer("gate_generator.conv", 1, 8, 1, 1),
            **_layer("kernel_generator.conv1_en", 64, 8, 1, 1),
            **_layer("kernel_generator.conv1_de", 64, 8, 1, 1, bias=False),
            "kernel_generator.conv2_kernels": torch.randn(25, 64, 3, 3),
            "kernel_generator.conv2_bias": torch.randn(25),
        },
    ),
    "fade, gated": ("fade", resfu.FADE(8, 8, gated=True), FADE | _layer("gate_generator.conv", 1, 8, 1, 1)),
    "fade-lite": (
        "fade-lite",
        resfu.FADE(8, 6, lite=True),
        {
            **_layer("ker_generator.compressor_en", 25, 6, 1, 1),
            **_layer("ker_generator.compressor_de", 25, 8, 1, 1, bias=False),
            **_layer("ker_generator.content_encoder", 25, 1, 3, 3),
        },
    ),
    "sapa": (
        "sapa",
        resfu.SAPA(8, 6),
        _norm("norm_y", 6) | _norm("norm_x", 8) | _layer("q", 32, 6, 1, 1) | _layer("k", 32, 8, 1, 1),
    ),
    "sapa, first release": (
        "sapa",
        resfu.SAPA(8, 6, projection_dim=64, norm="layer"),
        _norm("norm_y", 6) | _norm("norm_x", 8) | _layer("q", 64, 6) | _layer("k", 64, 8),
    ),
    "dysample": (
        "dysample",
        resfu.DySample(8),
        _layer("offset", 32, 8, 1, 1)
        | _layer("scope", 32, 8, 1, 1, bias=False)
        | {"init_pos": torch.zeros(1, 32, 1, 1)},
    ),
    "dysample, biased scope": (
        "dysample",
        resfu.DySample(8, style="pl", groups=2, scope_bias=True),
        _layer("offset", 4, 2, 1, 1) | _layer("scope", 4, 2, 1, 1) | {"init_pos": torch.zeros(1, 16, 1, 1)},
    ),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_state_dicts_load_strictly(case):
    name, up, state = PUBLISHED[case]
    converted = convert_state_dict(name, state)
    assert len(converted) == len(state) - sum(key in COMPUTED for key in state)
    up.load_state_dict(converted)
    own = up.state_dict()
    for key, value in converted.items():
        assert torch.equal(own[key], value.view_as(own[key])), key


REST = {
    "backbone.stem.0.weight": torch.zeros(4, 3, 3, 3),
    "backbone.block.attn.q.weight": torch.zeros(4, 4),
    "backbone.block.attn.kv.weight": torch.zeros(8, 4),
    "backbone.num_batches_tracked": torch.tensor(3),
    "decode_head.conv_seg.weight": torch.zeros(5, 4, 1, 1),
}


def _same(found, expected):
    assert found.keys() == expected.keys()
    assert all(found[key] is expected[key] or torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("case", [case for case in PUBLISHED if not case.startswith("deconv")])
@pytest.mark.parametrize("rest", [{}, REST])
def test_an_upsampler_is_found_in_the_file_of_a_network(case, rest):
    name, _, state = PUBLISHED[case]
    expected = convert_state_dict(name, state)
    network = rest | {f"decode_head.upsampler.{key}": value for key, value in state.items()}
    _same(convert_state_dict(name, network), expected)
    _same(convert_state_dict(name, network, prefix="decode_head.upsampler"), expected)
    shells = {f"module._orig_mod.{key}": value for key, value in network.items()}
    saved = {"meta": {"epoch": 3}, "state_dict": shells, "optimizer": {"state": {}}}
    _same(convert_state_dict(name, saved), expected)
    _same(convert_state_dict(name, {"model": shells}, prefix="module.decode_head.upsampler."), expected)


def test_a_deconvolution_looks_like_any_layer():
    _, _, state = PUBLISHED["deconv"]
    alone = {f"module.head.deconv.{key}": value for key, value in state.items()}
    _same(convert_state_dict("deconv", alone), convert_state_dict("deconv", state))
    with pytest.raises(ValueError, match=r"5 parts could be a published deconv: .* with prefix = 'backbone.block.attn"):
        convert_state_dict("deconv", REST | alone)
    found = convert_state_dict("deconv", REST | alone, prefix="module.head.deconv")
    _same(found, convert_state_dict("deconv", state))


def test_several_upsamplers_of_a_network_are_told_apart():
    levels = {f"c{n}": _resfu(f"decode_head.ups.{n}.") for n in range(3)}
    network = {key: value for level in levels.values() for key, value in level.items()}
    with pytest.raises(ValueError, match=r"3 parts .* prefix = 'decode_head.ups.0.', 'decode_head.ups.1.', 'dec"):
        convert_state_dict("resfu", network)
    found = convert_state_dict("resfu", network, prefix="decode_head.ups.1")
    assert torch.equal(found["query.weight"], network["decode_head.ups.1.q.weight"])
    with pytest.raises(
        ValueError, match=r"no name begins with the prefix 'decode_head.up.'; a published resfu lies be"
    ):
        convert_state_dict("resfu", network, prefix="decode_head.up")
    with pytest.raises(ValueError, match=r"prefix 'neck.'; there is no resfu in it"):
        convert_state_dict("resfu", REST, prefix="neck")


def test_nothing_of_an_upsampler_is_left_out_silently():
    network = REST | _resfu("head.") | {"head.extra.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"'extra.weight' is not a parameter of the published resfu"):
        convert_state_dict("resfu", network)
    with pytest.raises(ValueError, match=r"'backbone.stem.0.weight' is not a parameter of the published carafe"):
        convert_state_dict("carafe", REST)
    with pytest.raises(ValueError, match=r"'semantic_scores.weight' is not a parameter of the published sapa"):
        convert_state_dict("sapa", _resfu("head."))
    with pytest.raises(ValueError, match="there is no tensor, and so no resfu"):
        convert_state_dict("resfu", {})
    with pytest.raises(ValueError, match="expected tensors by name, got list"):  # users have no type checks
        getattr(upsampler_tensors, "__wrapped__", upsampler_tensors)([], "resfu", bool, "")
    with pytest.raises(ValueError, match="expected tensors by name, got int under 'epoch'"):
        convert_state_dict("resfu", _resfu() | {"epoch": 3})


def test_stages_keep_their_order():
    _, up, state = PUBLISHED["stack-jbu"]
    up.load_state_dict(convert_state_dict("stack-jbu", state))
    for n, stage in enumerate(up.stages.values(), 1):
        assert torch.equal(stage.kernel_fixup[3].weight, state[f"up{n}.fixup_proj.3.weight"])
    assert torch.equal(up.fixup.weight, state["fixup_proj.1.weight"])


def test_index_statistics_stay_where_none_come_also_inside_a_network():
    _, up, _ = PUBLISHED["indexnet"]
    network = nn.Sequential(resfu.IndexNet(8, 6))
    parameters = {f"0.{key}": value for key, value in up.named_parameters()}
    network.load_state_dict(parameters)
    assert torch.equal(network[0].norm.running_var, torch.ones(12))
    del parameters["0.norm.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*norm.weight"):
        network.load_state_dict(parameters)
    with pytest.raises(RuntimeError, match=r"Missing key.*norm.running_var"):
        network.load_state_dict(
            {f"0.{key}": value for key, value in up.state_dict().items() if "running_var" not in key}
        )


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'weights' is not a parameter of the published resfu"):
        convert_state_dict("resfu", {"weights": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"fixup_proj.1.weight' is not a parameter of the published stack-jbu"):
        convert_state_dict("stack-jbu", {"up1.fixup_proj.1.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="known: deconv, pixelshuffle, jbu, stack-jbu, carafe, indexnet, fade"):
        convert_state_dict("unknown", {})
