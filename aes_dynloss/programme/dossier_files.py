"""What a dossier is written from: a run, and what was measured of its model, each file held against that model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import DataError
from aes_dynloss.essays.model.model_folder import CONFIG as MODEL_CONFIG
from aes_dynloss.essays.model.model_folder import MODEL
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.monitor import Monitor
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.reports.robustness import read_robustness
from aes_dynloss.reports.robustness_entry import Robustness
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.provenance import PROVENANCE, Provenance, read_provenance, refuse_changed
from aes_dynloss.training.run_folder import CONFIG, MANIFEST

ROBUSTNESS, MONITOR = "robustness.json", "monitor.json"
CARD = f"{MODEL}/{MODEL_CONFIG}"
_OF_A_RUN = (MANIFEST, CONFIG, REPORT, CARD, PROVENANCE)


@dataclass(frozen=True)
class Source:
    """A file that statements rest on.

    Args:
        name: What statements call it.
        path: Where it is.
        sha256: Of its content.
        made: When it was made, in UTC; None where nothing tells.
    """

    name: str
    path: Path
    sha256: str
    made: str | None

    @classmethod
    def of(cls, name: str, path: Path, made: str | None) -> Source:
        """That of a file."""
        return cls(name, path, file_sha256(path), made)


@dataclass(frozen=True)
class DossierFiles:
    """A run, and what was measured of its model.

    Args:
        manifest: Of the run: data, split, seeds, versions, machine.
        config: Its whole configuration.
        report: Its report.
        made: Where it comes from.
        sources: The files by role: manifest.json, config.yaml, report.json, model/config.json, provenance.json, and
            those of evaluation, robustness, monitor and data check that are there.
        evaluation: A later report on scores of the model.
        robustness: How scores answer changes of essays.
        monitor: Administrations beside what was before.
        data_check: What ``data check --json`` wrote of the essays.
    """

    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    report: Report
    made: Provenance
    sources: Mapping[str, Source]
    evaluation: Report | None = None
    robustness: Robustness | None = None
    monitor: Monitor | None = None
    data_check: Mapping[str, Any] | None = None

    @property
    def model(self) -> str:
        """SHA-256 of the model's config.json."""
        return self.sources[CARD].sha256


def read_dossier_files(
    run: Path,
    *,
    evaluation: Path | None = None,
    robustness: Path | None = None,
    monitor: Path | None = None,
    data_check: Path | None = None,
) -> DossierFiles:
    """Read a run and what was measured of its model, each whole and of that model.

    Args:
        run: The folder that ``finetune`` wrote.
        evaluation: Folder of a later report; None: ``evaluation/`` in the run, if it is there.
        robustness: robustness.json, or its folder; None: in the run or its ``robustness/``, if it is there.
        monitor: Folder of a monitor, or its monitor.json; None: in the run or its ``monitor/``, if it is there.
        data_check: What ``data check --json`` wrote; None: ``data_check.json`` in the run, if it is there.

    Raises:
        ConfigError: A file of the run cannot be read.
        DataError: The folder is no run, or a file is missing, changed, damaged or of another model.
    """
    made = _checked_run(run)
    sources = {name: Source.of(name, run / name, made.made) for name in _OF_A_RUN}
    judged: dict[str, Any] = {}
    measured: Sequence[tuple[str, Path | None, Callable[[Path], object]]] = [
        ("evaluation", _chosen(evaluation, REPORT, run / "evaluation"), read_report),
        ("robustness", _chosen(robustness, ROBUSTNESS, run, run / "robustness"), read_robustness),
        ("monitor", _chosen(monitor, MONITOR, run, run / "monitor"), _read_monitor),
    ]
    for role, path, read in measured:
        if path is not None:
            own = _checked_measurement(path, run, made)
            sources[role] = Source.of(_short_name(path, run), path, own.made)
            judged[role] = read(path)
    checked = _chosen(data_check, "data_check.json", run)
    manifest = read_mapping(run / MANIFEST)
    if checked is not None:
        judged["data_check"] = _read_data_check(checked, manifest)
        sources["data_check"] = Source.of(checked.name, checked, None)
    return DossierFiles(manifest, read_mapping(run / CONFIG), read_report(run / REPORT), made, sources, **judged)


def _checked_run(run: Path) -> Provenance:
    """Where a run comes from, whose files are there and as they were made."""
    missing = [name for name in _OF_A_RUN if not (run / name).is_file()]
    if missing:
        raise DataError(
            f"{run} is no whole run: expected {', '.join(_OF_A_RUN)} in it, found no {', '.join(missing)}. Name the "
            "folder that aes-dynloss finetune wrote, or go on with it by --resume."
        )
    made = read_provenance(run)
    for name in _OF_A_RUN[:-1]:
        refuse_changed(run / name, made, name)
    return made


def _checked_measurement(path: Path, run: Path, made: Provenance) -> Provenance:
    """Where a file comes from that was measured of a run's model."""
    if not path.is_file():
        raise DataError(f"There is no {path}. Correct the path, or leave the option out: the dossier then says so.")
    own = read_provenance(path.parent)
    refuse_changed(path, own, path.name)
    model = file_sha256(run / CARD)
    # Predictions that the run itself keeps are the model's, too.
    if own.model != model and not {*own.sources.values()} & {*made.products.values()}:
        found = "no model" if own.model is None else f"a model whose {MODEL_CONFIG} has SHA-256 {own.model[:12]}..."
        raise DataError(
            f"{path} is not of the model of {run}: its {PROVENANCE} tells of {found}, expected {model[:12]}... of "
            f"{run / CARD}. Give what was measured of this model, or measure it again with it."
        )
    return own


def _chosen(given: Path | None, name: str, *folders: Path) -> Path | None:
    """The file that is named, in its folder if a folder is; else the first that is there in the usual folders."""
    if given is not None:
        return given / name if given.is_dir() else given
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _short_name(path: Path, run: Path) -> str:
    """The file's name, behind its folder's unless that is the run."""
    folder = path.resolve().parent
    return path.name if folder == run.resolve() else f"{folder.name}/{path.name}"


def _read_monitor(path: Path) -> Monitor:
    return Monitor.read(path, "monitor", "Give a monitor.json that `aes-dynloss monitor` wrote, or make it again.")


def _read_data_check(path: Path, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a check found of as many essays as the run has."""
    advice = "Give what `aes-dynloss data check INPUT --json` wrote of the run's essays."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        used, whole = found["used"], {"clean", "rows", "lost", "errors", "same_texts", "leaks"} <= found.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as a data check: {error}. {advice}") from None
    if not whole:
        raise DataError(f"{path} is no data check: it lacks clean, rows, lost, errors, same_texts or leaks. {advice}")
    expected = manifest.get("data", {}).get("essays")
    if used != expected:
        raise DataError(f"{path} is of other essays: expected {expected} that can be used, found {used}. {advice}")
    checked: Mapping[str, Any] = found
    return checked
