"""How long work takes on a device."""

import time
from collections.abc import Callable

import torch


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
