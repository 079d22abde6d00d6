"""Train, dev, test and the teacher's dev: four disjoint sets of essays."""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import Fractions, SplitConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.scored_rows import SPLIT_NAMES
from aes_dynloss.essays.data.sources import ids_in
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.tables.scale_ids import prompt_and_trait

logger = logging.getLogger(__name__)

# Fractions are counted in millionths, so that the split is the same on every machine.
_PARTS = 1_000_000
_LARGEST_GROUP = 10
_LEVELS = 20  # of the mean over traits
LEFT_OUT = "left out"  # of every part, with a warning
_DEV = {"train": 0.8, "dev": 0.2}  # where dev has no size of its own
_LISTED = 10

Leak = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Splits:
    """Disjoint parts of one table, each in the table's order.

    Args:
        train: Essays that the student learns from.
        dev: Essays for early stopping and rescaling.
        test: Essays for the reported figures; may have none if the fractions say so.
        teacher_dev: Essays on which the teacher's hypergradient is taken; has none unless it was asked for.
        leaks: Texts that stand in more than one split: for each, its pairs of split and essay id.
    """

    train: EssayTable
    dev: EssayTable
    test: EssayTable
    teacher_dev: EssayTable
    leaks: tuple[Leak, ...] = ()

    def tables(self) -> dict[str, EssayTable]:
        """The parts by name: train, dev, test, teacher_dev."""
        return {name: getattr(self, name) for name in SPLIT_NAMES}


def split_essays(table: EssayTable, config: SplitConfig) -> Splits:
    """Split a table as its configuration says.

    Args:
        table: Essays.
        config: Id files, a column, a prompt left out, fractions (if none is named), or ``cross_fit``, which leaves all
            essays to train.

    Returns:
        The parts. Texts that stand in two of them are logged, and kept in ``leaks``: two people can write the same.

    Raises:
        DataError: Id files are missing or do not fit the table, essays are in no split or in two, or a split that
            must not be empty is.
    """
    if config.cross_fit is not None:
        return cross_fit_splits(table, config, with_dev=False)[1]
    assigned, source = _assign(table, config)
    ids = table.essay_ids
    placed = {essay_id for essay_id, part in zip(ids, assigned, strict=True) if part is not None}
    unassigned = [ids[row] for row in table.first_rows.tolist() if ids[row] not in placed]
    if unassigned:
        message = f"{len(unassigned)} essays are in no split: {', '.join(unassigned[:_LISTED])}"
        if not config.allow_unassigned:
            raise DataError(f"{message}. Assign them, or leave them out by data.split.allow_unassigned: true.")
        logger.warning("%s", message)
    if config.teacher_dev_fraction > 0:
        _set_teacher_apart(table, assigned, config, source)
    _warn_of_left_out(config, [_leave_out_of_groups(table, assigned)])
    _warn_of_untrusted(table, assigned)
    tables = {name: table.select([row for row, part in enumerate(assigned) if part == name]) for name in SPLIT_NAMES}
    may_lack_test = config.fractions is not None and config.fractions.test == 0
    for name in ("train", "dev") if may_lack_test else ("train", "dev", "test"):
        if len(tables[name]) == 0:
            counts = ", ".join(f"{other} {part.essay_count}" for other, part in tables.items())
            raise DataError(f"{source} leaves {name} without essays ({counts}). Only test may be empty, by fractions.")
    return Splits(**tables, leaks=_leaks(tables, "split"))


def _leave_out_of_groups(table: EssayTable, assigned: list[str | None]) -> int:
    """Leave out of train what is of a group in another part, which only trusted essays may be in; returns how many."""
    placed = list(zip(table.groups or [None] * len(table), assigned, strict=True))
    held_out = {group for group, part in placed if group is not None and part in {"dev", "test", "teacher_dev"}}
    torn = [row for row, (group, part) in enumerate(placed) if part == "train" and group in held_out]
    for row in torn:
        assigned[row] = LEFT_OUT
    ids = table.essay_ids
    return len({ids[row] for row in torn})


def _warn_of_left_out(config: SplitConfig, counts: Sequence[int]) -> None:
    """Tell how many essays are left out for their group's sake; of several splits the fewest and the most."""
    if any(counts):
        logger.warning(
            "data.split.group %s: %s essays that are not trusted are in no part, since others of their group are in "
            "dev, test or teacher_dev.",
            config.group,
            " to ".join(str(count) for count in sorted({min(counts), max(counts)})),
        )


