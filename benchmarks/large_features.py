"""Memory of `PixelFeatures.stream`: pixel features of a ViT-S/14 at random weights, of an image of 2048 x 2048.

    python -m benchmarks.large_features [UPSAMPLER ...] [--side 2048] [--budget 256MB]
    python -m benchmarks.large_features --beside-whole

The image's features would take 6.4 GB in fp32. Every upsampler runs in a child process of its own, on two threads, that
takes the bands one by one and lets them go; the number is the most memory that the child held, libraries and encoder
included. Writes benchmarks/results/large-features.json after each, at the full side; rows that this call does not
measure stay. With `--beside-whole` it streams 128 rows of such an image and computes them whole, and adds to each row
how many times the processor time of the whole call the stream takes, a median of three.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import results

SIDE, BUDGET, THREADS = 2048, "256MB", 2
ENCODER = "vit_small_patch14_dinov2"


def child(upsampler: str, side: int, budget: str) -> dict:
    """Stream once, in this process."""
    import torch

    import resfu

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    pf = resfu.PixelFeatures(ENCODER, upsampler, pretrained=False)
    image = torch.randint(256, (3, side, side), dtype=torch.uint8)
    start, rows, bands = time.perf_counter(), 0, 0
    try:
        stream = pf.stream(image, budget=budget)
    except ValueError as error:
        return {"refused": str(error)}
    for band in stream:
        rows, bands = rows + band.shape[2], bands + 1
    assert rows == side
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"bands": bands, "seconds": round(seconds, 1), "peak_mib": round(peak / 2**20)}


def beside_whole(upsampler: str, budget: str) -> float:
    """Processor time of a stream of 128 x 2048 pixels, in times of the whole call."""
    import torch

    import resfu

    torch.manual_seed(0)
    torch.set_num_threads(1)
    resfu.keep_pages()
    up = resfu.create_upsampler(upsampler, channels=384).eval()
    features, image, size = torch.randn(1, 384, 9, 146), torch.randn(1, 3, 128, SIDE), (128, SIDE)

    def stream() -> None:
        for _ in resfu.stream(up, features, image, size, budget=budget):
            pass

    def whole() -> None:
        up(features, image, size)

    def seconds(run: Callable[[], None]) -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    with torch.no_grad():
        stream()
        whole()
        return statistics.median(seconds(stream) / seconds(whole) for _ in range(3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("upsamplers", nargs="*", default=["bilinear", "naf", "anyup", "resfu-image"])
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--budget", default=BUDGET)
    parser.add_argument("--beside-whole", action="store_true", help="times of 128 rows alone")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.upsamplers[0], options.side, options.budget)))
        return
    rows = {row["upsampler"]: row for row in results.measured("large-features")}
    if options.beside_whole:
        import torch

        for upsampler in options.upsamplers:
            rows[upsampler] = {
                **rows.get(upsampler, {"upsampler": upsampler}),
                "times_whole_call": round(beside_whole(upsampler, options.budget), 2),
            }
            print(json.dumps(rows[upsampler]))
            torch.set_num_threads(THREADS)  # of the other numbers
            results.save("large-features", 1, list(rows.values()))
        return
    for upsampler in options.upsamplers:
        words = [upsampler, "--side", str(options.side), "--budget", options.budget, "--child"]
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.large_features", *words], check=True, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(run.stdout.splitlines()[-1])
        row = {"encoder": ENCODER, "upsampler": upsampler, "side": options.side, "budget": options.budget, **found}
        print(json.dumps(row))
        if options.side == SIDE:
            times = {"times_whole_call": rows.get(upsampler, {}).get("times_whole_call")}
            rows[upsampler] = {**row, **times}
            results.save("large-features", 1, list(rows.values()))


if __name__ == "__main__":
    main()
