from __future__ import annotations

import pickle
import random

import pytest
import torch
from toy_student import ToyStudent

from aes_dynloss.errors import CheckpointError
from aes_dynloss.training.run_state import load_trained_state, read_checkpoint, trained_state, write_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


def test_what_is_written_is_read_back(path):
    content = {"weights": {"a": torch.arange(3.0)}, "steps": 7, "pair": (1.5, None)}
    write_checkpoint(path, content)
    found = read_checkpoint(path)
    assert torch.equal(found["weights"]["a"], torch.arange(3.0))
    assert (found["steps"], found["pair"]) == (7, (1.5, None))
    assert [each.name for each in path.parent.iterdir()] == ["checkpoint.pt"]


def test_an_interrupted_write_leaves_the_checkpoint_before_it(path):
    write_checkpoint(path, {"steps": 1})
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        write_checkpoint(path, {"steps": 2, "cannot be saved": lambda: None})
    assert read_checkpoint(path)["steps"] == 1


def test_frozen_weights_are_left_out(path):
    student = ToyStudent()
    student.lower.weight.requires_grad_(False)
    state = trained_state(student)
    assert "lower.weight" not in state
    assert {"lower.bias", "centres"} <= state.keys()
    with torch.no_grad():
        student.head.bias.add_(1.0)
    assert not torch.equal(state["head.bias"], student.head.bias)
    load_trained_state(student, state)
    assert torch.equal(state["head.bias"], student.head.bias)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("head.bias"),
        lambda state: state.update(extra=torch.zeros(1)),
        lambda state: state.update({"head.bias": torch.zeros(9)}),
    ],
)
def test_the_state_of_another_student(spoil):
    state = trained_state(ToyStudent())
    spoil(state)
    with pytest.raises(
        CheckpointError, match=r"belongs to another student: 1 weights do not fit, such as (extra|head)"
    ):
        load_trained_state(ToyStudent(), state)


def test_damage(path):
    """Cut at any length, or with any byte changed, it is refused or gives what was written."""
    write_checkpoint(path, {"weights": torch.arange(50.0)})
    whole = path.read_bytes()
    generator = random.Random(0)
    lengths = [0, 1, 30, len(whole) - 1, *(generator.randrange(len(whole)) for _ in range(40))]
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"checkpoint.pt is no readable checkpoint \(.+\)\. Remove it"):
            read_checkpoint(path)
    refused = 0
    for _ in range(200):
        changed = bytearray(whole)
        changed[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        try:
            assert torch.equal(read_checkpoint(path)["weights"], torch.arange(50.0))
        except CheckpointError:
            refused += 1
    assert refused > 20


def test_a_changed_weight_is_seen(path):
    write_checkpoint(path, {"weights": torch.full((50,), 1.25)})
    whole = bytearray(path.read_bytes())
    place = whole.index(torch.full((50,), 1.25).numpy().tobytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="does not have its checksum"):
        read_checkpoint(path)


class Malice:
    def __reduce__(self):
        return (pytest.fail, ("something in the checkpoint was executed",))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x80\x02]q\x00.", pickle.dumps(Malice()), pickle.dumps({"format": 1})]
)
def test_files_that_are_something_else(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is no readable checkpoint"):
        read_checkpoint(path)


def test_nothing_is_executed(path):
    torch.save({"format": 1, "malice": Malice()}, path)
    with pytest.raises(CheckpointError, match="is no readable checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{"a": 1}, {"format": 0}, [1, 2], torch.zeros(3)])
def test_checkpoints_of_something_else(path, content):
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"is no checkpoint of this version. Start again with --force"):
        read_checkpoint(path)


def test_a_missing_file(path):
    with pytest.raises(CheckpointError, match=r"is no readable checkpoint .*No such file"):
        read_checkpoint(path)
