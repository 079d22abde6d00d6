"""The tables of a comparison of arms, and of a benchmark, which is one with more beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aes_dynloss.evaluation.comparison_text import TITLES, difference_rows, p_words, signed_words
from aes_dynloss.reporting.tables import (
    NOTHING,
    UNDEFINED,
    Cell,
    Entry,
    Heading,
    Table,
    count,
    heading,
    minus,
    number,
    words,
)

Comparison = Mapping[str, Any]

DEV_MISSING = "Unknown: a run has no predictions of dev essays."
_ARM = Heading("Arm", numeric=False)


def arms_table(comparison: Comparison) -> Table:
    """The arms' means."""
    arms: Mapping[str, Entry] = comparison["arms"]
    raw = [name for name in ("pearson", "sd_ratio") if all(name in entry["mean"] for entry in arms.values())]
    costs = any(entry.get("cost") for entry in arms.values())
    rows = []
    for arm, entry in arms.items():
        mean = entry["mean"]
        behind = entry.get("runs", entry.get("members"))
        kappas = [number(mean[name], mean[f"{name}_interval"], DEV_MISSING) for name in TITLES]
        spread = [number(_sd_over_seeds(mean))] if "over_seeds" in mean else []
        cost = [_cost(entry)] if costs else []
        rows.append([words(arm), count(behind), *kappas, *(number(mean[name]) for name in raw), *spread, *cost])
    first = next(iter(arms.values()))
    columns = [
        _ARM,
        Heading("Runs" if "runs" in first else "Models behind a score"),
        *map(heading, [*TITLES, *raw]),
        *([Heading("sd over seeds", hint="Of the QWK.")] if "over_seeds" in first["mean"] else []),
        *([Heading("Seconds of a run")] if costs else []),
    ]
    level = f"{100 * comparison['settings']['confidence']:g} %"
    return Table("arms-table", f"Means over strata and prompts, {level} intervals below", columns, rows)


def _sd_over_seeds(mean: Entry) -> float | None:
    found = mean["over_seeds"]["qwk"]
    value: float | None = None if found is None else found["sd"]
    return value


def _cost(entry: Entry) -> Cell:
    """Seconds of a run; an ensemble takes those of all its members."""
    cost = entry["cost"]
    if cost is None or cost["seconds_per_run"] is None:
        return number(None)
    seconds, members = cost["seconds_per_run"], entry["members"]
    times = f"{members} × " if members > 1 else ""  # noqa: RUF001 - a product, not a letter
    text = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
    return Cell(f"{times}{text}", members * seconds, small=str(cost["unit"]))


def difference_table(kind: Entry, name: str, part: str, confidence: str) -> Table | None:
    """One family of differences from the control; None where there is none.

    Args:
        kind: One kind of difference, as ``answer`` gives it.
        name: The table's name in the page's address.
        part: The family: ``mean`` or ``prompts``.
        confidence: The intervals' level in words.
    """
    found = {row: entry for row, entry in difference_rows(kind, part).items() if entry is not None}
    if not found:
        return None
    rows = [
        [
            words(row),
            Cell(minus(signed_words(entry["difference"])), entry["difference"], small=_signed(entry["interval"])),
            Cell(p_words(entry["p"]), entry["p"]),
            Cell(p_words(entry["p_holm"]), entry["p_holm"]),
        ]
        for row, entry in found.items()
    ]
    columns = [_ARM, Heading("Difference"), Heading("p"), heading("p_holm")]
    family = f"comparisons that Holm p corrects for: {kind['comparisons'][part]}"
    where = "mean over prompts" if part == "mean" else "by prompt"
    title = kind["difference"][:1].upper() + kind["difference"][1:]
    return Table(name, f"{title}, {where}, {confidence} intervals below; {family}", columns, rows)


def _signed(ends: list[float]) -> str:
    return " to ".join(minus(signed_words(end)) for end in ends)


def prompt_tables(comparison: Comparison) -> list[Table]:
    """Each version of QWK by arm and prompt, where some arm has it; floors and human raters below the first."""
    prompts = list(comparison["essays"])
    columns = [_ARM, Heading("Mean"), *(Heading(f"Prompt {prompt}") for prompt in prompts)]
    tables = []
    for version in TITLES:
        rows = [
            [
                words(arm),
                number(entry["mean"][version], why=DEV_MISSING),
                *_versions(entry["prompts"], prompts, version),
            ]
            for arm, entry in comparison["arms"].items()
        ]
        if all(cell.undefined for row in rows for cell in row[1:]):
            continue
        foot = _beside_prompts(comparison, prompts) if version == "qwk" else []
        caption = f"{heading(version).title} by prompt"
        tables.append(Table(f"prompts-{version.replace('_', '-')}", caption, columns, rows, foot))
    return tables


def _versions(entries: Mapping[str, Entry], prompts: list[str], version: str) -> list[Cell]:
    figures = [entries[prompt] for prompt in prompts]
    return [number(one[version], one[f"{version}_interval"], DEV_MISSING) for one in figures]


def _beside_prompts(comparison: Comparison, prompts: list[str]) -> list[list[Cell]]:
    """Floors and human raters by prompt."""
    rows = [
        [words(f"floor: {name}"), number(floor["mean"]), *(number(floor["prompts"][prompt]) for prompt in prompts)]
        for name, floor in comparison.get("floors", {}).items()
    ]
    human = comparison.get("human_human", {"prompts": {}})
    if human["prompts"]:
        own = (number(human["prompts"].get(prompt, {}).get("qwk")) for prompt in prompts)
        rows.append([words("human-human"), number(human["mean"]), *own])
    return rows


def beside_table(comparison: Comparison) -> Table | None:
    """What the arms' QWK is to be read with: floors, human raters, published systems; None without any."""
    rows = [
        [words(f"floor: {name}"), number(floor["mean"]), words("on the same essays"), NOTHING]
        for name, floor in comparison.get("floors", {}).items()
    ]
    human = comparison.get("human_human", {"prompts": {}})
    if human["prompts"]:
        twice = sum(entry["n"] for entry in human["prompts"].values())
        pair = words(f"two raters with each other, on {twice:,} essays")
        rows.append([words("human-human"), number(human["mean"]), pair, NOTHING])
    rows += [
        [words(one["system"]), number(one["qwk"]), words(one["protocol"]), words(one["source"])]
        for one in comparison.get("published", ())
    ]
    if not rows:
        return None
    columns = [Heading("System", numeric=False), Heading("QWK"), *_wordy("Measured", "Source")]
    return Table("beside-table", "Mean QWK of others", columns, rows)


def cost_table(comparison: Comparison) -> Table | None:
    """What the arms' runs cost; None where it is not known of any."""
    rows = []
    for arm, entry in comparison["arms"].items():
        cost = entry.get("cost")
        if cost:
            seconds = (count(cost[key]) for key in ("seconds_per_run", "total_seconds"))
            kind = words(cost["unit"] or UNDEFINED)
            rows.append([words(arm), count(cost["runs"]), *seconds, kind, words("; ".join(cost["devices"]))])
    if not rows:
        return None
    columns = [_ARM, *map(Heading, ("Runs", "Seconds of a run", "Seconds of all")), *_wordy("Unit", "Devices")]
    return Table("costs-table", "Wall time of a run times its processes", columns, rows)


def _wordy(*titles: str) -> list[Heading]:
    return [Heading(title, numeric=False) for title in titles]
