"""Sheets for markers: who reads which essay, written without a word of the machine's, and read back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.bootstrap import prompt_generator
from aes_dynloss.measures.resolution import Rule, needs_third
from aes_dynloss.programme.plan import CERTAIN, WITHHELD, Plan, plan_json
from aes_dynloss.reports.adjudication import HUMAN_SCORE, Decisions, read_decisions, refuse_copies, resolved_decisions
from aes_dynloss.reports.predictions import refuse_outside
from aes_dynloss.tables.atomic import atomic_folder
from aes_dynloss.tables.cells import parse_ids
from aes_dynloss.tables.columns import ID_COLUMNS, TEXT_COLUMN, TRAIT_COLUMN
from aes_dynloss.tables.formats import SUFFIXES, read_cells, write_table
from aes_dynloss.tables.provenance import Provenance, read_provenance, refuse_changed, seal
from aes_dynloss.tables.scale_ids import prompt_and_trait, scales_of
from aes_dynloss.tables.score_range import STEPS, ScoreRange, infer_range

Form = Literal["csv", "xlsx"]

PLAN, ESSAYS, SHEETS, MARKED, READINGS = "plan.json", "essays.csv", "sheets", "marked.csv", "readings.csv"
DESIGN_WEIGHT = "design_weight"
FIRST, SECOND, MARKER = "first_marker", "second_marker", "marker"
_THIRD = "third"
_NAME = re.compile(r"[\w][\w .-]*")
_KEYS = ["prompt_id", "essay_id"]


@dataclass(frozen=True)
class Markers:
    """Who reads, and how much of it twice.

    Args:
        names: The markers' names, which become names of files.
        blind_share: Share of each prompt's essays that a second marker reads, who does not know of it.
        form: Format of the sheets.

    Raises:
        ConfigError: A name is no name of a file or is there twice, or one marker alone is to read twice.
    """

    names: Sequence[str]
    blind_share: float
    form: Form = "csv"

    def __post_init__(self) -> None:
        """Check at construction."""
        for name in self.names:
            if not _NAME.fullmatch(name) or name.casefold().startswith(_THIRD):
                raise ConfigError(
                    f"--marker {name}: expected letters, digits, blanks, - . and _, for a sheet is called so, and no "
                    f"{_THIRD!r} at the beginning."
                )
        if len({name.casefold() for name in self.names}) < len(self.names):
            raise ConfigError("--marker names someone twice. Give each marker a name of their own.")
        if self.blind_share > 0 and len(self.names) < 2:
            raise ConfigError("--blind-share needs a second marker, for nobody reads an essay twice. Name one more.")


def assigned(essays: pd.DataFrame, markers: Markers, seed: int) -> pd.DataFrame:
    """Essays with ``first_marker`` and ``second_marker``; "" where nobody reads an essay a second time.

    Loads differ by at most one essay, in all and, as far as that allows, on each prompt.

    Args:
        essays: With prompt_id.
        markers: Who reads.
        seed: Of what is drawn.

    Raises:
        ConfigError: There is nothing to read for somebody.

    Examples:
        >>> essays = pd.DataFrame({"prompt_id": ["1"] * 4})
        >>> given = assigned(essays, Markers(["Ann", "Ben"], 0.5), seed=0)
        >>> sorted(name for role in ("first_marker", "second_marker") for name in given[role] if name)
        ['Ann', 'Ann', 'Ann', 'Ben', 'Ben', 'Ben']
    """
    random = prompt_generator(seed, "markers")
    loads = np.zeros(len(markers.names), dtype=int)
    readers = np.full((len(essays), 2), "", dtype=object)
    places = np.arange(len(essays))
    for prompt in dict.fromkeys(essays["prompt_id"]):
        order = random.permutation(places[(essays["prompt_id"] == prompt).to_numpy()])
        twice = round(markers.blind_share * len(order))
        # Those that are read twice come first, so that single readings level the loads.
        for number, place in enumerate(order):
            least = np.lexsort((random.random(len(loads)), loads))[: 1 + (number < twice)]
            loads[least] += 1
            readers[place, : len(least)] = [markers.names[one] for one in random.permutation(least)]
    if (loads == 0).any():
        raise ConfigError(f"{len(essays)} essays are too few for {len(loads)} markers. Name fewer.")
    return essays.assign(**{FIRST: readers[:, 0], SECOND: readers[:, 1]})


def write_plan(plan: Plan, markers: Markers, folder: Path, sources: Sequence[Path]) -> None:
    """Write a plan's folder: settings, essays with their weights, and a sheet for each marker.

    Args:
        plan: The plan.
        markers: Who reads.
        folder: The folder, which must not be there, or be empty.
        sources: Files that the plan is made from.

    Raises:
        DataError: Something is in the folder, such as sheets that were filled in.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already, and its sheets may be filled in. Choose another -o.")
    made = Provenance.now(sources)
    essays = assigned(plan.essays, markers, plan.wanted.seed)
    with atomic_folder(folder) as new:
        for name in markers.names:
            own = essays[(essays[FIRST] == name) | (essays[SECOND] == name)]
            _write_sheet(
                own, _all_traits(plan.scored.traits), new / SHEETS / f"{name}.{markers.form}", plan.wanted.seed
            )
        settings = {"markers": list(markers.names), "blind_share": markers.blind_share, "form": markers.form}
        (new / PLAN).write_text(plan_json({**plan.to_dict(), **settings}), encoding="utf-8")
        columns = ["part", "because", "stratum", "inclusion_probability", "weight", FIRST, SECOND]
        told = essays.assign(because=["; ".join(words) for words in essays["because"]])
        write_table(told.sort_values(_KEYS, kind="stable")[[*ID_COLUMNS, *columns]], new / ESSAYS)
        seal(new, made, [PLAN, ESSAYS])


