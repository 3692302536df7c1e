"""A switch that lets a process keep its freed memory pages, on Linux with glibc.

glibc returns memory blocks above a threshold to the system as soon as they are freed. Every new feature map of that
size then costs one page fault for each 4 kB, which takes about as long as writing the map itself.
"""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # their numbers in <malloc.h>
_LARGEST = (2**31 - 1, 2**25)  # bytes; the second is the largest M_MMAP_THRESHOLD that older glibc versions accept
_SWITCH = "RESFU_KEEP_PAGES"
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_pages() -> bool:
    """Let this process keep the memory that it frees, so that the next large map costs no page faults.

    It sets glibc's two thresholds to their largest values, for the whole process. Call it once, before the work starts.
    The process then never becomes smaller than its largest size so far.

    It does nothing on other systems and C libraries (macOS, Windows, musl), in processes whose environment sets the
    thresholds itself (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ or GLIBC_TUNABLES), and with RESFU_KEEP_PAGES=0.

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
    except (ValueError, OSError):  # other C libraries do not know this name
        return False
