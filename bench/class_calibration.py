"""How often `explain` finds a class that differs where none does: four classes in symmetric places.

python bench/class_calibration.py --worlds 100
"""

import argparse

import numpy as np

N_CLASSES, N_FEATURES = 4, 12
CENTRES = 1.2 * np.eye(N_CLASSES, N_FEATURES)


def world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X (400, 12), y, X_test (160, 12), y_test."""
    rng = np.random.default_rng(seed)
    y, y_test = np.arange(400) % N_CLASSES, np.arange(160) % N_CLASSES
    x, x_test = ((CENTRES[c] + rng.standard_normal((len(c), N_FEATURES))).astype(np.float32) for c in (y, y_test))
    return x, y, x_test, y_test


def main() -> None:
    """Print, for each probe, the tables with any corrected p-value below 0.05."""
    from ssl_risk_rs import decompose
    from ssl_risk_rs.decomposition.explaining import class_parts

    parser = argparse.ArgumentParser(description="False discoveries of explain's classes.")
    parser.add_argument("--worlds", type=int, default=100)
    count = parser.parse_args().worlds
    for probe in ("ridge", "logistic"):
        results = (decompose(*world(seed), probe=probe, midpoint=False, n_threads=1) for seed in range(count))
        found = sum(class_parts(result)[0][0].p_holm < 0.05 for result in results)
        print(f"{probe}: {found} of {count}")


if __name__ == "__main__":
    main()
