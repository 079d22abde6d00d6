"""Essays of ASAP whose explanations are tested, and what the tests found, in one file.

python recipes/essays/explained_essays.py             # runs/explained/PROMPT.csv: test essays of fold 0
python recipes/essays/explained_essays.py collect     # results/explained.json out of runs/explained/PROMPT/check.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from aes_dynloss.configfile import read_mapping
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.sources import ids_in
from aes_dynloss.essays.explaining.check import Check, check_table
from aes_dynloss.reports.table import markdown_table
from aes_dynloss.tables.formats import write_table
from aes_dynloss.training.run_folder import write_json

HERE = Path(__file__).parent
RUNS, RESULTS = Path("runs/explained"), HERE / "results" / "explained.json"
CONFIG = HERE / "asap_explained.yaml"


def write_essays(source: str, folds: Path) -> None:
    """Write the test essays of each prompt that the recipe scores."""
    prompts = read_mapping(CONFIG)["data"]["keep_prompts"]
    table = read_essays(DataConfig(source=source, format="asap", keep_prompts=prompts))
    test = set(ids_in(folds / "fold_0" / "test_ids.txt"))
    columns = {"essay_id": table.essay_ids, "prompt_id": table.values("prompt_id"), "text": table.values("text")}
    essays = pd.DataFrame(columns)
    for prompt in prompts:
        kept = essays[(essays["prompt_id"] == prompt) & essays["essay_id"].isin(test)]
        write_table(kept, RUNS / f"{prompt}.csv")


def collect() -> None:
    """Put the tests of all prompts into one file."""
    found = [Check.read(path, "file of tests", "Run explain --check.") for path in sorted(RUNS.glob("*/check.json"))]
    prompts = {scale: prompt for check in found for scale, prompt in check.prompts.items()}
    write_json(RESULTS, Check(prompts, found[0].most, found[0].seed).to_dict())


def table(values: dict[str, object]) -> str:
    """The tests as a table in markdown."""
    return markdown_table(check_table(Check.from_dict(values)))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["write", "collect"], default="write")
    parser.add_argument("--source", default="data/asap/asap_aes.parquet")
    parser.add_argument("--folds", type=Path, default=Path("data/asap/folds"))
    options = parser.parse_args()
    if options.what == "collect":
        collect()
    else:
        write_essays(options.source, options.folds)


if __name__ == "__main__":
    main()
