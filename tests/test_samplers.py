"""The keyed stream: each epoch a fair permutation, the same for every number of ranks, entered anywhere at once."""

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import BatchSampler

from mae_plugin.datasets import samplers
from mae_plugin.datasets.sample_key import SampleKey
from mae_plugin.datasets.samplers import KeyedSampler, apportion, keyed_permutation
from mae_plugin.registry import DATA_SAMPLERS


def stream(count, position=0, size=101, **kwargs):
    sampler = KeyedSampler(range(size), **{'seed': 0, 'rank': 0, 'world_size': 1, **kwargs})
    sampler.set_position(position)
    return list(islice(sampler, count))


class Mixed:
    """A data set of several sources, (number of images, weight) each."""

    def __init__(self, *mixture):
        self.mixture = list(mixture)
        self.bounds = np.cumsum([0, *(size for size, _ in mixture)])

    def __len__(self):
        return int(self.bounds[-1])

    def source(self, index):
        return int(np.searchsorted(self.bounds, index, side='right')) - 1


def mixed_stream(dataset, count, position=0, **kwargs):
    sampler = KeyedSampler(dataset, **{'seed': 0, 'rank': 0, 'world_size': 1, **kwargs})
    sampler.set_position(position)
    return list(islice(sampler, count))


def permutations(size, epochs, seed=0):
    """(epochs, size) array of the order of each epoch."""
    offsets = np.tile(np.arange(size, dtype=np.uint64), epochs)
    return keyed_permutation(offsets, size, seed, np.repeat(np.arange(epochs, dtype=np.uint64), size)).reshape(
        epochs, size).astype(np.int64)


def sigmas(counts, expected):
    """Chi-square statistic of equal expectations, in standard deviations from its mean."""
    freedom = counts.size - 1
    return ((counts - expected)**2 / expected).sum() / math.sqrt(2 * freedom) - math.sqrt(freedom / 2)


@pytest.mark.parametrize('size', [1, 2, 3, 16, 17, 101, 1024, 5003])
def test_each_epoch_has_each_image_once(size):
    keys = stream(3 * size, size=size)
    for epoch in range(3):
        part = keys[epoch * size:(epoch + 1) * size]
        assert sorted(key.index for key in part) == list(range(size))
        assert {key.epoch for key in part} == {epoch} and {key.seed for key in part} == {0}


def test_epochs_and_seeds_differ():
    orders = [*permutations(101, 50), *permutations(101, 50, seed=1)]
    assert len({tuple(order) for order in orders}) == 100


@pytest.mark.parametrize('size', [2, 3, 4, 5])
def test_all_orders_of_few_images_are_equally_likely(size):
    counts = Counter(map(tuple, permutations(size, 12000).tolist()))
    assert len(counts) == math.factorial(size)
    assert abs(sigmas(np.array(list(counts.values())), 12000 / len(counts))) < 5


@pytest.mark.parametrize('size', [7, 64, 100])
def test_no_image_prefers_a_place_and_no_neighbour(size):
    epochs = 2000
    orders = permutations(size, epochs)
    places = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    assert abs(sigmas(places, epochs / size)) < 5
    steps = np.bincount(((orders[:, 1:] - orders[:, :-1]) % size).ravel(), minlength=size)[1:]
    assert abs(sigmas(steps, steps.sum() / (size - 1))) < 5


def test_an_order_is_unrelated_to_the_next_epochs_and_the_next_seeds():
    size = 2000
    first, other_epoch = permutations(size, 2)
    other_seed = permutations(size, 1, seed=1)[0]
    for order in (np.arange(size), other_epoch, other_seed):
        assert abs(np.corrcoef(first, order)[0, 1]) < .11  # 5 sigma
        assert (first == order).sum() < 9  # one fixed point is expected


