"""Save and load upsamplers, in a folder or on the Hugging Face Hub: arguments as JSON, weights as safetensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resfu.files.atomic import replacing, write_json, write_text
from resfu.files.libraries import library

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"

_FORMAT = 1


class Shareable(nn.Module):
    """A module that can be saved with what it takes to build it again."""

    def save_pretrained(self, folder: str | Path, measured: str = "") -> None:
        """Write the upsampler to a folder, from which `resfu.from_pretrained` builds it again.

        Args:
            folder: where config.json (class and constructor arguments), model.safetensors and a model card are
                written. It is created with its parents if needed.
            measured: Markdown for the model card: results that were measured with these weights, such as the table.md
                of `resfu compare`.

        Raises:
            ValueError: for a class of your own, or arguments that JSON cannot hold.
            ModuleNotFoundError: without the extra "hub" (safetensors).
        """
        folder = Path(folder)
        configuration = {"library": "resfu", "format": _FORMAT, **described(self)}
        # Clones: safetensors refuses tensors that share memory, such as those of a step that a chain has twice.
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()}
        save_file = library("safetensors.torch").save_file
        with replacing(folder / CONFIG) as text, replacing(folder / WEIGHTS) as draft:  # replaced together at the end
            save_file(weights, draft, metadata={"format": "pt"})
            write_json(text, configuration)
        write_text(folder / CARD, _card(self, configuration, measured))

    def push_to_hub(self, repository: str, measured: str = "", private: bool = False) -> str:
        """Upload the files that `save_pretrained` writes to the Hugging Face Hub.

        Args:
            repository: "owner/name"; created if it does not exist.
            measured: see `save_pretrained`.
            private: whether a new repository is private.

        Returns:
            The URL of the commit.
        """
        import tempfile

        hub = library("huggingface_hub").HfApi()
        hub.create_repo(repository, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, measured)
            return str(hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by resfu"))


def from_pretrained(source: str | Path, revision: str | None = None) -> Any:
    """Build an upsampler that `save_pretrained` or `push_to_hub` wrote.

    Args:
        source: a folder, or the name of a repository on the Hugging Face Hub, "owner/name". With HF_HUB_OFFLINE=1 only
            repositories in the local cache of the Hub are found.
        revision: branch, tag or commit on the Hub.

    Returns:
        The upsampler (a `resfu.Upsampler`, or an `Iterative` chain), on the CPU, in evaluation mode and with the dtype
        of its weights.

    Raises:
        ValueError: for a folder or repository without config.json or model.safetensors, a configuration that this
            version does not know, or weights that do not fit it.

    >>> import tempfile, resfu
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     resfu.create_upsampler("carafe", channels=8).save_pretrained(folder)
    ...     resfu.from_pretrained(folder)
    CARAFE(
      channels=8, scale_factor=2
      (compressor): Conv2d(8, 64, kernel_size=(1, 1), stride=(1, 1))
      (encoder): Conv2d(64, 100, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    )
    """
    if not isinstance(source, (str, Path)):
        raise ValueError(f"source must be a folder or the name of a repository, got {type(source).__name__}.")
    folder = Path(source) if Path(source).is_dir() else _downloaded(str(source), revision)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"{source} holds no {name}: expected what save_pretrained writes.")
    try:
        configuration = json.loads((folder / CONFIG).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}.") from error
    module = _built(configuration, folder / CONFIG)
    weights = read_safetensors(folder / WEIGHTS)
    kinds = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(kinds) == 1:
        module.to(kinds.pop())
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {' '.join(str(error).split())}") from error
    return module.eval()


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, by name.

    Raises:
        ValueError: if the file is damaged; the message names it.
        ModuleNotFoundError: without safetensors.
    """
    load, damaged = library("safetensors.torch").load_file, library("safetensors").SafetensorError
    try:
        return load(file)
    except damaged as error:
        raise ValueError(f"{file} is damaged, or not what safetensors writes: {error}.") from error


def described(module: nn.Module) -> dict[str, Any]:
    """Class and constructor arguments of an upsampler, as values for JSON.

    Raises:
        ValueError: for a class that is not the library's own, or an argument that JSON cannot hold.
    """
    name = type(module).__name__
    if type(module) is not _classes().get(name):
        raise ValueError(
            f"only the library's own upsamplers can be built again from a file, and {name} is not one of them: "
            "use torch.save on its state_dict."
        )
    if name == "Iterative":
        return {"class": name, "steps": [described(step) for step in module.steps]}  # pyright: ignore
    arguments = dict(getattr(module, "arguments", {}))
    for key, value in arguments.items():
        if not isinstance(value, str | int | float | bool | None):
            raise ValueError(f"the argument {key} = {value!r} of {name} cannot be written to {CONFIG}.")
    return {"class": name, "arguments": arguments}


def _built(configuration: Any, place: object) -> nn.Module:
    if not isinstance(configuration, Mapping) or configuration.get("format", _FORMAT) != _FORMAT:
        raise ValueError(f"{place} is not of this version of resfu: expected format {_FORMAT}.")
    kind = _classes().get(configuration.get("class", ""))
    if kind is None:
        raise ValueError(f"{place} names the class {configuration.get('class')!r}; known are {', '.join(_classes())}.")
    if configuration["class"] == "Iterative":
        return kind(_built(step, place) for step in configuration.get("steps", ()))
    try:
        return kind(**configuration.get("arguments", {}))
    except TypeError as error:
        raise ValueError(f"{place} does not fit this version of resfu: {error}.") from error


def _classes() -> dict[str, type[nn.Module]]:
    from resfu.upsamplers import UPSAMPLERS, Iterative
    from resfu.upsamplers.jbu import JBU

    return {kind.__name__: kind for kind in (*UPSAMPLERS.values(), JBU, Iterative)}


def _downloaded(repository: str, revision: str | None) -> Path:
    hub = library("huggingface_hub")
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise ValueError(f"{repository} is neither a folder nor the name of a repository, owner/name.")
    try:
        return Path(hub.snapshot_download(repository, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise ValueError(
            f"{repository} is no folder here, and cannot be fetched from the Hugging Face Hub: "
            f"{' '.join(str(error).split())}"
        ) from error


def _card(module: nn.Module, configuration: Mapping[str, Any], measured: str) -> str:
    """Write a model card: what the upsampler is, how to load it, and what was measured with it."""
    arguments = ", ".join(f"{key}={value!r}" for key, value in configuration.get("arguments", {}).items())
    count = sum(parameter.numel() for parameter in module.parameters())
    paper = getattr(module, "paper", "")
    source = f" ([arXiv {paper}](https://arxiv.org/abs/{paper}))" if paper else ""
    guidance = getattr(module, "guidance_channels", None)
    second = f", guidance [B, {guidance}, H, W]" if guidance else ""
    channels = getattr(module, "channels", None) or "C"
    return f"""---
library_name: resfu
tags:
- feature-upsampling
- image-segmentation
---

# {configuration["class"]}

A feature upsampler{source}: features [B, {channels}, h, w]{second} -> [B, {channels}, H, W]. {count:,} parameters.

    {configuration["class"]}({arguments})

## Use

```python
import resfu

up = resfu.from_pretrained("this folder or repository")
```

## Measured

{measured.strip() or "Nothing was reported with these weights."}
"""
