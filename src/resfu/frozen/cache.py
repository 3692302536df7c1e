"""Low-resolution features on disk: an encoder processes an image only once."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from resfu.files.atomic import replacing
from resfu.frozen.encoder import FrozenEncoder


class FeatureCache:
    """Features, identified by the image's pixels, its size at the encoder, and the encoder with its weights.

    Args:
        folder: of the files, one per image.
        encoder: of the features.

    Raises:
        ValueError: for an encoder that is a plain function: nothing identifies it later.
    """

    def __init__(self, folder: str | Path, encoder: FrozenEncoder) -> None:
        if not isinstance(encoder.network, nn.Module):
            raise ValueError("a cache needs an encoder with weights, which identify it: wrap it in a Module.")
        self.folder = Path(folder)
        digest = hashlib.sha256(encoder.name.encode())
        for key, value in sorted(encoder.network.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        self._encoder = digest.hexdigest()

    def get(self, image: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
        """The features [1, C, h, w] of an image [1, 3, H, W], or None."""
        from safetensors.torch import load_file

        file = self._file(image, size, dtype)
        return load_file(file)["features"].to(image.device) if file.is_file() else None

    def put(self, image: Tensor, size: tuple[int, int], features: Tensor) -> None:
        """Store the features of an image."""
        from safetensors.torch import save_file

        with replacing(self._file(image, size, features.dtype), durable=False) as draft:
            save_file({"features": features.detach().cpu().contiguous()}, draft)

    def _file(self, image: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Path:
        digest = hashlib.sha256(f"{self._encoder} {size} {dtype} {tuple(image.shape)}".encode())
        digest.update(image.detach().float().cpu().contiguous().numpy().tobytes())
        return self.folder / f"{digest.hexdigest()}.safetensors"
