"""Write the tables of all READMEs anew from the results files or modules that they name, or check them.

    python recipes/readme_tables.py [--check]

A comment above a table names its source, a file or folder from the top of the repository (for `recipes/vision`, from
beside the README), and where a source has several tables, which of them: `<!-- SOURCE [PART] -->`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from statistics import fmean
from types import ModuleType
from typing import Any

from aes_dynloss.cli.parts import KEYS, part_rows
from aes_dynloss.configfile import ConfigModel, read_mapping, validate
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.features.linguistic import FEATURES
from aes_dynloss.essays.screening.kinds import KINDS, OF_ANSWERS
from aes_dynloss.measures.agreement import fisher_mean
from aes_dynloss.reports.comparison_tables import benchmark_markdown
from aes_dynloss.reports.measure_list import MEASURES
from aes_dynloss.reports.table import signed_words
from aes_dynloss.teaching.hypergradient.estimators import HypergradientConfig
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig, GlcConfig, MwnConfig

ROOT = Path(__file__).resolve().parents[1]
# A comment, then the table, up to the first line that is none of its rows.
GENERATED = re.compile(r"^<!-- (?P<source>\S+)(?: (?P<part>[^>]+))? -->\n(?P<table>(?:\|.*\n)*)", re.MULTILINE)
Table = Callable[[Path, str], str]

# What the table of systems shows: floors of one grid, and arms by grid with their description.
SHOWN_FLOORS = {
    "length": "essay length",
    "tfidf_ridge": "tf-idf and ridge regression",
    "words_and_ngrams": "linguistic features and n-grams, no encoder",
}
PEERS = {"rsmtool_models": "RSMTool on our linguistic features"}
SHOWN_ARMS = {
    "asap_exact": {
        "ridge": "frozen all-MiniLM-L6-v2, ridge in closed form",
        "kernel_linguistic_strings": "frozen all-MiniLM-L6-v2, linguistic features and n-grams, kernel ridge",
    },
    "asap_stack": {
        "mpnet_ridge": "frozen all-mpnet-base-v2, ridge in closed form",
        "mpnet_kernel": "frozen all-mpnet-base-v2, kernel ridge",
        "stack": "stack of six, with and without an encoder, weights by prompt",
    },
    "asap_finetuned": {
        "finetuned": "all-MiniLM-L6-v2 fine-tuned as a whole, squared error",
        "finetuned_and_frozen": "mean of that and frozen all-MiniLM-L6-v2 with features and n-grams",
    },
    "asap_frozen": {
        "mpnet": "frozen all-mpnet-base-v2, squared error",
    },
    "asap_losses": {
        "morris_standardised": "frozen all-mpnet-base-v2, schedule of Morris (2023), standardised",
        "tuned_schedule": "frozen all-mpnet-base-v2, squared error with a rising part of 1 - QWK",
        "l2t_dlf": "frozen all-mpnet-base-v2, L2T-DLF",
        "l2t_dln": "frozen all-mpnet-base-v2, L2T-DLN as published",
    },
    "asap_dln_downhill": {
        "l2t_dln_downhill": "frozen all-mpnet-base-v2, L2T-DLN, its teacher downhill by construction",
    },
}
# Arms of grids whose essays are scored on several traits: of each the mean over traits of that over prompts.
SHOWN_TRAITS = {
    "asap_traits": {
        "trained_schedule": "11 traits of ASAP++: frozen all-mpnet-base-v2, with a rising part of 1 - QWK",
        "mpnet_across_traits": "11 traits of ASAP++: frozen all-mpnet-base-v2, kernel ridge, stacked across traits",
    },
    "feedback_ell": {
        "balanced": "6 traits of Feedback-ELL: preset balanced, frozen all-MiniLM-L6-v2, features and n-grams",
        "best": "6 traits of Feedback-ELL: preset best, frozen all-mpnet-base-v2, features and n-grams",
    },
    "asap_traits_with_target_essays": {
        "with_target_essays": "9 traits of ASAP++ on an unseen prompt, given its essays without scores: no encoder",
    },
}


def grid_report(folder: Path, grid: str) -> dict[str, Any]:
    """What a grid gave: its report, or of a grid whose folds were run one by one the comparison of its predictions.

    Args:
        folder: Of the grids' reports; beside it lies ``comparisons``.
        grid: Its name.

    Returns:
        The report. A comparison's arms have their names in the grid, and its ``config`` is that of the recipe.
    """
    if (path := folder / f"{grid}.json").exists():
        return _read(path)
    report = _read(folder.parent / "comparisons" / f"{grid}.json")
    arms = {published_arm(name): entry for name, entry in report["arms"].items()}
    recipe = validate(BenchmarkConfig, read_mapping(ROOT / f"recipes/essays/grids/{grid}.yaml"), grid)
    return report | {"arms": arms, "config": recipe.model_dump(mode="json", by_alias=True)}


def published_arm(name: str) -> str:
    """The arm of a file of published predictions.

    Examples:
        >>> published_arm("asap_exact.kernel_linguistic.parquet")
        'kernel_linguistic'
    """
    return name.split(".", 1)[1].removesuffix(".parquet")


def comparison_table(path: Path, part: str) -> str:
    """Arms of published predictions beside their control, in the mean; for the part ``prompts`` their QWK by prompt."""
    report = _read(path)
    if part == "prompts":
        rows = [
            [published_arm(name), *(f"{one['qwk']:.3f}" for one in entry["prompts"].values())]
            for name, entry in report["arms"].items()
        ]
        return _markdown(["arm", *report["essays"]], rows)
    rows = []
    for name, entry in report["arms"].items():
        cells = [f"{entry['mean']['qwk']:.3f}", _interval(entry["mean"]["qwk_interval"])]
        if name != report["control"]:
            beside = report["differences"]["qwk"]["arms"][name]["mean"]
            ends = " to ".join(map(signed_words, beside["interval"]))
            cells += [signed_words(beside["difference"]), ends, f"{beside['p_holm']:.4f}"]
        rows.append([published_arm(name), *cells, *[""] * (5 - len(cells))])
    return _markdown(["arm", "QWK", "95 %", f"beside {published_arm(report['control'])}", "95 %", "Holm p"], rows)


def _interval(ends: Sequence[float]) -> str:
    return " to ".join(f"{end:.3f}" for end in ends)


def grid_table(path: Path, part: str) -> str:
    """One table of a grid's report.

    Args:
        path: A benchmark.json.
        part: ``arms``, ``traits``, ``systems`` (floors, raters, published) or a kind of difference, as report.json
            names it.

    Raises:
        ValueError: The report has no such table.
    """
    report = _read(path)
    titles = {"arms": "", "traits": "## Traits", "systems": "## Floors"}
    titles |= {kind: f"### {entry['difference']}" for kind, entry in report["differences"].items()}
    title = ""
    for block in benchmark_markdown(report).split("\n\n"):
        if block.startswith("#"):
            title = block
        elif block.startswith("|") and part in titles and (part == "arms" or title.startswith(titles[part])):
            return block.rstrip("\n")
    raise ValueError(f"{path.name} has no table {part!r}. Choose one of {', '.join(titles)}.")


def fisher_table(path: Path, part: str) -> str:
    """Fisher's mean of QWK over prompts of a grid's floors, raters and arms, beside the plain mean, and minutes.

    Args:
        path: A benchmark.json.
        part: ``fisher``; any other is a table of :func:`grid_table`.
    """
    if part != "fisher":
        return grid_table(path, part)
    report = _read(path)
    others = {f"floor: {name}": floor["prompts"].values() for name, floor in report["floors"].items()}
    others["human-human"] = [one["qwk"] for one in report["human_human"]["prompts"].values()]
    rows = [[name, f"{fisher_mean(list(own)):.3f}", "", f"{fmean(own):.3f}", "", ""] for name, own in others.items()]
    for arm, entry in report["arms"].items():
        figures = [[one["qwk"], one["qwk_interval"]] for one in (entry["fisher"], entry["mean"])]
        cells = [cell for qwk, (low, high) in figures for cell in (f"{qwk:.3f}", f"{low:.3f} to {high:.3f}")]
        rows.append([arm, *cells, f"{entry['cost']['total_seconds'] / 60:.0f}"])
    return _markdown(["scorer", "QWK, Fisher's mean", "95 %", "QWK, mean", "95 %", "minutes"], rows)


def systems_table(folder: Path, _: str) -> str:
    """Floors, human raters, published systems and this toolkit's own models on ASAP in one table."""
    reports = {grid: grid_report(folder, grid) for grid in SHOWN_ARMS}
    others = reports["asap_exact"]
    rows = []
    for name, description in SHOWN_FLOORS.items():
        plain, rescaled = (others["floors"][f"{name}{version}"]["mean"] for version in ("", "_rescaled"))
        rows.append([f"floor: {description}", f"{plain:.3f}", "", f"{rescaled:.3f}"])
    rows += [[*cells[:2], "", cells[2]] for cells in _peer_rows(folder.parent / "peers")]
    rows.append(["human-human", f"{others['human_human']['mean']:.3f}", "", ""])
    rows += [[_published(one), f"{one['qwk']:.3f}", "", ""] for one in others["published"]]
    for grid, arms in SHOWN_ARMS.items():
        for arm, description in arms.items():
            mean = reports[grid]["arms"][arm]["mean"]
            # Scores that the model has rescaled itself are not rescaled again.
            rescaled = "" if _postprocessed(reports[grid]["config"], arm) else f"{mean['qwk_rescaled']:.3f}"
            rows.append([f"**{description}**", f"{mean['qwk']:.3f}", _interval(mean["qwk_interval"]), rescaled])
    for grid, arms in SHOWN_TRAITS.items():
        report = _read(folder / f"{grid}.json")
        for arm, description in arms.items():
            mean = report["arms"][arm]["traits"]["over_prompts_first"]
            known = mean["qwk_rescaled"] is not None and not _postprocessed(report["config"], arm)
            rescaled = f"{mean['qwk_rescaled']:.3f}" if known else ""
            rows.append([f"**{description}**", f"{mean['qwk']:.3f}", "", rescaled])
    return _markdown(["system", "QWK", "95 % CI", "rescaled"], rows)


