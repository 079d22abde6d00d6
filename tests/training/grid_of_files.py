"""A grid whose runs write a few files instead of training: steps.txt grows by a line a step, done.json ends a run.

As a script it runs the grid in a folder, as one of some processes that begin together:
``python grid_of_files.py FOLDER SECONDS_A_STEP PROCESSES``.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from aes_dynloss.configfile import ConfigModel, dump_yaml
from aes_dynloss.errors import TrainingError
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.grid import Cell, run_in_turn
from aes_dynloss.training.run_folder import CONFIG

STEPS = 3


class FileConfig(ConfigModel):
    start: Path | None = None
    fails: bool = False
    training: TrainingConfig = Field(default=TrainingConfig(device="cpu"))


@dataclass(frozen=True)
class FileCell(Cell):
    LAST_FILE = "done.json"

    config: FileConfig
    pause: float = 0.0

    def run(self, *, resume: bool) -> None:
        """Write the process's number for each step that is still to be made."""
        self.work.mkdir(parents=True, exist_ok=True)
        if not resume:
            (self.work / "steps.txt").unlink(missing_ok=True)
            (self.work / CONFIG).write_text(dump_yaml(self.config.model_dump(mode="json")))
        if self.config.fails:
            raise TrainingError("the loss ran away")
        with (self.work / "steps.txt").open("a") as steps:
            for _ in range(len(self.steps), STEPS):
                time.sleep(self.pause)
                steps.write(f"{os.getpid()}\n")
                steps.flush()
        (self.work / self.LAST_FILE).write_text("{}")

    @property
    def steps(self) -> list[str]:
        """The processes that made the steps so far."""
        path = self.work / "steps.txt"
        return path.read_text().split() if path.exists() else []


def file_cells(root: Path, count: int = 3, pause: float = 0.0, **settings: object) -> list[FileCell]:
    """Runs a, b, ..., and a run that starts from the first of them."""
    config = FileConfig.model_validate(settings)
    cells = [FileCell(root, Path(name), config, {}, pause) for name in "abcdefgh"[:count]]
    after = config.model_copy(update={"start": root / "a"})
    return [*cells, FileCell(root, Path("after", "a"), after, {"start": Path("a")}, pause)]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / f"process_{os.getpid()}").touch()
    while len(list(folder.glob("process_*"))) < int(sys.argv[3]):
        time.sleep(0.01)
    run_in_turn(file_cells(folder, pause=float(sys.argv[2])))
