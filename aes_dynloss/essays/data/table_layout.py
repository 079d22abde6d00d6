"""What the columns of a user's table are, as far as their names and values say so, as the section data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from aes_dynloss.errors import DataError
from aes_dynloss.tables.cells import CellError, is_blank, number_cell
from aes_dynloss.tables.columns import missing_columns, nearest
from aes_dynloss.tables.csv_jsonl import Quoting
from aes_dynloss.tables.formats import iterate_rows, source_name
from aes_dynloss.tables.scale_ids import scale_id
from aes_dynloss.tables.score_range import ONE_PROMPT, STEPS, ScoreRange, infer_range

# What columns are called elsewhere, in lower case: ASAP, Feedback-ELL, learning platforms.
_NAMES = {
    "text": ("text", "essay", "essay_text", "full_text", "essaytext", "answer", "response", "writing"),
    "essay_id": ("essay_id", "id", "text_id", "essayid", "response_id"),
    "prompt_id": ("prompt_id", "essay_set", "essayset", "prompt", "task", "task_id"),
    "score": ("score", "human_score", "overall", "holistic_score", "domain1_score", "grade", "mark", "rating"),
}
OPTIONS = {
    "text": "--text-column",
    "essay_id": "--id-column",
    "prompt_id": "--prompt-column",
    "score": "--score-column",
    "second_score": "--second-score-column",
}


def naming(role: str) -> str:
    """How a user names the column of a role, on the command line and in Python.

    >>> naming("text")
    "--text-column (in Python: columns={'text': ...})"
    """
    return f"{OPTIONS[role]} (in Python: columns={{{role!r}: ...}})"


# A column of essays has so many words in the median, and so many times those of any other.
_LEAST_WORDS, _MORE_WORDS = 20, 4
_LONGEST_PROMPT = 40  # characters: longer ones are the prompt's text, not its id
# Rows: of fewer, words that are no ids may be all different by chance, and counts such as words an essay even more so.
_LEAST_WORD_IDS, _LEAST_NUMBER_IDS = 20, 100
_SAMPLE = 200  # rows by which columns are told apart


Scale = tuple[str, str | None]  # a prompt, and a trait where essays are scored on several
Places = list[tuple[int, float]]  # of rows, each with its score


@dataclass
class TableLayout:
    """The section data for a table, and what was chosen in it.

    Args:
        data: The section, without keys that have their default.
        said: What each column was taken for, and why, in words.
        slips: Words on the few scores that stand apart from all others of their prompt.
        unused: Words on ranges of prompts that the table does not have.
    """

    data: dict[str, Any]
    said: list[str] = field(default_factory=list)
    slips: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def table_layout(
    path: Path,
    named: Mapping[str, str],
    ranges: Mapping[str, ScoreRange],
    subgroups: Sequence[str] = (),
    group: str | None = None,
    *,
    traits: Mapping[str, str] | None = None,
    prompt: str = ONE_PROMPT,
    encoding: str = "utf-8",
    quoting: Quoting = "minimal",
) -> TableLayout:
    r"""Find out what a table's columns are.

    A column is taken by its name, the text also by its length, the score where it is the only other column of numbers,
    the id where it alone has values that all differ and are no decimals. Without a column of ids rows are numbered;
    without one of prompts there is one prompt.

    Args:
        path: Any table that is read, see the README of tables.
        named: Columns that the user named, by ``text``, ``essay_id``, ``prompt_id``, ``score`` and ``second_score``.
        ranges: Score ranges by prompt; that of ``all`` is for all that have none. Others are told from the scores.
        subgroups: Columns of groups of writers.
        group: Column of writer, class or school, whose essays are to stay in one part.
        traits: Columns of several traits' scores, by trait; ranges may be by PROMPT/TRAIT.
        prompt: The one prompt of a table without a column of prompts.
        encoding: Of text files.
        quoting: Of csv and tsv.

    Raises:
        DataError: The table cannot be read, a named column is missing, or what a column is remains open; the message
            names the columns and the option.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "essays.csv"
        ...     _ = path.write_text("full_text,grammar\n" + "My dog is big. He runs.,3.5\n" * 3, encoding="utf-8")
        ...     layout = table_layout(path, {}, {})
        >>> layout.data["columns"]
        {'essay_id': None, 'text': 'full_text', 'score': 'grammar'}
        >>> layout.data["prompts"]
        {'all': {'low': 3, 'high': 4, 'step': 0.5}}
        >>> print(layout.said[0])
        text: column 'full_text', by its name
    """
    numbers, rows = _rows(path, encoding, quoting)
    sample = rows[:_SAMPLE]
    columns = list(rows[0])
    others = {column: naming(role) for role, column in named.items()} | dict.fromkeys(subgroups, "--subgroup")
    others |= {} if group is None else {group: "--group-column"}
    others |= dict.fromkeys((traits or {}).values(), naming("score"))
    missing = {
        column: f"Name the right one with {option}." for column, option in others.items() if column not in columns
    }
    if missing:
        raise DataError(missing_columns(source_name(path), missing, columns))
    free = [column for column in columns if column not in others]
    found = {role: Found(column, "as named") for role, column in named.items()}
    if "text" not in found:
        found["text"] = _text(sample, free, source_name(path))
    free = [column for column in free if column != found["text"].column]
    for role in ("essay_id", "prompt_id"):
        if role not in found and (column := _by_name(role, free)) is not None and _tells(role, column, rows):
            found[role] = Found(column, "by its name")
            free.remove(column)
    if "score" not in found and not traits:
        found["score"] = _score(sample, free, source_name(path))
    if "essay_id" not in found:
        taken = [one.column for one in found.values()]
        found |= _id_by_values([column for column in free if column not in taken], rows)
    prompts = _prompts_of(rows, found, prompt)
    scored = _scored(rows, prompts, found, traits or {})
    layout = _layout(path, scored, found, ranges, traits or {}, subgroups, prompt, encoding)
    layout.slips.extend(_slips(numbers, scored, ranges))
    layout.unused.extend(_unused(ranges, {*prompts}, traits or {}, source_name(path)))
    if group is not None:
        layout.data["split"] = {"group": group}
        layout.said.append(f"essays of one {group!r} stay in one part")
    return layout


def unscored_columns(
    path: Path,
    named: Mapping[str, str],
    *,
    encoding: str = "utf-8",
    quoting: Quoting = "minimal",
    content: bytes | None = None,
) -> TableLayout:
    r"""Find out which columns of a table of essays to score are text and id, where it has none of the usual names.

    Args:
        path: Any table that is read, see the README of tables.
        named: Columns that the user named, by ``text`` and ``essay_id``.
        encoding: Of text files.
        quoting: Of csv and tsv.
        content: A table in memory, of which ``path`` is the name.

    Returns:
        The columns that have other names than the defaults, and why they were taken.

    Raises:
        DataError: The table cannot be read or has no rows, or it remains open which column is the text.

    Examples:
        >>> layout = unscored_columns(Path("new.csv"), {}, content=b"id,essay\n7,My dog is big.")
        >>> layout.data, layout.said[0]
        ({'text': 'essay', 'essay_id': 'id'}, "text: column 'essay', by its name")
    """
    rows = iterate_rows(path, encoding=encoding, quoting=quoting, on_fault=lambda _: None, content=content)
    sample = [row for _, row in islice(rows, _SAMPLE)]
    if not sample:  # of rows that can all not be read: the reader says why
        return TableLayout({})
    columns = list(sample[0])
    found: dict[str, Found] = {}
    if "text" not in named and "text" not in columns:
        found["text"] = _text(sample, [column for column in columns if column not in named.values()], source_name(path))
    if "essay_id" not in named and "essay_id" not in columns:
        taken = {*named.values(), *(one.column for one in found.values()), "text"}
        free = [column for column in columns if column not in taken]
        own = _by_name("essay_id", free)
        if own is not None and _tells("essay_id", own, sample):
            found["essay_id"] = Found(own, "by its name")
        else:
            found |= _id_by_values(free, sample)
    said = [f"{_WORDS[role]}: column {one.column!r}, {one.why}" for role, one in found.items()]
    return TableLayout({role: one.column for role, one in found.items()}, said)


@dataclass(frozen=True)
class Found:
    """A column, and why it was taken."""

    column: str
    why: str


def _rows(path: Path, encoding: str, quoting: Quoting) -> tuple[list[int], list[dict[str, object]]]:
    """The rows that can be read, with their numbers; the others are told when the table is read in earnest."""
    numbered = list(iterate_rows(path, encoding=encoding, quoting=quoting, on_fault=lambda _: None))
    found = [row for _, row in numbered]
    if not found:
        name = source_name(path)
        raise DataError(f"{name} holds no row that can be read. See `aes-dynloss data check {name}`.")
    return [number for number, _ in numbered], found


def _by_name(role: str, columns: Sequence[str]) -> str | None:
    """The first of the role's usual names that a column has, whatever the case."""
    known = {column.strip().lower(): column for column in reversed(columns)}
    return next((known[name] for name in _NAMES[role] if name in known), None)


