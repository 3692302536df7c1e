"""Encoders from the package transformers: their patches, and the normalisation of their images."""

import inspect
from typing import Any

from torch import Tensor

from resfu.frozen.encoder import IMAGENET_MEAN, IMAGENET_STD, FrozenEncoder

_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_AS_IT_IS = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# The normalisation of the published weights by model type, if it is not ImageNet's.
_NORMALISATIONS = {
    **dict.fromkeys(("clip", "altclip", "chinese_clip", "metaclip_2", "blip", "blip_2", "aimv2", "mlcd"), _CLIP),
    **dict.fromkeys(("owlvit", "owlv2", "groupvit"), _CLIP),
    **dict.fromkeys(("vit", "beit", "data2vec-vision", "siglip", "siglip2", "dpt", "bit", "vilt"), _HALVES),
    **dict.fromkeys(("mobilenet_v1", "mobilenet_v2"), _HALVES),
    **dict.fromkeys(("mobilevit", "mobilevitv2", "glpn"), _AS_IT_IS),
}
_BLUE_FIRST = ("mobilevit", "mobilevitv2")


def of_transformers(model: Any, name: str = "") -> FrozenEncoder:
    """The image encoder of a transformers model.

    The normalisation is that of the image processor saved with the weights. If there is none, it is that of the
    published weights of this type of model.

    Args:
        model: the model; from CLIP and SigLIP the image encoder is taken.
        name: name for the cache.

    Raises:
        ValueError: for a masked autoencoder, which shuffles its patches.
    """
    source = getattr(model.config, "_name_or_path", "")
    model = getattr(model, "vision_model", model)
    if model.config.model_type == "vit_mae":
        raise ValueError("ViTMAE masks and shuffles its patches: load its weights into a ViTModel and pass that.")
    mean, std, blue_first = _normalisation(source, model.config.model_type)
    behind = getattr(model.config, "num_detection_tokens", 0)  # YOLOS has tokens after the patches
    options = {"interpolate_pos_encoding": True} if _takes(model.forward, "interpolate_pos_encoding") else {}

    def call(images: Tensor) -> Any:
        output = model(images.flip(1) if blue_first else images, **options)
        return output.last_hidden_state[:, :-behind] if behind else output

    return FrozenEncoder(model, name, mean, std, stride=_patch(model), call=call)


def _patch(model: Any) -> int | None:
    """The patch size, which is the stride of a plain vision transformer; None for other models."""
    patch = getattr(model.config, "patch_size", None)
    embeddings = getattr(model, "embeddings", None)
    plain = hasattr(embeddings, "patch_embeddings") or hasattr(embeddings, "patch_embedding")
    return patch if plain and isinstance(patch, int) and not hasattr(model.config, "depths") else None


def _normalisation(source: str, kind: str) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean, standard deviation, and whether the channels are blue, green, red."""
    kind = kind.removesuffix("_vision_model")
    mean, std = _NORMALISATIONS.get(kind, (IMAGENET_MEAN, IMAGENET_STD))
    processor = _processor(source)
    if processor is None:
        return mean, std, kind in _BLUE_FIRST
    blue_first = bool(getattr(processor, "do_flip_channel_order", False))
    if not getattr(processor, "do_normalize", False):
        return *_AS_IT_IS, blue_first
    # The value that the processor normalises for a pixel of 1; it is 1 for most processors.
    white = 255 * (processor.rescale_factor if getattr(processor, "do_rescale", True) else 1)
    mean, std = (tuple(value / white for value in values) for values in (processor.image_mean, processor.image_std))
    return mean, std, blue_first


def _processor(source: str) -> Any:
    """The image processor that was saved with the weights; None if there is none."""
    from transformers import AutoImageProcessor

    if not source:
        return None
    try:
        return AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, ImportError, KeyError):
        return None


def load_transformers(name: str, pretrained: bool) -> Any:
    """Load a model by the name of a repository, or from a folder.

    Raises:
        ValueError: if there is none.
    """
    from transformers import AutoConfig, AutoModel

    try:
        if pretrained:
            return AutoModel.from_pretrained(name)
        return AutoModel.from_config(AutoConfig.from_pretrained(name))
    except OSError as error:
        raise ValueError(f"transformers finds no model {name!r}: {' '.join(str(error).split())}") from error


def _takes(function: Any, argument: str) -> bool:
    return argument in inspect.signature(function).parameters
