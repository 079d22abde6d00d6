"""Grading worksheets of learning platforms: Moodle's offline grading worksheet, Canvas' gradebook.

The platform's own file is filled in: a grade where there is none, feedback on it, and nothing else changes. Columns are
those that Moodle (mod_assign, assignfeedback_offline) and Canvas (gradebook export and import) write and read.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.scoring.output import Columns, Platform
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.columns import TRAIT_COLUMNS, missing_columns
from aes_dynloss.tables.csv_cells import CsvCells
from aes_dynloss.tables.provenance import sealed

if TYPE_CHECKING:
    from aes_dynloss.essays.data.essay_table import Prompt
    from aes_dynloss.essays.data.readers import UnscoredEssay
    from aes_dynloss.measures.scales import ConversionTable
    from aes_dynloss.tables.provenance import Provenance

logger = logging.getLogger(__name__)

MOODLE_ID, MOODLE_TEXT = "Identifier", "Online text"
_MOODLE_GRADE, _MOODLE_HIGHEST, _MOODLE_FEEDBACK = "Grade", "Maximum Grade", "Feedback comments"
_CANVAS_IDS = ("ID", "SIS Login ID", "SIS User ID")
_CANVAS_POINTS = "Points Possible"
_ASSIGNMENT = re.compile(r"(.*) \((\d+)\)", re.DOTALL)
# A student's number in the names of the files that the platform's "download all submissions" gives.
_IN_FILE_NAME: Mapping[Platform, re.Pattern[str]] = {
    "moodle": re.compile(r".*_(\d+)_assignsubmission_.*", re.DOTALL),
    "canvas": re.compile(r"[^_]+(?:_late)?_(\d+)_\d+_.*", re.DOTALL | re.IGNORECASE),
}
_FILE_NAME = "number in a file's name"
_NO_GRADE = ("", "-")


class GradeColumn(NamedTuple):
    """A column that may hold grades.

    Args:
        place: Its place in a row.
        names: What it is called; all do.
        highest: The highest grade; None where the file does not say.
    """

    place: int
    names: tuple[str, ...]
    highest: float | None


class _Layout(NamedTuple):
    """What is where in a platform's file.

    Args:
        ids: By column of ids, the row of each id.
        columns: Those that may hold grades.
        usual: Those of them that hold grades where nobody names one.
        feedback: The column of feedback; None where there is none.
    """

    ids: Mapping[str, Mapping[str, int]]
    columns: Sequence[GradeColumn]
    usual: Sequence[GradeColumn]
    feedback: int | None


@dataclass(frozen=True)
class Worksheet:
    """A platform's file, and where in it what stands.

    Args:
        platform: Whose it is.
        name: What the file is called.
        cells: Its cells.
        ids: By column of ids, the row of each id.
        grades: The column of grades of each trait; of None, where an essay has one score.
        feedback: The column of feedback; None where there is none.
    """

    platform: Platform
    name: str
    cells: CsvCells
    ids: Mapping[str, Mapping[str, int]]
    grades: Mapping[str | None, GradeColumn]
    feedback: int | None

    @classmethod
    def read(
        cls, path: Path, platform: Platform, grade_columns: Sequence[str] = (), encoding: str = "utf-8"
    ) -> Worksheet:
        """Read a worksheet as the platform exports it.

        Args:
            path: The file.
            platform: Whose it is.
            grade_columns: Column of grades; of Canvas an assignment, by its column's name, its title or its id. None:
                Moodle's "Grade", Canvas' only assignment. Of several traits ``TRAIT=COLUMN`` of each that is wanted.
            encoding: Of the file, a known one.

        Raises:
            ConfigError: It is open, or unknown, which column has the grades.
            DataError: It cannot be read, or is no such worksheet.
        """
        cells = CsvCells.read(path, encoding)
        rows = [cells.row(number) for number in range(len(cells.places))]
        header = rows[0] if rows else []
        wrong = next((n for n, row in enumerate(rows) if len(row) != len(header) and row != [""]), None)
        if wrong is not None:
            raise DataError(f"Row {wrong + 1} of {path.name} has {len(rows[wrong])} values, the header {len(header)}.")
        layout = (_of_moodle if platform == "moodle" else _of_canvas)(rows, path.name)
        return cls(platform, path.name, cells, layout.ids, _chosen(layout, grade_columns, path.name), layout.feedback)

    def check_scale(self, prompts: Mapping[str, Prompt], tables: Mapping[str, ConversionTable]) -> None:
        """Refuse scores that would be no grades on this worksheet's scale.

        Args:
            prompts: The model's prompts.
            tables: Of its reported scores.

        Raises:
            ConfigError: It is open which trait's scores are grades, or they are beyond the highest grade or on another
                scale.
        """
        traits = list(dict.fromkeys(prompt.trait for prompt in prompts.values()))
        if not {*self.grades} <= {*traits}:
            if traits == [None]:
                raise ConfigError("The model scores no traits: name one --grade-column, without TRAIT=.")
            raise ConfigError(
                f"The model scores the traits {', '.join(filter(None, traits))}: say which of them are grades of "
                f"{self.name}, and where, by --grade-column TRAIT=COLUMN for each."
            )
        for trait, column in self.grades.items():
            of_trait = [prompt for prompt in prompts.values() if prompt.trait == trait]
            self._check_column(column, of_trait, tables)

    def _check_column(
        self, column: GradeColumn, prompts: Sequence[Prompt], tables: Mapping[str, ConversionTable]
    ) -> None:
        """Refuse scores of some prompts, or of one trait of theirs, that would be no grades of a column."""
        highest = {
            prompt.id: max(tables[prompt.id].reported) if prompt.id in tables else prompt.range.high
            for prompt in prompts
        }
        if column.highest is None:
            if len({*highest.values()}) > 1:
                raise ConfigError(
                    f"Grades of {self.name} would be on several scales, by prompt up to "
                    f"{', '.join(f'{prompt} {grade:g}' for prompt, grade in highest.items())}. "
                    "Give one with --scale LOW:HIGH."
                )
            return
        for prompt in prompts:
            if prompt.id not in tables and prompt.range.high != column.highest:
                raise ConfigError(
                    f"Grades of {self.name} go up to {column.highest:g}, scores of prompt {prompt.id} "
                    f"from {prompt.range}. Say how they become grades, such as by --scale 0:{column.highest:g}."
                )
            if highest[prompt.id] > column.highest:
                raise ConfigError(
                    f"Grades of {self.name} go up to {column.highest:g}, reported scores of prompt {prompt.id} up to "
                    f"{highest[prompt.id]:g}. Correct --scale."
                )

    def essays(self, essays: Iterable[UnscoredEssay], *, own: bool) -> Iterator[UnscoredEssay]:
        """The essays that have a row in the worksheet.

        Args:
            essays: Essays.
            own: Whether they are read from the worksheet itself: then their text is HTML, and a blank one is none.

        Raises:
            DataError: An essay has no row by the column of ids that the others have theirs by, or the row of another.
        """
        found = _EssayRows(self)
        for essay in essays:
            if own and not essay.text.strip():
                continue
            found.add(essay.essay_id)
            yield essay._replace(text=plain_text(essay.text)) if own else essay

    def write(self, windows: Iterable[Columns], path: Path) -> int:
        """Write the worksheet with the grades of scored essays; those that are withheld get none.

        Args:
            windows: Columns of scores.
            path: Where to.

        Returns:
            Number of essays.

        Raises:
            DataError: Essays have no row, or one row together, or the file cannot be written.
        """
        ids: list[str] = []
        grades: dict[str | None, list[float | None]] = {trait: [] for trait in self.grades}
        for window in windows:
            ids += window["essay_id"]
            for trait, known in grades.items():
                score, reported = (
                    name if trait is None else trait + TRAIT_COLUMNS[name] for name in ("score", "reported")
                )
                # Prompts without a reported scale are graded by their scores; a withheld essay has neither.
                pairs = zip(window.get(reported, window[score]), window[score], strict=True)
                known += [point if told is None else told for told, point in pairs]
        rows = self.rows(ids)
        told = {
            (row, self.grades[trait].place): f"{grade:.10g}"
            for trait, known in grades.items()
            for row, grade in zip(rows, known, strict=True)
            if grade is not None
        }
        fresh = {place: grade for place, grade in told.items() if self._is_blank(place)}
        if len(fresh) < len(told):
            logger.warning("Scored essays that have a grade already, which stays: %d.", len(told) - len(fresh))
        _write(path, self.cells.filled(fresh))
        return len(ids)

    def feedback_into(self, path: Path | None) -> Feedback | None:
        """What fills in feedback, in the file that has the grades; None where the platform takes none from a file."""
        return None if path is None or self.platform != "moodle" else Feedback(self, path)

    def rows(self, essay_ids: Sequence[str]) -> list[int]:
        """The row of each essay, all by one column of ids.

        Raises:
            DataError: There is no such column, or two essays have one row.
        """
        found = _EssayRows(self)
        for essay_id in essay_ids:
            found.add(essay_id)
        return found.rows

    def _is_blank(self, place: tuple[int, int]) -> bool:
        row, column = place
        return self.cells.row(row)[column].strip() in _NO_GRADE


class _EssayRows:
    """The rows of essays as they come, by each column of ids that knows all of them.

    Args:
        worksheet: Whose rows.
    """

    def __init__(self, worksheet: Worksheet) -> None:
        self._sheet = worksheet
        self._known: dict[str, dict[int, str]] = {title: {} for title in (*worksheet.ids, _FILE_NAME)}

    @property
    def rows(self) -> list[int]:
        """The row of each essay, in their order."""
        return list(next(iter(self._known.values())))

    def add(self, essay_id: str) -> None:
        """Find an essay's row.

        Raises:
            DataError: No column knows it and all before it, or another essay has its row.
        """
        sheet, places = self._sheet, self._places(essay_id)
        if not places:
            raise DataError(
                f"Essay {essay_id!r} has no row in {sheet.name}, by its {', '.join(sheet.ids)}. Name INPUT's column "
                "of these with --id-column, or call the files so."
            )
        known = {title: rows for title, rows in self._known.items() if title in places}
        if not known:
            raise DataError(
                f"Essay {essay_id!r} has no row in {sheet.name} by {', '.join(self._known)}, as all before it have, "
                f"but by {', '.join(places)}. Give each essay its id of one column."
            )
        for title, rows in known.items():
            row = places[title]
            if row in rows:
                raise DataError(f"Essays {rows[row]!r} and {essay_id!r} have one row in {sheet.name}. Leave one out.")
            rows[row] = essay_id
        self._known = known

    def _places(self, essay_id: str) -> dict[str, int]:
        """The essay's row by each column of ids that knows it, and by the number in a file's name."""
        match = _IN_FILE_NAME[self._sheet.platform].fullmatch(essay_id)
        numbers = next(iter(self._sheet.ids.values()))
        found = {title: rows.get(essay_id) for title, rows in self._sheet.ids.items()}
        found[_FILE_NAME] = None if match is None else numbers.get(match[1])
        return {title: row for title, row in found.items() if row is not None}


def _chosen(layout: _Layout, words: Sequence[str], name: str) -> dict[str | None, GradeColumn]:
    """The columns of grades that are named, by trait; a name with = in it may be a column's own."""
    if not words:
        return {None: _only(layout.usual, layout, f"{name}: it is open which column has the grades")}
    chosen: dict[str | None, GradeColumn] = {}
    for word in words:
        trait, _, title = word.partition("=")
        of_traits = [one for one in layout.columns if title and title in one.names]
        whole = [one for one in layout.columns if word in one.names]
        column = _only(whole or of_traits, layout, f"{name}: there is not one column {word!r}")
        key = None if whole else trait
        if key in chosen or column in chosen.values():
            raise ConfigError(
                f"--grade-column {word}: there is another of the same {'trait' if key in chosen else 'column'}. Give "
                "each trait a column, as TRAIT=COLUMN."
            )
        chosen[key] = column
    return chosen


