"""A commented configuration, written from the models' own descriptions and defaults, so that it cannot go stale."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aes_dynloss.essays.finetune_config import FinetuneConfig

_WIDTH = 110
_HEADER = """\
# Configuration of `aes-dynloss finetune`. Every key but data.source may be left out; what stands here is the default.
# On the command line KEY=VALUE goes before it, such as training.epochs=3. Paths are relative to the current folder.
"""
# What a default cannot show.
_EXAMPLES = {
    "data.source": "essays.csv",
    "data.prompts": '\n# Such as: {"1": {low: 2, high: 12}, "2": {low: 1, high: 6}}',
    "loss.terms": "\n# Such as Morris's: {stde: {schedule: morris, a: 1.0, b: 0.15, c: 1.1}, mse: rest}"
    "\n# Schedules: constant (value), morris (a, b, c), linear (start, end), cosine (start, end).",
    "teacher": "\n# Such as: {kind: dlf, episodes: 20, learning_rate: 0.05, hypergradient: {estimator: exact}}"
    "\n# A teacher that learns needs data.split.teacher_dev_fraction. Keys of its kinds: see `teacher` in the README.",
}


def config_template() -> str:
    """The text of a configuration file with every key, its meaning and its default."""
    return _HEADER + "".join(_lines(FinetuneConfig, "", ""))


def _lines(model: type[BaseModel], path: str, indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        comment = (field.description or "") + (_EXAMPLES.get(key, "") if key != "data.source" else "")
        inner = _inner_model(field)
        if not indent:
            yield "\n"
        for paragraph in comment.split("\n"):
            words = paragraph.removeprefix("# ")
            for line in textwrap.wrap(words, _WIDTH - len(indent)):
                yield f"{indent}# {line}\n"
        if inner is not None:
            yield f"{indent}{name}:\n"
            yield from _lines(inner, f"{key}.", indent + "  ")
        elif field.is_required():
            yield f"{indent}{name}: {_EXAMPLES[key]}\n"
        else:
            yield f"{indent}{name}: {json.dumps(field.get_default(call_default_factory=False))}\n"


def _inner_model(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
