"""How often `explain` finds a class that differs where none does: classes in symmetric places.

python bench/class_calibration.py --worlds 100
"""

import argparse
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class World:
    """Centres on the axes, `distance` from the origin (0: nothing to learn); rows of each class, in train and test;
    degrees of freedom of Student's features, None for normal ones."""

    n_classes: int
    n_features: int
    train: int
    test: int
    distance: float
    df: float | None = None

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """X, y, X_test, y_test."""
        rng = np.random.default_rng(seed)
        centres = self.distance * np.eye(self.n_classes, self.n_features)
        y, y_test = (np.arange(rows * self.n_classes) % self.n_classes for rows in (self.train, self.test))
        shape = self.n_features
        x, x_test = ((centres[c] + self._noise(rng, (len(c), shape))).astype(np.float32) for c in (y, y_test))
        return x, y, x_test, y_test

    def _noise(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return rng.standard_normal(shape) if self.df is None else rng.standard_t(self.df, shape)


WORLDS = (
    World(4, 12, 100, 40, 1.2),
    World(30, 40, 40, 10, 2.5),
    World(30, 40, 40, 3, 2.5),
    World(30, 120, 100, 30, 2.5),
    World(4, 12, 100, 40, 0.6),
    World(4, 12, 75, 40, 0.3),
    World(4, 10, 75, 40, 0.0),
    World(4, 3, 400, 40, 0.0),
    World(6, 12, 50, 25, 1.5, df=2.5),
)


def main() -> None:
    """Print, for each world and probe, the tables with any corrected p-value below 0.05."""
    from ssl_risk_rs import decompose
    from ssl_risk_rs.decomposition.explaining import class_parts

    parser = argparse.ArgumentParser(description="False discoveries of explain's classes.")
    parser.add_argument("--worlds", type=int, default=100)
    count = parser.parse_args().worlds
    for world in WORLDS:
        for probe in ("ridge", "logistic"):
            results = (decompose(*world.draw(seed), probe=probe, midpoint=False, n_threads=1) for seed in range(count))
            found = sum(class_parts(result)[0][0].p_holm < 0.05 for result in results)
            print(f"{world} {probe}: {found} of {count}", flush=True)


if __name__ == "__main__":
    main()
