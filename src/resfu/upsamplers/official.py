"""Parameter names of the published code, converted to ours."""

import re

from torch import Tensor

_RESFU = (
    (r"^norm_x\.", "features_norm."),
    (r"^norm_y\.", "guidance_norm."),
    (r"^q\.", "query."),
    (r"^k\.", "key."),
    (r"^(semantic|detail)_scores\.channel_compressor\.1\.", r"\1_similarity.reduce."),
    (r"^(semantic|detail)_scores\.channel_compressor\.3\.", r"\1_similarity.reduce_norm."),
    (r"^(semantic|detail)_scores\.channel_compressor\.4\.", r"\1_similarity.score."),
    (r"^(semantic|detail)_scores\.", r"\1_similarity."),
)
_NAMES = {"resfu": _RESFU}


def convert_state_dict(name: str, official: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published state dict so that our upsampler loads it strictly.

    Args:
        name: the upsampler, as in `resfu.UPSAMPLERS`.
        official: parameters of one upsampler under the names of its authors' code, without a prefix.

    Returns:
        The same tensors under our names; shapes that only differ by singleton axes are made ours.

    Raises:
        ValueError: for an upsampler without a conversion, or a parameter name that is not the published one.
    """
    if name not in _NAMES:
        raise ValueError(f"no conversion for {name!r}; known: {', '.join(_NAMES)}.")
    converted = {}
    for key, tensor in official.items():
        for pattern, replacement in _NAMES[name]:
            renamed, count = re.subn(pattern, replacement, key)
            if count:
                break
        else:
            raise ValueError(f"{key!r} is not a parameter of the published {name}.")
        if renamed.endswith("_similarity.bias"):
            tensor = tensor.flatten()
        converted[renamed] = tensor
    return converted
