"""`resfu compare`: train the same network once per upsampler and seed, and report side by side."""

import sys
from collections.abc import Sequence

from resfu.cli.arguments import Parser, positive, seeds, variants
from resfu.cli.old_names import take_old_names
from resfu.cli.training_options import (
    SETTINGS_HELP,
    add_training_options,
    chosen_settings,
    parse,
    read_recipes,
    recipe_first,
)
from resfu.recipes import merge


def run(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu compare`; returns the exit code."""
    arguments, name, old = take_old_names(recipe_first(argv))
    options, settings = parse(_parser(), arguments)
    base = read_recipes([name])
    import torch
    from rich.console import Console

    from resfu.compare.variants import parse_variant

    for upsampler in options.upsamplers:
        parse_variant(upsampler)

    from resfu.cli.checkpoints import user_errors
    from resfu.compare.comparison import Comparison
    from resfu.compare.run import compare

    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with user_errors():
            settings = merge(old, chosen_settings(options, base, settings))
            comparison = Comparison(name, options.upsamplers, options.seeds, settings)
            compare(comparison, options.output, options.overwrite, options.pictures, Console())
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="resfu compare",
        description="Train the same network, that of a recipe (the first word, or behind --recipe), once per upsampler "
        "and seed, from the same initial weights and on the same "
        "batches; evaluate; print one table; write results.json, table.md, report.html, sheets/ and runs/. "
        "Interrupted, the same command goes on where it was. More upsamplers or seeds may be added to a folder. "
        + SETTINGS_HELP,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--recipe", metavar="NAME", help="of `resfu list recipes`, or a YAML file (scenes, or as the host asks)")
    add(
        "--upsamplers",
        type=variants,
        default=("bilinear", "resfu"),
        metavar="A,B",
        help="all, or names (see `resfu list`); with constructor arguments if wanted: resfu+kernel_size=5+groups=2",
    )
    add("--seeds", type=seeds, default=(0,), metavar="N | A,B", help="a number of seeds, or a comma-separated list (1)")
    add("--output", required=True, metavar="DIR", help="folder for the results")
    add("--overwrite", action="store_true", help="begin again in a folder that holds a comparison")
    add("--pictures", type=positive, default=6, metavar="N", help="validation images in the report (6)")
    add_training_options(parser)
    return parser
