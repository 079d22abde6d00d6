from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from aes_dynloss.errors import CheckpointError, ConfigError
from aes_dynloss.teaching.losses.loss_spec import BilinearSpec, MetaWeightSpec, MixtureSpec, NetworkSpec
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher, TaughtPolicy
from aes_dynloss.teaching.teachers.dln import build_coordinate_teacher
from aes_dynloss.training.teacher_folder import (
    TEACHER_CONFIG,
    TEACHER_WEIGHTS,
    SavedControl,
    read_teacher,
    write_teacher,
)

CPU = torch.device("cpu")
STATES = [StudentState(0.0), StudentState(0.4, 0.5, 0.8), StudentState(1.0, 0.1, 0.9)]
SPECS = {
    "mixture": MixtureSpec(terms={"stde": 0.1, "mse": 1.0}, standardise=True),
    "bilinear": BilinearSpec(classes=7, floor=0.25, bins=4),
}
NETWORK = NetworkSpec(form="scores", width=4, hidden=2, plain=0.5)


def attention(spec, keys=5):
    teacher = AttentionTeacher(spec.neutral(), spec.blocks, positive=spec.positive, keys=keys, seed=1)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return teacher


def write_network(folder):
    phi = NETWORK.build().start(torch.Generator().manual_seed(0), silent=False)
    network = build_coordinate_teacher("lstm", 0).state_dict()
    write_teacher(folder, "dln", NETWORK, {"phi": phi, **{f"network.{name}": t for name, t in network.items()}})
    return phi


@pytest.fixture
def folder(tmp_path):
    spec = SPECS["mixture"]
    write_teacher(tmp_path / "teacher", "dlf", spec, attention(spec).state_dict())
    return tmp_path / "teacher"


@pytest.mark.parametrize("name", SPECS)
def test_an_attention_teacher_comes_back(tmp_path, name):
    spec, teacher = SPECS[name], attention(SPECS[name])
    write_teacher(tmp_path / "a" / "teacher", "dlf", spec, teacher.state_dict())
    found, policy = read_teacher(tmp_path / "a" / "teacher", CPU)
    assert found == spec
    assert list(found.model_dump().items()) == list(spec.model_dump().items())
    for state in STATES:
        assert torch.equal(policy.coefficients(state), TaughtPolicy(teacher).coefficients(state))
    assert not torch.equal(policy.coefficients(STATES[0]), policy.coefficients(STATES[2]))
    assert {path.name for path in (tmp_path / "a" / "teacher").iterdir()} == {TEACHER_CONFIG, TEACHER_WEIGHTS}


def test_stretches_come_back(tmp_path):
    """A teacher of before they could be set has none."""
    spec, teacher = SPECS["mixture"], attention(SPECS["mixture"])
    write_teacher(tmp_path, "dlf", spec, teacher.state_dict(), pieces=2)
    steps = [StudentState(progress, 0.5, 0.8) for progress in (0.0, 0.4, 0.5, 0.9)]
    expected = [TaughtPolicy(teacher).coefficients(steps[start]) for start in (0, 0, 2, 2)]
    _, policy = read_teacher(tmp_path, CPU)
    for _ in range(2):  # asked again, as for a plot
        assert all(torch.equal(policy.coefficients(one), other) for one, other in zip(steps, expected, strict=True))
    saved = json.loads((tmp_path / TEACHER_CONFIG).read_text())
    assert saved.pop("pieces") == 2
    (tmp_path / TEACHER_CONFIG).write_text(json.dumps(saved))
    _, policy = read_teacher(tmp_path, CPU)
    assert torch.equal(policy.coefficients(steps[1]), TaughtPolicy(teacher).coefficients(steps[1]))


@pytest.mark.parametrize("kind", ["frozen_mean", "random"])
@pytest.mark.parametrize("pieces", [None, 2])
def test_a_control_comes_back_in_its_teachers_place(tmp_path, kind, pieces):
    spec, control = SPECS["mixture"], SavedControl(kind=kind, seed=3)
    outputs = attention(spec)(torch.stack([state.as_tensor() for state in STATES])).detach()
    write_teacher(tmp_path, "dlf", spec, {"coefficients": outputs}, pieces=pieces, control=control)
    found, policy = read_teacher(tmp_path, CPU)
    assert found == spec
    given = [policy.coefficients(state) for state in STATES]
    expected = [
        control.policy(spec, outputs).coefficients(STATES[0 if pieces and row < 2 else row]) for row in range(3)
    ]
    assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))
    assert len(torch.stack(given).unique(dim=0)) == (1 if kind == "frozen_mean" else pieces or 3)


def test_a_loss_network_comes_back(tmp_path):
    phi = write_network(tmp_path)
    found, policy = read_teacher(tmp_path, CPU)
    assert found == NETWORK
    for state in STATES:
        assert torch.equal(policy.coefficients(state), phi)


