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
from aes_dynloss.reports.adjudication import HUMAN_SCORE, Decisions, read_decisions, resolved_decisions
from aes_dynloss.reports.predictions import refuse_outside
from aes_dynloss.tables.atomic import atomic_folder
from aes_dynloss.tables.columns import ID_COLUMNS, TEXT_COLUMN
from aes_dynloss.tables.formats import SUFFIXES, read_cells, write_table
from aes_dynloss.tables.provenance import Provenance, read_provenance, refuse_changed, seal
from aes_dynloss.tables.score_range import STEPS, ScoreRange, infer_range

Form = Literal["csv", "xlsx"]

PLAN, ESSAYS, SHEETS, MARKED = "plan.json", "essays.csv", "sheets", "marked.csv"
DESIGN_WEIGHT = "design_weight"
FIRST, SECOND = "first_marker", "second_marker"
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
            _write_sheet(own, new / SHEETS / f"{name}.{markers.form}", plan.wanted.seed)
        settings = {"markers": list(markers.names), "blind_share": markers.blind_share, "form": markers.form}
        (new / PLAN).write_text(plan_json({**plan.to_dict(), **settings}), encoding="utf-8")
        columns = ["part", "because", "stratum", "inclusion_probability", "weight", FIRST, SECOND]
        told = essays.assign(because=["; ".join(words) for words in essays["because"]])
        write_table(told.sort_values(_KEYS, kind="stable")[[*ID_COLUMNS, *columns]], new / ESSAYS)
        seal(new, made, [PLAN, ESSAYS])


def _write_sheet(essays: pd.DataFrame, path: Path, seed: int) -> None:
    """Write what a marker reads, by prompt, in an order that tells nothing."""
    order = prompt_generator(seed, path.stem).permutation(len(essays))
    shuffled = essays.iloc[order].sort_values("prompt_id", kind="stable")
    columns = [*ID_COLUMNS, *({TEXT_COLUMN} & set(essays.columns))]
    write_table(shuffled[columns].assign(**{HUMAN_SCORE: None}), path)


@dataclass(frozen=True)
class TakenBack:
    """What markers made of a plan's sheets.

    Args:
        marked: The table of essays that are read: reference (the first reading), second_reference, third_reading,
            human_score (the one that counts), design_weight, part and stratum.
        decisions: The scores that count, blank where a reading is missing or a third one is needed.
        ranges: Score range by prompt, where the plan knows it.
        unread: Essays without a reading.
        waiting: Essays that need a third reading.
        third: New sheets for these.
    """

    marked: Path
    decisions: Decisions
    ranges: Mapping[str, ScoreRange]
    unread: int
    waiting: int
    third: Sequence[Path]


def take_back(folder: Path, rule: Rule) -> TakenBack:
    """Read all sheets of a plan, write ``marked.csv``, and sheets for third readings where they are needed.

    Estimates use an essay's first reading, of which the two are in random order, so that essays that were read twice
    are measured as the others. Design weights stand for the essays of a stratum that nobody has read yet, too.

    Args:
        folder: The plan's folder.
        rule: How two or three readings become one score.

    Raises:
        DataError: The folder is no plan, a sheet is missing or holds other essays or scores than it should, or of a
            stratum no essay is read.
    """
    plan, essays = _read_plan(folder)
    sheets = _sheets_of(folder, plan["markers"])
    third = [name for name in sheets if name.startswith(_THIRD)]
    texts: list[pd.DataFrame] = []
    found = {}
    for name in [*plan["markers"], *third]:
        if name not in sheets:
            raise DataError(f"{folder} lacks the sheet {SHEETS}/{name}.{plan['form']}. Put it back, filled in or not.")
        found[name] = _read_sheet(sheets[name], essays, name, texts)
    ranges = {prompt: ScoreRange(**span) for prompt, span in plan["ranges"].items()}
    readings = _readings(essays, found, third)
    known = ranges | _inferred(readings, ranges, folder.name)
    for decisions in found.values():
        refuse_outside(decisions.table, [HUMAN_SCORE], known, decisions.source)
    decisions = resolved_decisions(readings, known, rule, folder.name)
    wanted = [key for key, own in readings.items() if own and needs_third(own, known[key[0]])]
    asked = {key for name in third for key in _keys(found[name].table)}
    new = _write_third(folder, plan, essays, pd.concat(texts), [key for key in wanted if key not in asked])
    marked = _marked(essays, plan, readings, decisions)
    write_table(marked, folder / MARKED)
    seal(folder, Provenance.now([folder / PLAN, *sheets.values()]), [MARKED])
    return TakenBack(folder / MARKED, decisions, ranges, len(essays) - len(marked), len(wanted), new)


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
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{folder} is no folder of `aes-dynloss plan`, or its {PLAN} or {ESSAYS} was changed: {error}. Name such a "
            "folder."
        ) from None
    made = read_provenance(folder)
    for name in (PLAN, ESSAYS):
        refuse_changed(folder / name, made, name)
    return plan, essays


