"""Batches are copied ahead, all of them, in order."""

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mae_plugin.engine import prefetch as module
from mae_plugin.engine.prefetch import _one_ahead, prefetch, tensors_of, to_device

Pair = namedtuple('Pair', 'a b')


def nested(value=0.):
    boxes = InstanceData(bboxes=torch.full((2, 4), value), labels=torch.zeros(2))
    sample = BaseDataElement(metainfo=dict(sample_key=(0, 0, 1)), gt_instances=boxes)
    return dict(inputs=[torch.full((3, 2), value), (torch.ones(1), 'text')], pair=Pair(torch.ones(2), None),
                data_samples=[sample], number=3)


def test_every_tensor_moves_and_the_rest_stays():
    moved = to_device(nested(), torch.device('meta'))
    found = list(tensors_of(moved))
    assert len(found) == 5 and {tensor.device.type for tensor in found} == {'meta'}
    assert moved['inputs'][1][1] == 'text' and moved['number'] == 3 and moved['pair'].b is None
    assert isinstance(moved['pair'], Pair) and isinstance(moved['inputs'][1], tuple)
    assert moved['data_samples'][0].sample_key == (0, 0, 1)
    assert moved['data_samples'][0].gt_instances.bboxes.shape == (2, 4)


def test_on_the_cpu_nothing_changes():
    batches = [nested(), nested()]
    assert [id(batch) for batch in prefetch(batches, 'cpu')] == [id(batch) for batch in batches]


@pytest.mark.parametrize('count', [0, 1, 2, 5])
def test_one_ahead_and_in_order(count, monkeypatch):
    """Each batch is handed over once, when the next one's copy has begun, after the wait for its own."""
    events = []
    monkeypatch.setattr(module, 'to_device', lambda i, device: (events.append(('copy', i)), i)[1])
    monkeypatch.setattr(module, '_hand_over', lambda i, *args: (events.append(('wait', i)), i)[1])
    for i in _one_ahead(range(count), torch.device('cpu'), None):
        events.append(('train', i))
    assert [i for what, i in events if what == 'train'] == list(range(count))
    for i in range(count):
        order = [events.index((what, i)) for what in ('copy', 'wait', 'train')]
        assert order == sorted(order)
        if i + 1 < count:
            assert events.index(('copy', i + 1)) < events.index(('train', i))


def test_a_batch_is_waited_for_and_its_memory_is_marked_as_in_use(monkeypatch):
    events, side = [], object()
    current = SimpleNamespace(wait_stream=lambda stream: events.append(stream))
    monkeypatch.setattr('torch.cuda.current_stream', lambda device: current)
    monkeypatch.setattr(torch.Tensor, 'record_stream', lambda self, stream: events.append(stream))
    assert module._hand_over(batch := nested(), None, side) is batch
    assert events == [side] + [current] * 5


@pytest.mark.gpu
def test_copies_are_whole_while_the_device_is_busy():
    """Memory of a batch is not used again before the step that reads it has run."""
    batches = ([torch.full((2**20, ), i, dtype=torch.uint8).pin_memory()] for i in range(30))
    weight, sums = torch.randn(4096, 4096, device='cuda'), []
    for batch, in prefetch(batches, 'cuda'):
        for _ in range(3):
            weight = weight @ weight / 64  # keeps the device behind the host
        sums.append(batch.long().sum())
    assert [int(x) for x in sums] == [i * 2**20 for i in range(30)]
