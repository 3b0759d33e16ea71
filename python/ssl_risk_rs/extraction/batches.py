"""The largest batch that pays, found on the batches of the extraction itself."""

__all__ = ["MOST", "WORTH_SEARCHING", "BatchSize"]

#: images of the largest batch that is tried
MOST = {"cuda": 4096, "cpu": 256}

#: the search takes up to about as many batches of the first size; fewer images are not worth it
WORTH_SEARCHING = 16

#: batches of a size: the first is not timed (memory is allocated, kernels are chosen), the quickest of the rest counts
STEPS = 3

#: a size pays if it is this much faster: less is lost in the noise of a machine that has other work
GAIN = 1.03


class BatchSize:
    """Images encoded at a time. Tell it what each batch took; `size` is that of the next one.

    The size is doubled as long as that pays. Where the first doubling does not, it is halved as long as that pays: on
    a CPU small batches stay in the caches. No image is encoded for the search alone.
    """

    def __init__(self, first: int, *, most: int, search: bool) -> None:
        self.size = self.best = self.first = first
        self.most, self.searching = most, search
        self._rates: list[float] = []
        self._best_rate = 0.0
        self._growing = True

    def observe(self, images: int, seconds: float) -> None:
        """A batch of so many images, at least `size` of them unless it was the last, took so long."""
        if not self.searching or images < self.size:
            return
        self._rates.append(images / max(seconds, 1e-9))
        if len(self._rates) < STEPS:
            return
        rate, self._rates = max(self._rates[1:]), []
        if rate >= GAIN * self._best_rate:
            self.best, self._best_rate = self.size, rate
        elif self.best != self.first or not self._growing:
            self.settle(self.best)
            return
        else:
            self._growing = False  # the first doubling did not pay
        if self._growing and 2 * self.size > self.most and self.best == self.first:
            self._growing = False
        self.size = 2 * self.best if self._growing else self.best // 2
        if not 1 <= self.size <= self.most:
            self.settle(self.best)

    def settle(self, size: int) -> None:
        """End the search with this size: after it, or because the memory does not suffice for more."""
        self.size = self.best = size
        self.searching = False