def _all_traits(traits: Mapping[str, Sequence[str]]) -> list[str]:
    """The traits of some prompt, each once; none where essays have one score."""
    return list(dict.fromkeys(trait for own in traits.values() for trait in own))


def _write_sheet(essays: pd.DataFrame, traits: Sequence[str], path: Path, seed: int) -> None:
    """Write what a marker reads, by prompt, in an order that tells nothing, with a blank column for each trait."""
    order = prompt_generator(seed, path.stem).permutation(len(essays))
    shuffled = essays.iloc[order].sort_values("prompt_id", kind="stable")
    columns = [*ID_COLUMNS, *({TEXT_COLUMN} & set(essays.columns))]
    write_table(shuffled[columns].assign(**dict.fromkeys(traits or [HUMAN_SCORE])), path)


@dataclass(frozen=True)
class TakenBack:
    """What markers made of a plan's sheets.

    Args:
        marked: The table of essays that are read: reference (the first reading), second_reference, third_reading,
            human_score (the one that counts), design_weight, part and stratum; a row a trait, named in the column
            trait, where there are several.
        readings: The table of readings, one a row: marker and human_score.
        decisions: The scores that count, blank where a reading is missing or a third one is needed.
        ranges: Score range by prompt, or by prompt and trait, where the plan knows it.
        unread: Essays without a reading of some trait.
        waiting: Essays that need a third reading of some trait.
        third: New sheets for these.
    """

    marked: Path
    readings: Path
    decisions: Decisions
    ranges: Mapping[str, ScoreRange]
    unread: int
    waiting: int
    third: Sequence[Path]


