"""The rate of a large matrix product: what a device does at its best, measured now."""

import statistics

import torch

from mae_plugin.utils.timing import seconds


def matmul_rate(device: torch.device | str, dtype: torch.dtype, size: int | None = None, rounds: int = 10) -> float:
    """Operations per second of a square matrix product.

    The numbers are random: GPUs multiply zeros with less power, and therefore faster.

    Args:
        device: Where.
        dtype: Type of both matrices.
        size: Rows and columns; by default 8192 on a GPU and 2048 elsewhere.
        rounds: Products that the median is taken of, after two for warming up.
    """
    device = torch.device(device)
    size = size or (8192 if device.type == 'cuda' else 2048)
    generator = torch.Generator(device).manual_seed(0)  # its own: a run draws the same with and without
    a, b = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
    return 2. * size**3 / statistics.median(seconds(lambda: a @ b, device, rounds, warmup=2))
