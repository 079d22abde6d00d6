"""RSMTool's answers for tests whose own environment cannot hold it, as it needs numpy < 2.

Run as a script by a Python that has RSMTool: each line on stdin is a question ``{"call": "utils.prmse.prmse_true",
"arguments": [...], "options": {...}}``, each line on stdout its answer, ``{"value": ...}`` or ``{"fault": traceback}``.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
import warnings

import numpy as np
import pandas as pd


def encode(value):
    """A value as JSON: arrays, series, tables and RSMTool's containers of tables keep their kind."""
    if isinstance(value, pd.DataFrame):
        columns = {str(name): encode(value[name].tolist()) for name in value.columns}
        return {"table": columns, "index": encode(value.index.tolist())}
    if isinstance(value, pd.Series):
        return {"series": encode(value.tolist()), "index": encode(value.index.tolist())}
    if isinstance(value, np.ndarray):
        return {"array": encode(value.tolist())}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [encode(part) for part in value]
    if hasattr(value, "get_frame"):
        return {"tables": {name: encode(value[name]) for name in value.keys()}}  # noqa: SIM118 (no mapping)
    return value if value is None or isinstance(value, bool | int | float | str) else {"other": str(type(value))}


def decode(value):
    """What ``encode`` was given."""
    if isinstance(value, list):
        return [decode(part) for part in value]
    if not isinstance(value, dict) or "other" in value:
        return value
    if "table" in value:
        return pd.DataFrame({name: decode(cells) for name, cells in value["table"].items()}, index=value["index"])
    if "series" in value:
        return pd.Series(decode(value["series"]), index=value["index"])
    if "tables" in value:
        return {name: decode(table) for name, table in value["tables"].items()}
    return np.array(value["array"])


def found(name):
    """A function of RSMTool, or a method of a new object of one of its classes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            place = importlib.import_module(".".join(["rsmtool", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            place = getattr(place() if isinstance(place, type) else place, part)
        return place
    raise ModuleNotFoundError(f"RSMTool has no module for {name}.")


def answer(question):
    """The answer to one question."""
    try:
        function = found(question["call"])
        options = {name: decode(value) for name, value in question["options"].items()}
        return {"value": encode(function(*decode(question["arguments"]), **options))}
    except Exception:
        return {"fault": traceback.format_exc()}


def main():
    """Answer until stdin ends; what RSMTool itself prints goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")  # of what RSMTool's own dependencies deprecate
    importlib.import_module("rsmtool")
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
