"""Time of each perturbation on long texts without structure: twice the length should take about twice the time.

    python recipes/benchmarks/perturbation_time.py [--repeats 20000]

Prints seconds at the given number of repeats of each unit, and the ratio at twice as many, the largest ratio first. A
quadratic search has a ratio of 4.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS, Material, perturb

UNITS = ("word ", "Stop. ", "\n", "a", ".", "  ")
MATERIAL = Material("Read the notice. Explain what the council wants.", ["The council wants a bridge. Why?"])


def seconds(kind: str, text: str, runs: int = 3) -> float:
    """Processor seconds of one perturbation: the least of several runs."""
    taken = []
    for _ in range(runs):
        start = time.process_time()
        perturb(kind, text, np.random.default_rng(0), MATERIAL)
        taken.append(time.process_time() - start)
    return min(taken)


def measured(repeats: int) -> list[tuple[str, str, float, float]]:
    """Kind, unit, seconds, and the ratio at twice the length; the largest ratio first.

    Args:
        repeats: Repeats of the unit in the shorter text.
    """
    rows = []
    for kind in PERTURBATIONS:
        for unit in UNITS:
            once, twice = (seconds(kind, unit * count) for count in (repeats, 2 * repeats))
            rows.append((kind, unit, once, twice / max(once, 1e-6)))
    return sorted(rows, key=lambda row: -row[3])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20_000, help="Repeats of a unit in the shorter text.")
    sys.stdout.write(f"{'kind':<28}{'unit':>10}{'seconds':>10}{'ratio':>8}\n")
    for kind, unit, once, ratio in measured(parser.parse_args().repeats):
        sys.stdout.write(f"{kind:<28}{unit!r:>10}{once:>10.4f}{ratio:>8.2f}\n")


if __name__ == "__main__":
    main()
