"""A draft of technical documentation under the headings of Annex IV of Regulation (EU) 2024/1689 (the AI Act).

What files tell is told, each statement with its file; whatever they do not is a marked blank for a person. Nothing is
made up, and nothing is said to comply. The headings and blanks are those of annex_iv.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from aes_dynloss.programme.dossier_files import CARD, DossierFiles, Source
from aes_dynloss.reports.blocks import Blank, Block, Bullets, Section, Words
from aes_dynloss.reports.fairness_tables import fairness_blocks
from aes_dynloss.reports.model import Flag, Report
from aes_dynloss.reports.monitor import alarm_words
from aes_dynloss.reports.page import measure_pairs, summary_sentences
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.reports.report_tables import agreement_table, coverage_table, floor_table, human_tables, light_words
from aes_dynloss.reports.robustness import change_table, headline_words
from aes_dynloss.reports.table import Table, words, words_column
from aes_dynloss.reports.traits import by_scale, essay_count, what_is_scored
from aes_dynloss.reports.verdict import verdict_sentence
from aes_dynloss.tables.provenance import PROVENANCE
from aes_dynloss.training.run_folder import CONFIG, MANIFEST

DRAFT = (
    "This is a draft for a responsible person to check, complete and sign. It claims no compliance with Regulation "
    "(EU) 2024/1689 or any other rule, and is no conformity assessment."
)
_HOW_TO_READ = (
    "The headings are those of Annex IV of the regulation, in short; read the regulation's own words beside them. "
    "Annex III, point 3, names systems of education and vocational training among those of high risk. Whether this one "
    "is among them is for the responsible person to say. Statements end with the file that they come from, in "
    "brackets; Sources has each file's SHA-256. Whatever no file tells is a marked blank."
)
_MEASURES = ("qwk", "exact_agreement", "adjacent_agreement", "pearson", "smd", "sd_ratio")
_CHANGES = ("change", "expected", "n", "rises", "to_lowest", "raw_rises")
_NEEDED = {
    "evaluation": "agreement on scores of real use: aes-dynloss evaluate SCORES --references HUMAN -o DIR, then "
    "--evaluation DIR",
    "robustness": "how scores answer manipulated essays: aes-dynloss robustness MODEL DATA -o DIR, then "
    "--robustness DIR",
    "monitor": "drift between administrations: aes-dynloss monitor MODEL NEW_SCORES -o DIR, then --monitor DIR",
    "data_check": "the check of the essays: aes-dynloss data check INPUT --json, then --data-check FILE",
}
Blocks = list[Block | None]


def dossier_facts(files: DossierFiles) -> list[str]:
    """What stands below the title.

    Args:
        files: What it is written from.
    """
    return [
        "Draft",
        f"model {files.model[:12]}",
        what_is_scored(files.report),
        f"{len(files.sources)} sources",
    ]


def dossier_sections(files: DossierFiles) -> list[Section]:
    """The dossier: what it is, the nine points of Annex IV, and the sources.

    Args:
        files: What it is written from.

    Raises:
        KeyError: A part of annex_iv.toml is unknown here.
    """
    law = tomllib.loads((package_files("aes_dynloss.programme") / "annex_iv.toml").read_text(encoding="utf-8"))
    sections = [Section("draft", "A draft", [Words(DRAFT, lead=True), Words(_HOW_TO_READ)])]
    for number, point in law["points"].items():
        parts = [_part(number, part, files) for part in point["parts"]]
        sections.append(Section(f"point-{number}", f"{number}. {point['title']}", parts))
    return [*sections, Section("sources", "Sources", [_source_table(files)])]


def _part(number: str, part: Mapping[str, Any], files: DossierFiles) -> Section:
    """A part of a point: what files tell, then what people have to write."""
    letter = part.get("letter")
    title = f"{number}({letter}) {part['title']}" if letter else part["title"]
    blanks = [Blank(who, what) for who, what in part["blanks"]]
    return Section(part["name"], title, [*_CONTENT[part["name"]](files), *blanks])


def _cited(text: str, *sources: Source) -> str:
    """A statement and where it comes from."""
    return f"{text} [{', '.join(source.name for source in sources)}]"


def _said(text: str, *sources: Source) -> Words:
    return Words(_cited(text, *sources))


def _table(table: Table, source: Source, role: str) -> Table:
    """A table with its source, under a name that no other table of the dossier has."""
    return replace(table, name=f"{table.name}-{role}", caption=_cited(table.caption, source), sortable=False)


def _facts(name: str, caption: str, rows: Sequence[tuple[str, object, Source]]) -> Table:
    """Facts with their sources; what is not known is left out."""
    columns = [words_column("what", "What"), words_column("found", "Found"), words_column("source", "Source")]
    cells = [
        [words(what), words(_plain(found)), words(source.name)] for what, found, source in rows if found is not None
    ]
    return Table(name, caption, columns, cells, sortable=False)


def _plain(value: object) -> str:
    """A value in words, without where it lies on the machine."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items() if one is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)


