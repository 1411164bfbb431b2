"""A new order of the whole data set every epoch, by random access."""

import functools

import numpy as np

TABLE = 1 << 16  # grain walks through 2**16 numbers at least: 0.7 ms a draw for 40 examples


class EpochShuffle:
    """Draw number d = epoch * length + place -> an index in 0..length - 1.

    Every epoch is a permutation, a function of (seed, epoch) alone. Large sets use grain's index
    shuffle, which needs no memory; small ones the order of Philox's raw numbers, kept an epoch at
    a time.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed = length, seed
        # grain 0.2.18 misses the last index of a domain of 2**k + 1: walk through a wider one
        self._domain = length + 1 if (length - 1) & (length - 2) == 0 else length
        self._walk = None
        if length >= TABLE:
            import grain  # takes a second, which small sets do without

            self._walk = grain.MapDataset.range(self._domain).shuffle(seed=seed)

    def __getitem__(self, drawn: int) -> int:
        epoch, place = divmod(drawn, self.length)
        if self._walk is None:
            return int(_order(self.length, self.seed, epoch)[place])
        index = self._walk[epoch * self._domain + place]
        while index >= self.length:
            index = self._walk[epoch * self._domain + index]
        return int(index)


@functools.lru_cache(maxsize=256)  # two epochs of 128 small sources, 32 MB at most
def _order(length: int, seed: int, epoch: int) -> np.ndarray:
    raw = np.random.Philox(key=[seed, epoch]).random_raw(length)
    return np.argsort(raw, kind="stable").astype(np.uint16)
