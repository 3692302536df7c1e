"""Save and load an upgraded network: its tensors, and a plan of what was replaced."""

import copy
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from resfu.files.atomic import replacing, write_json
from resfu.files.libraries import library
from resfu.upgrading.installing import FORMAT, install
from resfu.upgrading.network import RECORD, is_upgraded
from resfu.upsamplers.pretrained import read_safetensors

PLAN, TENSORS = "upgrade.json", "model.safetensors"


def save_upgraded(model: nn.Module, folder: str | Path) -> None:
    """Write an upgraded network: `model.safetensors` with all its tensors and `upgrade.json` with the plan.

    The folder holds no code: loading needs the original network.

    Args:
        model: the network that `resfu.upgrade` returned, trained or not.
        folder: where the files are written; created if missing.

    Raises:
        ValueError: for a network that is not upgraded, or the two arguments in the wrong order.
        ModuleNotFoundError: without safetensors.

    >>> layers = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(8, 4, 1)
    >>> net = torch.nn.Sequential(*layers)
    >>> better = resfu.upgrade(net, "resfu", torch.rand(2, 3, 32, 32))
    >>> resfu.save_upgraded(better, "upgraded")
    >>> again = resfu.load_upgraded("upgraded", net)
    """
    save_file = library("safetensors.torch", "hosts").save_file
    if not isinstance(model, nn.Module):
        raise ValueError(f"save_upgraded(model, folder): first the network, not {type(model).__name__}.")
    if not is_upgraded(model):
        raise ValueError(f"this {type(model).__name__} is not upgraded: save what resfu.upgrade returned.")
    content = {**model.__dict__[RECORD].plan, "network": type(model).__name__}
    with replacing(Path(folder) / PLAN) as text, replacing(Path(folder) / TENSORS) as draft:  # replaced together
        save_file(_distinct(model), draft)
        write_json(text, content)


def load_upgraded(folder: str | Path, model: nn.Module) -> nn.Module:
    """Give a network the upsamplers and the weights of a saved upgraded network.

    Args:
        folder: the folder written by `save_upgraded`.
        model: the original network, created in the same way as before `resfu.upgrade`; it is changed in place.

    Returns:
        The network.

    Raises:
        FileNotFoundError: if there is no saved network.
        ValueError: for a different network, a damaged file, or the two arguments in the wrong order.

    >>> net = resfu.load_upgraded("runs/upgraded", make_network())  # doctest: +SKIP
    """
    if isinstance(folder, nn.Module) or not isinstance(model, nn.Module):
        kinds = f"{type(folder).__name__} and {type(model).__name__}"
        raise ValueError(f"load_upgraded(folder, model): first the folder, then the network, not {kinds}.")
    plan, file = Path(folder) / PLAN, Path(folder) / TENSORS
    for path in (plan, file):
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no {path.name}: expected what resfu.save_upgraded writes.")
    try:
        content = json.loads(plan.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{plan} is not JSON: {error}.") from error
    if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{folder} has the format {content['format']!r}; this version of resfu reads {FORMAT}.")
    if not isinstance(content, dict) or not {"format", "network", "owners", "exchanges"} <= content.keys():
        raise ValueError(f"{plan} is not what resfu.save_upgraded writes.")
    if is_upgraded(model):
        raise ValueError("this network is upgraded already: load onto the original, as it was before resfu.upgrade.")
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        raise ValueError("this network has no memory (device meta): call .to_empty(device='cpu') before loading.")
    tensors = read_safetensors(file)
    repeated = {name for names in _shared(model).values() for name in names}
    copy_of_it = _without_memory(model)  # so that a different network is not changed
    try:
        copied = install(copy_of_it, content)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{plan} is damaged ({type(error).__name__}: {error}).") from error
    repeated |= _again(copied)
    made = copied.state_dict()
    wrong = sorted((made.keys() - repeated) ^ tensors.keys()) or [
        name for name, tensor in made.items() if name in tensors and tensor.shape != tensors[name].shape
    ]
    if wrong:
        raise ValueError(
            f"{folder} holds a {content['network']} that is not this {type(model).__name__}: {len(wrong)} tensors "
            f"differ, such as {wrong[0]}. Make it with the arguments that it had."
        )
    install(model, content)
    shared = {name: first for first, names in _shared(model).items() for name in names}
    model.load_state_dict({**tensors, **{name: tensors[first] for name, first in shared.items()}})
    return model


def _without_memory(model: nn.Module) -> nn.Module:
    """A copy with parameters and buffers on the meta device, which need no memory."""
    memo: dict[int, Tensor] = {id(t): torch.empty_like(t, device="meta") for t in model.buffers()}
    memo |= {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, memo)


def _again(model: nn.Module) -> set[str]:
    """Additional names of parameters and buffers, such as those of a module that is registered twice."""
    first: dict[int, str] = {}
    tensors = model.state_dict(keep_vars=True).items()
    return {name for name, tensor in tensors if first.setdefault(id(tensor), name) != name}


def _distinct(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor once, under its first name and with memory of its own."""
    repeated = {name for names in _shared(model).values() for name in names}
    return {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items() if name not in repeated}


def _shared(model: nn.Module) -> dict[str, list[str]]:
    """For every tensor with several names, its first name and the list of its other names."""
    names: dict[tuple, list[str]] = {}
    for name, tensor in model.state_dict().items():
        if tensor.numel():
            names.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), []).append(name)
    return {first: others for first, *others in names.values() if others}
