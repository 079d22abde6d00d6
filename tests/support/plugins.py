"""Plugins as a user has them: an installed distribution with entry points, or a module alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aes_dynloss.parts import Parts

# A plugin's first line says that it is one, so that the fixture `own_parts` takes it out of sys.modules again.
HEAD = "PLUGIN = True\n"
LOSS = (
    HEAD
    + """
import torch
from aes_dynloss import register_loss

@register_loss("log_cosh")
def log_cosh(elements):
    '''ln cosh of the error.'''
    return torch.log(torch.cosh(elements.scores - elements.targets))
"""
)
SCHEDULE = (
    HEAD
    + """
from aes_dynloss import register_schedule

@register_schedule("sawtooth")
def sawtooth(progress: float, *, teeth: int = 4) -> float:
    '''Rises from 0 to 1, again and again.'''
    return progress * teeth % 1.0
"""
)
TEACHER = (
    HEAD
    + """
import torch
from aes_dynloss import RewritingConfig, RewritingTeacher, register_teacher

class Multiplied(RewritingTeacher):
    def __init__(self, weights, rate):
        super().__init__(weights)
        self.rate = rate

    def rewritten(self, hypergradient):
        return self.phi * torch.exp(-self.rate * hypergradient)

@register_teacher("exponentiated")
class Exponentiated(RewritingConfig):
    '''Weights that are multiplied by exp(-rate G).'''

    rate: float = 0.5

    def build(self, weights):
        return Multiplied(weights, self.rate)
"""
)
POLICY = (
    HEAD
    + """
from aes_dynloss import PolicyConfig, register_teacher

class Fading:
    def __init__(self, weights):
        self.weights = weights

    def coefficients(self, state):
        return self.weights * (0.5 + 0.5 * state.train_error)

@register_teacher("fading")
class FadingConfig(PolicyConfig):
    '''Weights that fall with the training error.'''

    def build(self, weights):
        return Fading(weights)
"""
)
FEATURE = (
    HEAD
    + """
from aes_dynloss import register_feature

@register_feature("hedges", unit="per 100 words", language="en")
def hedges(text):
    '''Words that take a claim back.'''
    words = text.lower().split()
    rate = 100 / max(len(words), 1)
    return {"may": rate * words.count("may"), "can": rate * words.count("can")}
"""
)


def all_parts() -> list[Parts]:
    """What can be registered from outside."""
    from aes_dynloss.essays.features.linguistic import GROUPS
    from aes_dynloss.teaching.losses.component_table import COMPONENTS
    from aes_dynloss.teaching.policies import SCHEDULES
    from aes_dynloss.teaching.teachers.config import TEACHERS

    return [COMPONENTS, SCHEDULES, TEACHERS, GROUPS]


def install(
    folder: Path,
    modules: Mapping[str, str],
    entry_points: Mapping[str, Mapping[str, str]],
    *,
    name: str = "tiny-parts",
    version: str = "0.1.0",
) -> Path:
    """A distribution as pip installs it into a folder, which the caller puts on the path of modules.

    Args:
        folder: Where to.
        modules: Text of its modules by name.
        entry_points: By kind of part: what each name points to.
        name: Of the distribution.
        version: Its version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
    write_info(folder, {f"aes_dynloss.{kind}": named for kind, named in entry_points.items()}, name, version)
    return folder


def write_info(folder: Path, entry_points: Mapping[str, Mapping[str, str]], name: str, version: str) -> None:
    """What pip writes beside a distribution's modules: its name, version and entry points by group."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = []
    for group, named in entry_points.items():
        lines += [f"[{group}]", *(f"{part} = {value}" for part, value in named.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