def _tells(role: str, column: str, rows: Sequence[Mapping[str, object]]) -> bool:
    """Whether a column can be what its name says: ids stand once, prompts' ids are short; nothing is blank."""
    values = [row.get(column) for row in rows]
    if any(is_blank(value) for value in values):
        return False
    words = [str(value) for value in values]
    return len(set(words)) == len(words) if role == "essay_id" else max(map(len, words)) <= _LONGEST_PROMPT


def _id_by_values(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> dict[str, Found]:
    """The one column whose values tell each row from all others, if there is one and the rows are not few.

    >>> rows = [{"ref": f"S{number}", "grade": number % 6, "density": number / 7} for number in range(20)]
    >>> _id_by_values(["ref", "grade", "density"], rows)["essay_id"].column
    'ref'
    """
    different = [column for column in columns if _looks_like_ids(column, rows)]
    return {"essay_id": Found(different[0], "the only one whose values all differ")} if len(different) == 1 else {}


def _looks_like_ids(column: str, rows: Sequence[Mapping[str, object]]) -> bool:
    """Whether a column without a usual name holds ids: single words that all differ, and no measures."""
    if not _tells("essay_id", column, rows) or any(len(str(row[column]).split()) > 1 for row in rows):
        return False  # names of writers are of several words, and are not to be ids unasked
    numbers = _numbers(column, rows)
    return len(rows) >= (_LEAST_NUMBER_IDS if numbers else _LEAST_WORD_IDS) and all(map(float.is_integer, numbers))


def _text(sample: Sequence[Mapping[str, object]], columns: Sequence[str], name: str) -> Found:
    by_name = _by_name("text", columns)
    if by_name is not None:
        return Found(by_name, "by its name")
    words = {
        column: median(len(value.split()) if isinstance(value := row.get(column), str) else 0 for row in sample)
        for column in columns
    }
    longest = sorted(words, key=lambda column: -words[column])
    if longest and words[longest[0]] >= _LEAST_WORDS:
        second = words[longest[1]] if len(longest) > 1 else 0
        if words[longest[0]] >= _MORE_WORDS * second:
            return Found(longest[0], f"the longest, {words[longest[0]]:.0f} words in the median")
    raise DataError(
        f"{name}: which column holds the essays? None has a usual name, or is plainly the longest. Name it with "
        f"{naming('text')}; the columns are {_listed(columns)}."
    )


def _score(sample: Sequence[Mapping[str, object]], columns: Sequence[str], name: str) -> Found:
    numeric = {column: _numeric_share(column, sample) for column in columns}
    by_name = _by_name("score", [column for column, share in numeric.items() if share > 0.5])  # others are told by row
    if by_name is not None:
        return Found(by_name, "by its name")
    whole = [column for column, share in numeric.items() if share == 1]
    if len(whole) == 1:
        return Found(whole[0], "the only other column of numbers")
    some = (
        f"Columns of numbers are {_listed(whole)}"
        if whole
        else f"No other column has numbers alone: {_listed(columns)}"
    )
    raise DataError(f"{name}: which column holds the human score? {some}. Name it with {naming('score')}.")


def _numeric_share(column: str, rows: Sequence[Mapping[str, object]]) -> float:
    return len(_numbers(column, rows)) / len(rows)


def _numbers(column: str, rows: Sequence[Mapping[str, object]]) -> list[float]:
    """The cells that are numbers."""
    found = []
    for row in rows:
        try:
            found.append(number_cell(row.get(column), column))
        except CellError:
            continue
    return [value for value in found if value is not None]


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(repr(column) for column in columns[:10])
    return shown + (f" and {len(columns) - 10} more" if len(columns) > 10 else "") if columns else "none"


def _layout(
    path: Path,
    scored: Mapping[Scale, Places],
    found: Mapping[str, Found],
    ranges: Mapping[str, ScoreRange],
    traits: Mapping[str, str],
    subgroups: Sequence[str],
    prompt: str,
    encoding: str,
) -> TableLayout:
    said = [f"{_WORDS[role]}: column {found[role].column!r}, {found[role].why}" for role in _WORDS if role in found]
    columns: dict[str, Any] = {role: one.column for role, one in found.items() if one.column != role}
    if traits:
        said.append(f"score: {', '.join(f'{trait} in column {column!r}' for trait, column in traits.items())}")
        columns["score"] = list(traits) if all(trait == column for trait, column in traits.items()) else dict(traits)
    data: dict[str, Any] = {"source": str(path)}
    if "essay_id" not in found:
        columns = {"essay_id": None, **columns}
        said.append(f"id: rows are numbered ({OPTIONS['essay_id']} names a column)")
    if encoding != "utf-8":
        data["encoding"] = encoding
    if columns:
        data["columns"] = columns
    if "prompt_id" not in found:
        data["prompt"] = prompt
        said.append(f"prompt: one for all, called {prompt!r}")
    if subgroups:
        data["subgroups"] = list(subgroups)
    data["prompts"], points_said = _prompts(path, scored, ranges)
    return TableLayout(data, said + points_said)


def _prompts(
    path: Path, scored: Mapping[Scale, Places], ranges: Mapping[str, ScoreRange]
) -> tuple[dict[str, Any], list[str]]:
    """Score points by prompt, given or seen, with those of traits where these differ; and words on them."""
    prompts: dict[str, Any] = {}
    said = []
    for (prompt, trait), places in scored.items():
        name = scale_id(prompt, trait)
        given = _given(ranges, prompt, trait)
        where = f"prompt {name} in {source_name(path)}"
        span = given or infer_range([np.array([value for _, value in places])], where, STEPS)
        points = {key: _plain(value) for key, value in vars(span).items() if key != "step" or value != 1}
        if trait is None:
            prompts[prompt] = points
        else:
            prompts.setdefault(prompt, {"traits": {}})["traits"][trait] = points
        said.append(f"score points of prompt {name}: {span}, {'as given' if given else 'from the scores seen'}")
    for prompt, entry in prompts.items():
        own = list(entry.get("traits", {}).values())
        if own and all(points == own[0] for points in own):
            prompts[prompt] = own[0]
    return prompts, said


def _given(ranges: Mapping[str, ScoreRange], prompt: str, trait: str | None) -> ScoreRange | None:
    """The range that is given for a prompt and trait, for the prompt, or for all."""
    return next((ranges[one] for one in (scale_id(prompt, trait), prompt, ONE_PROMPT) if one in ranges), None)


_WORDS = {"text": "text", "score": "score", "second_score": "second score", "essay_id": "id", "prompt_id": "prompt"}


# Scores that are one in so many, or fewer, are taken for slips where they stand apart; so many are named.
_ONE_IN, _NAMED = 50, 3


def _slips(numbers: Sequence[int], scored: Mapping[Scale, Places], ranges: Mapping[str, ScoreRange]) -> list[str]:
    """Words on the few scores that are far from all others, or off their steps, of prompts without a range."""
    said = []
    for (prompt, trait), places in scored.items():
        few = len(places) // _ONE_IN
        if not few or _given(ranges, prompt, trait) is not None:
            continue
        name = "score" if trait is None else f"score of {trait}"
        apart = _apart(places, few)
        said += [
            f"Look at row {numbers[row]}: its {name} {value:g} is {why}. Correct it, or give --range."
            for (row, value), why in list(apart.items())[:_NAMED]
        ]
        if len(apart) > _NAMED:
            said.append(f"Look at {len(apart) - _NAMED} more such scores of prompt {scale_id(prompt, trait)}.")
    return said


def _apart(places: Places, few: int) -> dict[tuple[int, float], str]:
    """The scores that stand apart from all but a few others, with their rows, and why."""
    ordered = np.sort([value for _, value in places])
    low, high = float(ordered[few]), float(ordered[-few - 1])
    apart = {
        (row, value): f"far from the others, {low:g} to {high:g}"
        for row, value in places
        if high > low and not 2 * low - high <= value <= 2 * high - low
    }
    rest = [place for place in places if place not in apart]
    for step in STEPS:
        off = [(row, value) for row, value in rest if abs(value / step - round(value / step)) > 1e-6]
        if len(off) <= few:
            return apart | dict.fromkeys(off, f"no multiple of {step:g}, as the others are")
    return apart


def _prompts_of(rows: Sequence[Mapping[str, object]], found: Mapping[str, Found], prompt: str) -> list[str]:
    """The prompt of each row; ``prompt`` of all, where there is no column of prompts."""
    if "prompt_id" not in found:
        return [prompt] * len(rows)
    return [str(row.get(found["prompt_id"].column)) for row in rows]


def _unused(
    ranges: Mapping[str, ScoreRange], prompts: Collection[str], traits: Collection[str], name: str
) -> list[str]:
    """Words on ranges of prompts, or of prompts and traits, that the table does not have."""
    known = {*prompts, *(scale_id(prompt, trait) for prompt in prompts for trait in traits)}
    return [
        f"A range is given for prompt {one!r}, of which {name} holds no essay; {nearest(one, known)}"
        for one in ranges
        if one not in {*known, ONE_PROMPT}
    ]


def _scored(
    rows: Sequence[Mapping[str, object]], prompts: Sequence[str], found: Mapping[str, Found], traits: Mapping[str, str]
) -> dict[Scale, Places]:
    """Place of the row and score, of all scores that can be read, by prompt and trait."""
    columns: list[tuple[str | None, str]] = [*traits.items()]
    columns += [(None, found[role].column) for role in ("score", "second_score") if role in found]
    scores: dict[Scale, Places] = {}
    for place, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        for trait, column in columns:
            try:
                value = number_cell(row.get(column), column)
            except CellError:
                continue  # told with its row when the table is read in earnest
            if value is not None:
                scores.setdefault((prompt, trait), []).append((place, value))
    return scores


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value
