"""Memory pages that a process keeps, on Linux with glibc.

glibc gives blocks above a threshold back to the system as soon as they are free, and every new map of that size then
costs a page fault for each 4 kB: about as much as writing it.
"""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
_LARGEST = (2**31 - 1, 2**25)  # bytes; the second is the most that older versions take for blocks
_SWITCH = "RESFU_KEEP_PAGES"
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_pages() -> bool:
    """Let this process keep the memory that it frees, so that the next large map costs no page faults.

    It sets glibc's two thresholds at their largest, for the whole process: call it once, before the work. The process
    then stays as large as it once was. Left alone are other systems and C libraries (macOS, Windows, musl), processes
    whose environment sets the thresholds itself (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ or GLIBC_TUNABLES), and
    those with RESFU_KEEP_PAGES=0.

    Returns:
        Whether the thresholds were set.

    Example:
        >>> import resfu
        >>> kept = resfu.keep_pages()
    """
    if sys.platform != "linux" or not _is_glibc():
        return False
    if os.environ.get(_SWITCH, "1") == "0" or any(name in os.environ for name in _SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    blocks = any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST)
    return bool(mallopt(_TRIM_THRESHOLD, _LARGEST[0])) and blocks


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # a name that another C library does not know
        return False