def take_back(folder: Path, rule: Rule) -> TakenBack:
    """Read all sheets of a plan, write MARKED and READINGS, and sheets for third readings where they are needed.

    Estimates use an essay's first reading, of which the two are in random order, so that essays that were read twice
    are measured as the others. Design weights stand for the essays of a stratum that nobody has read yet, too.

    Args:
        folder: The plan's folder.
        rule: How two or three readings become one score.

    Raises:
        DataError: The folder is no plan, a sheet is missing, is a copy of another or holds other essays or scores than
            it should, or of a stratum no essay is read.
    """
    plan, essays = _read_plan(folder)
    scores = _row_a_score(essays, plan["traits"])
    sheets = _sheets_of(folder, plan["markers"])
    third = [name for name in sheets if name.startswith(_THIRD)]
    found = {}
    for name in [*plan["markers"], *third]:
        if name not in sheets:
            raise DataError(f"{folder} lacks the sheet {SHEETS}/{name}.{plan['form']}. Put it back, filled in or not.")
        found[name] = _read_sheet(sheets[name], scores, name, plan["traits"])
    refuse_copies([*found.values()])
    _refuse_two_thirds({sheets[name].name: found[name] for name in third})
    ranges = {scale: ScoreRange(**span) for scale, span in plan["ranges"].items()}
    readings = _readings(scores, found, third)
    known = ranges | _inferred(readings, ranges, folder.name)
    for decisions in found.values():
        refuse_outside(decisions.table, [HUMAN_SCORE], known, decisions.source)
    decisions = resolved_decisions(readings, known, rule, folder.name)
    apart = [key for key, own in readings.items() if own and needs_third(own, known[key[0]])]
    asked = {key for name in third for key in _keys(found[name].table)}
    unread, waiting, wanted = (
        _essays_of(keys, plan["traits"])
        for keys in ([key for key in readings if not readings[key]], apart, [key for key in apart if key not in asked])
    )
    new = _write_third(folder, plan, essays, [*sheets.values()], wanted) if wanted else []
    write_table(_by_trait(_marked(scores, plan, readings, decisions), plan["traits"]), folder / MARKED)
    write_table(_by_trait(_by_marker(found), plan["traits"]), folder / READINGS)
    seal(folder, Provenance.now([folder / PLAN, *sheets.values()]), [MARKED, READINGS])
    return TakenBack(folder / MARKED, folder / READINGS, decisions, ranges, len(unread), len(waiting), new)