def _only(found: Sequence[GradeColumn], layout: _Layout, fault: str) -> GradeColumn:
    """The one column that was found."""
    if len(found) != 1:
        listed = ", ".join(repr(one.names[0]) for one in layout.columns) or "none"
        raise ConfigError(f"{fault}. Name the one that is graded with --grade-column. It has {listed}.")
    return found[0]


def _of_moodle(rows: Sequence[Sequence[str]], name: str) -> _Layout:
    header = rows[0] if rows else []
    missing = {
        column: advice
        for column, advice in {
            MOODLE_ID: "Download the grading worksheet in English.",
            _MOODLE_GRADE: "Name the column of grades with --grade-column.",
        }.items()
        if column not in header
    }
    if MOODLE_ID in missing:
        raise DataError(missing_columns(name, missing, header))
    place = header.index(MOODLE_ID)
    known = [(number, row) for number, row in enumerate(rows[1:], start=1) if row != [""]]
    # "Participant 123", and the number alone.
    ids = {one: number for number, row in known for one in (row[place], re.sub(r".*\D", "", row[place])) if one}
    highest = None
    if _MOODLE_HIGHEST in header:
        highest = next((_number(row[header.index(_MOODLE_HIGHEST)]) for _, row in known), None)
    columns = [GradeColumn(column, (title,), highest) for column, title in enumerate(header) if column != place]
    usual = [column for column in columns if column.names == (_MOODLE_GRADE,)]
    feedback = header.index(_MOODLE_FEEDBACK) if _MOODLE_FEEDBACK in header else None
    return _Layout({MOODLE_ID: ids}, columns, usual, feedback)


