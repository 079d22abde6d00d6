"""Requests that are refused: the status, one sentence, and no word of an essay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

_EXPECTED = {
    "string_type": "must be text in quotes",
    "string_unicode": "holds half a surrogate pair, which is no character",
    "list_type": "must be a list in square brackets",
    "model_type": "must be an object in curly brackets",
    "model_attributes_type": "must be an object in curly brackets",
    "dict_type": "must be an object in curly brackets",
    "too_short": "must hold one essay or more",
    "missing": "is missing",
}
_LONGEST_NAME = 60


class RefusalError(Exception):
    """A request that is not answered as it asks.

    Args:
        status: HTTP status, 400 or above.
        sentence: For the client, without a word of any essay.
        headers: Further headers of the response.
        unread: Whether the request's body was not read to its end, so that its connection cannot go on.
    """

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None, *, unread: bool = False
    ) -> None:
        super().__init__(f"{status}")
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})
        self.unread = unread


def body_refusal(error: ValidationError) -> RefusalError:
    """The refusal of a body that is no JSON, 400, or not what is expected, 422.

    Args:
        error: What pydantic found; its first fault is told.
    """
    faults = error.errors(include_url=False, include_input=False)
    first = faults[0]
    if first["type"] == "json_invalid":
        return RefusalError(400, f"The body is not valid JSON: {first['ctx']['error']}.")
    place = place_words(first["loc"])
    if first["type"] == "extra_forbidden":
        words = "is no key that is known here"
    else:
        words = _EXPECTED.get(first["type"], "is not as expected")
    more = "" if len(faults) == 1 else f" (and {len(faults) - 1} more faults)"
    return RefusalError(422, f"{place} {words}{more}.")


def place_words(location: Sequence[Any]) -> str:
    """A place in a body, such as ``essays[0].text``."""
    words = ""
    for part in location:
        words += f"[{part}]" if isinstance(part, int) else f".{shortened(str(part))}"
    return words.removeprefix(".") or "The body"


def shortened(name: str) -> str:
    """A name that a client chose, of bearable length."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
