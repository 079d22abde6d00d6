"""The report of a grid as GitHub markdown, and as rows for a table that other programs read.

A comparison of arms as plain text for a terminal or a README.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aes_dynloss.reports.comparison import VERSIONS
from aes_dynloss.reports.text import aligned, figure_words, interval_words

Entry = Mapping[str, Any]
TITLES = {"qwk": "QWK", "qwk_rescaled": "rescaled", "qwk_cut_points": "cut points"}


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """The comparison's figures as text: the means first, then the prompts.

    Args:
        comparison: What ``compare_arms`` returned.

    Returns:
        Tables of the arms' own kappas and of each kind of difference, with what intervals cover, how p values are
        corrected, and the notes; ends without a line break. "-" is an undefined value.
    """
    confidence = f"{100 * comparison['settings']['confidence']:g} %"
    count = len(comparison["essays"])
    mean = "one prompt" if count == 1 else f"mean over {count} prompts"
    blocks = [_kappas(comparison, confidence, mean)]
    for part, words in (("mean", mean), ("prompts", "each prompt")):
        if part == "prompts" and count == 1:
            continue  # The mean has said it.
        for kind in comparison["differences"].values():
            rows = difference_rows(kind, part)
            if any(entry is not None for entry in rows.values()):
                family = f"{words}; comparisons that Holm p corrects for: {kind['comparisons'][part]}"
                blocks.append([f"{kind['difference']} ({family})", *_difference_lines(rows, confidence)])
    settings = comparison["settings"]
    closing = [f"{settings['covers']} Resamples: {settings['resamples']}."]
    closing += [f"Note: {note}" for note in comparison["notes"]]
    return "\n\n".join("\n".join(block) for block in [*blocks, closing])


def _kappas(comparison: Mapping[str, Any], confidence: str, mean: str) -> list[str]:
    """The arms' own kappas."""
    arms: Mapping[str, Entry] = comparison["arms"]
    columns = [["arm", *arms], ["runs", *(str(arm["runs"]) for arm in arms.values())]]
    for version, title in TITLES.items():
        if any(arm["mean"][version] is not None for arm in arms.values()):
            columns.append([title, *(figure_words(arm["mean"][version]) for arm in arms.values())])
            columns.append([confidence, *(interval_words(arm["mean"][f"{version}_interval"]) for arm in arms.values())])
    essays = sum(comparison["essays"].values())
    return [f"Test essays: {essays}, {mean}. Control: {comparison['control']}", *aligned(columns)]


def difference_rows(kind: Entry, part: str) -> dict[str, Entry | None]:
    """The entries of one family of differences by their row's name.

    Args:
        kind: One kind of difference, as ``answer`` gives it.
        part: The family: ``mean`` or ``prompts``.
    """
    if part == "mean":
        return {arm: entries["mean"] for arm, entries in kind["arms"].items()}
    prompts = dict.fromkeys(prompt for entries in kind["arms"].values() for prompt in entries["prompts"])
    return {
        f"prompt {prompt}, {arm}": entries["prompts"][prompt]
        for prompt in prompts
        for arm, entries in kind["arms"].items()
    }


def _difference_lines(rows: Mapping[str, Entry | None], confidence: str) -> list[str]:
    """One family of differences, an entry a line."""
    columns = [
        ["", *rows],
        ["difference", *("-" if entry is None else signed_words(entry["difference"]) for entry in rows.values())],
        [confidence, *("-" if entry is None else signed_interval_words(entry["interval"]) for entry in rows.values())],
        ["p", *("-" if entry is None else p_words(entry["p"]) for entry in rows.values())],
        ["Holm p", *("-" if entry is None else p_words(entry["p_holm"]) for entry in rows.values())],
    ]
    return aligned(columns)


def signed_words(value: float) -> str:
    """Three decimals with a sign, but for a zero."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def signed_interval_words(interval: list[float]) -> str:
    """Both ends of a difference's interval."""
    return f"{signed_words(interval[0])} to {signed_words(interval[1])}"


