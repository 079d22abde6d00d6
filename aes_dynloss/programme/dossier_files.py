"""What a dossier is written from: a run or an ensemble, and what was measured of its model, held against that."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import DataError
from aes_dynloss.essays.model.model_folder import CONFIG as MODEL_CONFIG
from aes_dynloss.essays.model.model_folder import MEMBERS, MODEL
from aes_dynloss.reports.human_entries import RaterReport
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.monitor import Monitor
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.reports.robustness import read_robustness
from aes_dynloss.reports.robustness_entry import Robustness
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.audit_log import AuditLog, Head, head_path, verify_log
from aes_dynloss.tables.provenance import PROVENANCE, Provenance, read_provenance, refuse_changed
from aes_dynloss.training.run_folder import CONFIG, MANIFEST

ROBUSTNESS, MONITOR = "robustness.json", "monitor.json"
CARD = f"{MODEL}/{MODEL_CONFIG}"
_OF_A_RUN = (MANIFEST, CONFIG, REPORT, CARD, PROVENANCE)
_OF_AN_ENSEMBLE = (MODEL_CONFIG, PROVENANCE)  # and, where members are cross-fitted, MANIFEST and REPORT


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
class Audited:
    """An audit log that is as it was written.

    Args:
        lines: Its lines.
        of_model: Those of them that are scores by the model.
        hash: The last line's.
    """

    lines: int
    of_model: int
    hash: str


@dataclass(frozen=True)
class DossierFiles:
    """A run or an ensemble, and what was measured of its model.

    Args:
        manifest: Data, split, seeds, versions, machine; nothing of an ensemble that has none.
        config: The whole configuration of a run; what an ensemble's config.json says of its members and weights.
        report: Its report; of an ensemble without one, that of the evaluation.
        made: Where it comes from.
        sources: The files by role: MANIFEST, CONFIG, REPORT, CARD and PROVENANCE, of an ensemble those of them that are
            there, and those of evaluation, readers, robustness, monitor, data check and audit log that are there.
        members: Of an ensemble: each member's configuration, and its file.
        evaluation: A later report on scores of the model.
        readers: A report on who scored essays by hand.
        robustness: How scores answer changes of essays.
        monitor: Administrations beside what was before.
        data_check: What ``data check --json`` wrote of the essays.
        audit: What the log of scores and decisions has.
    """

    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    report: Report
    made: Provenance
    sources: Mapping[str, Source]
    members: Sequence[tuple[Source, Mapping[str, Any]]] = ()
    evaluation: Report | None = None
    readers: RaterReport | None = None
    robustness: Robustness | None = None
    monitor: Monitor | None = None
    data_check: Mapping[str, Any] | None = None
    audit: Audited | None = None

    @property
    def files(self) -> list[Source]:
        """All files, each once."""
        return list(
            {one.name: one for one in (*self.sources.values(), *(source for source, _ in self.members))}.values()
        )

    @property
    def model(self) -> str:
        """SHA-256 of the model's config.json."""
        return self.sources[CARD].sha256


def read_dossier_files(
    run: Path,
    *,
    evaluation: Path | None = None,
    readers: Path | None = None,
    robustness: Path | None = None,
    monitor: Path | None = None,
    data_check: Path | None = None,
    audit: Path | None = None,
) -> DossierFiles:
    """Read a run or an ensemble and what was measured of its model, each whole and of that model.

    Args:
        run: The folder that ``finetune`` or ``ensemble`` wrote.
        evaluation: Folder of a later report; None: ``evaluation/`` in the run, if it is there.
        readers: Folder of a report with raters; None: ``readers/`` in the run, if it is there.
        robustness: robustness.json, or its folder; None: in the run or its ``robustness/``, if it is there.
        monitor: Folder of a monitor, or its monitor.json; None: in the run or its ``monitor/``, if it is there.
        data_check: What ``data check --json`` wrote; None: ``data_check.json`` in the run, if it is there.
        audit: The log that --audit wrote.

    Raises:
        ConfigError: A file of the run cannot be read.
        DataError: The folder is no run or ensemble, or a file is missing, changed, damaged or of another model.
    """
    made, sources = _checked_run(run)
    model = sources[CARD].sha256
    judged: dict[str, Any] = {}
    measured: Sequence[tuple[str, Path | None, Callable[[Path], object]]] = [
        ("evaluation", _chosen(evaluation, REPORT, run / "evaluation"), read_report),
        ("readers", _chosen(readers, REPORT, run / "readers"), _read_readers),
        ("robustness", _chosen(robustness, ROBUSTNESS, run, run / "robustness"), read_robustness),
        ("monitor", _chosen(monitor, MONITOR, run, run / "monitor"), _read_monitor),
    ]
    for role, path, read in measured:
        if path is not None:
            own = _checked_measurement(path, sources[CARD], made, role)
            sources[role] = Source.of(_short_name(path, run), path, own.made)
            judged[role] = read(path)
    checked = _chosen(data_check, "data_check.json", run)
    manifest = read_mapping(run / MANIFEST) if MANIFEST in sources else {}
    if checked is not None:
        judged["data_check"] = _read_data_check(checked, manifest)
        sources["data_check"] = Source.of(checked.name, checked, None)
    if audit is not None:
        judged["audit"] = _read_audit(audit, model)
        sources["audit"] = Source.of(audit.name, audit, None)
    members = _read_members(run, made)
    if REPORT not in sources:
        if "evaluation" not in judged:
            raise DataError(
                f"{run} has no {REPORT}, as of its members' runs not all are cross-fitted. Evaluate scores of it, and "
                "give --evaluation DIR."
            )
        judged["report"], sources[REPORT] = judged.pop("evaluation"), sources.pop("evaluation")
    judged.setdefault("report", read_report(sources[REPORT].path))
    config = read_mapping(sources[CONFIG].path)
    return DossierFiles(manifest=manifest, config=config, made=made, sources=sources, members=members, **judged)


