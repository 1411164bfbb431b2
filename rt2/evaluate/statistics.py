"""Rates and means with their 95 % intervals; a figure is never printed without its n."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Rate:
    """`hits` out of `n` independent trials; raises ValueError unless 0 <= hits <= n and n > 0."""

    hits: int
    n: int

    def __post_init__(self):
        if self.n < 1 or not 0 <= self.hits <= self.n:
            raise ValueError(f"a rate needs 0 <= hits <= n and n >= 1, got {self.hits} of {self.n}")

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> "Rate":
        """The rate of True in `outcomes`."""
        outcomes = [bool(outcome) for outcome in outcomes]
        return cls(sum(outcomes), len(outcomes))

    @property
    def value(self) -> float:
        """The share of hits, in 0..1."""
        return self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % score interval, in 0..1 (Wilson 1927)."""
        return wilson(self.hits, self.n)

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.interval)
        return f"{100 * self.value:.1f} % ({self.hits}/{self.n}, 95 % CI {low:.1f}-{high:.1f})"

    def to_json(self) -> dict:
        """Plain values: rate, hits, n, interval."""
        return {
            "rate": self.value,
            "hits": self.hits,
            "n": self.n,
            "interval": list(self.interval),
        }


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion, as (low, high) in 0..1.

    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    """
    p, z2 = hits / n, Z_95 * Z_95
    centre = p + z2 / (2 * n)
    spread = Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (centre - spread) / (1 + z2 / n), (centre + spread) / (1 + z2 / n)
    # At 0 and n hits the bound is exactly 0 or 1; rounding would leave it 1e-17 off.
    return (0.0 if hits == 0 else low, 1.0 if hits == n else high)


@dataclass(frozen=True)
class Mean:
    """A mean of `n` values with the normal 95 % interval of its standard error."""

    value: float
    half_width: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Mean":
        """The mean of `values`; raises ValueError when there is none or one is not finite."""
        values = [float(value) for value in values]
        if not values or not all(math.isfinite(value) for value in values):
            raise ValueError("a mean needs at least one value, all of them finite")
        n = len(values)
        mean = math.fsum(values) / n
        if n == 1:
            return cls(mean, math.inf, 1)
        variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
        return cls(mean, Z_95 * math.sqrt(variance / n), n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval (low, high), in the unit of the values."""
        return (self.value - self.half_width, self.value + self.half_width)

    def __str__(self) -> str:
        if self.n == 1:
            return f"{self.value:.4g} (n=1)"
        low, high = self.interval
        return f"{self.value:.4g} (n={self.n}, 95 % CI {low:.4g} to {high:.4g})"

    def to_json(self) -> dict:
        """Plain values: mean, n, interval (null where one value tells no spread)."""
        interval = list(self.interval) if math.isfinite(self.half_width) else None
        return {"mean": self.value, "n": self.n, "interval": interval}
