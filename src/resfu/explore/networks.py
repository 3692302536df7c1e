"""The networks that the page offers: trained ones from run folders, and EfficientNet-Lite0 at several ratios."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resfu.hosts import create_host
from resfu.tasks.loading import find_weights, load_module
from resfu.upsamplers import UPSAMPLERS

HOST = "efficientnet-lite0"
RATIOS = (2, 4, 8, 16)
_TARGET = 2  # the stride of the slot's output in that network


@dataclass
class Networks:
    """The networks by the choices of the page; each is created once.

    Args:
        runs: run folders of `resfu fit`, output folders of `resfu compare`, or checkpoints.

    Raises:
        ValueError: for a path without a finished run.
    """

    runs: Sequence[Path] = ()
    _trained: dict[str, Path] = field(init=False, default_factory=dict)
    _made: dict[tuple[str, str, int], Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for place in self.runs:
            for name, file in find_weights(place).items():
                self._trained[f"{place.name}: {name}"] = file

    @property
    def choices(self) -> dict[str, list[Any]]:
        """The entries of the page's lists."""
        untrained = f"{HOST}, ImageNet encoder, untrained upsampler"
        return {"networks": [*self._trained, untrained], "upsamplers": list(UPSAMPLERS), "ratios": list(RATIOS)}

    def get(self, network: str, upsampler: str, ratio: int) -> Any:
        """A host in evaluation mode.

        Args:
            network: one of the choices.
            upsampler: for an untrained network; a trained one has its own.
            ratio: likewise.

        Raises:
            ValueError: for an unknown choice.
        """
        choices = self.choices
        for kind, value, known in (
            ("network", network, choices["networks"]),
            ("upsampler", upsampler, choices["upsamplers"]),
            ("ratio", ratio, choices["ratios"]),
        ):
            if value not in known:
                raise ValueError(f"unknown {kind} {value!r}; choose one of {', '.join(map(str, known))}.")
        key = (network, "", 0) if network in self._trained else ("", upsampler, ratio)
        if key not in self._made:
            self._made[key] = self._load(network, upsampler, ratio)
        return self._made[key]

    def _load(self, network: str, upsampler: str, ratio: int) -> Any:
        if network in self._trained:
            return load_module(self._trained[network]).host.eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same initial weights for every upsampler
            options = {"feature_stride": ratio * _TARGET}
            return create_host(HOST, upsampler, num_classes=2, pretrained=True, host_options=options).eval()