def _warn_of_untrusted(table: EssayTable, assigned: Sequence[str | None]) -> None:
    """Warn where figures would be told of scores that nobody adjudicated, or a teacher would learn on such."""
    if table.trusted is None:
        return
    rows = list(zip(table.essay_ids, table.trusted.tolist(), assigned, strict=True))
    for name in ("dev", "test", "teacher_dev"):
        trusted = list({essay: sure for essay, sure, part in rows if part == name}.values())
        if not all(trusted):
            logger.warning(
                "%d of %d essays of %s are not trusted (data.trusted): what is measured there is agreement with scores "
                "of unknown worth.",
                trusted.count(False),
                len(trusted),
                name,
            )


def _assign(table: EssayTable, config: SplitConfig) -> tuple[list[str | None], str]:
    """The split of each essay, and the key of the configuration that says so, with its value."""
    if config.folds_dir is not None:
        folder = user_path(config.folds_dir, "data.split.folds_dir")
        return _by_files(table, folder), f"data.split.folds_dir {config.folds_dir}"
    if config.column is not None:
        if "split" not in table.essays.column_names:
            message = f"The essays were read without the column {config.column!r}; name it in data.split.column."
            raise DataError(message)
        return table.values("split"), f"data.split.column {config.column!r}"
    if config.target_prompt is not None:
        named = "" if config.target_dev_ids is None else f" with target_dev_ids {config.target_dev_ids}"
        assigned = _by_prompt(table, config.target_prompt, config)
        return assigned, f"data.split.target_prompt {config.target_prompt}{named}"
    fractions = config.fractions or Fractions()
    parts = _assign_fractions(table, _judged(table), fractions.model_dump(), f"{config.seed}")
    return [parts.get(row, "train") for row in range(len(table))], "data.split.fractions"


def _judged(table: EssayTable) -> list[int]:
    """Rows that may be dev or test: what is measured must be true, so only adjudicated ones, where some are."""
    trusted = table.trusted
    return list(range(len(table))) if trusted is None or not trusted.any() else np.flatnonzero(trusted).tolist()


