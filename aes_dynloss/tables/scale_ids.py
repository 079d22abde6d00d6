"""Ids of scales: a prompt's own id, or where essays have several traits, that of the prompt and the trait together."""

from __future__ import annotations

from collections.abc import Sequence

# No trait's name holds it, so that a prompt's id may.
SEPARATOR = "/"
# The trait that is the whole of an essay, where there is one.
MAIN_TRAITS = ("score", "overall")


def scale_id(prompt_id: str, trait: str | None) -> str:
    """The id of a prompt's scale, or of that of one of its traits.

    Args:
        prompt_id: The prompt.
        trait: The trait; None where an essay has one score.

    Examples:
        >>> scale_id("3", None), scale_id("3", "content")
        ('3', '3/content')
    """
    return prompt_id if trait is None else f"{prompt_id}{SEPARATOR}{trait}"


def scales_of(prompt_id: str, traits: Sequence[str]) -> list[str]:
    """The ids of a prompt's scales.

    Args:
        prompt_id: The prompt.
        traits: Its traits; none where an essay has one score.

    Examples:
        >>> scales_of("3", []), scales_of("3", ["content", "form"])
        (['3'], ['3/content', '3/form'])
    """
    return [scale_id(prompt_id, trait) for trait in traits] or [prompt_id]


def prompt_and_trait(scale: str) -> tuple[str, str]:
    """The prompt and the trait of a scale's id, which :func:`scale_id` made of both.

    Examples:
        >>> prompt_and_trait("grade/8/content")
        ('grade/8', 'content')
    """
    prompt_id, _, trait = scale.rpartition(SEPARATOR)
    return prompt_id, trait
