"""The figures of an ensemble of cross-fitted runs, which lie in its folder beside the model."""

from __future__ import annotations

from pathlib import Path

from aes_dynloss.reports.model import Report
from aes_dynloss.reports.report_files import write_report_files


def write_ensemble_report(report: Report, folder: Path, name: str) -> None:
    """Write the report on an ensemble's predictions.

    Args:
        report: The report.
        folder: Where to.
        name: What the ensemble is called.
    """
    write_report_files(report, folder, title=f"Agreement of {name} with human scores")
