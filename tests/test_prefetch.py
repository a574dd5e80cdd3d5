"""Batches are copied ahead, all of them, in order."""

import threading
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mae_plugin.engine import prefetch as module
from mae_plugin.engine.prefetch import prefetch, tensors_of, to_device

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
def test_one_ahead_and_in_order(count):
    """The batch that follows is made while one is trained on: training waits here until it is."""
    made = [threading.Event() for _ in range(count)]

    def decode(i):
        assert threading.current_thread().name.startswith('prefetch')
        made[i].set()
        return -i
    trained = []
    for i in prefetch(range(count), 'cpu', decode):
        assert all(event.wait(10) for event in made[:2 - i])
        assert not any(event.is_set() for event in made[2 - i:]), 'no more than one ahead'
        trained.append(-i)
    assert trained == list(range(count))


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith('prefetch')]


def test_an_error_of_the_thread_is_raised_where_its_batch_is_asked_for():
    batches = prefetch([1, 2, 0, 3], 'cpu', lambda number: 1 / number)
    assert [next(batches), next(batches)] == [1, .5] and len(threads()) == 1
    with pytest.raises(ZeroDivisionError):
        next(batches)
    assert not threads()


def test_no_thread_outlives_the_iterator():
    batches = prefetch(iter(int, 1), 'cpu', lambda number: number)
    assert next(batches) == 0 and len(threads()) == 1
    del batches
    assert not threads()


def test_a_batch_is_waited_for_and_its_memory_is_marked_as_in_use(monkeypatch):
    events, copied = [], object()
    current = SimpleNamespace(wait_event=lambda event: events.append(event))
    monkeypatch.setattr('torch.cuda.current_stream', lambda device: current)
    monkeypatch.setattr(torch.Tensor, 'record_stream', lambda self, stream: events.append(stream))
    assert module._hand_over(batch := nested(), copied, None) is batch
    assert events == [copied] + [current] * 5


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