def _row_a_score(essays: pd.DataFrame, traits: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Essays by prompt and essay as their scores by scale and essay: of several traits a row for each."""
    rows = essays.reset_index()
    rows["prompt_id"] = [scales_of(prompt, traits.get(prompt, ())) for prompt in rows["prompt_id"]]
    return rows.explode("prompt_id").set_index(_KEYS)


def _essays_of(keys: Sequence[tuple[str, str]], traits: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The prompts and essays of some scales and essays, each once."""
    prompts = {scale: prompt for prompt, own in traits.items() for scale in scales_of(prompt, own)}
    return list(dict.fromkeys((prompts.get(scale, scale), essay) for scale, essay in keys))


def _sheets_of(folder: Path, markers: Sequence[str]) -> dict[str, Path]:
    """The sheets of a plan by name, which may have been saved in another format; others would be lost in silence."""
    sheets: dict[str, Path] = {}
    for path in sorted((folder / SHEETS).glob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith((".", "~")):
            if path.stem not in markers and not path.stem.startswith(_THIRD):
                raise DataError(
                    f"{SHEETS}/{path.name} is no sheet of {folder}: expected {', '.join(markers)} or {_THIRD}_1... "
                    "Put it in the place of its marker's sheet, or take it out."
                )
            if path.stem in sheets:
                raise DataError(f"{folder} has {sheets[path.stem].name} and {path.name}. Keep what is filled in.")
            sheets[path.stem] = path
    return sheets


def _read_plan(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The settings of a plan, and its essays by prompt and essay, as they were written: weights rest on them."""
    try:
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        cells = read_cells(folder / ESSAYS)
        names = [*ID_COLUMNS, "part", "because", "stratum", FIRST, SECOND]
        essays = cells[names].fillna("").astype({"stratum": int}).set_index(_KEYS)
        if not {"markers", "form", "ranges", "strata"} <= plan.keys():
            raise KeyError(PLAN)
        plan.setdefault("traits", {})  # of versions that planned for one score alone
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{folder} is no folder of `aes-dynloss plan`, or its {PLAN} or {ESSAYS} was changed: {error}. Name such a "
            "folder."
        ) from None
    made = read_provenance(folder)
    for name in (PLAN, ESSAYS):
        refuse_changed(folder / name, made, name)
    return plan, essays


def _read_sheet(path: Path, scores: pd.DataFrame, name: str, traits: Mapping[str, Sequence[str]]) -> Decisions:
    """A sheet, which must hold the essays that its marker was given."""
    scales = [scale for prompt, own in traits.items() for scale in scales_of(prompt, own)]
    decisions = read_decisions(path, scales, may_be_blank=True)
    own = set(_keys(decisions.table))
    given = set(scores.index[(scores[FIRST] == name) | (scores[SECOND] == name)])
    if name.startswith(_THIRD):
        given = own & set(scores.index)
    for verb, keys in (("has", own - given), ("lacks", given - own)):
        if keys:
            prompt, essay = min(keys)
            raise DataError(
                f"{path.name} {verb} essay {essay!r} of prompt {prompt!r}, other than {ESSAYS} says. Keep the rows of "
                "the sheet as they were written."
            )
    return decisions


def _refuse_two_thirds(third: Mapping[str, Decisions]) -> None:
    """Refuse sheets of third readings that are of the same essay, for one of them alone can count."""
    seen: dict[tuple[str, str], str] = {}
    for name, decisions in third.items():
        for key in _keys(decisions.table):
            if key in seen:
                raise DataError(
                    f"{SHEETS}/{seen[key]} and {SHEETS}/{name} both have essay {key[1]!r} of prompt {key[0]!r}: one is "
                    "a copy, or was put in the wrong place. Keep what is filled in."
                )
            seen[key] = name


def _texts(sheets: Sequence[Path]) -> pd.DataFrame:
    """What sheets say of the essays on them, by prompt and essay."""
    parts = []
    for path in sheets:
        cells = read_cells(path)
        ids = {role: parse_ids(cells[role], role, path.name) for role in ID_COLUMNS}
        parts.append(cells.filter([TEXT_COLUMN]).assign(**ids))
    return pd.concat(parts).drop_duplicates([*ID_COLUMNS]).set_index(_KEYS, drop=False)


def _keys(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(table["prompt_id"], table["essay_id"], strict=True)


def _readings(
    scores: pd.DataFrame, found: Mapping[str, Decisions], third: Sequence[str]
) -> dict[tuple[str, str], list[float]]:
    """The readings of each score: those that there are of the first two, and behind two a third."""
    given = {name: decisions.decided.to_dict() for name, decisions in found.items()}
    thirds = {key: score for name in third for key, score in given[name].items()}
    readings = {}
    for key, first, second in zip(scores.index, scores[FIRST], scores[SECOND], strict=True):
        own = [given[name][key] for name in (first, second) if name and key in given[name]]
        readings[key] = [*own, thirds[key]] if len(own) == 2 and key in thirds else own
    return readings


def _inferred(
    readings: Mapping[tuple[str, str], Sequence[float]], known: Mapping[str, ScoreRange], source: str
) -> dict[str, ScoreRange]:
    """The score points between the readings, of prompts whose range is not known."""
    scores: dict[str, list[float]] = {}
    for (prompt, _), own in readings.items():
        if prompt not in known and own:
            scores.setdefault(prompt, []).extend(own)
    return {
        prompt: infer_range([np.array(own)], f"prompt {prompt} in {source}", STEPS) for prompt, own in scores.items()
    }


def _write_third(
    folder: Path,
    plan: Mapping[str, Any],
    essays: pd.DataFrame,
    sheets: Sequence[Path],
    wanted: Sequence[tuple[str, str]],
) -> list[Path]:
    """Write a sheet of third readings for each marker who has not read an essay; nobody's sheet where all have."""
    loads = dict.fromkeys(plan["markers"], 0)
    given: dict[str, list[tuple[str, str]]] = {}
    for key in wanted:
        others = [name for name in loads if name not in set(essays.loc[key, [FIRST, SECOND]])]
        reader = min(others, key=lambda name: loads[name], default="")
        if reader:
            loads[reader] += 1
        given.setdefault(reader, []).append(key)
    rows, traits = _texts(sheets), _all_traits(plan["traits"])
    # By numbers that no sheet has: what somebody filled in stays.
    free = (number for number in count(1) if not any((folder / SHEETS).glob(f"{_THIRD}_{number}[._]*")))
    paths = []
    for (reader, keys), number in zip(given.items(), free, strict=False):
        path = folder / SHEETS / f"{'_'.join(filter(None, (_THIRD, str(number), reader)))}.{plan['form']}"
        _write_sheet(rows.loc[keys].reset_index(drop=True), traits, path, number)
        paths.append(path)
    return paths


def _marked(
    scores: pd.DataFrame,
    plan: Mapping[str, Any],
    readings: Mapping[tuple[str, str], Sequence[float]],
    decisions: Decisions,
) -> pd.DataFrame:
    """The essays that are read, with their readings and design weights; a row a scale."""
    columns = ("reference", "second_reference", "third_reading")
    rows = [dict(zip(columns, readings[key], strict=False)) for key in scores.index]
    table = pd.DataFrame(rows, index=scores.index, columns=list(columns), dtype=float)
    table[HUMAN_SCORE] = decisions.table[HUMAN_SCORE].to_numpy()
    table[DESIGN_WEIGHT] = _weights(scores, plan["strata"], table["reference"].notna().to_numpy())
    table = table.join(scores[["part", "stratum"]])
    return table[table["reference"].notna()].reset_index()


def _by_marker(found: Mapping[str, Decisions]) -> pd.DataFrame:
    """All readings with their markers; a third one's is the last part of its sheet's name."""
    tables = [
        decisions.table.dropna(subset=HUMAN_SCORE).assign(**{MARKER: re.sub(rf"^{_THIRD}_\d+_", "", name)})
        for name, decisions in found.items()
    ]
    return pd.concat(tables)[[*ID_COLUMNS, MARKER, HUMAN_SCORE]]


def _by_trait(table: pd.DataFrame, traits: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A table with its ids first, and of several traits with a column of traits in place of scales."""
    ids = [*ID_COLUMNS]
    if traits:
        prompts, names = zip(*map(prompt_and_trait, table["prompt_id"]), strict=True)
        table = table.assign(**{"prompt_id": prompts, TRAIT_COLUMN: names})
        ids.append(TRAIT_COLUMN)
    return table[[*ids, *(name for name in table.columns if name not in ids)]]


def _weights(scores: pd.DataFrame, strata: Sequence[Mapping[str, Any]], read: np.ndarray[Any, Any]) -> list[float]:
    """Essays of a stratum by those of it that are read; certain essays of a prompt are a stratum of their own."""
    scales = scores.index.get_level_values("prompt_id")
    scored = np.array([WITHHELD not in words.split("; ") for words in scores["because"]])
    names = pd.Series(
        [
            f"{part} essays of prompt {scale}" + ("" if part == CERTAIN else f", stratum {number},")
            for part, number, scale in zip(scores["part"], scores["stratum"], scales, strict=True)
        ]
    ).where(scored, WITHHELD)
    sizes, counts = names.value_counts(), names[read].value_counts()
    weights = []
    for name, number in zip(names, scores["stratum"], strict=True):
        if name == WITHHELD:
            weights.append(1.0)
            continue
        if name not in counts:
            raise DataError(f"None of the {name} is read yet: nothing stands for them. Fill in more of the sheets.")
        total = sizes[name] if number < 0 else strata[number]["essays"] - strata[number]["certain"]
        weights.append(float(total / counts[name]))
    return weights
