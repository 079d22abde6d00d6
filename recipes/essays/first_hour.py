"""The first hour with a table of one's own: train, score and evaluate in three commands, with each preset.

    python recipes/essays/first_hour.py run [PRESET ...]   # runs/first_hour/PRESET/draw_N; what is done stays
    python recipes/essays/first_hour.py collect            # results/first_hour.json

A draw is 600 essays of Feedback-ELL with their scores on grammar, in half points, under names of columns that the
package does not know, and 500 others to score. Draws share essays. Nothing is configured.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from feedback_ell import SOURCE, order

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.essays.finetune.presets import PRESETS
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.reports.table import NOTHING, Column, Table, count, markdown_table, number, signed, words, words_column
from aes_dynloss.tables.formats import write_table
from aes_dynloss.training.hardware import cpu_has_bf16
from aes_dynloss.training.run_folder import write_json

HERE = Path(__file__).parent
RUNS, RESULTS, GRIDS = Path("runs/first_hour"), HERE / "results" / "first_hour.json", HERE / "results" / "grids"
ESSAYS, NEW, DRAWS = 600, 500, range(5)
FOUND = "found.json"
# The same scorers on whole benchmarks: arms of grids.
OF_ASAP = {
    "fast": ("asap_stack", "strings"),
    "balanced": ("asap_exact", "kernel_linguistic_strings"),
    "best": ("asap_stack", "mpnet_kernel_linguistic_strings"),
}


def write_draw(essays: pd.DataFrame, draw: int, folder: Path) -> None:
    """Write a draw's three tables: scored essays, new ones, and what humans gave these.

    Args:
        essays: With essay_id, text and grammar.
        draw: Its number.
        folder: Where to; essays.csv, new.csv and human.csv.
    """
    drawn = essays.iloc[sorted(range(len(essays)), key=lambda row: order(f"draw {draw}", essays["essay_id"].iloc[row]))]
    named = drawn.rename(columns={"essay_id": "ref", "text": "answer", "grammar": "mark"})[["ref", "answer", "mark"]]
    scored, new = named[:ESSAYS], named[ESSAYS : ESSAYS + NEW]
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"essays": scored, "new": new[["ref", "answer"]], "human": new[["ref", "mark"]]}
    for name, table in tables.items():
        write_table(table.reset_index(drop=True), folder / f"{name}.csv")


def timed(folder: Path, *words: str) -> dict[str, float]:
    """Run a command of the package in a folder.

    Returns:
        Its minutes by the clock, and of CPU time.

    Raises:
        DataError: It failed.
    """
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([sys.executable, "-m", "aes_dynloss", *words], cwd=folder, check=False)  # noqa: S603 - our own
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise DataError(f"{folder}: aes-dynloss {' '.join(words)} failed, see above.")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"minutes": (time.perf_counter() - start) / 60, "cpu_minutes": cpu / 60}


def run(preset: str, draw: int, source: Path) -> None:
    """The three commands on one draw, unless that is done already."""
    folder = RUNS / preset / f"draw_{draw}"
    if (folder / FOUND).exists():
        return
    write_draw(pd.read_parquet(source), draw, folder)
    again = [] if not (folder / "run").exists() else ["--resume"]
    for path in (folder / "scores.csv", folder / "agreement"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    roles = ("--map", "essay_id=ref", "--map", "reference=mark")
    spent = {
        "finetune": timed(folder, "finetune", "essays.csv", "-o", "run", "--preset", preset, *again),
        "score": timed(folder, "score", "run", "new.csv", "-o", "scores.csv"),
        "evaluate": timed(folder, "evaluate", "scores.csv", "--references", "human.csv", *roles, "-o", "agreement"),
    }
    own, of_new = read_mapping(folder / "run" / REPORT), read_mapping(folder / "agreement" / REPORT)
    floors = {name: floor["mean"] for name, floor in own["floors"].items()}
    best = max(floors, key=lambda name: floors[name])
    found = {
        "preset": preset,
        "draw": draw,
        "qwk": own["mean"]["qwk"],
        "interval": own["mean"]["qwk_interval"],
        "floor": floors[best],
        "floor_is": best,
        "qwk_of_new": of_new["mean"]["qwk"],
        "spent": spent,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "bf16": cpu_has_bf16(),
    }
    write_json(folder / FOUND, found)


def collect() -> dict[str, Any]:
    """All that was found, and what the presets reach on whole benchmarks.

    Raises:
        DataError: Nothing is done yet.
    """
    found = [read_mapping(path) for path in sorted(RUNS.glob(f"*/draw_*/{FOUND}"))]
    if not found:
        raise DataError(f"There is nothing in {RUNS} yet. Run it first.")
    asap = {preset: _arm(grid, arm)["mean"]["qwk"] for preset, (grid, arm) in OF_ASAP.items()}
    feedback_ell = {preset: _arm("feedback_ell", preset)["mean"]["qwk"] for preset in PRESETS}
    return {"essays": ESSAYS, "new": NEW, "asap": asap, "feedback_ell": feedback_ell, "draws": found}


def _arm(grid: str, arm: str) -> dict[str, Any]:
    own: dict[str, Any] = read_mapping(GRIDS / f"{grid}.json")["arms"][arm]
    return own


def table(values: dict[str, Any]) -> str:
    """A row a preset, in markdown: QWK on the benchmarks, and means over draws."""
    names = ("ASAP", "Feedback-ELL", "600 essays", "best floor", "least gain", "500 new", "CPU minutes", "essays/s")
    columns = [words_column("preset", "preset"), *(Column(name, name) for name in names)]
    rows = []
    for preset in PRESETS:
        draws = [one for one in values["draws"] if one["preset"] == preset]
        row = [words(f"`{preset}`"), number(values["asap"][preset]), number(values["feedback_ell"][preset])]
        if draws:
            row += [number(fmean(one[name] for one in draws)) for name in ("qwk", "floor")]
            row += [signed(min(one["qwk"] - one["floor"] for one in draws))]
            row += [number(fmean(one["qwk_of_new"] for one in draws))]
            row += [number(fmean(_minutes(one, *one["spent"]) for one in draws))]
            row += [count(values["new"] / (60 * fmean(_minutes(one, "score") for one in draws)))]
        rows.append(row + [NOTHING] * (len(columns) - len(row)))
    return markdown_table(Table("presets", "Presets", columns, rows))


def _minutes(found: dict[str, Any], *commands: str) -> float:
    minutes: float = sum(found["spent"][command]["cpu_minutes"] for command in commands)
    return minutes


def main(words: Sequence[str] | None = None) -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "collect"])
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"of {', '.join(PRESETS)}; by default all")
    parser.add_argument("--source", type=Path, default=SOURCE)
    options = parser.parse_args(words)
    try:
        if options.what == "collect":
            write_json(RESULTS, collect())
            return
        if not options.source.exists():
            raise DataError(f"{options.source} is not there: Feedback-ELL with its traits. Put it there.")
        for draw in DRAWS:
            for preset in options.presets or PRESETS:
                run(preset, draw, options.source)
    except AesDynlossError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
