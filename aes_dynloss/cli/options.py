"""Options that several commands share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.core import ParameterSource

from aes_dynloss.errors import ConfigError, DataError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.readers import UnscoredEssay
    from aes_dynloss.tables.score_range import ScoreRange

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


class ExistingPath(click.Path):
    """A path that must be there, which is seen before anything heavy is imported to work on it.

    Args:
        kind: What it should be, in words.
        advice: What to do where it is missing.
    """

    def __init__(self, kind: str = "file or folder", advice: str = "Correct the path.") -> None:
        super().__init__(path_type=Path)
        self.kind, self.advice = kind, advice

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """The path.

        Raises:
            DataError: It is not there.
        """
        path = Path(str(super().convert(value, param, ctx)))
        with suppress(RuntimeError):  # no such user: what opens the path will say so
            if not path.expanduser().exists():
                raise DataError(f"There is no {self.kind} {path}. {self.advice}")
        return path


class ModelSource(ExistingPath):
    """A model folder, a run or a zip that must be there, or what may be the name of a model on the hub."""

    def __init__(self) -> None:
        super().__init__("model folder", "Give a run of finetune, or its folder model/.")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """The path, or the name as one.

        Raises:
            DataError: It is neither.
        """
        path = Path(str(value))
        if not path.exists():
            from aes_dynloss.essays.model.hub import hub_name

            if hub_name(path) is not None:
                return path
        return super().convert(value, param, ctx)


class OnceCommand(click.Command):
    """A command that refuses a second value of an option that takes one, where the last would count in silence."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command's words.

        Raises:
            ConfigError: An option that is not ``multiple`` has two values.
        """
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for option, times in Counter(given).items():
            if isinstance(option, click.Option) and times > 1 and not (option.multiple or option.is_flag):
                raise ConfigError(f"{max(option.opts, key=len)} is given {times} times. Give it once.")
        return super().parse_args(ctx, args)


def each_once(_: click.Context, param: click.Parameter, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The callback of an option or argument that may be repeated, which refuses to name one thing twice."""
    name = param.metavar if isinstance(param, click.Argument) else max(param.opts, key=len)
    same = Counter(os.path.realpath(value) if isinstance(value, Path) else value for value in values)
    for value, times in same.items():
        if times > 1:
            raise ConfigError(f"{name}: {value} is named {times} times. Name it once.")
    return values


def is_given(name: str) -> bool:
    """Whether an option of the command that runs is given, be it with its default's value.

    Args:
        name: Of its parameter.
    """
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


EXISTING = ExistingPath("file")
MODEL = ModelSource()

coverage_option = click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    help="Fraction of essays whose human score lies between low and high.",
)
output_option = click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, allow_dash=True),
    default="-",
    help="Output file, or - for standard output.",
)
force_precision_option = click.option(
    "--force-precision",
    is_flag=True,
    help="Compute in bf16 even on a processor without instructions for it, where that is 6 to 67 times slower.",
)
# The exit code of commands that find that something was changed since it was made, or has drifted.
CHANGED = 3

audit_option = click.option(
    "--audit",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Add a line for each essay to this log, which grows and is never rewritten: its hash, scores, model; no text.",
)

cpu_option = click.option("--cpu", is_flag=True, help="Do not use a GPU.")

_SCORE_RANGES = (
    click.option(
        "--prompts", type=EXISTING, help="YAML or JSON file of score ranges: {ID: {low: 1, high: 6, step: 1}}."
    ),
    click.option(
        "--range",
        "spans",
        multiple=True,
        metavar="[ID=]LOW:HIGH[:STEP]",
        help="One prompt's range, or that of all prompts; may be repeated.",
    ),
)


def score_range_options(command: Command) -> Command:
    """Add the options of score ranges, for every command that reads them by :func:`read_score_ranges`."""
    for option in reversed(_SCORE_RANGES):
        command = option(command)
    return command


map_option = click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="ROLE=COLUMN",
    help="Column of a role, such as essay_id=text_id, in whichever files have it; others keep their names. May be "
    "repeated.",
)


reference_option = click.option(
    "--reference-column",
    "reference",
    multiple=True,
    metavar="[TRAIT=]COLUMN",
    help="Column of human scores, or with several traits of one's.  [default: reference, or as the trait]",
)


