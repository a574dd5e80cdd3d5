"""Batches that are on the device before they are asked for."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


def prefetch(batches: Iterable, device: torch.device | str) -> Iterator:
    """Iterate over ``batches`` on ``device``: each is copied there on a stream of its own, one ahead.

    The copy overlaps with the step before; from memory that is not pinned (``pin_memory`` of the loader) the host
    waits for it. Nothing is done on the CPU. It serves any iterable of batches, so loops of one's own, too.

    Args:
        batches: Tensors in dicts, lists, tuples and MMEngine's data elements.
        device: Where they are needed.
    """
    device = torch.device(device)
    if device.type != 'cuda':
        return iter(batches)
    return _one_ahead(batches, device, torch.cuda.Stream(device))


def _one_ahead(batches: Iterable, device: torch.device, stream: torch.Stream) -> Iterator:
    ahead = []
    for batch in batches:
        with torch.cuda.stream(stream):
            ahead.append(to_device(batch, device))
        if len(ahead) > 1:
            yield _hand_over(ahead.pop(0), device, stream)
    for batch in ahead:
        yield _hand_over(batch, device, stream)


def _hand_over(batch: Any, device: torch.device, stream: torch.Stream) -> Any:
    """``batch`` for the current stream, which waits for its copy, and before which its memory is not used again."""
    current = torch.cuda.current_stream(device)
    current.wait_stream(stream)
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
