"""Encoders of transformers: their patches, and the normalisation of their images."""

import inspect
from typing import Any

from torch import Tensor

from resfu.frozen.encoder import IMAGENET_MEAN, IMAGENET_STD, FrozenEncoder

_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_AS_IT_IS = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# The normalisation of the published weights, where it is not ImageNet's.
_NORMALISATIONS = {
    **dict.fromkeys(("clip", "altclip", "chinese_clip", "blip", "blip_2", "aimv2"), _CLIP),
    **dict.fromkeys(
        ("vit", "beit", "data2vec-vision", "siglip", "dpt", "bit", "mobilenet_v1", "mobilenet_v2"), _HALVES
    ),
    **dict.fromkeys(("mobilevit", "mobilevitv2"), _AS_IT_IS),
}
_BLUE_FIRST = ("mobilevit", "mobilevitv2")


def of_transformers(model: Any, name: str = "") -> FrozenEncoder:
    """The image encoder of a transformers model.

    The normalisation is that of preprocessor_config.json beside the weights; without one, that of the published weights
    of this type of model.

    Args:
        model: the model; of CLIP and SigLIP the image encoder is taken.
        name: for the cache.
    """
    source = getattr(model.config, "_name_or_path", "")
    model = getattr(model, "vision_model", model)
    mean, std, blue_first = _normalisation(source, model.config.model_type)
    options = {"interpolate_pos_encoding": True} if _takes(model.forward, "interpolate_pos_encoding") else {}

    def call(images: Tensor) -> Any:
        return model(images.flip(1) if blue_first else images, **options)

    return FrozenEncoder(model, name, mean, std, stride=_patch(model), call=call)


def _patch(model: Any) -> int | None:
    """The side of the patches, which in a plain vision transformer is the stride; of others None."""
    patch = getattr(model.config, "patch_size", None)
    embeddings = getattr(model, "embeddings", None)
    plain = hasattr(embeddings, "patch_embeddings") or hasattr(embeddings, "patch_embedding")
    return patch if plain and isinstance(patch, int) and not hasattr(model.config, "depths") else None


def _normalisation(source: str, kind: str) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean, standard deviation, and whether the channels are blue, green, red."""
    from transformers.image_processing_base import ImageProcessingMixin

    kind = kind.removesuffix("_vision_model")
    mean, std = _NORMALISATIONS.get(kind, (IMAGENET_MEAN, IMAGENET_STD))
    if not source:
        return mean, std, kind in _BLUE_FIRST
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except (OSError, ValueError):  # there is none, or it is not JSON
        return mean, std, kind in _BLUE_FIRST
    blue_first = bool(settings.get("do_flip_channel_order", kind in _BLUE_FIRST))
    if not settings.get("do_normalize", True):
        return *_AS_IT_IS, blue_first
    return tuple(settings.get("image_mean") or mean), tuple(settings.get("image_std") or std), blue_first


def _takes(function: Any, argument: str) -> bool:
    return argument in inspect.signature(function).parameters
