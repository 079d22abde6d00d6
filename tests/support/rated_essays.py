"""Seeded scores of essays, on which the reference values of the measurement tests were computed elsewhere."""

from __future__ import annotations

import numpy as np


def sample(essays=240, seed=6):
    """Three raters' scores from 1 to 6 (essays, 3), raw machine scores, words, and groups a to d."""
    random = np.random.default_rng(seed)
    true = random.normal(3.5, 1.1, essays)
    ratings = np.clip(np.rint(true[:, None] + random.normal(0, 0.6, (essays, 3))), 1, 6)
    raw = 0.6 * true + 1.5 + random.normal(0, 0.5, essays)
    words = np.rint(np.exp(5 + 0.3 * true + random.normal(0, 0.3, essays)))
    groups = np.array(["a", "b", "c", "d"])[random.choice(4, essays, p=[0.5, 0.3, 0.17, 0.03])]
    return ratings, raw, words, groups


def with_gaps(ratings):
    """The ratings, some of the second and third raters' missing."""
    gaps = ratings.copy()
    gaps[::2, 1] = np.nan
    gaps[::3, 2] = np.nan
    return gaps
