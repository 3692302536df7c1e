"""The files of a fit without labels: the weights, and a card that describes them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from resfu.files.atomic import replacing, write_text
from resfu.tasks.run import Trained


def write_weights(folder: Path, experiment: Any, trained: Trained) -> list[Path]:
    """Write weights.safetensors, the moving average in fp16, and card.md.

    Args:
        folder: folder of the run.
        experiment: the experiment.
        trained: the result of the training, after a validation.

    Returns:
        The two files.
    """
    module: Any = trained.module
    weights, card = folder / "weights.safetensors", folder / "card.md"
    state = module.host.average.state_dict()
    settings = experiment.settings
    with replacing(weights) as draft:
        save_file(
            {key: value.to(torch.float16).contiguous() for key, value in state.items()},
            draft,
            {"upsampler": settings["model"]["upsampler"], "options": str(settings["model"]["upsampler_options"] or {})},
        )
    write_text(card, _card(settings, module, trained))
    return [weights, card]


def _card(settings: dict[str, Any], module: Any, trained: Trained) -> str:
    results, model, data = module.results, settings["model"], settings["data"]
    count = sum(value.numel() for value in module.host.average.parameters())
    options = "".join(f", {key}={value}" for key, value in (model["upsampler_options"] or {}).items())
    rows = [
        f"| {name} | {results[prefix + 'r2']:.2f} | {results[prefix + 'cos']:.2f} |"
        for name, prefix in (("fitted", ""), ("bilinear", "bilinear_"), ("nearest", "nearest_"))
    ]
    photos = f"{data['dataset']} ({len(trained.data.trained)} to fit, {len(trained.data.evaluated)} held out)"
    return "\n".join(
        [
            f"# {model['upsampler']} for the features of {model['host']}",
            "",
            f"{count:,} parameters{options}. Fitted without labels for {trained.trainer.global_step} steps of "
            f"{data['batch_size']} crops of {data['crop_size']} pixels, pairs `{model['pairs']}`, from {photos}, seed "
            f"{settings['seed_everything']}.",
            "",
            "Agreement with the encoder's features of the larger image, on the held-out photos:",
            "",
            "| features | R² % | cosine % |",
            "|---|---|---|",
            *rows,
            "",
            "```python",
            "import resfu",
            "",
            f'encoder, upsampler = "{model["host"]}", "{model["upsampler"]}"',
            f'pf = resfu.PixelFeatures(encoder, upsampler, weights="weights.safetensors"{options})',
            "```",
            "",
        ]
    )
