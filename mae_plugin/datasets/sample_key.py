"""The identity of one sample of the training stream, and the random numbers that belong to it."""

from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.random.bit_generator import ISeedSequence

_UINT64 = 2**64 - 1


class SampleKey(NamedTuple):
    """One image in one epoch of one run: all that its crop, flip and mask depend on.

    Attributes:
        seed: seed of the run.
        epoch: how often the whole data set was gone through before; of sources mixed by weights, the image's source.
            With ``repeats`` r, r times that and how often this image was taken since.
        index: position of the image in the data set.
    """

    seed: int
    epoch: int
    index: int

    @classmethod
    def of(cls, key: 'int | SampleKey') -> 'SampleKey':
        """Returns ``key`` itself, or for a plain index the key of the fixed sample that validation sees."""
        return key if isinstance(key, cls) else cls(0, 0, int(key))


class _PhiloxKey(ISeedSequence):
    """Hands Philox its key. Given as ``key=``, NumPy draws, and hashes, a seed from the system that it does not use."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_state(self, n_words: int, dtype: type = np.uint64) -> np.ndarray:
        return np.array([self.seed, 0], np.uint64)


def generator(key: SampleKey, purpose: str) -> np.random.Generator:
    """Random numbers that are a function of ``(key, purpose)`` and of nothing else.

    Philox is a counter-based generator: key and purpose fill its key and the upper words of its counter, so two streams
    never overlap, and no seed has to be hashed (a few µs a generator).

    Args:
        key: the sample.
        purpose: what is drawn, such as ``'crop'``; another purpose draws independent numbers.
    """
    seed, epoch, index = (word & _UINT64 for word in key)
    counter = np.array([0, crc32(purpose.encode()), index, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(_PhiloxKey(seed), counter))