def p_words(p: float) -> str:
    """Four decimals, and never a zero, which no bootstrap can show."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


HUMAN, MEAN = "human-human", "mean"


def benchmark_markdown(report: Entry) -> str:
    """A grid's report for a reader.

    Args:
        report: What ``build_benchmark_report`` returned.

    Returns:
        GitHub markdown, ends with a line break: a table of the arms; floors, human agreement and published figures;
        mean differences from the control; QWK by prompt; notes. "-" is an undefined value. Differences by prompt are in
        the report alone.
    """
    confidence = f"{100 * report['settings']['confidence']:g} %"
    blocks = ["# Benchmark", _measured(report), _arm_table(report, confidence), _arm_words(report)]
    beside = _beside(report)
    if beside:
        blocks += ["## Floors, human raters and published systems", beside]
    differences = list(_differences(report, confidence))
    if differences:
        blocks += [f"## Differences from {report['control']}", *differences]
    if len(report["essays"]) > 1:
        blocks += ["## Prompts", *_prompt_tables(report)]
    settings = report["settings"]
    notes = [f"{settings['covers']} Resamples: {settings['resamples']}.", *report["notes"]]
    blocks += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(blocks) + "\n"


def benchmark_rows(report: Entry) -> list[dict[str, Any]]:
    """A grid's figures as rows, one a figure, with all digits.

    Args:
        report: What ``build_benchmark_report`` returned.

    Returns:
        Rows of ``arm``, ``prompt`` (an id, or ``mean``), ``measure``, ``value``, ``low`` and ``high`` (the interval),
        ``sd_over_seeds`` and ``n`` (essays; for ``seconds_per_run`` runs); None where there is none. Measures are the
        arms' own, ``difference_*`` by the kinds of difference, and ``seconds_per_run`` in the report's unit. Floors
        are named ``floor NAME``, published systems ``published NAME``, human raters ``human-human``.
    """
    rows = [row for arm, entry in report["arms"].items() for row in _arm_rows(arm, entry, report["essays"])]
    for kind, answers in report["differences"].items():
        for arm, answered in answers["arms"].items():
            for prompt, found, n in _places(answered, report["essays"]):
                if found is not None:
                    rows.append(_row(arm, prompt, f"difference_{kind}", found["difference"], found["interval"], n=n))
    for name, floor in report["floors"].items():
        rows += [
            _row(f"floor {name}", prompt, "qwk", value, n=n) for prompt, value, n in _places(floor, report["essays"])
        ]
    human = report["human_human"]
    if human["prompts"]:
        rows += [_row(HUMAN, prompt, "qwk", entry["qwk"], n=entry["n"]) for prompt, entry in human["prompts"].items()]
        rows.append(_row(HUMAN, MEAN, "qwk", human["mean"], n=_scored_twice(report)))
    rows += [_row(f"published {one['system']}", MEAN, "qwk", one["qwk"]) for one in report["published"]]
    return rows


def _places(entry: Entry, essays: Mapping[str, int]) -> Iterator[tuple[str, Any, int]]:
    """What an entry has for each prompt and in the mean, with the number of essays."""
    for prompt, value in entry["prompts"].items():
        yield prompt, value, essays[prompt]
    yield MEAN, entry["mean"], sum(essays.values())


def _scored_twice(report: Entry) -> int:
    """How many essays two humans scored."""
    return sum(entry["n"] for entry in report["human_human"]["prompts"].values())


def _arm_rows(arm: str, entry: Entry, essays: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """An arm's own measures and its cost."""
    for prompt, figures, n in _places(entry, essays):
        for version in VERSIONS:
            over_seeds = figures["over_seeds"][version]
            sd = None if over_seeds is None else over_seeds["sd"]
            yield _row(arm, prompt, version, figures[version], figures[f"{version}_interval"], sd, n)
        for measure in ("pearson", "sd_ratio"):
            yield _row(arm, prompt, measure, figures[measure], n=n)
    if entry["cost"] is not None:
        yield _row(arm, MEAN, "seconds_per_run", entry["cost"]["seconds_per_run"], n=entry["cost"]["runs"])


def _row(
    arm: str,
    prompt: str,
    measure: str,
    value: float | None,
    interval: Sequence[float] | None = None,
    sd_over_seeds: float | None = None,
    n: int | None = None,
) -> dict[str, Any]:
    low, high = (None, None) if interval is None else interval
    return {
        "arm": arm,
        "prompt": prompt,
        "measure": measure,
        "value": value,
        "low": low,
        "high": high,
        "sd_over_seeds": sd_over_seeds,
        "n": n,
    }


