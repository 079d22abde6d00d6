"""A screen as arrays: the same again from them, nothing readable in them, and no damage taken for a screen."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_screen import SHARED, TOPICS, made_up_essays, small_screen

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.screening.screen import Screen

Arrays = dict[str, np.ndarray]


def test_round_trip() -> None:
    texts, prompts = made_up_essays(30, seed=2)
    texts[:3] = ["", "qwe rty uio pas dfg", texts[-1]]
    arrays = small_screen().to_arrays()
    again = Screen.from_arrays(arrays)
    assert again.examine(texts, prompts) == small_screen().examine(texts, prompts)
    assert again.prompts == small_screen().prompts
    for name, array in again.to_arrays().items():
        np.testing.assert_array_equal(array, arrays[name])
    assert all(array.dtype.kind in "uf" for array in arrays.values())


def test_no_word_is_readable_and_little_is_stored() -> None:
    arrays = small_screen().to_arrays()
    stored = pickle.dumps(arrays)
    for word in [*SHARED, *TOPICS["bridge"], *TOPICS["phones"]]:
        if len(word) >= 5:  # Shorter ones may come about by chance.
            assert word.encode() not in stored or word in json.dumps(small_screen().prompts)
    assert sum(array.nbytes for array in arrays.values()) < 500_000


def described(arrays: Arrays, **changes: Any) -> Arrays:
    values = json.loads(arrays["description"].tobytes()) | changes
    return arrays | {"description": np.frombuffer(json.dumps(values).encode(), dtype=np.uint8)}


def filled(arrays: Arrays, name: str, value: float) -> Arrays:
    changed = arrays[name].copy()
    changed.flat[0] = value
    return arrays | {name: changed}


DAMAGES: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "one missing": (lambda arrays: {name: array for name, array in arrays.items() if name != "runs"}, "'runs'"),
    "one too many": (lambda arrays: arrays | {"more": np.zeros(1)}, "'more'"),
    "other type": (lambda arrays: arrays | {"pairs": arrays["pairs"].astype(np.int16)}, "pairs .* must be uint8"),
    "objects": (lambda arrays: arrays | {"weights": arrays["weights"].astype(object)}, "must be float16, found object"),
    "thresholds of other prompts": (lambda arrays: arrays | {"thresholds": arrays["thresholds"][1:]}, "shape"),
    "weights of other prompts": (lambda arrays: arrays | {"weights": arrays["weights"][:, :1]}, "weights .* shape"),
    "fewer weights": (lambda arrays: arrays | {"weights": arrays["weights"][:-1]}, "weights .* shape"),
    "averages of other prompts": (lambda arrays: arrays | {"averages": arrays["averages"][:1]}, "averages .* shape"),
    "half a table": (lambda arrays: arrays | {"pairs": arrays["pairs"][:-7]}, "pairs .* power of 2"),
    "an empty table": (lambda arrays: arrays | {"foreign": arrays["foreign"][:0]}, "foreign .* power of 2"),
    "a square table": (lambda arrays: arrays | {"runs": arrays["runs"].reshape(2, -1)}, "runs .* power of 2"),
    "infinite threshold": (lambda arrays: filled(arrays, "thresholds", np.inf), "threshold .* infinite"),
    "no average": (lambda arrays: filled(arrays, "averages", np.nan), "average .* not finite"),
    "a weight that is none": (lambda arrays: filled(arrays, "weights", np.nan), "weight .* outside"),
    "a huge weight": (lambda arrays: filled(arrays, "weights", 100), "weight .* outside"),
    "no JSON": (lambda arrays: arrays | {"description": arrays["description"][1:]}, "not JSON"),
    "no text": (lambda arrays: filled(arrays, "description", 255), "not JSON"),
    "a matrix of JSON": (lambda arrays: arrays | {"description": arrays["description"][None]}, "cannot be one"),
    "much JSON": (lambda arrays: arrays | {"description": np.zeros(1 << 21, dtype=np.uint8)}, "cannot be one"),
    "another format": (lambda arrays: described(arrays, format=2), "format 1"),
    "no prompts": (lambda arrays: described(arrays, prompts=[]), "from 1 to 64 prompts"),
    "numbers for prompts": (lambda arrays: described(arrays, prompts=[1, 2]), "from 1 to 64 prompts"),
    "a prompt twice": (lambda arrays: described(arrays, prompts=["a", "a"]), "from 1 to 64 prompts"),
    "text for prompts": (lambda arrays: described(arrays, prompts="ab"), "from 1 to 64 prompts"),
    "more prompts": (lambda arrays: described(arrays, prompts=["a", "b", "c"]), "shape"),
    "an unknown alphabet": (lambda arrays: described(arrays, home=["Klingon"]), "alphabet"),
    "a share above 1": (lambda arrays: described(arrays, average=1.5), "from 0 to 1"),
    "a share of truth": (lambda arrays: described(arrays, average=True), "from 0 to 1"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused(name: str) -> None:
    damage, words = DAMAGES[name]
    with pytest.raises(CheckpointError, match=words):
        Screen.from_arrays(damage(small_screen().to_arrays()))


def test_list_as_description_is_refused() -> None:
    arrays = small_screen().to_arrays() | {"description": np.frombuffer(b"[1]", dtype=np.uint8)}
    with pytest.raises(CheckpointError, match="format 1"):
        Screen.from_arrays(arrays)