def _read_sheet(path: Path, essays: pd.DataFrame, name: str, texts: list[pd.DataFrame]) -> Decisions:
    """A sheet, which must hold the essays that its marker was given; what it says of them is added to ``texts``."""
    decisions = read_decisions(path, may_be_blank=True)
    own = set(_keys(decisions.table))
    given = set(essays.index[(essays[FIRST] == name) | (essays[SECOND] == name)])
    if name.startswith(_THIRD):
        given = own & set(essays.index)
    for verb, keys in (("has", own - given), ("lacks", given - own)):
        if keys:
            prompt, essay = min(keys)
            raise DataError(
                f"{path.name} {verb} essay {essay!r} of prompt {prompt!r}, other than {ESSAYS} says. Keep the rows of "
                "the sheet as they were written."
            )
    told = read_cells(path).filter([TEXT_COLUMN]).reset_index(drop=True)
    texts.append(decisions.table[[*ID_COLUMNS]].join(told))
    return decisions


def _keys(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(table["prompt_id"], table["essay_id"], strict=True)


def _readings(
    essays: pd.DataFrame, found: Mapping[str, Decisions], third: Sequence[str]
) -> dict[tuple[str, str], list[float]]:
    """The readings of each essay: those that there are of the first two, and behind two a third."""
    scores = {name: decisions.decided.to_dict() for name, decisions in found.items()}
    thirds = {key: score for name in third for key, score in scores[name].items()}
    readings = {}
    for key, first, second in zip(essays.index, essays[FIRST], essays[SECOND], strict=True):
        own = [scores[name][key] for name in (first, second) if name and key in scores[name]]
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
    texts: pd.DataFrame,
    wanted: Sequence[tuple[str, str]],
) -> list[Path]:
    """Write a sheet of third readings for each marker who has not read an essay; nobody's sheet where all have."""
    loads = dict.fromkeys(plan["markers"], 0)
    sheets: dict[str, list[tuple[str, str]]] = {}
    for key in wanted:
        others = [name for name in loads if name not in set(essays.loc[key, [FIRST, SECOND]])]
        reader = min(others, key=lambda name: loads[name], default="")
        if reader:
            loads[reader] += 1
        sheets.setdefault(reader, []).append(key)
    rows = texts.drop_duplicates(list(ID_COLUMNS)).set_index(_KEYS, drop=False)
    # By numbers that no sheet has: what somebody filled in stays.
    free = (number for number in count(1) if not any((folder / SHEETS).glob(f"{_THIRD}_{number}[._]*")))
    paths = []
    for (reader, keys), number in zip(sheets.items(), free, strict=False):
        path = folder / SHEETS / f"{'_'.join(filter(None, (_THIRD, str(number), reader)))}.{plan['form']}"
        _write_sheet(rows.loc[keys].reset_index(drop=True), path, number)
        paths.append(path)
    return paths


def _marked(
    essays: pd.DataFrame,
    plan: Mapping[str, Any],
    readings: Mapping[tuple[str, str], Sequence[float]],
    decisions: Decisions,
) -> pd.DataFrame:
    """The essays that are read, with their readings and design weights."""
    columns = ("reference", "second_reference", "third_reading")
    rows = [dict(zip(columns, readings[key], strict=False)) for key in essays.index]
    table = pd.DataFrame(rows, index=essays.index, columns=list(columns), dtype=float)
    table[HUMAN_SCORE] = decisions.table[HUMAN_SCORE].to_numpy()
    table[DESIGN_WEIGHT] = _weights(essays, plan["strata"], table["reference"].notna().to_numpy())
    table = table.join(essays[["part", "stratum"]])
    read = table[table["reference"].notna()].reset_index()
    return read[[*ID_COLUMNS, *(name for name in read.columns if name not in ID_COLUMNS)]]


def _weights(essays: pd.DataFrame, strata: Sequence[Mapping[str, Any]], read: np.ndarray[Any, Any]) -> list[float]:
    """Essays of a stratum by those of it that are read; certain essays of a prompt are a stratum of their own."""
    prompts = essays.index.get_level_values("prompt_id")
    scored = np.array([WITHHELD not in words.split("; ") for words in essays["because"]])
    names = pd.Series(
        [
            f"random essays of stratum {number}" if part != CERTAIN else f"certain essays of prompt {prompt}"
            for part, number, prompt in zip(essays["part"], essays["stratum"], prompts, strict=True)
        ]
    ).where(scored, WITHHELD)
    counts = names[read].value_counts()
    weights = []
    for name, number in zip(names, essays["stratum"], strict=True):
        if name == WITHHELD:
            weights.append(1.0)
            continue
        if name not in counts:
            raise DataError(f"None of the {name} is read yet: nothing stands for them. Fill in more of the sheets.")
        total = (names == name).sum() if number < 0 else strata[number]["essays"] - strata[number]["certain"]
        weights.append(float(total / counts[name]))
    return weights
