"""`resfu explore`: a local page for looking at features before and after upsampling."""

import argparse
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from resfu.cli.arguments import Parser, positive


def run(argv: Sequence[str]) -> int:
    """Serve the page until Ctrl-C."""
    parser = Parser(
        prog="resfu explore",
        description="Open a local page: drop a photo, choose network or encoder, upsampler and ratio; see the features "
        "before and after, the kernel under the pointer, what a pixel resembles, time and memory. Nothing leaves this "
        "machine.",
    )
    add = parser.add_argument
    add("--run", type=Path, nargs="+", default=[], metavar="DIR", help="trained networks, by their run folders")
    add("--encoder", nargs="+", default=[], metavar="NAME", help="frozen encoders: timm:NAME, transformers:NAME, ...")
    add("--weights", nargs="+", default=[], metavar="UPSAMPLER=FILE", type=_named_file, help="of `resfu distill`")
    add("--port", type=int, default=0, help="of the page (any that is free)")
    add("--longest-side", type=positive, default=512, metavar="N", help="larger photos are shrunk to this (512)")
    add("--no-browser", action="store_true", help="print the address and open nothing")
    options = parser.parse_args(argv)
    from resfu.explore.networks import Networks
    from resfu.explore.server import Explorer, serve

    networks = Networks(options.run, options.encoder, dict(options.weights))
    server = serve(Explorer(networks, options.longest_side), options.port)
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    print(f"{address}  (Ctrl-C ends it)", flush=True)
    if not options.no_browser:
        webbrowser.open(address)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be UPSAMPLER=FILE, got {text!r}")
    return name, Path(file)