def _checked_run(run: Path) -> tuple[Provenance, dict[str, Source]]:
    """Where a run or an ensemble comes from, and its files by role, which are there and as they were made."""
    is_ensemble = (run / MEMBERS).is_dir()
    needed = _OF_AN_ENSEMBLE if is_ensemble else _OF_A_RUN
    missing = [name for name in needed if not (run / name).is_file()]
    if missing:
        raise DataError(
            f"{run} is no whole {'ensemble' if is_ensemble else 'run'}: expected {', '.join(needed)} in it, found no "
            f"{', '.join(missing)}. Name the folder that aes-dynloss {'ensemble' if is_ensemble else 'finetune'} wrote"
            f"{'' if is_ensemble else ', or go on with it by --resume'}."
        )
    made = read_provenance(run)
    roles = {name: name for name in needed}
    if is_ensemble:
        roles = {CARD: MODEL_CONFIG, CONFIG: MODEL_CONFIG, PROVENANCE: PROVENANCE}
        roles |= {name: name for name in (MANIFEST, REPORT) if (run / name).is_file()}
    for name in roles.values():
        if name != PROVENANCE:
            refuse_changed(run / name, made, name)
    return made, {role: Source.of(name, run / name, made.made) for role, name in roles.items()}


def _read_members(run: Path, made: Provenance) -> list[tuple[Source, Mapping[str, Any]]]:
    """The configuration of each member of an ensemble; none of a run."""
    found: list[tuple[Source, Mapping[str, Any]]] = []
    for number in range(len(list((run / MEMBERS).glob(f"*/{MODEL_CONFIG}")))):
        name = f"{MEMBERS}/{number}/{MODEL_CONFIG}"
        refuse_changed(run / name, made, name)
        found.append((Source.of(name, run / name, made.made), read_mapping(run / name)))
    return found


def _checked_measurement(path: Path, card: Source, made: Provenance, role: str) -> Provenance:
    """Where a file comes from that was measured of a model; raters may have been compared without one."""
    if not path.is_file():
        raise DataError(f"There is no {path}. Correct the path, or leave the option out: the dossier then says so.")
    own = read_provenance(path.parent)
    refuse_changed(path, own, path.name)
    if role == "readers" and own.model is None:
        return own
    # Predictions that the run itself keeps are the model's, too.
    if own.model != card.sha256 and not {*own.sources.values()} & {*made.products.values()}:
        found = "no model" if own.model is None else f"a model whose {MODEL_CONFIG} has SHA-256 {own.model[:12]}..."
        raise DataError(
            f"{path} is not of the model of {card.path.parent}: its {PROVENANCE} tells of {found}, expected "
            f"{card.sha256[:12]}... of {card.path.name}. Give what was measured of this model, or measure it again."
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


def _read_readers(path: Path) -> RaterReport:
    raters = read_report(path).raters
    if raters is None:
        raise DataError(
            f"{path} says nothing of raters. Give what `aes-dynloss evaluate --rater-column COLUMN -o DIR` wrote."
        )
    return raters


def _read_audit(path: Path, model: str) -> Audited:
    """What an intact log has.

    Raises:
        DataError: A line was changed, is missing or stands elsewhere.
    """
    found = verify_log(path)
    if found.faults:
        raise DataError(
            f"{path} is not as it was written: {found.faults[0]}. Look with aes-dynloss audit verify {path}; a dossier "
            "rests on no such log."
        )
    return Audited(found.lines, AuditLog(path).count("model", model), Head.read(head_path(path)).hash)


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
    if expected is not None and used != expected:
        raise DataError(f"{path} is of other essays: expected {expected} that can be used, found {used}. {advice}")
    checked: Mapping[str, Any] = found
    return checked