def _settings(files: DossierFiles, name: str, caption: str, *sections: str) -> Table:
    """The settings of sections of the configuration that are not null, but for texts of prompts."""
    config = files.sources[CONFIG]
    rows = [
        (key, value, config)
        for section in sections
        for key, value in _leaves(section, files.config.get(section))
        if not key.endswith(".text")
    ]
    return _facts(name, caption, rows)


def _leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _leaves(f"{key}.{name}", one)
    elif value is not None:
        yield key, value


def _missing(files: DossierFiles, *roles: str) -> Blocks:
    """A blank for each measurement that is not there."""
    return [Blank("the assessment director", _NEEDED[role]) for role in roles if role not in files.sources]


def _reports(files: DossierFiles) -> list[tuple[str, Report, Source]]:
    """The run's report, and the later one if it is there, with a row for each scale."""
    found = [("run", files.report, files.sources[REPORT])]
    if files.evaluation is not None:
        found.append(("evaluation", files.evaluation, files.sources["evaluation"]))
    return [(role, by_scale(report), source) for role, report, source in found]


def _nothing(_: DossierFiles) -> Blocks:
    return []


def _purpose(files: DossierFiles) -> Blocks:
    manifest, report, made = (files.sources[name] for name in (MANIFEST, REPORT, PROVENANCE))
    ranges = {prompt: str(entry.range) for prompt, entry in by_scale(files.report).prompts.items()}
    rows = [
        ("Made with aes-dynloss", files.made.version, made),
        ("Commit of its source", files.made.commit, made),
        ("Latest command; Changes has all", files.made.command, made),
        ("Run started", files.manifest.get("started"), manifest),
        ("Model, SHA-256 of its config.json", files.model, files.sources[CARD]),
        ("Started from the weights of", files.manifest.get("started_from") or "no earlier scorer", manifest),
        *((f"Score points of {prompt}", span, report) for prompt, span in ranges.items()),
    ]
    return [_facts("purpose-facts", "The system", rows)]


def _software(files: DossierFiles) -> Blocks:
    manifest = files.sources[MANIFEST]
    rows = [(name, version, manifest) for name, version in files.manifest.get("versions", {}).items()]
    return [_facts("software-facts", "Software that the model was made with", rows)]


def _hardware(files: DossierFiles) -> Blocks:
    manifest = files.sources[MANIFEST]
    rows = [(name, value, manifest) for name, value in files.manifest.get("machine", {}).items()]
    return [_facts("hardware-facts", "Machine on which the model was made", rows)]


def _methods(files: DossierFiles) -> Blocks:
    seeds, model = files.manifest.get("seeds", {}), files.config.get("model", {})
    sections, stepwise = ["preset"], model.get("solver") == "sgd"
    if stepwise:
        sections.append("training")
    otherwise = (
        f"Nothing was trained step by step (model.kind {model.get('kind')}, solver {model.get('solver') or 'none'}): "
        "epochs, learning rates and the optimizer of the configuration had no effect, and are left out."
    )
    return [
        None if stepwise else _said(otherwise, files.sources[CONFIG]),
        _settings(files, "training-settings", "How it was trained", *sections),
        _facts("seeds", "Seeds", [(name, seed, files.sources[MANIFEST]) for name, seed in seeds.items()]),
    ]


def _design(files: DossierFiles) -> Blocks:
    return [_settings(files, "design-settings", "Model, loss and teacher", "model", "loss", "teacher")]


def _architecture(files: DossierFiles) -> Blocks:
    manifest, made = files.sources[MANIFEST], files.sources[PROVENANCE]
    model_files = [name.removeprefix("model/") for name in files.made.products if name.startswith("model/")]
    rows = [
        ("Numerical precision", files.manifest.get("precision"), manifest),
        ("Files of the model", model_files, made),
    ]
    return [_facts("architecture-facts", "What it consists of", rows)]


