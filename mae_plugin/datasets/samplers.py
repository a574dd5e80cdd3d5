"""The order of the training stream, as a function of seed and position."""

from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from fractions import Fraction
from itertools import islice, repeat
from math import isqrt

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mae_plugin.registry import DATA_SAMPLERS

from .sample_key import SampleKey

_BLOCK = 1024  # positions computed at once: spreads the overhead of NumPy's calls
_ROUNDS = 16  # fewer are measurably uneven for data sets of under ten images
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): every bit of the result depends on every bit of ``x``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keyed_permutation(offsets: np.ndarray, size: int, seed: int, epochs: np.ndarray) -> np.ndarray:
    """Where the shuffle of ``range(size)`` that belongs to (seed, epoch) sends each offset, without making the shuffle.

    An offset is written as two digits of bases a and b, the least with ``a * b >= size``, and in turns a keyed hash of
    one digit is added to the other: a Feistel network over Z_a x Z_b, hence a permutation of ``range(a * b)``. A result
    out of range is sent through again until it is in range (cycle walking; Black & Rogaway 2002), which is rare, since
    ``a * b - size < a``.

    Args:
        offsets: (n,) uint64, each in ``range(size)``.
        size: number of images, at least 1.
        seed: seed of the run.
        epochs: (n,) uint64, the epoch of each offset.

    Returns:
        (n,) uint64, each in ``range(size)``.
    """
    base_a = isqrt(size - 1) + 1
    base_b = -(-size // base_a)
    base_a, base_b = np.uint64(base_a), np.uint64(base_b)
    keys = _mix(_mix(epochs * _GOLDEN) ^ np.uint64(seed % 2**64))
    high, low = np.divmod(offsets, base_b)
    for _ in range(_ROUNDS // 2):
        keys = keys + _GOLDEN
        high = (high + _mix(keys ^ low) % base_a) % base_a
        keys = keys + _GOLDEN
        low = (low + _mix(keys ^ high) % base_b) % base_b
    result = high * base_b + low
    outside = result >= np.uint64(size)
    if outside.any():
        result[outside] = keyed_permutation(result[outside], size, seed, epochs[outside])
    return result


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers with the sum ``total`` in proportion to weights, by largest remainders (Hamilton's method)."""
    weights = [*map(Fraction, weights)]
    quotas = [total * weight / sum(weights) for weight in weights]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(shares)), key=lambda i: shares[i] - quotas[i])
    for i in by_remainder[:total - sum(shares)]:
        shares[i] += 1
    return shares


@DATA_SAMPLERS.register_module()
class KeyedSampler(Sampler[SampleKey]):
    """Infinite stream of sample keys in which any position is found at once, in constant memory.

    Position g of the stream, over all ranks, is in epoch ``g // N``, and each epoch is a permutation of the N images
    that is a function of (seed, epoch). Rank r of W yields the positions r, r + W, ...: the stream is the same for
    every number of ranks, and a batch may straddle two epochs, so that no image is dropped and no batch is short.
    With ``epoch_multiple``, an epoch is as many of the N images as are a multiple of it, the others another time.

    A data set with a ``mixture``, that is (number of images, weight) of each source, whose images follow one another,
    is drawn by weight: an epoch still has as many positions, of which a source has the share of its weight, at places
    that are a permutation. A source goes through all its images, permuted, before the next time, over epochs: after any
    epoch none of them was seen more than once more than another. The epoch in a sample's key is then that of its
    source, so that no key comes twice.

    A data set with ``repeats`` r > 1 is gone through in groups of G = ``repeat_distance`` images, each group r times in
    all before the next: each image recurs G positions later. The k-th time, its key has epoch ``e * r + k`` for the e
    that it has without repeats, so that all that is drawn from the key is new.

    Args:
        dataset: the images; only its length and, if it has them, its ``mixture``, ``repeats`` and ``repeat_distance``
            are used.
        seed: seed of the run; None draws one and shares it between the ranks. ``KeyedIterTrainLoop`` sets the runner's.
        shuffle: whether the order within an epoch is permuted.
        epoch_multiple: the batch of all ranks of a recipe that drops the last, short batch of an epoch (``drop_last``):
            4096 for MAE's pretraining. 1 drops nothing. Fewer images than that are all used.
        rank: position of this process among ``world_size``; None asks ``mmengine.dist``.
        world_size: number of processes that share the stream; None asks ``mmengine.dist``.

    Raises:
        ValueError: if the data set is empty, ``epoch_multiple`` is not at least 1, or ``rank`` is not in
            ``range(world_size)``.
    """

    def __init__(self, dataset: Sized, seed: int | None = None, shuffle: bool = True, epoch_multiple: int = 1,
                 rank: int | None = None, world_size: int | None = None) -> None:
        own_rank, own_world_size = get_dist_info()
        self.rank = own_rank if rank is None else rank
        self.world_size = own_world_size if world_size is None else world_size
        self.size = len(dataset)
        self.repeats = getattr(dataset, 'repeats', 1)
        self.distance = getattr(dataset, 'repeat_distance', 1)
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.position = 0
        if not self.size:
            raise ValueError('KeyedSampler: the data set is empty')
        if epoch_multiple < 1:
            raise ValueError(f'KeyedSampler: epoch_multiple={epoch_multiple} is not at least 1')
        self.epoch_size = self.size // epoch_multiple * epoch_multiple or self.size
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f'KeyedSampler: rank {self.rank} is not in range(world_size={self.world_size})')
        mixture = getattr(dataset, 'mixture', None)
        self.mixture = mixture and [(size, share) for (size, _), share in zip(
            mixture, apportion(self.epoch_size, [weight for _, weight in mixture]), strict=True)]
        if any(weight and not share for (_, weight), (_, share) in zip(mixture or (), self.mixture or (), strict=True)):
            raise ValueError(f'KeyedSampler: weights={[weight for _, weight in mixture]} leave a source not one of the '
                             f'{self.epoch_size} images of an epoch: give it a larger weight, or 0')

    def set_position(self, position: int) -> None:
        """Sets where the next ``iter()`` starts: the number of samples that all ranks together have consumed."""
        self.position = position

    def _in_decoded_stream(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in the stream without repeats, and how often the image of each was seen there before: (n,) each."""
        distance = np.uint64(self.distance)
        groups, places = np.divmod(positions, distance * np.uint64(self.repeats))
        passes, places = np.divmod(places, distance)
        return groups * distance + places, passes

    def __iter__(self) -> Iterator[SampleKey]:
        start, seed = self.position + self.rank, self.seed
        while True:
            positions = np.arange(start, start + _BLOCK * self.world_size, self.world_size, dtype=np.uint64)
            positions, passes = self._in_decoded_stream(positions)
            epochs, indices = np.divmod(positions, np.uint64(self.epoch_size))
            if self.shuffle:
                indices = keyed_permutation(indices, self.epoch_size if self.mixture else self.size, seed, epochs)
            if self.mixture:
                epochs, indices = self._mix(epochs, indices)
            epochs = epochs * np.uint64(self.repeats) + passes
            yield from map(SampleKey, repeat(seed), epochs.tolist(), indices.tolist())
            start += _BLOCK * self.world_size

    def _mix(self, epochs: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The epoch of its source, and the image, of each place in an epoch: (n,) uint64 both ways.

        The first places are those of the first source, and so on.
        """
        own_epochs, indices = np.empty_like(epochs), np.empty_like(places)
        first_place = first_image = 0
        for number, (size, share) in enumerate(self.mixture):
            chosen = (places >= first_place) & (places < first_place + share)
            if chosen.any():
                positions = epochs[chosen] * np.uint64(share) + (places[chosen] - np.uint64(first_place))
                own_epochs[chosen], offsets = np.divmod(positions, np.uint64(size))
                if self.shuffle:  # by keys unlike those of the places and of the other sources
                    seed = self.seed + (number + 1) * int(_GOLDEN)
                    offsets = keyed_permutation(offsets, size, seed, own_epochs[chosen])
                indices[chosen] = offsets + np.uint64(first_image)
            first_place += share
            first_image += size
        return own_epochs, indices

    def __len__(self) -> int:
        """Samples of one rank in an epoch, rounded up, which make the length of the loader; the stream has no end."""
        return -(-self.epoch_size // self.world_size)


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(Sampler[int]):
    """Infinite stream that repeats images of rare classes (Gupta et al., 2019, LVIS, appendix B.2).

    A class in a share f of the images has the repeat factor ``max(1, sqrt(threshold / f))``, an image the greatest of
    its classes, and in an epoch it appears that often: the whole part of the factor always, once more with its fraction
    as probability, drawn anew each epoch. (mmdet's ``ClassBalancedDataset`` rounds up instead.) Rank r of W takes the
    positions r, r + W, ... of the stream.

    Args:
        dataset: Data set of mmdet: ``get_cat_ids(i)`` gives the classes of an image.
        threshold: Share of the images below which a class is rare.
        seed: Seed of the run; None draws one and shares it between the ranks.
    """

    def __init__(self, dataset: Sized, threshold: float, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        classes = [set(dataset.get_cat_ids(i)) for i in range(len(dataset))]
        counts = Counter(label for labels in classes for label in labels)
        factors = {label: max(1., (threshold * len(classes) / count) ** .5) for label, count in counts.items()}
        self.factors = torch.tensor(
            [max((factors[label] for label in labels), default=1.) for labels in classes], dtype=torch.float64)

    def __iter__(self) -> Iterator[int]:
        return islice(self._stream(), self.rank, None, self.world_size)

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            repeats = torch.floor(self.factors + torch.rand(self.factors.shape, generator=generator)).long()
            images = torch.arange(len(repeats)).repeat_interleave(repeats)
            yield from images[torch.randperm(len(images), generator=generator)].tolist()

    def __len__(self) -> int:
        """Samples of one rank in a mean epoch, rounded up; the stream has no end."""
        return -(-round(self.factors.sum().item()) // self.world_size)
