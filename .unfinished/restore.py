"""Put a grid's runs from here into its folder, with the human scores of one's own copy of ASAP."""

import shutil
import sys
from pathlib import Path

import pandas as pd

HUMAN = ["reference", "rater1", "rater2"]
grid, folder = sys.argv[1], Path(sys.argv[2])
asap = pd.read_parquet("data/asap/asap_aes.parquet")
asap["essay_id"] = asap["essay_id"].astype(str)
human = (
    asap.set_index("essay_id")[["domain1_score", "rater1_domain1", "rater2_domain1"]]
    .set_axis(HUMAN, axis=1)
    .astype(float)
)
shutil.copytree(Path(__file__).parent / grid, folder, dirs_exist_ok=True)
for path in folder.glob("cells/*/*/*/predictions_*.csv"):
    table = pd.read_csv(path, dtype={"essay_id": str, "prompt_id": str})
    if "reference" in table:
        continue
    table = table.join(human, on="essay_id")
    table[["essay_id", "prompt_id", "reference", "raw", "score", "rater1", "rater2", "words"]].to_csv(path, index=False)
