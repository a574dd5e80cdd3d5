"""The rate of a large matrix product: what a device does at its best, measured now."""

import statistics
import time
from collections.abc import Callable

import torch


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


def seconds(work: Callable[[], object], device: torch.device | str, rounds: int, warmup: int = 0) -> list[float]:
    """Seconds that each of ``rounds`` calls takes on ``device``, by its own events on a GPU."""
    device = torch.device(device)
    for _ in range(warmup):
        work()
    if device.type != 'cuda':
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return times
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) / 1e3 for start, end in zip(marks, marks[1:], strict=False)]
