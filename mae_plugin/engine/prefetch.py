"""Batches that are on the device before they are asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


def prefetch(batches: Iterable, device: torch.device | str, decode: Callable[[Any], Any] | None = None) -> Iterator:
    """Iterate over ``batches`` on ``device``: each is copied there on a stream of its own, one ahead, by a thread.

    The copy overlaps with the step before, and so does ``decode``. Without it nothing is done on the CPU. An error of
    the thread is raised where its batch is asked for; the thread ends with the iterator. It serves any iterable of
    batches, so loops of one's own, too.

    Args:
        batches: Tensors in dicts, lists, tuples and MMEngine's data elements.
        device: Where they are needed.
        decode: What is done with each batch before; a data preprocessor's ``decode``.
    """
    device = torch.device(device)
    if device.type == 'cuda':
        return _one_ahead(batches, device, torch.cuda.Stream(device), decode)
    return _one_ahead(batches, device, None, decode) if decode else iter(batches)


def _one_ahead(batches: Iterable, device: torch.device, stream: torch.cuda.Stream | None,
               decode: Callable[[Any], Any] | None) -> Iterator:
    def make(batch: Any) -> tuple[Any, torch.cuda.Event | None]:
        with torch.cuda.stream(stream):  # does nothing for None
            batch = to_device(decode(batch) if decode else batch, device)
            return batch, stream.record_event() if stream else None

    # The thread's device, else the first, on which CUDA would then take memory, too.
    set_device = dict(initializer=torch.cuda.set_device, initargs=(device, )) if stream else {}
    with ThreadPoolExecutor(1, 'prefetch', **set_device) as thread:
        ahead = None
        for batch in batches:
            job = thread.submit(make, batch)
            if ahead:
                yield _hand_over(*ahead.result(), device)
            ahead = job
        if ahead:
            yield _hand_over(*ahead.result(), device)


def _hand_over(batch: Any, copied: torch.cuda.Event | None, device: torch.device) -> Any:
    """``batch`` for the current stream, which waits for its copy, and before which its memory is not used again."""
    if copied:
        current = torch.cuda.current_stream(device)
        current.wait_event(copied)
        for tensor in tensors_of(batch):
            tensor.record_stream(current)
    return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """``batch`` with all its tensors on ``device``; what holds none is returned as it is."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, BaseDataElement):  # of which `to` makes a copy
        return batch.to(device, non_blocking=True) if any(True for _ in tensors_of(batch)) else batch
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        moved = [to_device(value, device) for value in batch]
        return type(batch)(*moved) if hasattr(batch, '_fields') else type(batch)(moved)
    return batch


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """All tensors in ``batch``."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(getattr(batch, 'tensor', None), Tensor):  # mmdet's boxes
        yield batch.tensor
    elif isinstance(batch, Mapping | BaseDataElement):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from tensors_of(value)