def reference_columns(words: Sequence[str]) -> dict[str, Any]:
    """The fields ``reference`` and ``traits`` of the names of columns.

    Args:
        words: Columns, or TRAIT=COLUMN.

    Raises:
        ConfigError: Columns are named in both ways, or twice.
    """
    if len(words) > 1 and not all("=" in word for word in words):
        raise ConfigError(
            f"--reference-column {' '.join(words)}: name one column, or with several traits TRAIT=COLUMN once for each."
        )
    columns = _columns_of_traits("--reference-column", words)
    if isinstance(columns, dict):
        return {"reference": None, "traits": tuple(columns.items())}
    return {"reference": columns, "traits": ()}


def read_score_ranges(prompts: Path | None, spans: Sequence[str]) -> dict[str, ScoreRange]:
    """Score range by prompt.

    Args:
        prompts: A file of ranges.
        spans: Single prompts' ranges, which replace the file's.

    Raises:
        ConfigError: A range is none.
        DataError: The file cannot be read.
    """
    from aes_dynloss.tables.score_range import parse_ranges, read_ranges

    return (read_ranges(prompts) if prompts is not None else {}) | parse_ranges(spans)


def list_option(rows: Callable[[], Sequence[Sequence[str]]], help_text: str) -> Callable[[Command], Command]:
    """A flag --list, which prints a table and ends.

    Args:
        rows: The table's rows, of at least two cells; the second is a title.
        help_text: What the flag lists.
    """

    def callback(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted:
            from aes_dynloss.reports.table import aligned

            names, titles, *others = zip(*rows(), strict=True)
            width = max(map(len, titles))
            click.echo("\n".join(aligned([names, [title.ljust(width) for title in titles], *others])))
            context.exit()

    return click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=callback, help=help_text)


def read_data_values(config: str | Path) -> dict[str, Any]:
    """What a YAML file says of data: below the key data, or as the whole file.

    Raises:
        ConfigError: It cannot be read, or data is no mapping.
    """
    from aes_dynloss.configfile import read_mapping

    values = read_mapping(Path(config))
    values = values.get("data", values)
    if not isinstance(values, dict):
        raise ConfigError(f"{config}: data should be a mapping of keys to values. See `aes-dynloss data check --help`.")
    return values


def _known_encoding(_: click.Context, __: click.Parameter, name: str) -> str:
    """The callback of --encoding: refuses what is none, before anything is read."""
    if name != "utf-8":
        from aes_dynloss.essays.data.data_config import text_encoding

        try:
            text_encoding(name)
        except ValueError as error:
            raise ConfigError(f"--encoding: {error}.") from None
    return name


_ESSAY_INPUT = (
    click.option("--text-column", "text", help="Column of the essays.  [default: text, else found]"),
    click.option("--id-column", "essay_id", help="Column of their ids.  [default: essay_id, else found, else rows]"),
    click.option("--prompt-column", "prompt_id", help="Column of their prompts.  [default: prompt_id, if present]"),
    click.option("--prompt", help="The prompt of all essays, if there is no column of prompts."),
    click.option("--encoding", default="utf-8", callback=_known_encoding, help="Encoding of text files."),
    click.option(
        "--quoting",
        type=click.Choice(["minimal", "none"]),
        default="minimal",
        help="Quoting in csv and tsv files.",
    ),
)


