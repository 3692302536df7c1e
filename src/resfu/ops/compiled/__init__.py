"""What the compiled kernels share: a matrix product in registers, and threads. Numba compiles them on first use."""
