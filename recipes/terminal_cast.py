"""Run the first commands of a user on bundled essays, and draw what the terminal showed, line by line, as an svg.

    python recipes/terminal_cast.py [recipes/essays/first_hour.svg]

Commands run for real, in a temporary folder, on the made-up essays that come with the package, as a csv. Progress and
details are left out, long lines are cut. Each line appears when its turn comes; who wants no motion sees all at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import pandas as pd

from aes_dynloss.essays.samples import ESSAYS

OUTPUT = Path(__file__).parent / "essays" / "first_hour.svg"
COMMANDS = (
    "aes-dynloss finetune essays.csv -o run",
    "aes-dynloss score run/model new_essays.csv -o scores.csv",
    "aes-dynloss evaluate scores.csv --references human.csv --range phones=1:6 --range river=0:4",
)
COLUMNS, LINE, CHARACTER, MARGIN = 118, 18, 7.83, 16
SECONDS_A_LINE, PAUSE = 0.12, 1.2
STAMP = re.compile(r"^[\d-]{10} [\d:]{8} ")  # a terminal shows none
LEFT_OUT = re.compile(r"Encoded essays|encode essays|score essays|cross-fit: |Share of|Prompt \w+: \d+ essays, penalty")
HELD_OUT = 5  # each fifth essay is new to the scorer


def write_tables(folder: Path) -> None:
    """A csv to learn from, one without scores, and the human scores of the latter."""
    essays = pd.read_json(ESSAYS, lines=True, dtype={"essay_id": str, "prompt_id": str})
    new = essays.index % HELD_OUT == 0
    essays[~new].to_csv(folder / "essays.csv", index=False)
    essays[new].drop(columns="score").to_csv(folder / "new_essays.csv", index=False)
    human = essays[new][["essay_id", "prompt_id", "score"]].rename(columns={"score": "reference"})
    human.to_csv(folder / "human.csv", index=False)


def shown(command: str, folder: Path) -> list[str]:
    """The lines that a command leaves in a terminal of COLUMNS.

    Raises:
        subprocess.CalledProcessError: It fails.
    """
    calm = {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": str(COLUMNS)}
    words = [sys.executable, "-m", "aes_dynloss", *command.split()[1:]]
    run = subprocess.run(words, cwd=folder, env=os.environ | calm, text=True, capture_output=True, check=True)  # noqa: S603
    lines = [STAMP.sub("", line) for line in (run.stderr + run.stdout).splitlines() if line.strip()]
    told = [line for line in lines if not LEFT_OUT.match(line)]
    return [line if len(line) <= COLUMNS else f"{line[: COLUMNS - 3]}..." for line in told]


def cast(sessions: list[tuple[str, list[str]]]) -> str:
    """An svg of commands and what they showed."""
    rows, begin, height = [], 0.0, MARGIN + LINE
    for command, lines in sessions:
        for text, kind in [(f"$ {command}", "command"), *((line, "said") for line in lines)]:
            rows.append(
                f'<text class="{kind}" x="{MARGIN}" y="{height}" style="animation-delay:{begin:.2f}s" '
                f'xml:space="preserve">{escape(text)}</text>'
            )
            begin += PAUSE if kind == "command" else SECONDS_A_LINE
            height += LINE
        height += LINE // 2
    width = round(2 * MARGIN + COLUMNS * CHARACTER)
    style = (
        "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d8dee9;animation:show .2s both}"
        ".command{fill:#a3d9a5;font-weight:bold}@keyframes show{from{opacity:0}to{opacity:1}}"
        "@media(prefers-reduced-motion:reduce){text{animation:none}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="A terminal: {escape("; ".join(command for command, _ in sessions), quote=True)}">'
        f'<style>{style}</style><rect width="100%" height="100%" rx="8" fill="#20242c"/>\n'
        + "\n".join(rows)
        + "\n</svg>\n"
    )


def main() -> None:
    """Write the picture."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    with tempfile.TemporaryDirectory() as name:
        write_tables(Path(name))
        sessions = [(command, shown(command, Path(name))) for command in COMMANDS]
    path.write_text(cast(sessions), encoding="utf-8")


if __name__ == "__main__":
    main()
