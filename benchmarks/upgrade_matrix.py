"""Every upsampler in every network of `upgrade_networks`: what works, as a JSON file and a table.

    python -m benchmarks.upgrade_matrix [--networks A,B] [--out benchmarks/results/upgrade-matrix.json]

A cell is the number of places replaced, after a forward and a backward pass, a step of an optimiser, and a saved and
loaded network that gives the same output bit by bit. It is 0 where no place has a ratio that the upsampler takes.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.upgrade_networks import NETWORKS, Network
from resfu import UPSAMPLERS, find_upsampling, load_upgraded, save_upgraded, upgrade
from resfu.compare.machine import describe_machine
from resfu.files.atomic import write_json
from resfu.upgrading.building import refusal
from resfu.upgrading.flow import tensors_in
from resfu.upgrading.places import LEARNED, Plan

OUT = Path(__file__).parent / "results" / "upgrade-matrix.json"


def outputs(value: object) -> list[Tensor]:
    """All floating point tensors of an output."""
    return [tensor for _, tensor in tensors_in(value, 4) if tensor.is_floating_point()]


def identical(network: Network) -> bool:
    """Whether outputs and gradients of the network upgraded with "same" are those of the original, bit by bit."""
    original, inputs = network.build(), network.inputs()
    results = []
    for model in (original, upgrade(original, "same", *inputs)):
        given = outputs(model(*inputs))
        total(given).backward()
        results.append([*given, *(p.grad for p in model.parameters())])
        model.zero_grad()
    first, second = results
    pairs = zip(first, second, strict=True)
    return all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


def total(tensors: Sequence[Tensor]) -> Tensor:
    """Something to differentiate."""
    return torch.stack([tensor.float().square().mean() for tensor in tensors if tensor.requires_grad]).sum()


def places(plan: Plan, upsampler: str) -> list[str]:
    """Where an upsampler can stand: features that are interpolated and layers that learn, else the logits."""
    if plan.logits_alone:
        return plan.fitting(upsampler)
    usual = [place for place in plan if place.left_alone in ("", LEARNED)]
    return [place.name for place in usual if not refusal(upsampler, place.call)]


def exchanged(network: Network, upsampler: str, plan: Plan) -> int:
    """Replace, train for a step, save and load; the number of places.

    Raises:
        AssertionError: where one of these does not do what it should.
    """
    where = places(plan, upsampler)
    if not where:
        return 0
    inputs = network.inputs()
    model = upgrade(network.build(), upsampler, *inputs, where=None if plan.logits_alone else where)
    new = {name: p for name, p in model.named_parameters() if "resfu" in name.split(".")}
    before = {name: p.detach().clone() for name, p in new.items()}
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    total(outputs(model(*inputs))).backward()
    missing = [name for name, p in new.items() if p.grad is None]
    assert not missing, f"no gradient: {missing}"
    optimiser.step()
    assert not new or any(not torch.equal(before[name], p) for name, p in new.items()), "nothing learned"
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_upgraded(model, folder)
        loaded = load_upgraded(folder, network.build())
        for a, b in zip(outputs(model(*inputs)), outputs(loaded(*inputs)), strict=True):
            assert a.isfinite().all(), "not finite after a step"
            assert torch.equal(a, b), "the loaded network gives another output"
    return len(where)


def row(name: str, upsamplers: Sequence[str] = tuple(UPSAMPLERS)) -> dict[str, object]:
    """One network with all upsamplers."""
    network = NETWORKS[name]
    plan = find_upsampling(network.build(), *network.inputs())
    cells: dict[str, object] = {"calls": len(plan), "same": identical(network)}
    for upsampler in upsamplers:
        try:
            cells[upsampler] = exchanged(network, upsampler, plan)
        except (AssertionError, RuntimeError, ValueError, TypeError) as error:
            cells[upsampler] = f"{type(error).__name__}: {error}"
    return cells


def markdown(rows: dict[str, dict[str, object]]) -> list[str]:
    """The table of the docs."""
    heads = ["network", "calls", "identity", *UPSAMPLERS]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---"] + ["---:"] * (len(heads) - 1)) + " |"]
    for name, cells in rows.items():
        same = "bit-equal" if cells["same"] is True else "differs"
        counts = [str(cells[one]) if isinstance(cells[one], int) else "fails" for one in UPSAMPLERS]
        lines.append("| " + " | ".join([name, str(cells["calls"]), same, *counts]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", help="with commas between; the other rows stay (all)")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: dict[str, dict[str, object]] = {}
    if options.networks and options.out.is_file():
        rows = json.loads(options.out.read_text(encoding="utf-8"))["networks"]
    for name in options.networks.split(",") if options.networks else NETWORKS:
        began = time.perf_counter()
        rows[name] = row(name)
        failed = {key: value for key, value in rows[name].items() if isinstance(value, str)}
        print(f"{name}: {time.perf_counter() - began:.1f} s {failed or ''}", flush=True)
        rows = {name: rows[name] for name in NETWORKS if name in rows}
        write_json(options.out, {"machine": describe_machine(), "versions": versions(), "networks": rows})
    print("\n".join(markdown(rows)))


def versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("torch", "torchvision", "transformers", "timm", "segmentation-models-pytorch", "monai")
    return {name: version(name) for name in packages}


if __name__ == "__main__":
    main()
