"""Parameter names of the published code, converted to ours."""

import re

from torch import Tensor

# For each upsampler: what a published name matches, and ours; None for what is no parameter of ours.
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
)
_NAMES: dict[str, _Names] = {
    "deconv": ((r"^(weight|bias)$", r"convolution.\1"),),
    "pixelshuffle": ((r"^upsample_conv\.", "convolution."),),
    "jbu": tuple((f"^{name}", ours) for name, ours in _JBU),
    "stack-jbu": (
        *((rf"^up(?P<stage>\d+)\.{name}", rf"stages.\g<stage>.{ours}") for name, ours in _JBU),
        (r"^fixup_proj\.1\.", "fixup."),
    ),
    "carafe": ((r"^channel_compressor\.", "compressor."), (r"^content_encoder\.", "encoder.")),
    "indexnet": (
        (r"^index\.indexnet\.0\.", "encoder."),
        (r"^index\.indexnet\.1\.", "norm."),
        (r"^index\.indexnet\.3\.", "index."),
        (r"^index\.indexnet\.(weight)$", r"encoder.\1"),
    ),
    "fade": _FADE,
    "fade-lite": _FADE,
    "sapa": _RESFU[:4],
    "dysample": ((r"^(offset|scope)\.", r"\1."), (r"^init_pos$", None)),
    "resfu": _RESFU,
}


def convert_state_dict(name: str, official: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published state dict so that our upsampler loads it strictly.

    Args:
        name: the upsampler, as in `resfu.UPSAMPLERS`; also "jbu" for one module and "fade-lite".
        official: parameters of one upsampler under the names of its authors' code, without a prefix.

    Returns:
        The same tensors under our names; shapes that only differ by singleton axes are made ours, and buffers that we
        compute are left out.

    Raises:
        ValueError: for an upsampler without a conversion, or a parameter name that is not the published one.
    """
    if name not in _NAMES:
        raise ValueError(f"no conversion for {name!r}; known: {', '.join(_NAMES)}.")
    converted = {}
    for key, tensor in official.items():
        renamed = _renamed(name, key)
        if renamed is not None:
            converted[renamed] = _shaped(renamed, tensor)
    return converted


def _renamed(name: str, key: str) -> str | None:
    for pattern, ours in _NAMES[name]:
        if match := re.match(pattern, key):
            return None if ours is None else match.expand(ours) + key[match.end() :]
    raise ValueError(f"{key!r} is not a parameter of the published {name}.")


def _shaped(name: str, tensor: Tensor) -> Tensor:
    """ReSFU's bias has singleton axes that ours lacks; SAPA's first release has Linear layers, not convolutions."""
    if name.endswith("_similarity.bias"):
        return tensor.flatten()
    if name in ("query.weight", "key.weight") and tensor.dim() == 2:
        return tensor[:, :, None, None]
    return tensor
