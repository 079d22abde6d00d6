"""A draft of technical documentation under the headings of Annex IV of Regulation (EU) 2024/1689 (the AI Act).

What files tell is told, each statement with its file; whatever they do not is a marked blank for a person. Nothing is
made up, and nothing is said to comply. The headings and blanks are those of annex_iv.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files as package_files
from typing import Any

from aes_dynloss.essays.model.model_folder import MEMBERS, MODEL
from aes_dynloss.programme.dossier_files import CARD, DossierFiles, Source
from aes_dynloss.programme.statements import cited, facts, leaves, said, sourced_table
from aes_dynloss.reports.blocks import Blank, Block, Bullets, Section, Words
from aes_dynloss.reports.fairness_tables import fairness_blocks
from aes_dynloss.reports.model import Flag, Report
from aes_dynloss.reports.monitor import alarm_words
from aes_dynloss.reports.page import measure_pairs, summary_sentences
from aes_dynloss.reports.raters import readers_table
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
    "readers": "how alike those read who score by hand: aes-dynloss evaluate TABLE --rater-column COLUMN -o DIR, "
    "then --readers DIR",
    "audit": "the log of scores and decisions: aes-dynloss score --audit LOG, then --audit LOG",
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
        f"{len(files.files)} sources",
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


def _settings(files: DossierFiles, name: str, caption: str, *sections: str) -> Table | None:
    """The settings of sections of the configuration that are not null, but for texts of prompts."""
    config = files.sources[CONFIG]
    rows = [
        (key, value, config)
        for section in sections
        for key, value in leaves(section, files.config.get(section))
        if not key.endswith(".text")
    ]
    return facts(name, caption, rows)


def _missing(files: DossierFiles, *roles: str) -> Blocks:
    """A blank for each measurement, or log, that is not there."""
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
    manifest, report, made = _manifest(files), files.sources[REPORT], files.sources[PROVENANCE]
    ranges = {prompt: str(entry.range) for prompt, entry in by_scale(files.report).prompts.items()}
    rows = [
        ("Made with aes-dynloss", files.made.version, made),
        ("Commit of its source", files.made.commit, made),
        ("Latest command; Changes has all", files.made.command, made),
        ("Run started", files.manifest.get("started"), manifest),
        ("Model, SHA-256 of its config.json", files.model, files.sources[CARD]),
        ("Started from the weights of", _or_none(files, "started_from", "no earlier scorer"), manifest),
        *((f"Score points of {prompt}", span, report) for prompt, span in ranges.items()),
    ]
    return [facts("purpose-facts", "The system", rows)]


def _manifest(files: DossierFiles) -> Source:
    """The manifest, or, of an ensemble without one, what tells as little."""
    return files.sources.get(MANIFEST, files.sources[PROVENANCE])


def _or_none(files: DossierFiles, key: str, none: str) -> object:
    """What a run's manifest has at a key, or words for nothing; None of an ensemble, whose members' runs know it."""
    return None if files.members else files.manifest.get(key) or none


def _software(files: DossierFiles) -> Blocks:
    manifest = _manifest(files)
    rows = [(name, version, manifest) for name, version in files.manifest.get("versions", {}).items()]
    return [facts("software-facts", "Software that the model was made with", rows)]


def _hardware(files: DossierFiles) -> Blocks:
    manifest = _manifest(files)
    rows = [(name, value, manifest) for name, value in files.manifest.get("machine", {}).items()]
    return [facts("hardware-facts", "Machine on which the model was made", rows)]


def _methods(files: DossierFiles) -> Blocks:
    if files.members:
        text = (
            f"An ensemble of {len(files.members)} models: it scores by the mean of their raw scores, with weights by "
            f"prompt where Design has some, fitted on {files.config.get('fitted_on')}. aes-dynloss dossier drafts of "
            "each member's run how it was trained."
        )
        return [said(text, files.sources[CONFIG])]
    seeds, model = files.manifest.get("seeds", {}), files.config.get("model", {})
    sections, stepwise = ["preset"], model.get("solver") == "sgd"
    if stepwise:
        sections.append("training")
    otherwise = (
        f"Nothing was trained step by step (model.kind {model.get('kind')}, solver {model.get('solver') or 'none'}): "
        "epochs, learning rates and the optimizer of the configuration had no effect, and are left out."
    )
    return [
        None if stepwise else said(otherwise, files.sources[CONFIG]),
        _settings(files, "training-settings", "How it was trained", *sections),
        facts("seeds", "Seeds", [(name, seed, files.sources[MANIFEST]) for name, seed in seeds.items()]),
    ]


def _design(files: DossierFiles) -> Blocks:
    if not files.members:
        return [_settings(files, "design-settings", "Model, loss and teacher", "model", "loss", "teacher")]
    rows = [
        (f"members.{number}.{key}", value, source)
        for number, (source, values) in enumerate(files.members)
        for key, value in leaves("model", values.get("model"))
    ]
    weights = _settings(files, "member-weights", "Weights of the members by prompt", "weights")
    return [facts("member-settings", "Members", rows), weights]


def _architecture(files: DossierFiles) -> Blocks:
    manifest, made = _manifest(files), files.sources[PROVENANCE]
    within = f"{MEMBERS}/" if files.members else f"{MODEL}/"
    model_files = [name.removeprefix(f"{MODEL}/") for name in files.made.products if name.startswith(within)]
    rows = [
        ("Numerical precision", files.manifest.get("precision"), manifest),
        ("Files of the model", model_files, made),
    ]
    return [facts("architecture-facts", "What it consists of", rows)]


def _data(files: DossierFiles) -> Blocks:
    manifest = _manifest(files)
    data, split = files.manifest.get("data", {}), files.manifest.get("split", {})
    folds = files.config.get("data", {}).get("split", {}).get("cross_fit")
    rows = [
        ("Essays", data.get("essays"), manifest),
        ("SHA-256 of the essays and scores", data.get("sha256"), manifest),
        ("Essays by part", split.get("essays"), manifest),
        ("Parts of train, each tested by a scorer that was fitted without it", folds, files.sources[CONFIG]),
        ("Augmentation", _or_none(files, "augmentation", "none"), manifest),
    ]
    blocks: Blocks = [
        facts("data-facts", "The essays", rows),
        _settings(files, "data-settings", "How they were read and split", "data"),
    ]
    return [*blocks, *_check_blocks(files), *_reader_blocks(files), *_missing(files, "data_check", "readers")]


def _reader_blocks(files: DossierFiles) -> Blocks:
    """How alike those read who scored essays by hand."""
    if files.readers is None:
        return []
    source = files.sources["readers"]
    listed = Bullets([cited(sentence, source) for sentence in files.readers.conclusions])
    table = sourced_table(readers_table(files.readers), source, "data")
    return [said("Those who scored essays by hand:", source), listed, table]


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
    return [facts("check-facts", "Check of the essays", [(name, value, source) for name, value in counted.items()])]


def _oversight_needs(files: DossierFiles) -> Blocks:
    tables = [(role, coverage_table(report), source) for role, report, source in _reports(files)]
    return [sourced_table(table, source, role) for role, table, source in tables if table is not None]


def _validation(files: DossierFiles) -> Blocks:
    report = files.sources[REPORT]
    drawn = [(name, value, report) for name, value in files.report.settings.items()]
    blocks: Blocks = [
        _settings(files, "evaluation-settings", "How it was evaluated", "evaluation"),
        facts("interval-facts", "How intervals were drawn", drawn),
    ]
    if files.report.floors:
        blocks.append(sourced_table(floor_table(by_scale(files.report)), report, "run"))
    return [*blocks, *_missing(files, "evaluation", "robustness")]


def _cybersecurity(files: DossierFiles) -> Blocks:
    text = f"SHA-256 of {len(files.made.products)} files of the run is kept; aes-dynloss verify holds them against it."
    return [said(text, files.sources[PROVENANCE]), *_audit_words(files), *_missing(files, "audit")]


def _audit_words(files: DossierFiles) -> Blocks:
    if files.audit is None:
        return []
    found = files.audit
    text = (
        f"The audit log has {found.lines:,} lines, each chained to the one before, which are as they were written; "
        f"{found.of_model:,} are scores by this model. The last line's hash, to be kept elsewhere: {found.hash}."
    )
    return [said(text, files.sources["audit"])]


def _accuracy(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    for role, report, source in _reports(files):
        whole = files.report if role == "run" else files.evaluation
        sentences = [] if whole is None else [verdict_sentence(whole), *summary_sentences(whole)]
        table = agreement_table(report).chosen("prompt", "n", "stands_for", "range", *_MEASURES).known_columns()
        blocks += [*(said(sentence, source) for sentence in sentences), sourced_table(table, source, role)]
    return [*blocks, *_missing(files, "evaluation")]


def _groups(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    for role, report, source in _reports(files):
        found = fairness_blocks(report, pictures=False)
        blocks += [_with_source(block, source, role) for block in found]
        if not found:
            blocks.append(said(f"Of {essay_count(report):,} essays no groups of writers are known.", source))
    return blocks


def _with_source(block: Block, source: Source, role: str) -> Block:
    """A block of a report with its source at its words and tables."""
    if isinstance(block, Words):
        return replace(block, text=cited(block.text, source))
    if isinstance(block, Section):
        parts = [_with_source(one, source, role) for one in block.blocks if one]
        return replace(block, name=f"{block.name}-{role}", blocks=parts)
    return sourced_table(block, source, role) if isinstance(block, Table) else block


def _limits(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    for _, report, source in _reports(files):
        blocks += _note_blocks("report", report.notes, source)
    if files.robustness is not None:
        source = files.sources["robustness"]
        table = change_table(files.robustness).chosen(*_CHANGES)
        blocks += [*_robustness_words(files), sourced_table(table, source, "limits")]
    return [*blocks, *_missing(files, "robustness")]


def _note_blocks(what: str, notes: Sequence[str], source: Source) -> Blocks:
    """What a reader must know of a measurement."""
    return [said(f"Notes of the {what}:", source), Bullets([cited(note, source) for note in notes])] if notes else []


def _robustness_words(files: DossierFiles) -> Blocks:
    """How often scores rise when they must not; nothing where that was not measured."""
    headline = "" if files.robustness is None else headline_words(files.robustness)
    return [said(headline, files.sources["robustness"])] if headline else []


def _oversight(files: DossierFiles) -> Blocks:
    report, source = files.evaluation, files.sources.get("evaluation")
    if report is None or source is None or report.adjudicated is None:
        return []
    found = report.adjudicated
    text = f"Humans decided on {found.decided:,} essays that were up for review; {found.undecided:,} are undecided."
    return [said(text, source)]


def _input(files: DossierFiles) -> Blocks:
    source = files.sources[REPORT]
    return [said(f"Essays to these prompts: {', '.join(files.report.prompts)}.", source)]


def _metrics(files: DossierFiles) -> Blocks:
    source, report = files.sources[REPORT], by_scale(files.report)
    blocks: Blocks = [said("The measures of the report, as this version of aes-dynloss defines them:", source)]
    blocks.append(measure_pairs(_MEASURES))
    if report.flags:
        blocks.append(said(light_words(report), source))
    humans = [_with_source(block, source, "run") for block in human_tables(report)]
    return [*blocks, *humans]


def _risks(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    for _, report, source in _reports(files):
        if report.flags:
            blocks += [said(_counted(report.flags), source), _flag_list(report.flags, source)]
    return [*blocks, *_robustness_words(files), *_alarms(files), *_missing(files, "robustness", "monitor")]


def _counted(flags: Sequence[Flag]) -> str:
    verdicts = [flag.verdict for flag in flags]
    return (
        f"{len(flags)} judgements by criteria: {verdicts.count('pass')} met, {verdicts.count('flag')} missed, "
        f"{verdicts.count('unknown')} unknown. Missed or unknown:"
    )


def _flag_list(flags: Sequence[Flag], source: Source) -> Bullets:
    return Bullets([cited(flag.words, source) for flag in flags if flag.verdict != "pass"] or [cited("none", source)])


def _alarms(files: DossierFiles) -> Blocks:
    if files.monitor is None:
        return []
    monitor, source = files.monitor, files.sources["monitor"]
    held = f"{monitor.last.name} beside {monitor.baseline}"
    if not monitor.alarms:
        return [said(f"Monitor, {held}: no alarm in {monitor.tests} tests.", source)]
    listed = [cited(alarm_words(one, monitor.criteria), source) for one in monitor.alarms]
    return [said(f"Monitor, {held}: {len(listed)} alarms in {monitor.tests} tests.", source), Bullets(listed)]


def _changes(files: DossierFiles) -> Blocks:
    source = files.sources[PROVENANCE]
    steps = [
        *files.made.earlier,
        {"made": files.made.made, "version": files.made.version, "command": files.made.command},
    ]
    rows = [(str(one["made"]), f"{one['command'] or 'in Python'}, version {one['version']}", source) for one in steps]
    return [facts("change-facts", "Commands that made what the run's folder holds", rows)]


def _standards(files: DossierFiles) -> Blocks:
    whose = sorted({flag.source for flag in files.report.flags})
    if not whose:
        return []
    text = f"Criteria of the report come from: {'; '.join(whose)}. Whether one is a harmonised standard, no file tells."
    return [said(text, files.sources[REPORT])]


def _post_market(files: DossierFiles) -> Blocks:
    blocks: Blocks = []
    if files.monitor is not None:
        monitor, source = files.monitor, files.sources["monitor"]
        rows = [(one.name, f"{one.essays:,} essays", source) for one in monitor.administrations]
        rules = [(one.title, str(one), source) for one in monitor.criteria.values()]
        blocks = [
            facts("administrations", "Administrations that were monitored", rows),
            facts("drift-criteria", "Criteria of the monitor", rules),
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
    rows = [[words(one.name), words(one.made or "not told"), words(one.sha256)] for one in files.files]
    return Table("source-table", "Files that this dossier was written from", columns, rows, sortable=False)