def _measured(report: Entry) -> str:
    """What was measured, in one line."""
    own = [entry["seeds"] for entry in report["arms"].values() if entry["ensemble_of"] is None]
    alike = all(seeds == own[0] for seeds in own)
    seeds = _count(len(own[0]), "seed") if alike else f"{min(map(len, own))} to {max(map(len, own))} seeds"
    strata = [stratum for stratum in report["strata"] if stratum]
    listed = f" ({', '.join(strata)})" if strata else ""
    return (
        f"QWK on {report['measured_on']} essays. Protocol: {report['protocol']}. "
        f"{_count(report['distinct_essays'], 'essay')}, {_count(len(report['essays']), 'prompt')}, "
        f"{_count(len(report['strata']), 'stratum', 'strata')}{listed}, {seeds}. Control: {report['control']}."
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _arm_table(report: Entry, confidence: str) -> str:
    """The arms' means."""
    arms: Mapping[str, Entry] = report["arms"]
    means = [entry["mean"] for entry in arms.values()]
    sds = [mean["over_seeds"]["qwk"] for mean in means]
    columns = {
        "arm": list(arms),
        TITLES["qwk"]: [figure_words(mean["qwk"]) for mean in means],
        confidence: [interval_words(mean["qwk_interval"]) for mean in means],
        TITLES["qwk_rescaled"]: [figure_words(mean["qwk_rescaled"]) for mean in means],
        TITLES["qwk_cut_points"]: [figure_words(mean["qwk_cut_points"]) for mean in means],
        "r": [figure_words(mean["pearson"]) for mean in means],
        "sd ratio": [figure_words(mean["sd_ratio"]) for mean in means],
        "sd over seeds": ["-" if sd is None else figure_words(sd["sd"]) for sd in sds],
    }
    if any(entry["cost"] is not None for entry in arms.values()):
        units = _units(report)
        title = f"seconds ({units[0]})" if len(units) == 1 else "seconds"
        columns[title] = [_cost_words(entry, named=len(units) > 1) for entry in arms.values()]
    return _table(columns)


def _units(report: Entry) -> list[str]:
    units = {entry["cost"]["unit"] for entry in report["arms"].values() if entry["cost"] is not None}
    return sorted(unit for unit in units if unit is not None)


def _cost_words(entry: Entry, *, named: bool) -> str:
    """Seconds of a run, times the runs behind a score."""
    cost = entry["cost"]
    if cost is None or cost["seconds_per_run"] is None:
        return "-"
    seconds = cost["seconds_per_run"]
    words = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
    times = f"{entry['members']} x " if entry["members"] > 1 else ""
    return f"{times}{words}{' ' + cost['unit'] if named else ''}"


def _arm_words(report: Entry) -> str:
    """What the columns of the arms' table are."""
    prompts = "" if len(report["essays"]) == 1 else " and prompts"
    words = [
        f"Means over strata{prompts}. rescaled: given the human scores' mean and sd on dev; cut points: tuned on dev; "
        "r and sd ratio: of raw predictions; sd over seeds: of the QWK."
    ]
    devices = {device for entry in report["arms"].values() for device in (entry["cost"] or {}).get("devices", ())}
    if devices:
        words.append(
            f"seconds: mean of a run's wall time times its processes, on {'; '.join(sorted(devices))}; runs that "
            "share a device count it in full."
        )
    return " ".join(words)


def _beside(report: Entry) -> str:
    """What the arms' QWK is to be read with; nothing if there is none of it."""
    rows = [(f"floor: {name}", floor["mean"], "on the same essays") for name, floor in report["floors"].items()]
    human = report["human_human"]
    if human["prompts"]:
        twice = f"{_scored_twice(report):,}"
        pair = f"two raters with each other, not with the resolved score, on {twice} essays"
        rows.append((HUMAN, human["mean"], pair))
    rows += [(one["system"], one["qwk"], f"{one['protocol']}: {one['source']}") for one in report["published"]]
    if not rows:
        return ""
    names, values, words = zip(*rows, strict=True)
    return _table({"system": list(names), "QWK": [figure_words(value) for value in values]}, {"measured": list(words)})


def _differences(report: Entry, confidence: str) -> Iterator[str]:
    """Each kind of difference in the mean over prompts, where some arm has it."""
    for kind in report["differences"].values():
        found = {arm: entry for arm, entry in difference_rows(kind, "mean").items() if entry is not None}
        if found:
            entries = list(found.values())
            yield f"### {kind['difference']} (comparisons that Holm p corrects for: {kind['comparisons']['mean']})"
            yield _table(
                {
                    "arm": list(found),
                    "difference": [signed_words(entry["difference"]) for entry in entries],
                    confidence: [signed_interval_words(entry["interval"]) for entry in entries],
                    "p": [p_words(entry["p"]) for entry in entries],
                    "Holm p": [p_words(entry["p_holm"]) for entry in entries],
                }
            )


def _prompt_tables(report: Entry) -> Iterator[str]:
    """Each version of QWK by prompt, where some arm has it; floors and human raters beside the first."""
    prompts = list(report["essays"])
    for version in VERSIONS:
        rows = {
            arm: [*(entry["prompts"][prompt][version] for prompt in prompts), entry["mean"][version]]
            for arm, entry in report["arms"].items()
        }
        if all(value is None for values in rows.values() for value in values):
            continue
        if version == "qwk":
            for name, floor in report["floors"].items():
                rows[f"floor: {name}"] = [*(floor["prompts"][prompt] for prompt in prompts), floor["mean"]]
            human = report["human_human"]
            if human["prompts"]:
                own = (human["prompts"].get(prompt, {}).get("qwk") for prompt in prompts)
                rows[HUMAN] = [*own, human["mean"]]
        columns = {
            title: [figure_words(values[place]) for values in rows.values()]
            for place, title in enumerate([*prompts, MEAN])
        }
        yield f"### {TITLES['qwk']}{'' if version == 'qwk' else f', {TITLES[version]}'}"
        yield _table({"prompt": list(rows), **columns})


def _table(columns: Mapping[str, Sequence[str]], words: Mapping[str, Sequence[str]] | None = None) -> str:
    """A markdown table: the first column and those of words flush left, the others flush right."""
    titles = [*columns, *(words or {})]
    marks = ["---", *["---:"] * (len(columns) - 1), *["---"] * len(words or {})]
    rows = zip(*columns.values(), *(words or {}).values(), strict=True)
    lines = [titles, marks, *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that ends no cell."""
    return text.replace("|", "\\|")