def _of_canvas(rows: Sequence[Sequence[str]], name: str) -> _Layout:
    header = rows[0] if rows else []
    points = next((row for row in rows[1:4] if _CANVAS_POINTS in row[0]), None)
    if "ID" not in header or points is None:
        raise DataError(
            f"{name} is no gradebook of Canvas: expected a column ID and a row {_CANVAS_POINTS!r}. Export it anew."
        )
    columns = [
        GradeColumn(column, (title, match[1], match[2]), highest)
        for column, title in enumerate(header)
        if (match := _ASSIGNMENT.fullmatch(title)) and (highest := _number(points[column])) is not None
    ]
    # Rows of students have an ID; those of points and of hidden assignments have none.
    ids = {
        title: {
            row[header.index(title)]: number
            for number, row in enumerate(rows)
            if number > 0 and row != [""] and row[header.index("ID")].strip() and row[header.index(title)].strip()
        }
        for title in _CANVAS_IDS
        if title in header
    }
    return _Layout(ids, columns, columns, None)


def _number(cell: str) -> float | None:
    """A number as the platforms write it, in some languages with a comma."""
    try:
        return float(cell.strip().replace(",", "."))
    except ValueError:
        return None


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


class Feedback:
    """Feedback on explained essays, which goes into the worksheet that has their grades.

    Args:
        worksheet: The worksheet before it was filled in.
        path: The file that has the grades.
    """

    def __init__(self, worksheet: Worksheet, path: Path) -> None:
        self._worksheet, self._path = worksheet, path
        self._words: dict[str, str] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """Take an essay's line of explanations."""
        words = feedback_words(line, self._worksheet.grades)
        if words:
            self._words[str(line["essay_id"])] = words

    def write(self, made: Provenance) -> None:
        """Fill in the column of feedback, where it is blank.

        Args:
            made: Where the file comes from.

        Raises:
            DataError: The file was changed so that it cannot be read, or cannot be written.
        """
        sheet = self._worksheet
        if sheet.feedback is None:
            logger.warning("%s has no column of feedback, so that none is written.", sheet.name)
            return
        cells = CsvCells.read(self._path, sheet.cells.encoding)
        rows = dict(zip(sheet.rows(list(self._words)), self._words.values(), strict=True))
        column = sheet.feedback
        told = {(row, column): words for row, words in rows.items() if not cells.row(row)[column].strip()}
        with sealed(made, self._path):
            _write(self._path, cells.filled(told, "xmlcharrefreplace"))