def _data(files: DossierFiles) -> Blocks:
    manifest = files.sources[MANIFEST]
    data, split = files.manifest.get("data", {}), files.manifest.get("split", {})
    folds = files.config.get("data", {}).get("split", {}).get("cross_fit")
    rows = [
        ("Essays", data.get("essays"), manifest),
        ("SHA-256 of the essays and scores", data.get("sha256"), manifest),
        ("Essays by part", split.get("essays"), manifest),
        ("Parts of train, each tested by a scorer that was fitted without it", folds, files.sources[CONFIG]),
        ("Augmentation", files.manifest.get("augmentation") or "none", manifest),
    ]
    blocks: Blocks = [
        _facts("data-facts", "The essays", rows),
        _settings(files, "data-settings", "How they were read and split", "data"),
    ]
    return [*blocks, *_check_blocks(files), *_missing(files, "data_check")]


def _check_blocks(files: DossierFiles) -> Blocks:
    check = files.data_check
    if check is None:
        return []
    source = files.sources["data_check"]
    counted = {
        "Rows read": check["rows"],
        "Essays that can be used": check["used"],
        "Rows that cannot be used": len(check["lost"]),
        "Faults that stand in the way of training": len(check["errors"]),
        "Groups of essays with the same text": len(check["same_texts"]),
        "Texts in more than one part of the split": len(check["leaks"]),
    }
    return [_facts("check-facts", "Check of the essays", [(name, value, source) for name, value in counted.items()])]


def _oversight_needs(files: DossierFiles) -> Blocks:
    tables = [(role, coverage_table(report), source) for role, report, source in _reports(files)]
    return [_table(table, source, role) for role, table, source in tables if table is not None]


def _validation(files: DossierFiles) -> Blocks:
    report = files.sources[REPORT]
    drawn = [(name, value, report) for name, value in files.report.settings.items()]
    blocks: Blocks = [
        _settings(files, "evaluation-settings", "How it was evaluated", "evaluation"),
        _facts("interval-facts", "How intervals were drawn", drawn),
    ]
    if files.report.floors:
        blocks.append(_table(floor_table(by_scale(files.report)), report, "run"))
    return [*blocks, *_missing(files, "evaluation", "robustness")]


def _cybersecurity(files: DossierFiles) -> Blocks:
    text = f"SHA-256 of {len(files.made.products)} files of the run is kept; aes-dynloss verify holds them against it."
    return [_said(text, files.sources[PROVENANCE])]


