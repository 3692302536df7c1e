"""Parameter names of the published code, converted to ours."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from resfu.upsamplers.checkpoint import upsampler_tensors

# For each upsampler: a pattern for published names, and our name; None for tensors that are no parameter of ours.
_Names = tuple[tuple[str, str | None], ...]

_RESFU: _Names = (
    (r"^norm_x\.", "features_norm."),
    (r"^norm_y\.", "guidance_norm."),
    (r"^q\.", "query."),
    (r"^k\.", "key."),
    (r"^(semantic|detail)_scores\.channel_compressor\.1\.", r"\1_similarity.reduce."),
    (r"^(semantic|detail)_scores\.channel_compressor\.3\.", r"\1_similarity.reduce_norm."),
    (r"^(semantic|detail)_scores\.channel_compressor\.4\.", r"\1_similarity.score."),
    (r"^(semantic|detail)_scores\.", r"\1_similarity."),
    (r"^GF\.kernel$", None),  # a kernel of ones, with which the guided filter sums
)
_JBU = (
    (r"range_temp$", "log_temperature"),
    (r"sigma_spatial$", "deviation"),
    (r"range_proj\.(?P<layer>[03])\.", r"range_projection.\g<layer>."),
    (r"fixup_proj\.(?P<layer>[03])\.", r"kernel_fixup.\g<layer>."),
)
_FADE: _Names = (
    (r"^ker_generator\.compressor_en\.", "guidance_compressor."),
    (r"^ker_generator\.compressor_de\.", "features_compressor."),
    (r"^ker_generator\.content_encoder\.", "encoder."),
    (r"^gate_generator\.conv\.", "gate."),
    # The first paper's form, which works at full resolution and computes the same.
    (r"^kernel_generator\.conv1_en\.", "guidance_compressor."),
    (r"^kernel_generator\.conv1_de\.", "features_compressor."),
    (r"^kernel_generator\.conv2_kernels$", "encoder.weight"),
    (r"^kernel_generator\.conv2_bias$", "encoder.bias"),
)
_ANYUP_ENCODERS = (
    ("image_encoder", "image_encoder"),
    ("key_encoder", "key_encoder"),
    ("query_encoder", "query_encoder"),
    ("aggregation", "aggregation"),
    ("key_features_encoder", "feature_encoder"),
)
_ANYUP: _Names = (
    *(
        (rf"^{theirs}\.{layer}", rf"{ours}.{renamed}")
        for theirs, ours in _ANYUP_ENCODERS
        for layer, renamed in (
            (r"(?P<part>0\.(?:weight|basis))$", r"\g<part>"),
            (r"(?P<n>[12])\.block\.0\.", r"\g<n>.norm1."),
            (r"(?P<n>[12])\.block\.2\.", r"\g<n>.conv1."),
            (r"(?P<n>[12])\.block\.3\.", r"\g<n>.norm2."),
            (r"(?P<n>[12])\.block\.5\.", r"\g<n>.conv2."),
            (r"1\.shortcut\.", "1.shortcut."),
        )
    ),
    (r"^cross_decode\.conv2d\.", "query_convolution."),
    (r"^cross_decode\.cross_attn\.norm_q\.", "query_norm."),
    (r"^cross_decode\.cross_attn\.norm_k\.", "key_norm."),
    (r"^cross_decode\.cross_attn\.attention\.in_proj_", "query_and_key."),
    (r"^cross_decode\.cross_attn\.attention\.out_proj\.", None),  # never used
    (r"^rope\.freqs$", "frequencies"),
)
_NAMES: dict[str, _Names] = {
    "deconv": ((r"^(weight|bias)$", r"convolution.\1"),),
    "pixelshuffle": ((r"^(?:upsample_conv|0)\.", "convolution."),),
    "jbu": tuple((f"^{name}", ours) for name, ours in _JBU),
    "stack-jbu": (
        *((rf"^up(?P<stage>\d+)\.{name}", rf"stages.\g<stage>.{ours}") for name, ours in _JBU),
        (r"^fixup_proj\.1\.", "fixup."),
    ),
    "carafe": ((r"^channel_compressor\.", "compressor."), (r"^content_encoder\.", "encoder.")),
    "indexnet": (
        (r"^(?:index\.)?indexnet\.0\.", "encoder."),
        (r"^(?:index\.)?indexnet\.1\.", "norm."),
        (r"^(?:index\.)?indexnet\.3\.", "index."),
        (r"^(?:index\.)?indexnet\.(weight)$", r"encoder.\1"),
    ),
    "fade": _FADE,
    "fade-lite": _FADE,
    "sapa": _RESFU[:4],
    "dysample": ((r"^(offset|scope)\.", r"\1."), (r"^init_pos$", None)),
    "resfu": _RESFU,
    "naf": (
        (r"^image_encoder\.encoder\.", "pixel_encoder."),
        (r"^image_encoder\.sem_encoder\.", "context_encoder."),
        (r"^image_encoder\.rope\.periods$", None),
    ),
    "anyup": _ANYUP,
}
# A pattern for a parameter name that tells each upsampler from the rest of a network.
_SIGNS = {
    "deconv": r"weight$",
    "pixelshuffle": r"(?:upsample_conv\.weight|0\.bias)$",
    "jbu": r"range_temp$",
    "stack-jbu": r"up1\.range_temp$",
    "carafe": r"content_encoder\.",
    "indexnet": r"indexnet\.",
    "fade": r"(?:ker|kernel)_generator\.",
    "fade-lite": r"ker_generator\.",
    "sapa": r"q\.",
    "dysample": r"offset\.",
    "resfu": r"(?:semantic|detail)_scores\.",
    "naf": r"image_encoder\.sem_encoder\.",
    "anyup": r"key_features_encoder\.",
}


def convert_state_dict(name: str, official: Mapping[str, Any], prefix: str | None = None) -> dict[str, Tensor]:
    """Rename a published state dict so that our upsampler loads it strictly.

    Settings without parameters are not part of the weights; you still have to give them. ReSFU's released
    configurations compute the guided filter at half resolution, so weights that were trained with them belong into
    `ReSFU(..., guided_filter_stride=2)`; the default of 1 is what the paper's cost tables count. The last axis of
    `GF.kernel` in a file tells which one it is: 9 taps at half resolution, 17 at full resolution (for the published
    radius of 8). The released SegFormer runs all its ReSFU with `dilation=2`.

    Args:
        name: the upsampler, as in `resfu.UPSAMPLERS`; also "jbu" for one module, and "fade-lite".
        official: parameters and buffers under the names of the authors' code, of the upsampler alone or of a whole
            network that contains it. They may lie under "state_dict", "model_state_dict", "model" or "anyup" of a
            checkpoint. A "module." or "_orig_mod." before all names is removed.
        prefix: the beginning of the upsampler's parameter names in a network, such as "decode_head.upsampler.".
            Default: it is found, if the network contains exactly one such upsampler.

    Returns:
        The upsampler's tensors under our names. They are reshaped where only singleton axes differ; tensors that our
        upsampler does not use or computes itself are left out.

    Raises:
        ValueError: for an upsampler without a conversion, a parameter name that is not the published one, anything but
            tensors, a prefix that no name has, or several upsamplers and no prefix (the message lists their prefixes).
    """
    if name not in _NAMES:
        raise ValueError(f"no conversion for {name!r}; known: {', '.join(_NAMES)}.")
    converted = {}
    tensors = upsampler_tensors(official, name, lambda key: _match(name, key) is not None, _SIGNS[name], prefix)
    for key, tensor in tensors.items():
        found = _match(name, key)
        if found is None:
            raise ValueError(f"{key!r} is not a parameter of the published {name}.")
        match, ours = found
        if ours is not None:
            renamed = match.expand(ours) + key[match.end() :]
            converted[renamed] = _shaped(renamed, tensor)
    return converted


def _match(name: str, key: str) -> tuple[re.Match[str], str | None] | None:
    for pattern, ours in _NAMES[name]:
        if match := re.match(pattern, key):
            return match, ours
    return None


def _shaped(name: str, tensor: Tensor) -> Tensor:
    """Convert a published tensor to our shape.

    The published bias of ReSFU has extra singleton axes. SAPA's first release has Linear layers in place of 1 x 1
    convolutions. The last third of AnyUp's projection is for values, which AnyUp does not use.
    """
    if name.startswith("query_and_key."):
        return tensor[: tensor.shape[0] // 3 * 2]
    if name.endswith("_similarity.bias"):
        return tensor.flatten()
    if name in ("query.weight", "key.weight") and tensor.dim() == 2:
        return tensor[:, :, None, None]
    return tensor
