"""Morris's released program trains on every pair of prediction and label: what that does, on a toy."""

from __future__ import annotations

import torch
from toy_runs import toy_fit
from toy_student import ToyExamples, ToyStudent


def sd_ratio(folder, terms):
    """Standard deviation of predictions over that of the targets, for the last weights of a run."""
    train = ToyExamples(96, groups=1, seed=3)
    student = ToyStudent(link="identity", width=16)
    ratios = []

    def look():
        with torch.no_grad():
            scores = student(train.batch(range(96)).inputs["x"])[:, 0]
        ratios.append(float(scores.std(unbiased=False)) / train.targets.std())

    toy_fit(
        folder, student=student, train=train, terms=terms, before_measure=look,
        epochs=40, batch_size=24, learning_rate=0.02, head_learning_rate=0.02,
    )  # fmt: skip
    return ratios[-1]


def test_all_pairs_make_every_prediction_the_mean(tmp_path):
    assert sd_ratio(tmp_path / "pairs", {"all_pairs_error": 1.0}) < 0.1
    assert sd_ratio(tmp_path / "elements", {"mse": 1.0}) > 0.5
