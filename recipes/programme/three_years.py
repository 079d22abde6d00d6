"""A made-up programme of three administrations, from the first plan to the dossier: is what was planted in it found?

    python recipes/programme/three_years.py -o runs/programme                      # essays of ASAP, in data/asap
    python recipes/programme/three_years.py --essays made-up -o runs/programme     # essays made by code

Exit code 1 if something that was planted is not found, or if monitors, the report on readers or `audit verify` flag
anything else. The criteria of `evaluate`, which point estimates miss by chance too, are counted and not judged. What is
planted, and who reads the essays, is in made_up.py; a real programme has essays and markers, and the same commands.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from made_up import ASAP, KEYS, READERS, REGIONS, YEARS, Programme, asap_essays, made_up_essays, tamper

from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.reports.monitor import Monitor

LAST = YEARS[-1]
# Severe readers give the lowest score oftener than others, too.
READERS_MARKED = "Ann: (severe|lowest label)|Emil: (lenient|highest label)"


def aes_dynloss(folder: Path, *words: str, show: bool = False) -> str:
    """Run a command of aes-dynloss in a folder, as in a shell, and return what it prints.

    Args:
        folder: The folder.
        words: The command's words.
        show: Whether to print that too.

    Raises:
        DataError: It failed.
    """
    say(f"$ aes-dynloss {shlex.join(words)}")
    command = [sys.executable, "-m", "aes_dynloss", "--quiet", *words]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - our own
    if done.returncode not in (0, 3):  # 3: an alarm, or a log that was changed
        raise DataError(f"aes-dynloss {words[0]} failed, see above.")
    if show:
        say(f"{done.stdout.rstrip()}\n")
    return done.stdout


def fit(folder: Path, ranges: Sequence[str]) -> None:
    """Check the scored essays, and fit the model."""
    checked = aes_dynloss(folder, "data", "check", "train.csv", *ranges, "--json")
    (folder / "data_check.json").write_text(checked, encoding="utf-8")
    aes_dynloss(folder, "finetune", "train.csv", "--preset", "fast", *ranges, "--subgroup", "region", "-o", "run")


def scores_of(year: str) -> str:
    """A year's scores: the monitor calls administrations by the names of their files."""
    return f"{year}/scores_{year}.csv"


def administer(folder: Path, year: str, programme: Programme) -> None:
    """A year: score, plan, read, take back, monitor."""
    scores, plan = scores_of(year), f"{year}/plan"
    logged = ("--audit", "audit.jsonl")
    aes_dynloss(folder, "score", "run", f"{year}/essays.csv", "--keep-columns", *logged, "-o", scores)

    readers = [f"--marker={name}" for name in READERS]
    wanted = ("--report", "run", "--half-width", "qwk=0.06", *readers, "--blind-share", "0.3")
    aes_dynloss(folder, "plan", scores, *wanted, "-o", plan, show=True)

    programme.fill_in(folder / plan)
    evaluate = ("evaluate", scores, "--adjudicated", plan, "--rule", "third", "--subgroup", "region")
    aes_dynloss(folder, *evaluate)  # writes sheets for third readings
    programme.fill_in(folder / plan)
    aes_dynloss(folder, *evaluate, *logged, "-o", f"{year}/report")
    say(f"{year}: {missed_criteria(folder / year / 'report/report.json')}.\n")

    years = YEARS[: YEARS.index(year) + 1]
    files = [scores_of(one) for one in years] + [f"--human={one}/plan/marked.csv" for one in years]
    # The first year beside training, the others beside the first year: scores of the same model, on all sides.
    beside = [] if year == YEARS[0] else ["--baseline", scores_of(YEARS[0])]
    judged = (*beside, "--subgroup", "region", "--fail-on-alarm", "-o", f"{year}/monitor")
    aes_dynloss(folder, "monitor", "run", *files, *judged, show=True)


def missed_criteria(report: Path) -> str:
    """How many criteria of a report are missed, in words."""
    verdicts = [flag["verdict"] for flag in json.loads(report.read_text(encoding="utf-8"))["flags"]]
    return f"{verdicts.count('flag')} of {len(verdicts)} criteria missed"


def compare_readers(folder: Path, ranges: Sequence[str]) -> None:
    """A report on the readers, from a row for each reading of three years beside the machine's score."""
    sheets = [
        pd.read_csv(path, dtype=str).assign(reader=path.stem.rpartition("_")[2])
        for path in sorted(folder.glob("*/plan/sheets/*.csv"))
    ]
    scores = pd.concat(pd.read_csv(folder / scores_of(year), dtype=str) for year in YEARS)
    machine = scores[[*KEYS, "raw", "score", "withheld"]]
    readings = pd.concat(sheets)[[*KEYS, "reader", "human_score"]].merge(machine, on=KEYS)
    readings.to_csv(folder / "readings.csv", index=False)
    columns = ("--rater-column", "reader", "--reference-column", "human_score")
    aes_dynloss(folder, "evaluate", "readings.csv", *columns, *ranges, "-o", "readers")


