"""Low-resolution features on disk: an encoder processes an image only once."""

import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from resfu.files.atomic import replacing
from resfu.files.libraries import library
from resfu.frozen.encoder import FrozenEncoder

_DEPTH = 8  # largest depth of nested lists and functions


class FeatureCache:
    """A cache of features on disk.

    The name of a file is a hash of the image's pixels, the image size at the encoder, and the encoder: its
    normalisation and patches, and the classes, attributes, parameters and buffers of its modules. So features are
    computed again if these change. Not noticed are changes of weights through `.data`, and of values that a forward
    reads from elsewhere (globals, objects that are not modules). Use a separate folder for each such encoder.

    Args:
        folder: folder of the files, one per image.
        encoder: computes the features.

    Raises:
        ValueError: for an encoder that is a plain function, because it cannot be identified later.
    """

    def __init__(self, folder: str | Path, encoder: FrozenEncoder) -> None:
        if not isinstance(encoder.network, nn.Module):
            raise ValueError("a cache needs an encoder that is a module, which identifies it: wrap it in an nn.Module.")
        if not isinstance(folder, str | Path) or (Path(folder).exists() and not Path(folder).is_dir()):
            raise ValueError(f"a cache is a folder, got {folder!r}.")
        self.folder, self._encoder, self._network = Path(folder), encoder, encoder.network
        encoder.width()  # finds the tokens before the patches, which are part of every file's name
        self._versions: list[tuple[int, int]] | None = None
        self._weights = ""

    def get(self, image: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
        """The features [1, C, h, w] of an image [1, 3, H, W]; None if there are none, or the file is damaged."""
        load_file, damaged = library("safetensors.torch", "frozen").load_file, library("safetensors").SafetensorError
        file = self._file(image, size, dtype)
        try:
            return load_file(file)["features"].to(image.device) if file.is_file() else None
        except (damaged, KeyError):
            return None

    def put(self, image: Tensor, size: tuple[int, int], features: Tensor, dtype: torch.dtype) -> None:
        """Store the features of an image."""
        save_file = library("safetensors.torch", "frozen").save_file
        with replacing(self._file(image, size, dtype), durable=False) as draft:
            save_file({"features": features.detach().cpu().contiguous()}, draft)

    def _file(self, image: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Path:
        encoder = self._encoder
        found = encoder.name, encoder.mean, encoder.std, encoder.stride, encoder.prefix, _text(encoder.call)
        digest = hashlib.sha256(f"{found} {self._weights_now()} {size} {dtype} {tuple(image.shape)}".encode())
        for line in _settings(self._network):
            digest.update(line.encode())
        digest.update(image.detach().float().cpu().contiguous().numpy().tobytes())
        return self.folder / f"{digest.hexdigest()}.safetensors"

    def _weights_now(self) -> str:
        """The digest of the weights, computed again when they have changed."""
        tensors = {**dict(self._network.named_parameters()), **dict(self._network.named_buffers())}
        versions = [(value.data_ptr(), 0 if value.is_inference() else value._version) for value in tensors.values()]
        if versions != self._versions:
            digest = hashlib.sha256()
            for key, value in sorted(tensors.items()):
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            self._versions, self._weights = versions, digest.hexdigest()
        return self._weights


def _settings(network: nn.Module) -> Iterator[str]:
    """Yield a line for each module: its class, the code of its forward, and the attributes that have a text."""
    of_every_module = vars(nn.Module()).keys()
    for name, module in network.named_modules():
        kind = type(module)
        own = {key: _text(value) for key, value in vars(module).items() if key not in of_every_module}
        yield f"{name} {kind.__module__}.{kind.__qualname__} {_text(getattr(kind, 'forward', None))} {own}\n"


def _text(value: Any, deep: int = _DEPTH) -> str:
    """A text for a value that is the same in another process; "" for other values, or if they are nested too deep."""
    if deep == 0:
        return ""
    if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(item, deep - 1) for item in value)}]"
    if isinstance(value, dict):
        return _text(list(value.items()), deep)
    if isinstance(value, MethodType):
        return _text(value.__func__, deep)
    if isinstance(value, FunctionType):  # its closure may contain the function itself
        return _text([value.__code__, value.__defaults__, inspect.getclosurevars(value).nonlocals], deep)
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {value.co_names} {_text(value.co_consts, deep - 1)}"
    return ""