def comma_separated(_: click.Context, __: click.Parameter, text: str | None) -> list[str] | None:
    """The callback of an option with several names."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def essay_input_options(command: Command) -> Command:
    """Add the options of the layout of essays, for every command that reads essays by :func:`read_essays`."""
    for option in reversed(_ESSAY_INPUT):
        command = option(command)
    return command


def check_sources(sources: Sequence[str]) -> None:
    """Refuse essays that are not there, before anything heavy is imported to work on them.

    Raises:
        DataError: A source can only be a path, and is not there.
    """
    from aes_dynloss.essays.data.sources import check_source

    for source in sources:
        check_source(source)


def read_essays(
    sources: Sequence[str],
    processes: int,
    features: Sequence[str] = (),
    *,
    keep: bool = False,
    say: Callable[[str], None] | None = None,
    prompt: str | None,
    encoding: str,
    quoting: Literal["minimal", "none"],
    **named: str | None,
) -> Iterator[UnscoredEssay]:
    """The essays of some sources, one after the other, read by the options of a command.

    Args:
        sources: Files or folders, or - for standard input.
        processes: Number of processes that read them.
        features: Numeric columns that a model sees beside the text.
        keep: Whether each essay has its row's other cells with it.
        say: Is told of each column that was found, and why; None: the user is.
        prompt: The one prompt of a table without a column of prompts.
        encoding: Of text files.
        quoting: Of csv and tsv.
        named: Columns whose names are not the default ones.

    Raises:
        ConfigError: One column is named twice, or processes would share standard input.
    """
    from aes_dynloss.essays.data.readers import essays_to_score

    if "-" in sources and processes > 1:
        raise ConfigError("Standard input reaches one process only. Name a file, or start one process.")
    return essays_to_score(
        sources,
        {name: column for name, column in named.items() if column is not None},
        say=say or (lambda line: click.echo(line, err=True)),
        prompt=prompt,
        encoding=encoding,
        quoting=quoting,
        features=features,
        keep=keep,
    )


_SCORED_TABLE = (
    click.option("--text-column", "text", metavar="COLUMN", help="Table: column of the essays."),
    click.option("--id-column", "essay_id", metavar="COLUMN", help="Table: column of their ids."),
    click.option("--prompt-column", "prompt_id", metavar="COLUMN", help="Table: column of the prompts' ids."),
    click.option(
        "--score-column",
        "score",
        multiple=True,
        metavar="[TRAIT=]COLUMN",
        help="Table: column of the human score; of each of several traits, if repeated.",
    ),
    click.option("--second-score-column", "second_score", metavar="COLUMN", help="Table: a second rater's score."),
    click.option(
        "--range",
        "spans",
        multiple=True,
        metavar="[ID=]LOW:HIGH[:STEP]",
        help="Table: score points of a prompt, or of all; may be repeated.  [default: those seen]",
    ),
    click.option("--subgroup", "subgroups", multiple=True, metavar="COLUMN", help="Table: groups of writers."),
    click.option(
        "--group-column", "group", metavar="COLUMN", help="Table: writer, class or school; each stays in one part."
    ),
    click.option("--encoding", metavar="NAME", help="Table: of text files, such as cp1252.  [default: utf-8]"),
    click.option(
        "--kind", type=click.Choice(["essays", "answers"]), help="Table: what the texts are.  [default: essays]"
    ),
)


def score_columns(words: Sequence[str]) -> str | dict[str, str] | None:
    """The column of the human score, or those of several traits.

    Args:
        words: COLUMN or TRAIT=COLUMN, each once.

    Raises:
        ConfigError: A trait is named twice, or without a column.
    """
    return _columns_of_traits("--score-column", words)


def _columns_of_traits(option: str, words: Sequence[str]) -> str | dict[str, str] | None:
    """The one column that an option names, or those of several traits."""
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    traits: dict[str, str] = {}
    for word in words:
        trait, _, column = word.partition("=") if "=" in word else (word, "", word)
        if not trait or not column or trait in traits:
            raise ConfigError(f"{option} {word}: expected COLUMN or TRAIT=COLUMN, each trait once.")
        traits[trait] = column
    return traits


def scored_table_options(command: Command) -> Command:
    """Add the options that say what a table holds, for every command that reads it by :func:`read_run_input`."""
    for option in reversed(_SCORED_TABLE):
        command = option(command)
    return command


_PRESET = (
    click.option(
        "--preset",
        type=click.Choice(["auto", "fast", "balanced", "best", "none"]),
        help="The scorer: without an encoder (fast), over a frozen small one (balanced) or larger one (best); none: as "
        "the other keys say. [default: that of a configuration; for a table, auto]",
    ),
    click.option(
        "--minutes",
        type=click.FloatRange(0, min_open=True),
        default=10.0,
        help="Preset auto: what the run may take.",
    ),
)


def preset_options(command: Command) -> Command:
    """Add the options that choose a preset."""
    for option in reversed(_PRESET):
        command = option(command)
    return command


def read_run_input(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A configuration's values: those of a configuration file, or those that suit a table of scored essays.

    Args:
        path: Either of them.
        options: Those of :func:`scored_table_options`, by name.

    Returns:
        The values, and what was found out about a table, in words.

    Raises:
        ConfigError: The file is neither, or is a configuration, for which there are no such options.
        DataError: It cannot be read, or what a column of it is remains open.
    """
    from aes_dynloss.essays.finetune.run_input import run_values

    return run_values(path, **table_options(**options))


def table_options(
    *,
    spans: Sequence[str],
    subgroups: Sequence[str],
    group: str | None,
    encoding: str | None,
    kind: str | None,
    score: Sequence[str],
    **named: str | None,
) -> dict[str, Any]:
    """The options of :func:`scored_table_options` as :func:`run_values` takes them.

    Raises:
        ConfigError: A range or a column is not written as it should be.
    """
    from aes_dynloss.tables.score_range import parse_ranges

    columns: dict[str, Any] = {"score": score_columns(score), **named}
    return {
        "columns": {role: column for role, column in columns.items() if column is not None},
        "ranges": parse_ranges(spans),
        "subgroups": subgroups,
        "group": group,
        "encoding": encoding,
        "kind": kind,
    }