def document(folder: Path) -> None:
    """The dossier of the model, with what the last year showed, the report on readers and the log."""
    measured = ("--evaluation", f"{LAST}/report", "--readers", "readers", "--monitor", f"{LAST}/monitor")
    logged = ("--data-check", "data_check.json", "--audit", "audit.jsonl")
    aes_dynloss(folder, "dossier", "run", *measured, *logged, "-o", "dossier")


def changed_lines(folder: Path) -> list[str]:
    """What `audit verify` says of the log."""
    said = aes_dynloss(folder, "audit", "verify", "audit.jsonl", show=True)
    return [f"audit log: {fault}" for fault in re.findall(r"^Changed: (.*)\.$", said, re.MULTILINE)]


def flags(folder: Path) -> list[str]:
    """What the monitors and the report on readers flag."""
    found = []
    for year in YEARS:
        monitor = Monitor.read(folder / year / "monitor/monitor.json", "monitor", "Make it again.")
        found += [f"{year}, prompt {one.prompt}: {one.what} {one.of}".rstrip() for one in monitor.alarms]
    report = json.loads((folder / "readers/report.json").read_text(encoding="utf-8"))
    remarks = {one["rater"]: one["remarks"].split(", ") for one in report["raters"]["raters"] if one["remarks"]}
    return found + [f"{reader}: {remark}" for reader, own in remarks.items() for remark in own]


@dataclass(frozen=True)
class Planted:
    """Something that is to be found.

    Args:
        what: In words.
        needed: Flags that find it.
        explains: Regular expression of all flags that it explains.
    """

    what: str
    needed: set[str]
    explains: str


def planted(prompts: Sequence[str], line: int) -> list[Planted]:
    """All that was planted: on the first prompt, on the second, in the readers and in a line of the audit log."""
    first, second = (f"{LAST}, prompt {prompt}:" for prompt in prompts)
    apart, changed = {f"{first} score region {region}" for region in REGIONS}, f"audit log: line {line} was changed"
    return [
        # Weaker essays are shorter, too.
        Planted("regions drift apart", apart, f"{first} (score|length in words) region .*"),
        Planted("shorter essays", {f"{second} length in words"}, f"{second} length in words.*"),
        Planted("a severe and a lenient reader", {"Ann: severe", "Emil: lenient"}, READERS_MARKED),
        Planted("a line of the audit log", {changed}, changed),
    ]


def all_found(things: Sequence[Planted], found: Sequence[str]) -> bool:
    """Whether each planted thing, and nothing else, is flagged; says so."""
    fine, left = True, list(found)
    for one in things:
        own = [flag for flag in left if re.fullmatch(one.explains, flag)]
        left = [flag for flag in left if flag not in own]
        missing = sorted(one.needed - set(own))
        fine &= not missing
        say(f"Planted: {one.what}. {'NOT FOUND: ' + '; '.join(missing) if missing else 'Found: ' + '; '.join(own)}.")
    say(f"Flagged by monitors, readers' report or log, and not planted: {'; '.join(left) or 'nothing'}.")
    return fine and not left


def three_years(folder: Path, programme: Programme) -> bool:
    """The whole programme; whether what was planted, and nothing else, was found."""
    programme.write_essays(folder)
    ranges = [f"--range={prompt}={low}:{high}" for prompt, (low, high) in programme.spans.items()]
    fit(folder, ranges)
    for year in YEARS:
        administer(folder, year, programme)
    compare_readers(folder, ranges)
    document(folder)
    before = changed_lines(folder)
    line = tamper(folder / "audit.jsonl")
    return all_found(planted(list(programme.spans), line), [*flags(folder), *before, *changed_lines(folder)])


def say(words: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main(words: Sequence[str] | None = None) -> int:
    """From the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output-dir", type=Path, required=True, help="a new folder, for everything")
    parser.add_argument("--essays", choices=["asap", "made-up"], default="asap")
    options = parser.parse_args(words)
    if options.essays == "asap" and not ASAP.exists():
        say(f"Skipped: {ASAP} is not there. Without it there is --essays made-up.")
        return 0
    random = np.random.default_rng(0)
    try:
        if options.output_dir.exists():
            raise DataError(f"{options.output_dir} is there already. Choose another -o.")
        options.output_dir.mkdir(parents=True)
        source = asap_essays() if options.essays == "asap" else made_up_essays(random)
        return 0 if three_years(options.output_dir, Programme(source, random)) else 1
    except AesDynlossError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
