"""How many sums a compiled kernel keeps at once: as many as the processor has registers for.

A product whose sums do not fit writes them to memory and reads them again for every multiply-add.
"""

from numba.core.codegen import get_host_cpu_features

AVX512 = "+avx512f" in get_host_cpu_features()
# Rows of a product, and vectors of 16 numbers: AVX-512 has 32 registers of 16 numbers, AVX2 16 of 8, NEON 32 of 4.
ROWS_AT_ONCE, VECTORS_AT_ONCE = (16, 2) if AVX512 else (6, 1)


def parts(count: int, most: int) -> list[range]:
    """0 .. count - 1 in nearly equal parts of at most so many."""
    number = -(-count // most)
    return [range(count * n // number, count * (n + 1) // number) for n in range(number)]