def _accuracy(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    for role, report, source in _reports(files):
        whole = files.report if role == "run" else files.evaluation
        sentences = [] if whole is None else [verdict_sentence(whole), *summary_sentences(whole)]
        table = agreement_table(report).chosen("prompt", "n", "stands_for", "range", *_MEASURES).known_columns()
        blocks += [*(_said(sentence, source) for sentence in sentences), _table(table, source, role)]
    return [*blocks, *_missing(files, "evaluation")]


def _groups(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    for role, report, source in _reports(files):
        found = fairness_blocks(report, pictures=False)
        blocks += [_with_source(block, source, role) for block in found]
        if not found:
            blocks.append(_said(f"Of {essay_count(report):,} essays no groups of writers are known.", source))
    return blocks


def _with_source(block: Block, source: Source, role: str) -> Block:
    """A block of a report with its source at its words and tables."""
    if isinstance(block, Words):
        return replace(block, text=_cited(block.text, source))
    if isinstance(block, Section):
        parts = [_with_source(one, source, role) for one in block.blocks if one]
        return replace(block, name=f"{block.name}-{role}", blocks=parts)
    return _table(block, source, role) if isinstance(block, Table) else block


def _limits(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    for _, report, source in _reports(files):
        blocks += _note_blocks("report", report.notes, source)
    if files.robustness is not None:
        source = files.sources["robustness"]
        table = change_table(files.robustness).chosen(*_CHANGES)
        blocks += [*_robustness_words(files), _table(table, source, "limits")]
    return [*blocks, *_missing(files, "robustness")]


def _note_blocks(what: str, notes: Sequence[str], source: Source) -> Blocks:
    """What a reader must know of a measurement."""
    return [_said(f"Notes of the {what}:", source), Bullets([_cited(note, source) for note in notes])] if notes else []


def _robustness_words(files: DossierFiles) -> Blocks:
    """How often scores rise when they must not; nothing where that was not measured."""
    headline = "" if files.robustness is None else headline_words(files.robustness)
    return [_said(headline, files.sources["robustness"])] if headline else []


def _oversight(files: DossierFiles) -> Blocks:
    report, source = files.evaluation, files.sources.get("evaluation")
    if report is None or source is None or report.adjudicated is None:
        return []
    found = report.adjudicated
    text = f"Humans decided on {found.decided:,} essays that were up for review; {found.undecided:,} are undecided."
    return [_said(text, source)]


def _input(files: DossierFiles) -> Blocks:
    source = files.sources[REPORT]
    return [_said(f"Essays to these prompts: {', '.join(files.report.prompts)}.", source)]


def _metrics(files: DossierFiles) -> Blocks:
    source, report = files.sources[REPORT], by_scale(files.report)
    blocks: Blocks = [_said("The measures of the report, as this version of aes-dynloss defines them:", source)]
    blocks.append(measure_pairs(_MEASURES))
    if report.flags:
        blocks.append(_said(light_words(report), source))
    humans = [_with_source(block, source, "run") for block in human_tables(report)]
    return [*blocks, *humans]


def _risks(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    for _, report, source in _reports(files):
        if report.flags:
            blocks += [_said(_counted(report.flags), source), _flag_list(report.flags, source)]
    return [*blocks, *_robustness_words(files), *_alarms(files), *_missing(files, "robustness", "monitor")]


def _counted(flags: Sequence[Flag]) -> str:
    verdicts = [flag.verdict for flag in flags]
    return (
        f"{len(flags)} judgements by criteria: {verdicts.count('pass')} met, {verdicts.count('flag')} missed, "
        f"{verdicts.count('unknown')} unknown. Missed or unknown:"
    )


def _flag_list(flags: Sequence[Flag], source: Source) -> Bullets:
    return Bullets([_cited(flag.words, source) for flag in flags if flag.verdict != "pass"] or [_cited("none", source)])


def _alarms(files: DossierFiles) -> Blocks:
    if files.monitor is None:
        return []
    monitor, source = files.monitor, files.sources["monitor"]
    held = f"{monitor.last.name} beside {monitor.baseline}"
    if not monitor.alarms:
        return [_said(f"Monitor, {held}: no alarm in {monitor.tests} tests.", source)]
    listed = [_cited(alarm_words(one, monitor.criteria), source) for one in monitor.alarms]
    return [_said(f"Monitor, {held}: {len(listed)} alarms in {monitor.tests} tests.", source), Bullets(listed)]


def _changes(files: DossierFiles) -> Blocks:
    source = files.sources[PROVENANCE]
    steps = [
        *files.made.earlier,
        {"made": files.made.made, "version": files.made.version, "command": files.made.command},
    ]
    rows = [(str(one["made"]), f"{one['command'] or 'in Python'}, version {one['version']}", source) for one in steps]
    return [_facts("change-facts", "Commands that made what the run's folder holds", rows)]


def _standards(files: DossierFiles) -> Blocks:
    whose = sorted({flag.source for flag in files.report.flags})
    if not whose:
        return []
    text = f"Criteria of the report come from: {'; '.join(whose)}. Whether one is a harmonised standard, no file tells."
    return [_said(text, files.sources[REPORT])]


def _post_market(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    if files.monitor is not None:
        monitor, source = files.monitor, files.sources["monitor"]
        rows = [(one.name, f"{one.essays:,} essays", source) for one in monitor.administrations]
        rules = [(one.title, str(one), source) for one in monitor.criteria.values()]
        blocks = [
            _facts("administrations", "Administrations that were monitored", rows),
            _facts("drift-criteria", "Criteria of the monitor", rules),
            *_note_blocks("monitor", monitor.notes, source),
        ]
    return [*blocks, *_alarms(files), *_missing(files, "monitor")]


_CONTENT: Mapping[str, Callable[[DossierFiles], Blocks]] = {
    "purpose": _purpose,
    "interaction": _nothing,
    "software": _software,
    "forms": _nothing,
    "hardware": _hardware,
    "products": _nothing,
    "interface": _nothing,
    "instructions": _nothing,
    "methods": _methods,
    "design": _design,
    "architecture": _architecture,
    "data": _data,
    "oversight-needs": _oversight_needs,
    "planned-changes": _nothing,
    "validation": _validation,
    "cybersecurity": _cybersecurity,
    "accuracy": _accuracy,
    "groups": _groups,
    "limits": _limits,
    "oversight": _oversight,
    "input": _input,
    "metrics": _metrics,
    "risks": _risks,
    "changes": _changes,
    "standards": _standards,
    "declaration": _nothing,
    "post-market": _post_market,
}


def _source_table(files: DossierFiles) -> Table:
    columns = [words_column("file", "File"), words_column("made", "Made"), words_column("sha256", "SHA-256")]
    rows = [[words(one.name), words(one.made or "not told"), words(one.sha256)] for one in files.sources.values()]
    return Table("source-table", "Files that this dossier was written from", columns, rows, sortable=False)