def _peer_rows(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Peer, QWK and QWK rescaled; of a peer with several models from the least to the greatest, as none was chosen."""
    for path in sorted(folder.glob("*.json")):
        models = _read(path)["models"]
        name = next(iter(models)) if len(models) == 1 else f"{PEERS[path.stem]}, {len(models)} models"
        figures = ([model[key]["mean"] for model in models.values()] for key in ("qwk", "qwk_rescaled"))
        low_high = [dict.fromkeys(f"{value:.3f}" for value in (min(each), max(each))) for each in map(list, figures)]
        plain, rescaled = (" to ".join(each) for each in low_high)
        yield f"peer: {name}", plain, rescaled


def _postprocessed(config: Mapping[str, Any], arm: str) -> bool:
    """Whether an arm's scores, or those of a mixture's members, are more than raw predictions rounded."""
    shared = config["finetune"]["model"].get("postprocessing", "none")
    made = config["mixtures"] | config.get("stacks", {}) | config.get("trait_stacks", {})
    members = made.get(arm, [arm])
    changes = [config["arms"][member]["set"] for member in members]
    return any(
        one.get("model.postprocessing", one.get("model", {}).get("postprocessing", shared)) != "none" for one in changes
    )


def _published(system: Mapping[str, str]) -> str:
    """Name and short reference; a protocol of its own is marked."""
    (reference,) = re.findall(r"^.*?\(\d{4}\)", system["source"])
    return f"{system['system']}, {reference}{'' if system['protocol'].startswith('common') else ', own protocol'}"


def robustness_table(folder: Path, _: str) -> str:
    """How often scores rise that must not, by kind of change and arm."""
    return "\n".join(_recipe("essays", "collect_robustness").robustness_lines(folder))


def peers_table(folder: Path, _: str) -> str:
    """What other packages and this one reach on the common folds, and their CPU minutes."""
    peers = _recipe("essays/peers", "common_folds")
    rows = [row for path in sorted(folder.glob("*.json")) for row in peers.table_rows(_read(path))]
    arms = _read(folder.parent / "grids" / "asap_exact.json")["arms"]
    for arm, description in SHOWN_ARMS["asap_exact"].items():
        minutes = arms[arm]["cost"]["total_seconds"] / 60
        rows.append([f"**{description}**", "", f"{arms[arm]['mean']['qwk']:.3f}", f"{minutes:.1f}", ""])
    return _markdown(peers.TITLES, rows)


def measures_table(_: Path, __: str) -> str:
    """Every measure of a report with its definition and reference."""
    rows = [[measure.title, measure.definition, measure.reference] for measure in MEASURES.values()]
    return _markdown(["measure", "definition", "reference"], rows, words=3)


def teacher_keys_table(_: Path, __: str) -> str:
    """The keys of each kind of teacher."""
    kinds: dict[str, type[ConfigModel]] = {"dlf": DlfConfig, "dln": DlnConfig, "mwn": MwnConfig, "glc": GlcConfig}
    rows = [[f"{kind}: {key}", *cells] for kind, model in kinds.items() for key, *cells in _keys(model)]
    return _markdown(["kind: key", "default", "meaning"], rows, words=3)


def estimator_keys_table(_: Path, __: str) -> str:
    """The keys of a hypergradient's estimator."""
    return _markdown(["key", "default", "meaning"], _keys(HypergradientConfig), words=3)


def _keys(model: type[ConfigModel]) -> list[list[str]]:
    """Key, default and description of a configuration's plain fields."""
    return [
        [f"`{name}`", json.dumps(field.default).strip('"'), field.description or ""]
        for name, field in model.model_fields.items()
        if not field.is_required() and not isinstance(field.default, ConfigModel)
    ]


def parts_table(_: Path, part: str) -> str:
    """What a configuration can choose by name, of some kinds."""
    rows = [
        [f"{kind}: `{KEYS[kind]}`", f"`{row.name}`", row.meaning]
        for kind in part.split()
        for row in part_rows(kind, plugins=False)
    ]
    return _markdown(["part", "name", "meaning"], rows, words=3)


def features_table(_: Path, __: str) -> str:
    """Every linguistic feature; those of single function words in one row."""
    words = [feature for feature in FEATURES if feature.name.startswith("word_") and feature.group == "function_words"]
    rows = []
    for feature in FEATURES:
        if feature is words[0]:
            name = f"`{feature.name}` ... `{words[-1].name}`: {len(words)} words"
        elif feature in words:
            continue
        else:
            name = f"`{feature.name}`"
        rows.append([feature.group, name, feature.unit, feature.language, feature.source])
    return _markdown(["group", "feature", "unit", "language", "source"], rows, words=5)


def advisories_table(_: Path, __: str) -> str:
    """The kinds of advisories with their default actions, on essays and on short answers."""
    rows = [[f"`{name}`", one.title, one.default, OF_ANSWERS.get(name, one.default)] for name, one in KINDS.items()]
    return _markdown(["kind", "meaning", "default", "on short answers"], rows, words=4)


def screening_table(path: Path, part: str) -> str:
    """What advisories find; of all screens, or of the one that a part names."""
    screening = _recipe("benchmarks", "screening")
    table: str = screening.table(_read(path), [part] if part else screening.SCREENS)
    return table


def hypergradient_table(path: Path, _: str) -> str:
    """Cost of every estimator."""
    cost, values = _recipe("benchmarks", "hypergradient_cost"), _read(path)
    table: str = cost.table([cost.Found(**row) for row in values["rows"]], values["copy_mib"])
    return table


def teacher_step_table(path: Path, _: str) -> str:
    """Cost of a teacher step of L2T-DLN."""
    cost, step = _recipe("benchmarks", "hypergradient_cost"), _recipe("benchmarks", "teacher_step_cost")
    rows = {row["row"]: dict(row) for row in _read(path)["rows"]}
    off = {name: distances for name, row in rows.items() if (distances := row.pop("off")) is not None}
    found = {name: cost.Found(**row, off=None) for name, row in rows.items()}
    table: str = step.table(found, off)
    return table


def throughput_table(path: Path, _: str) -> str:
    """Essays a second while an encoder is fine-tuned."""
    throughput = _recipe("benchmarks", "finetuning_throughput")
    table: str = throughput.table(throughput.read_report(_read(path)))
    return table


def finetuned_peers_table(path: Path, _: str) -> str:
    """What other packages and this one reach by fine-tuning the same encoder, with minutes and memory."""
    peer = _recipe("essays/peers", path.stem)
    return _markdown(peer.TITLES, peer.table_rows(_read(path)))


def by_script(folder: str, script: str, function: str = "table") -> Table:
    """The table that a recipe's own function makes of its results file."""

    def table(path: Path, _: str) -> str:
        made: str = getattr(_recipe(folder, script), function)(_read(path))
        return made

    return table


def overview_table(_: Path, __: str) -> str:
    """All grids of pictures."""
    table: str = _recipe("vision", "overview").overview()
    return table


def translation_table(path: Path, part: str) -> str:
    """BLEU of a translation grid's arms; for the part ``taught``, what their teachers set."""
    results = _recipe("translation", "translation_results")
    table: str = {"": results.table, "taught": results.taught_table}[part](_read(path))
    return table


# The first pattern that a source matches says how its table is made.
TABLES: dict[str, Table] = {
    "recipes/essays/results/grids": systems_table,
    "recipes/essays/results/grids/asap_noisy_raters.json": by_script("essays", "noisy_raters_results"),
    "recipes/essays/results/grids/asap_sas.json": fisher_table,
    "recipes/essays/results/grids/*.json": grid_table,
    "recipes/essays/results/comparisons/*.json": comparison_table,
    "recipes/essays/own_parts/results.json": grid_table,
    "recipes/essays/results/explained.json": by_script("essays", "explained_essays"),
    "recipes/essays/results/few_scores.json": by_script("essays", "few_scores"),
    "recipes/essays/results/source_prompts.json": by_script("essays", "source_prompts"),
    "recipes/essays/results/learning_curve.json": by_script("essays", "learning_curve"),
    "recipes/essays/results/first_hour.json": by_script("essays", "first_hour"),
    "recipes/essays/results/peers": peers_table,
    "recipes/essays/results/peers/finetuned/*.json": finetuned_peers_table,
    "recipes/essays/results/robustness": robustness_table,
    "recipes/essays/results/robustness/asap_augmentation.json": grid_table,
    "recipes/benchmarks/results/screening.json": screening_table,
    "recipes/benchmarks/results/unlike_training.json": by_script("benchmarks", "unlike_training"),
    "recipes/benchmarks/results/interval_coverage.json": by_script("benchmarks", "interval_coverage"),
    "recipes/benchmarks/results/double_scoring.json": by_script("benchmarks", "double_scoring"),
    "recipes/benchmarks/results/cross_fitted_spread.json": by_script("benchmarks", "cross_fitted_spread"),
    "recipes/benchmarks/results/monitor_false_alarms.json": by_script("benchmarks", "monitor_false_alarms"),
    "recipes/benchmarks/results/hypergradient_*.json": hypergradient_table,
    "recipes/benchmarks/results/teacher_step_*.json": teacher_step_table,
    "recipes/benchmarks/results/finetuning_throughput_*.json": throughput_table,
    "recipes/benchmarks/results/scoring_throughput_*.json": by_script("benchmarks", "scoring_throughput"),
    "recipes/benchmarks/results/scoring_folder.json": by_script("benchmarks", "scoring_plan"),
    "recipes/benchmarks/results/scoring_memory.json": by_script("benchmarks", "scoring_memory"),
    "recipes/benchmarks/results/reporting_speed.json": by_script("benchmarks", "reporting_speed", "speed_table"),
    "recipes/vision/results/mnist_*.json": by_script("vision", "mnist"),
    "recipes/vision/results/*.json": by_script("vision", "grid"),
    "recipes/vision/overview.py": overview_table,
    "recipes/translation/results/*.json": translation_table,
    "aes_dynloss/cli/parts.py": parts_table,
    "aes_dynloss/reports/measure_list.py": measures_table,
    "aes_dynloss/essays/features/linguistic.py": features_table,
    "aes_dynloss/essays/screening/kinds.py": advisories_table,
    "aes_dynloss/teaching/teachers/config.py": teacher_keys_table,
    "aes_dynloss/teaching/hypergradient/estimators.py": estimator_keys_table,
}


def readmes() -> list[Path]:
    """All READMEs of the repository."""
    found = [ROOT / "README.md"]
    for folder in ("aes_dynloss", "recipes"):
        found += sorted((ROOT / folder).rglob("README.md"))
    return found


def sources(readme: Path) -> dict[str, Path]:
    """The sources that a README names, with their paths.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    paths = {}
    for match in GENERATED.finditer(readme.read_text(encoding="utf-8")):
        source = match["source"]
        places = [folder / source for folder in (ROOT, readme.parent) if (folder / source).exists()]
        if not places:
            raise FileNotFoundError(f"{readme} names {source}, which does not exist.")
        paths[source] = places[0]
    return paths


def with_tables(readme: Path) -> str:
    """A README's text with every generated table made anew."""
    paths = sources(readme)

    def made(match: re.Match[str]) -> str:
        path = paths[match["source"]]
        table = _maker(path)(path, match["part"] or "")
        return f"{match[0][: match.start('table') - match.start()]}{table}\n"

    return GENERATED.sub(made, readme.read_text(encoding="utf-8"))


def _maker(path: Path) -> Table:
    name = PurePath(path.relative_to(ROOT))
    for pattern, table in TABLES.items():
        if len(name.parts) == len(PurePath(pattern).parts) and name.match(pattern):
            return table
    raise ValueError(f"No table is made of {name}. Add it to TABLES in {Path(__file__).name}.")


def _markdown(titles: list[str], rows: list[list[str]], words: int = 1) -> str:
    table: str = _recipe("benchmarks", "result_table").result_table(titles, rows, words)
    return table


def _recipe(folder: str, script: str) -> ModuleType:
    """A script of a recipes folder as a module; scripts import their neighbours by their plain names."""
    path = str(ROOT / "recipes" / folder)
    if path not in sys.path:
        sys.path.append(path)
    return importlib.import_module(script)


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 3 if a table is out of date")
    options = parser.parse_args()
    stale = {path: text for path in readmes() if (text := with_tables(path)) != path.read_text(encoding="utf-8")}
    for path, text in stale.items():
        sys.stdout.write(f"{path.relative_to(ROOT)}: {'out of date' if options.check else 'written'}\n")
        if not options.check:
            path.write_text(text, encoding="utf-8")
    sys.exit(3 if stale and options.check else 0)


if __name__ == "__main__":
    main()