@pytest.mark.parametrize('world_size', [2, 4])
@pytest.mark.parametrize('position', [0, 64])
def test_ranks_interleave_to_the_one_stream(world_size, position):
    ranks = [stream(6000 // world_size, position, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [key for step in zip(*ranks, strict=True) for key in step] == stream(6000, position)


@pytest.mark.parametrize('position', [1, 100, 101, 1023, 1024, 2500])
def test_any_start_gives_the_tail_of_the_whole_stream(position):
    assert stream(3000 - position, position) == stream(3000)[position:]


def test_a_far_position_is_found_at_once(monkeypatch):
    computed = []
    monkeypatch.setattr(samplers, 'keyed_permutation', lambda offsets, *rest: (
        computed.append(len(offsets)), keyed_permutation(offsets, *rest))[1])
    key, = stream(1, 10**9, size=1_281_167)
    assert key.epoch == 10**9 // 1_281_167 and computed == [1024]


def test_order_is_frozen():
    # A run that is resumed with a later version has to see the same images.
    assert [key.index for key in stream(8, 96, seed=12345)] == [14, 71, 48, 58, 21, 31, 37, 82]


def test_unshuffled_stream_counts():
    assert stream(5, size=3, shuffle=False, seed=9) == [
        SampleKey(9, 0, 0), SampleKey(9, 0, 1), SampleKey(9, 0, 2), SampleKey(9, 1, 0), SampleKey(9, 1, 1)]


def test_batches_straddle_epochs_and_are_never_short():
    batches = islice(BatchSampler(KeyedSampler(range(5), seed=0, rank=0, world_size=1), 3, drop_last=False), 5)
    assert [[key.epoch for key in batch] for batch in batches] == [
        [0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 2, 2], [2, 2, 2]]


def test_an_epoch_of_whole_batches_leaves_other_images_out_each_time():
    keys = stream(300, size=11, epoch_multiple=4)
    assert [key.epoch for key in keys[:16]] == [0] * 8 + [1] * 8
    epochs = [{key.index for key in keys[start:start + 8]} for start in range(0, 296, 8)]
    assert all(len(epoch) == 8 for epoch in epochs) and len({frozenset(epoch) for epoch in epochs}) > 10
    assert set.union(*epochs) == set(range(11))
    assert len(KeyedSampler(range(11), seed=0, epoch_multiple=4, rank=0, world_size=2)) == 4
    assert stream(9, size=3, epoch_multiple=4) == stream(9, size=3)  # fewer than a batch: nothing is left out
    # ImageNet at 4096: 312 iterations an epoch, so that 499,200 are 1600 epochs.
    key, = stream(1, 499_200 * 4096 - 1, size=1_281_167, epoch_multiple=4096)
    assert key.epoch == 1599


def test_apportioning():
    assert apportion(10, [1, 1, 1]) == [4, 3, 3] and apportion(7, [2, 0, 1]) == [5, 0, 2]
    assert apportion(100, [.1, .2, .7]) == [10, 20, 70] and apportion(1, [1e-9, 1]) == [0, 1]


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('mixture, shares', [
    ([(7, 1), (50, 2), (3, 1)], [15, 30, 15]), ([(100, 1), (13, 0)], [113, 0]),
    ([(1, .5), (40, .1), (5, .4)], [23, 5, 18])])
def test_weights_give_each_source_its_share_of_every_epoch_and_all_its_images_their_turn(mixture, shares, shuffle):
    dataset = Mixed(*mixture)
    size, epochs = len(dataset), 9
    keys = mixed_stream(dataset, epochs * size, shuffle=shuffle)
    assert len(set(keys)) == len(keys)
    seen = np.zeros(size, int)
    for epoch in range(epochs):
        indices = [key.index for key in keys[epoch * size:(epoch + 1) * size]]
        assert [*np.bincount([dataset.source(index) for index in indices], minlength=len(mixture))] == shares
        np.add.at(seen, indices, 1)
        for first, end in zip(dataset.bounds, dataset.bounds[1:], strict=False):
            assert np.ptp(seen[first:end]) <= 1  # none a second time before all a first time
    for source, (images, _) in enumerate(mixture):  # and an epoch in the keys is once through the source
        own = Counter(key.epoch for key in keys if dataset.source(key.index) == source)
        assert all(count == images for count in [own[epoch] for epoch in sorted(own)][:-1])


def test_sources_take_turns_and_their_images_come_in_an_order_of_their_own():
    dataset = Mixed((40, 1), (40, 1))
    keys = mixed_stream(dataset, 80)
    halves = [[key.index - 40 * source for key in keys if dataset.source(key.index) == source] for source in (0, 1)]
    assert halves[0] != halves[1] and sorted(halves[0]) != halves[0]
    assert 12 <= sum(dataset.source(key.index) for key in keys[:40]) <= 28  # 20 +- 2.5 sigma
    assert [dataset.source(key.index) for key in keys] != [
        dataset.source(key.index) for key in mixed_stream(dataset, 80, 80)]


@pytest.mark.parametrize('world_size, position', [(1, 1), (1, 1023), (1, 2500), (3, 0), (3, 300)])
def test_a_mixture_is_one_stream_for_any_start_and_any_number_of_ranks(world_size, position):
    dataset = Mixed((7, 1), (50, 2), (3, 1))
    ranks = [mixed_stream(dataset, 900, position, rank=rank, world_size=world_size) for rank in range(world_size)]
    merged = [key for step in zip(*ranks, strict=True) for key in step]
    assert merged == mixed_stream(dataset, position + 900 * world_size)[position:]


def test_whole_batches_of_a_mixture():
    keys = mixed_stream(Mixed((7, 1), (50, 2), (3, 1)), 560, epoch_multiple=16)  # 48 of 60
    for start in range(0, 528, 48):
        assert sum(7 <= key.index < 57 for key in keys[start:start + 48]) == 24


def test_length_is_that_of_an_epoch_of_one_rank():
    assert [len(KeyedSampler(range(10), seed=0, rank=0, world_size=n)) for n in (1, 3, 4)] == [10, 4, 3]


def test_built_as_mmengine_does():
    sampler = DATA_SAMPLERS.build(dict(type='mae_plugin.KeyedSampler'), default_args=dict(dataset=range(5), seed=4))
    assert (sampler.rank, sampler.world_size, next(iter(sampler)).seed) == (0, 1, 4)
    assert isinstance(KeyedSampler(range(5)).seed, int)


def test_bad_arguments():
    with pytest.raises(ValueError, match='empty'):
        KeyedSampler([])
    with pytest.raises(ValueError, match='epoch_multiple=0'):
        KeyedSampler(range(3), seed=0, epoch_multiple=0)
    with pytest.raises(ValueError, match='rank 2 is not in range'):
        KeyedSampler(range(3), seed=0, rank=2, world_size=2)