def _assign_fractions(
    table: EssayTable, rows: Sequence[int], fractions: Mapping[str, float], seed: str
) -> dict[int, str]:
    """Assign rows to parts at random, stratified by prompt and score.

    It depends on ids, prompts, scores and the seed, not on the order of rows. Essays of one prompt and score are put in
    an order that the seed and their ids give; then each goes to the part that lacks most of its fraction so far.
    Neighbouring scores with few essays are put together first, or a score point of one essay would not be random.
    Where the table has groups, see :func:`_assign_groups`. Rows of one essay go to one part.
    """
    if table.groups is not None:
        return _assign_groups(table.essay_ids, table.groups, rows, fractions, seed)
    shares = {name: max(1, round(fraction * _PARTS)) for name, fraction in fractions.items() if fraction > 0}
    group_size = min(_LARGEST_GROUP, -(-_PARTS // min(shares.values())))
    ids = table.essay_ids
    essays: dict[str, list[int]] = {}
    for row in rows:
        essays.setdefault(ids[row], []).append(row)
    order = {essay: hashlib.sha256(f"{seed}:{essay}".encode()).digest() for essay in essays}
    strata: dict[tuple[str, float], list[str]] = {}
    for essay, stratum in zip(essays, _strata(table, list(essays.values())), strict=True):
        strata.setdefault(stratum, []).append(essay)
    groups: list[list[str]] = []
    for _, members in sorted(strata.items()):
        if groups and len(groups[-1]) < group_size:
            groups[-1].extend(members)
        else:
            groups.append(members)
    assigned: dict[int, str] = {}
    lacking = dict.fromkeys(shares, 0)
    for group in groups:
        for essay in sorted(group, key=order.__getitem__):
            for name, share in shares.items():
                lacking[name] += share
            taker = max(lacking, key=lacking.__getitem__)
            lacking[taker] -= sum(shares.values())
            assigned |= dict.fromkeys(essays[essay], taker)
    return assigned


def _strata(table: EssayTable, essays: Sequence[Sequence[int]]) -> list[tuple[str, float]]:
    """Prompt and score of essays, given by their rows; of several traits the level of the mean over their ranges."""
    prompts, scores = table.values("prompt_id"), table.scores
    if not table.traits:
        return [(prompts[row], float(scores[row])) for (row,) in essays]
    ranges = {name: prompt.range for name, prompt in table.prompts.items()}
    units = [float(ranges[prompt].to_unit(score)) for prompt, score in zip(prompts, scores, strict=True)]
    strata = []
    for rows in essays:
        mean = sum(units[row] for row in rows) / len(rows)
        strata.append((table.prompts[prompts[rows[0]]].prompt_id, float(round(mean * _LEVELS))))
    return strata


def _assign_groups(
    ids: Sequence[str], groups: Sequence[str | None], rows: Sequence[int], fractions: Mapping[str, float], seed: str
) -> dict[int, str]:
    """Assign whole groups to parts, the largest first, each to the part that lacks most essays.

    It depends on ids, groups and the seed alone: prompts and scores are left to chance.
    """
    together: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        group = groups[row]
        together.setdefault(("essay", ids[row]) if group is None else ("group", group), []).append(row)
    order = {key: hashlib.sha256(f"{seed}:{key}".encode()).digest() for key in together}
    lacking = {name: fraction * len(rows) for name, fraction in fractions.items() if fraction > 0}
    assigned: dict[int, str] = {}
    for key in sorted(together, key=lambda key: (-len(together[key]), order[key])):
        taker = max(lacking, key=lacking.__getitem__)
        lacking[taker] -= len(together[key])
        assigned |= dict.fromkeys(together[key], taker)
    return assigned


def cross_fit_splits(table: EssayTable, config: SplitConfig, *, with_dev: bool) -> tuple[list[Splits], Splits]:
    """What each of ``data.split.cross_fit`` scorers is fitted to and scores, and what the model is fitted to.

    Test parts are alike in prompts and scores, or of whole groups. Where some essays are trusted, these are divided,
    and the others are train throughout, or left out where others of their group are held out.

    Args:
        table: All essays.
        config: How many parts, of which groups.
        with_dev: Whether a fifth of what is not test is dev; else dev has no essay.

    Returns:
        A split for each part, which is its test; and one of all essays, without test.

    Raises:
        DataError: There are too few essays, or groups, for so many parts.

    Example:
        >>> from aes_dynloss.essays.data.data_config import DataConfig
        >>> from aes_dynloss.essays.data.readers import read_essays
        >>> table = read_essays(DataConfig(source="made-up-essays"))
        >>> folds, whole = cross_fit_splits(table, SplitConfig(cross_fit=5), with_dev=False)
        >>> [len(fold.test) for fold in folds], len(folds[0].train), len(whole.train)
        ([46, 46, 46, 46, 46], 184, 230)
    """
    count, rows = config.cross_fit or 0, _judged(table)
    shares = {str(number): 1 / count for number in range(count)}
    parts = _assign_fractions(table, rows, shares, f"{config.seed}:cross_fit")
    tests = [[row for row in rows if parts[row] == name] for name in shares]
    if not all(tests):
        what = "essays" if table.groups is None else f"groups ({config.group})"
        raise DataError(f"data.split.cross_fit {count}: the data hold too few {what} for so many parts. Lower it.")
    leaks = _leaks({f"part {name}": table.select(test) for name, test in zip(shares, tests, strict=True)}, "part")
    splits, left_out = zip(*(_without(table, config, test, with_dev=with_dev) for test in (*tests, [])), strict=True)
    _warn_of_left_out(config, left_out)
    *folds, whole = splits
    return folds, replace(whole, leaks=leaks)


def fold_parts(folds: Sequence[Splits]) -> dict[str, EssayTable]:
    """The parts of a cross-fitted run, each the test of one of its splits, by name."""
    return {f"part {number}": fold.test for number, fold in enumerate(folds)}


def _without(table: EssayTable, config: SplitConfig, test: Sequence[int], *, with_dev: bool) -> tuple[Splits, int]:
    """All essays but those of test as train, and dev where it is wanted; and how many are in no part."""
    held_out = set(test)
    assigned: list[str | None] = ["test" if row in held_out else "train" for row in range(len(table))]
    if with_dev:
        rest = [row for row in _judged(table) if row not in held_out]
        for row, part in _assign_fractions(table, rest, _DEV, f"{config.seed}:dev").items():
            assigned[row] = part
    if config.teacher_dev_fraction > 0:
        _set_teacher_apart(table, assigned, config, f"data.split.cross_fit {config.cross_fit}")
    left_out = _leave_out_of_groups(table, assigned)
    tables = {name: table.select([row for row, part in enumerate(assigned) if part == name]) for name in SPLIT_NAMES}
    return Splits(**tables, leaks=()), left_out


def set_apart(table: EssayTable, seed: str) -> tuple[EssayTable, EssayTable]:
    """Four fifths of a table's essays and a fifth, alike in prompts and scores.

    Args:
        table: The essays.
        seed: Decides which.
    """
    parts = _assign_fractions(table, range(len(table)), _DEV, seed)
    train, dev = ([row for row in range(len(table)) if parts[row] == name] for name in _DEV)
    return table.select(train), table.select(dev)


def write_ids(splits: Splits, folder: Path) -> None:
    """Write the ids of train, dev and test into a folder, as ``data.split.folds_dir`` takes them.

    Args:
        splits: The parts.
        folder: Made if it is not there.

    Raises:
        DataError: A file cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from aes_dynloss.essays.data.data_config import DataConfig
        >>> from aes_dynloss.essays.data.readers import read_essays
        >>> splits = split_essays(read_essays(DataConfig(source="made-up-essays")), SplitConfig())
        >>> with TemporaryDirectory() as name:
        ...     write_ids(splits, Path(name) / "fold_0")
        ...     sorted(path.name for path in Path(name).glob("fold_0/*"))
        ['dev_ids.txt', 'test_ids.txt', 'train_ids.txt']
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "dev", "test"):
        ids = dict.fromkeys(getattr(splits, name).essay_ids)
        write_text(folder / f"{name}_ids.txt", "".join(f"{one}\n" for one in ids))


def _leaks(tables: Mapping[str, EssayTable], what: str) -> tuple[Leak, ...]:
    """Texts that stand in more than one table, but for case, spaces and Unicode's compatible forms; they are logged."""
    by_text: dict[bytes, list[tuple[str, str]]] = {}
    for name, table in tables.items():
        ids, texts = table.essay_ids, table.values("text")
        for essay_id, text in ((ids[row], texts[row]) for row in table.first_rows):
            by_text.setdefault(text_key(text), []).append((name, essay_id))
    leaks = tuple(tuple(essays) for essays in by_text.values() if len({name for name, _ in essays}) > 1)
    if leaks:
        listed = "; ".join(" = ".join(f"{essay_id} ({name})" for name, essay_id in leak) for leak in leaks[:_LISTED])
        logger.warning("%d texts stand in more than one %s: %s", len(leaks), what, listed)
    return leaks


def text_key(text: str) -> bytes:
    """A key that texts share if they differ in case, spaces or Unicode's compatible forms alone."""
    return hashlib.sha256(" ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode()).digest()


def split_hash(splits: Splits) -> dict[str, str]:
    """For each split the sha256 of its sorted ids, for the manifest of a run."""
    return {name: ids_hash(table.essay_ids) for name, table in splits.tables().items()}


def ids_hash(essay_ids: Iterable[str]) -> str:
    """The sha256 of some essays' ids, whatever their order."""
    return _sha256(sorted(essay_ids))


def data_hash(table: EssayTable, columns: Collection[str] | None = None) -> str:
    """The sha256 of all essays (every column but ``split``, sorted by id) and ranges, for the manifest of a run.

    Args:
        table: The essays.
        columns: Only these.
    """
    values = table.all_values()
    columns = sorted(set(values) - {"split"}) if columns is None else sorted(columns)
    rows = sorted(zip(values["essay_id"], *(values[column] for column in columns), strict=True))
    ranges = [[prompt.id, str(prompt.range)] for _, prompt in sorted(table.prompts.items())]
    return _sha256([columns, rows, ranges])


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _by_files(table: EssayTable, folder: Path) -> list[str | None]:
    parts: dict[str, str] = {}
    for name in SPLIT_NAMES:
        path = folder / f"{name}_ids.txt"
        if name == "teacher_dev" and not path.exists():
            continue
        for essay_id in ids_in(path):
            if essay_id in parts:
                files = path.name if parts[essay_id] == name else f"{parts[essay_id]}_ids.txt and {path.name}"
                raise DataError(f"{folder}: essay {essay_id} stands twice, in {files}. Splits must be disjoint.")
            parts[essay_id] = name
    ids = table.essay_ids
    known = table.left_out.union(ids)
    unknown = [essay_id for essay_id in parts if essay_id not in known]
    if unknown:
        listed = ", ".join(unknown[:_LISTED])
        raise DataError(
            f"{folder} names {len(unknown)} essays that the data do not hold: {listed}. Are they of other data, "
            "or their ids of another column (data.columns.essay_id; --id-column of `aes-dynloss data split`)?"
        )
    return [parts.get(essay_id) for essay_id in ids]


def _by_prompt(table: EssayTable, target: str, config: SplitConfig) -> list[str | None]:
    """One prompt's essays are test, whatever their scores; of the others, those that a file names are dev."""
    prompts = {scale: prompt.prompt_id for scale, prompt in table.prompts.items()}
    known_prompts = table.prompt_ids
    if target not in known_prompts or len(known_prompts) == 1:
        raise DataError(
            f"data.split.target_prompt is {target}, but the data hold the prompts {', '.join(known_prompts)}. Name one "
            "of several, or widen data.keep_prompts: the others are what is learned from."
        )
    others = [row for row, prompt in enumerate(table.answered) if prompt != target]
    if config.target_dev_ids is None:
        parts = _assign_fractions(table, others, _DEV, f"{config.seed}")
    else:
        ids = table.essay_ids
        path = user_path(config.target_dev_ids, "data.split.target_dev_ids")
        dev = Counter(ids_in(path))
        twice = [essay_id for essay_id, count in dev.items() if count > 1]
        if twice:
            raise DataError(f"{path} names {len(twice)} essays twice: {', '.join(twice[:_LISTED])}. Name each once.")
        known = table.left_out.union(ids[row] for row in others)
        unknown = [essay_id for essay_id in dev if essay_id not in known]
        if unknown:
            raise DataError(
                f"{path} names {len(unknown)} essays that are none of the other prompts': "
                f"{', '.join(unknown[:_LISTED])}. Is it the list of another target prompt, or of other data?"
            )
        parts = {row: "dev" if ids[row] in dev else "train" for row in others}
    trained = {table.prompts[scale].trait for scale in set(table.values("prompt_id")) if prompts[scale] != target}
    unseen = {
        scale for scale, prompt in table.prompts.items() if prompts[scale] == target and prompt.trait not in trained
    }
    if unseen:
        listed = ", ".join(prompt_and_trait(scale)[1] for scale in sorted(unseen))
        logger.warning("Prompt %s: %s left out, since no other prompt has scores of such a trait.", target, listed)
    answered = table.values("prompt_id")
    return [parts.get(row, LEFT_OUT if answered[row] in unseen else "test") for row in range(len(table))]


def _set_teacher_apart(table: EssayTable, assigned: list[str | None], config: SplitConfig, source: str) -> None:
    if "teacher_dev" in assigned:
        raise DataError(
            f"{source} names essays for teacher_dev, and data.split.teacher_dev_fraction asks for"
            f" {config.teacher_dev_fraction:g} of train. Use one of the two."
        )
    known = np.ones(len(table), dtype=bool) if table.trusted is None or not table.trusted.any() else table.trusted
    train = [row for row, name in enumerate(assigned) if name == "train" and known[row]]  # it teaches what is true
    shares = {"train": 1 - config.teacher_dev_fraction, "teacher_dev": config.teacher_dev_fraction}
    parts = _assign_fractions(table, train, shares, f"{config.seed}:teacher_dev")
    if train and "teacher_dev" not in parts.values():
        essays = len({*np.array(table.essay_ids, dtype=object)[train]})
        raise DataError(
            f"data.split.teacher_dev_fraction {config.teacher_dev_fraction:g} of {essays} training essays is none."
            " Raise it, or set it to 0."
        )
    for row, name in parts.items():
        assigned[row] = name