_MOST_QUOTED = 2


def feedback_words(line: Mapping[str, Any], traits: Collection[str | None] = (None,)) -> str:
    """What an essay's explanation says to its writer, in HTML; nothing of a withheld score.

    Args:
        line: The essay's line, as ``aes-dynloss explain`` writes it.
        traits: Of which scores; None where an essay has one.

    Example:
        >>> sentences = [{"text": "I am for it."}, {"text": "Good & bye."}]
        >>> score = {"contributions": [0.6, -0.2]}
        >>> feedback_words({"withheld": False, "sentences": sentences, "scores": [score]})
        '<p>Raised the score most: "I am for it."</p><p>Lowered it most: "Good &amp; bye."</p>'
    """
    if line["withheld"]:
        return ""
    quoted = ['"' + html.escape(" ".join(one["text"].split()), quote=False) + '"' for one in line["sentences"]]
    told = []
    for score in (one for one in line["scores"] if one.get("trait") in traits):
        of_trait = "" if score.get("trait") is None else f"{html.escape(score['trait'], quote=False)}: "
        weights = [float(weight) for weight in score["contributions"]]
        order = sorted(range(len(weights)), key=lambda place: -weights[place])
        up = [quoted[place] for place in order if weights[place] > 0][:_MOST_QUOTED]
        down = [quoted[place] for place in reversed(order) if weights[place] < 0][:_MOST_QUOTED]
        parts = ((f"{of_trait}Raised the score most", up), (f"{of_trait}Lowered it most", down))
        told += [f"<p>{title}: {' '.join(found)}</p>" for title, found in parts if found]
    return "".join(told)


class _Text(HTMLParser):
    """Takes the text out of HTML; paragraphs and line breaks become line ends."""

    _BLOCKS = frozenset({"p", "div", "li", "ul", "ol", "tr", "table", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"})
    _UNSEEN = frozenset({"script", "style"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._unseen += tag in self._UNSEEN
        if tag == "br" or tag in self._BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in self._UNSEEN and self._unseen > 0
        if tag in self._BLOCKS:
            self.pieces.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(data)


def plain_text(text: str) -> str:
    r"""The text of an essay that was written in an editor of HTML; text without tags stays as it is.

    Example:
        >>> plain_text("<p>Dear editor,</p><p>cats &amp; dogs<br>are fine.</p>")
        'Dear editor,\n\ncats & dogs\nare fine.'
    """
    if not re.search("</?[a-zA-Z]", text[: text.rfind(">") + 1]):
        return text
    parser = _Text()
    parser.feed(text)
    parser.close()
    found = "".join(parser.pieces).replace("\u00a0", " ")
    # From the first blank of a run alone, or a long run would take the square of its length.
    return re.sub(r"(?<![ \t])[ \t]*\n[ \t]*", "\n", re.sub(r"(?<!\s)\s*\n\s*\n\s*", "\n\n", found)).strip()
