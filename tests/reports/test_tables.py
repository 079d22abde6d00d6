from __future__ import annotations

import pytest

from aes_dynloss.reports.table import Reasons

NOTES = [
    "The mean qwk is undefined.",
    "Prompt 1: kappa is undefined.",
    "Prompt 12: qwk is undefined.",
    "Prompt (a): qwk is unknown.",
    "All correlations are undefined.",
]


@pytest.mark.parametrize(
    ("measure", "prompt", "reason"),
    [
        ("qwk", None, NOTES[0]),
        ("qwk", "1", ""),
        ("kappa", "1", NOTES[1]),
        ("qwk", "12", NOTES[2]),
        ("qwk", "(a)", NOTES[3]),
        ("spearman", "1", NOTES[4]),
        ("qwk_rescaled", "1", "Unknown: it needs the same scorer's predictions of dev essays."),
    ],
)
def test_a_reason_is_a_note_on_the_prompt_or_on_all_or_what_the_measure_needs(measure, prompt, reason):
    reasons = Reasons(NOTES)
    assert reasons.of(measure, prompt) == reason
    assert reasons.of(measure, prompt) == reason  # as before
