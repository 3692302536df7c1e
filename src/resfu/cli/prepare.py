"""`resfu prepare`: bring raw medical scans into the format that networks are trained on."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from resfu.cli.arguments import Parser, spacing
from resfu.data import DATASETS
from resfu.data.medical.geometry import Geometry
from resfu.data.medical.label_maps import SYNAPSE_LABELS, LabelMap
from resfu.data.medical.nonfinite import Nonfinite
from resfu.data.medical.prepare import prepare_acdc, prepare_synapse
from resfu.data.medical.tally import Tally


def run(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu prepare`; returns 0."""
    options = _parser().parse_args(argv)
    given: dict[str, Any] = {
        "on_error": options.on_error,
        "geometry": Geometry(options.orientation, options.spacing),
        "nonfinite": Nonfinite(options.nonfinite, options.fill_value),
        "on_mismatch": options.on_mismatch,
    }
    if options.splits is not None:
        given["splits"] = _read_json(options.splits)
    if options.labels is not None:
        given["labels"] = _label_map(options.labels)
    if options.dataset == "synapse":
        given["flip"] = options.flip
    elif options.flip:
        raise ValueError("--flip belongs to synapse.")
    prepare = prepare_synapse if options.dataset == "synapse" else prepare_acdc
    tally = Tally(DATASETS[options.dataset].classes)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(options.dataset, total=None)
        folder = prepare(
            options.raw,
            options.out,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            on_case=tally.add,
            **given,
        )
    for line in tally.lines():
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    print(folder)
    return 0


def _label_map(text: str) -> str | LabelMap:
    """The name of a built-in label map, or the map in a JSON file, with its keys converted to integers."""
    if text in SYNAPSE_LABELS:
        return text
    stored = _read_json(Path(text))
    try:
        return {int(key): int(value) for key, value in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'{text} must hold a map from stored ids to classes, such as {{"8": 1, "4": 2}}.') from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu prepare",
        description="Make the data set `synapse` from the BTCV scans (img/imgNNNN.nii.gz, label/labelNNNN.nii.gz), or "
        "`acdc` from the challenge's patient folders.",
    )
    add = parser.add_argument
    add("dataset", choices=["synapse", "acdc"])
    add("raw", type=Path, metavar="RAW", help="folder of the NIfTI files")
    add("out", type=Path, metavar="OUT", help="a new folder, which training takes as its root")
    names = ", ".join(SYNAPSE_LABELS)
    add("--labels", metavar="NAME", help=f"what the stored ids mean: {names}, or a JSON file (btcv; acdc: 0 to 3)")
    add("--splits", type=Path, metavar="FILE", help='JSON with the cases of each split: {"train": [5, 6], "test": [1]}')
    add("--flip", action="store_true", help="synapse: reverse the last axis, as mmsegmentation's converter does")
    add(
        "--orientation",
        metavar="LAS",
        help="where a slice's first index, its second and the slices point, by the affines; 'stored': as in the files "
        "(that of the first scan, or where that gives no axial slices LAS, acdc: LPS)",
    )
    add("--spacing", type=spacing, metavar="XxYxZ", help="resample to these distances of voxels in mm (as they are)")
    add(
        "--nonfinite",
        choices=["error", "fill"],
        default="error",
        help="what to do about voxels that are NaN or infinite (error)",
    )
    add(
        "--fill-value",
        type=float,
        metavar="V",
        help="value for --nonfinite fill, in the values of the scan (synapse: -125 HU; acdc: the least finite value)",
    )
    add(
        "--on-mismatch",
        choices=["raise", "warn"],
        default="raise",
        help="what to do about a label that lies elsewhere in the patient than its image (raise)",
    )
    add("--on-error", choices=["raise", "skip"], default="raise", help="what to do about a damaged scan (raise)")
    return parser