def test_a_weighting_network_comes_back(tmp_path):
    spec = MetaWeightSpec(terms={"mse": 1.0, "huber": 0.5}, standardise=True, width=4)
    theta = spec.build().start(torch.Generator().manual_seed(0))
    write_teacher(tmp_path, "mwn", spec, {"phi": theta})
    assert json.loads((tmp_path / TEACHER_CONFIG).read_text())["kind"] == "mwn"
    found, policy = read_teacher(tmp_path, CPU)
    assert found == spec
    for state in STATES:
        assert torch.equal(policy.coefficients(state), theta)


def test_the_order_of_a_mixture_is_kept(folder):
    """The weights are told apart by their places alone."""
    found, _ = read_teacher(folder, CPU)
    assert list(found.terms) == ["stde", "mse"]
    assert found.build().coefficient_names == ("stde", "mse")


def test_weights_with_a_graph_or_in_pieces_are_written(tmp_path):
    teacher = attention(SPECS["bilinear"])
    views = {name: parameter.mT.contiguous().mT for name, parameter in teacher.named_parameters()}
    write_teacher(tmp_path, "dlf", SPECS["bilinear"], views)
    _, policy = read_teacher(tmp_path, CPU)
    assert torch.equal(policy.coefficients(STATES[1]), TaughtPolicy(teacher).coefficients(STATES[1]))


def test_a_teacher_replaces_one(folder):
    phi = write_network(folder)
    assert torch.equal(read_teacher(folder, CPU)[1].coefficients(STATES[0]), phi)


def test_no_teacher_there(tmp_path, folder):
    for place in (tmp_path / "none", tmp_path, folder / TEACHER_CONFIG):
        with pytest.raises(
            ConfigError, match=r"teacher\.from: .* holds no teacher\.json\. Name the folder teacher/ of"
        ):
            read_teacher(place, CPU)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "keys"), ("{", "YAML|JSON|line"), ("[1]", "keys"), ("{}", "kind: this key is required")],
)
def test_damaged_json(folder, text, words):
    (folder / TEACHER_CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match=rf"(?s)The teacher in .* cannot be read: .*({words}).*Copy the folder"):
        read_teacher(folder, CPU)


def edit(folder, **values):
    saved = json.loads((folder / TEACHER_CONFIG).read_text())
    (folder / TEACHER_CONFIG).write_text(json.dumps(saved | values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": "aes_dynloss.model"}, r"format: input should be 'aes_dynloss\.teacher'"),
        ({"version": 2}, "version: input should be 1"),
        ({"kind": "dnl"}, "kind: "),
        ({"loss": {"family": "mixture", "terms": {"mes": 1.0}}}, "there is no loss 'mes'"),
        ({"loss": {"family": "matrix"}}, "loss"),
        ({"loss": {"family": "mixture", "terms": {}}}, "at least 1"),
        ({"pieces": 0}, "pieces: "),
        ({"more": 1}, "more: there is no such key"),
        # What fits the format but not the weights.
        ({"loss": {"family": "mixture", "terms": {"mse": 1.0}}}, "size mismatch for values"),
        ({"loss": NETWORK.model_dump()}, "phi"),
        ({"control": {"kind": "random", "seed": 0}}, "coefficients"),
    ],
)
def test_edited_json(folder, values, words):
    edit(folder, **values)
    with pytest.raises(
        CheckpointError, match=rf"(?s)The teacher in .* cannot be read: .*{words}.*Copy the folder again"
    ):
        read_teacher(folder, CPU)


@pytest.mark.parametrize("place", [0, 8, -1, -100])
def test_a_changed_byte(folder, place):
    content = bytearray((folder / TEACHER_WEIGHTS).read_bytes())
    content[place] ^= 1
    (folder / TEACHER_WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"teacher\.safetensors is not the file that was written\. Copy the"):
        read_teacher(folder, CPU)


def test_weights_that_are_gone_or_of_another_teacher(folder, tmp_path):
    write_network(tmp_path / "other")
    (folder / TEACHER_WEIGHTS).write_bytes((tmp_path / "other" / TEACHER_WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError, match="is not the file that was written"):
        read_teacher(folder, CPU)
    (folder / TEACHER_WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"The teacher in .* cannot be read: .*No such file"):
        read_teacher(folder, CPU)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"values": torch.zeros(2, 5)}, "'keys'"),
        ({"keys": torch.zeros(1, 5, 3)}, "Missing key"),
        ({"keys": torch.zeros(1), "values": torch.zeros(2, 5)}, "out of range"),
        (None, "header"),
    ],
)
def test_weights_that_are_none_of_a_teachers(folder, weights, words):
    """With a digest that fits, as whoever writes such a file by hand would give it."""
    if weights is None:
        (folder / TEACHER_WEIGHTS).write_bytes(b"no weights")
    else:
        save_file(weights, folder / TEACHER_WEIGHTS)
    edit(folder, sha256=hashlib.sha256((folder / TEACHER_WEIGHTS).read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match=rf"(?s)The teacher in .* cannot be read: .*{words}.*Copy the folder"):
        read_teacher(folder, CPU)
