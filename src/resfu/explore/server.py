"""The page's local server: it receives photos and returns pictures and numbers."""

import io
import json
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from resfu.data.pixels import load_shown, to_rgb
from resfu.explore.networks import Networks
from resfu.explore.view import PhotoView, look
from resfu.visualize import Picture

LONGEST_SIDE = 512
_LARGEST = 64 << 20  # bytes of the largest photo file
_HOSTS = ("127.0.0.1", "localhost")


class Explorer:
    """Answers the page's requests; keeps the last view, for later requests about its pixels.

    Args:
        networks: the networks to choose from.
        longest_side: larger photos are shrunk so that their longer side has this many pixels.
    """

    def __init__(self, networks: Networks, longest_side: int = LONGEST_SIDE) -> None:
        self.networks = networks
        self.longest_side = longest_side
        self._view: PhotoView | None = None
        self._lock = threading.Lock()  # one pass at a time: parallel passes would disturb the measurement

    def look(self, data: bytes, network: str, upsampler: str, ratio: int) -> dict[str, Any]:
        """Pass a photo's file through a network; see `PhotoView.answer`.

        Raises:
            ValueError: for a file that is not an image, or an unknown choice.
        """
        photo = _read(data, self.longest_side)
        with self._lock:
            self._view = look(self.networks.get(network, upsampler, ratio), photo, ratio)
            return self._view.answer()

    def similarity(self, row: float, column: float) -> dict[str, str]:
        """Compare the last photo's features with those of one pixel, see `PhotoView.similarity`.

        Raises:
            ValueError: before the first photo, or for a pixel outside it.
        """
        if self._view is None:
            raise ValueError("there is no photo yet: drop one on the page.")
        return self._view.similarity(row, column)


def serve(explorer: Explorer, port: int = 0) -> ThreadingHTTPServer:
    """Create a server on 127.0.0.1; call its `serve_forever` to run it.

    Args:
        explorer: answers the requests.
        port: 0 for any free one.

    Raises:
        ValueError: for a number that is no port.
        OSError: if the port is in use.
    """
    if not 0 <= port < 1 << 16:
        raise ValueError(f"port must be from 0 to 65535, got {port}.")
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, explorer))


class _Handler(BaseHTTPRequestHandler):
    """GET / and /choices and /similarity?row=&column=, POST /look?network=&upsampler=&ratio= with a photo's file."""

    def __init__(self, explorer: Explorer, *arguments: Any) -> None:
        self._explorer = explorer
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer requests for the page, its choices and similarities."""
        place, query = self._place()
        if place == "/":
            self._send(200, "text/html; charset=utf-8", files("resfu.explore").joinpath("page.html").read_bytes())
        elif place == "/choices":
            self._answer(lambda: self._explorer.networks.choices)
        elif place == "/similarity":
            self._answer(lambda: self._explorer.similarity(float(query["row"]), float(query["column"])))
        else:
            self._json(404, {"error": f"there is no {place} here."})

    def do_POST(self) -> None:
        """Answer a request that sends a photo."""
        place, query = self._place()
        length = int(self.headers.get("Content-Length") or 0)
        if place != "/look":
            self._json(404, {"error": f"there is no {place} here."})
        elif not 0 < length <= _LARGEST:
            self._json(400, {"error": f"a photo's file must have 1 to {_LARGEST} bytes, got {length}."})
        else:
            data = self.rfile.read(length)
            self._answer(
                lambda: self._explorer.look(data, query["network"], query["upsampler"], int(query["ratio"])),
            )

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal shows only the address."""

    def _place(self) -> tuple[str, dict[str, str]]:
        # Other sites must not reach this server under their own host name.
        try:
            host = urlsplit(f"//{self.headers.get('Host') or ''}").hostname
        except ValueError:
            host = None
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        return (parts.path if host in _HOSTS else "a page for this host"), query

    def _answer(self, question: Callable[[], Any]) -> None:
        try:
            self._json(200, question())
        except KeyError as error:
            self._json(400, {"error": f"the parameter {error.args[0]} is missing."})
        except ValueError as error:
            self._json(400, {"error": " ".join(str(error).split())})

    def _json(self, code: int, content: Any) -> None:
        self._send(code, "application/json", json.dumps(content).encode())

    def _send(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _read(data: bytes, longest_side: int) -> Picture:
    try:
        with Image.open(io.BytesIO(data)) as stored:
            image = Image.fromarray(to_rgb(load_shown(stored)[0]))
    # Pillow's decoders raise any of these for a damaged file.
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"this file cannot be read as an image: {str(error).rstrip('.')}.") from error
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return np.array(image)
