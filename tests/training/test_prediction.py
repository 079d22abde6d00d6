from __future__ import annotations

import pytest
import torch
from toy_student import ToyExamples, ToyStudent

from aes_dynloss.training.accelerator import gather_rows
from aes_dynloss.training.prediction import CPU_TOKENS, evaluating, predict


@pytest.mark.parametrize(("tokens", "size"), [(None, None), (40, None), (None, 1), (None, 4), (1, 2)])
def test_outputs_come_in_the_order_of_the_table(accelerator, tokens, size):
    student, examples = ToyStudent(dropout=0.5), ToyExamples(23)
    found = predict(accelerator, student, examples, tokens=tokens, size=size)
    with evaluating(student):
        expected = student(examples.batch(range(23)).inputs["x"])
    torch.testing.assert_close(found, expected.clone(), rtol=1e-12, atol=1e-12)
    assert not found.is_inference()


def test_a_cpu_is_given_no_more_at_once_than_its_caches_hold(accelerator, monkeypatch):
    sent = []
    student, examples = ToyStudent(), ToyExamples(60)
    student.register_forward_pre_hook(lambda _, __, named: sent.append(len(named["x"])), with_kwargs=True)
    monkeypatch.setattr("aes_dynloss.training.prediction.CPU_TOKENS", 20)
    for tokens, most in ((32768, 20), (7, 7), (None, 600)):
        sent.clear()
        predict(accelerator, student, examples, tokens=tokens)
        assert sum(sent) == 60
        assert (len(sent) == 1) is (tokens is None)
        assert max(sent) * examples.lengths.min() <= most
    assert CPU_TOKENS < 32768


def test_the_student_goes_back_to_what_it_was_doing(accelerator):
    student = ToyStudent()
    for training in (True, False):
        student.train(training)
        predict(accelerator, student, ToyExamples(3))
        assert student.training is training


def test_also_after_an_error():
    student = ToyStudent().train()

    def interrupted():
        with evaluating(student):
            assert not student.training
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert student.training
    assert not torch.is_inference_mode_enabled()


def test_no_random_numbers_are_used_up(accelerator):
    student = ToyStudent(dropout=0.5)
    before = torch.get_rng_state()
    predict(accelerator, student, ToyExamples(9), size=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_is_shown_when_asked_for(accelerator, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    predict(accelerator, ToyStudent(), ToyExamples(9), progress="scoring")
    captured = capsys.readouterr()
    assert "scoring" in captured.err
    assert captured.out == ""


def test_gathered_rows_are_in_order_and_without_fillers(accelerator):
    index = torch.tensor([5, -1, 2, 9, -1])
    rows = torch.arange(10.0).reshape(5, 2)
    found_index, (found, marks) = gather_rows(accelerator, index, [rows, index])
    assert found_index.tolist() == marks.tolist() == [2, 5, 9]
    assert found.tolist() == [[4.0, 5.0], [0.0, 1.0], [6.0, 7.0]]
