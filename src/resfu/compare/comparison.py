"""A comparison: a recipe times upsamplers times seeds, and the check that two of them are the same experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

from resfu.compare.variants import parse_variant
from resfu.recipes import changes, listed, merge, read_recipe
from resfu.tasks import Task
from resfu.tasks.experiment import Experiment


class Comparison:
    """The trainings to compare: one per upsampler and seed.

    Args:
        recipe: a name of `resfu list recipes`, or a YAML file.
        upsamplers: keys of `resfu.UPSAMPLERS`, optionally with constructor arguments (see `parse_variant`), in the
            order of the table; gains are relative to the first.
        seeds: of the trainings.
        settings: override the recipe's.

    Raises:
        ValueError: for an unknown name, a bad setting, or an empty list or one with repeated entries.
    """

    def __init__(
        self,
        recipe: str,
        upsamplers: Sequence[str] = ("bilinear", "resfu"),
        seeds: Sequence[int] = (0,),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        for name, values in (("upsamplers", upsamplers), ("seeds", seeds)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be given and each only once, got {list(values)}.")
        if min(seeds) < 0:
            raise ValueError(f"seeds must not be negative, got {list(seeds)}.")
        self.recipe = recipe
        self.upsamplers, self.seeds = tuple(upsamplers), tuple(seeds)
        self._settings = merge(read_recipe(recipe), settings or {})
        self._experiments = {name: self._experiment(name, self.seeds[0]) for name in self.upsamplers}

    @property
    def task(self) -> Task:
        """The task of all trainings."""
        return self._experiments[self.upsamplers[0]].task

    @property
    def settings(self) -> dict[str, Any]:
        """All settings except the upsampler and the seed."""
        settings = merge(self._experiments[self.upsamplers[0]].settings)
        del settings["model"]["upsampler"], settings["model"]["upsampler_options"], settings["seed_everything"]
        return settings

    def experiment(self, upsampler: str, seed: int) -> Experiment:
        """One of the trainings."""
        return self._experiments[upsampler] if seed == self.seeds[0] else self._experiment(upsampler, seed)

    def to_dict(self) -> dict[str, Any]:
        """The comparison in a form for JSON."""
        return {
            "recipe": self.recipe,
            "upsamplers": list(self.upsamplers),
            "seeds": list(self.seeds),
            **listed(self.settings),
        }

    def _experiment(self, upsampler: str, seed: int) -> Experiment:
        name, options = parse_variant(upsampler)
        own = {"model": {"upsampler": name, "upsampler_options": options or None}, "seed_everything": seed}
        return Experiment(self._settings, own)


# These select the runs or how they run, not what is compared: a folder may gain upsamplers and seeds.
_MAY_CHANGE = (
    "recipe",
    "upsamplers",
    "seeds",
    "save_every",
    "data.num_workers",
    "trainer.accelerator",
    "trainer.enable_progress_bar",
)


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], place: object) -> None:
    """Refuse to continue in the folder of another experiment.

    Args:
        before: `Comparison.to_dict` of the folder.
        now: `Comparison.to_dict` of this call.
        place: the folder, for the message.

    Raises:
        ValueError: naming every setting that differs, with both values.
    """
    if "recipe" not in before:
        raise ValueError(
            f"{place} holds a comparison of resfu 0.1, which cannot be resumed: give another --output, or "
            "--overwrite to start again."
        )
    if found := changes(before, now, _MAY_CHANGE):
        raise ValueError(
            f"{place} holds a comparison with other settings: {found}. "
            "Give another --output, the old settings, or --overwrite to start again."
        )
