"""Parts from outside: who may have which name, how plugins are found, and what is said where one is not there."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import zipfile

import pytest
import torch
from facts import facts
from plugins import LOSS, SCHEDULE, install

from aes_dynloss import Elements, register_loss, register_schedule
from aes_dynloss.errors import CheckpointError, ConfigError, ShapeError, TrainingError
from aes_dynloss.parts import PLUGINS, Origin, add_plugins, recorded_origins
from aes_dynloss.teaching.losses.component_table import COMPONENTS
from aes_dynloss.teaching.policies import SCHEDULES, LossConfig

pytestmark = pytest.mark.usefixtures("own_parts")


def squared(elements):
    return (elements.scores - elements.targets) ** 2


def elements() -> Elements:
    half = torch.full((3,), 0.5)
    return Elements(torch.tensor([0.0, 0.5, 1.0]), half, torch.zeros(3, dtype=torch.int64), centre=half, spread=half)


class TestNames:
    def test_the_packages_own_are_not_replaced(self):
        with pytest.raises(ConfigError, match=facts("already 'mse'", "losses", "aes-dynloss itself")):
            register_loss("mse")(squared)
        assert COMPONENTS["mse"].source == "squared_error"

    def test_another_functions_name_is_taken(self):
        register_loss("gold")(squared)
        with pytest.raises(ConfigError, match=facts("already 'gold'", "the module", __name__)):
            register_loss("gold")(elements)

    def test_the_same_definition_again_is_not_another(self):
        register_loss("gold")(squared)
        register_loss("gold", kinked=True)(squared)
        assert COMPONENTS["gold"].kinked

    @pytest.mark.parametrize("name", ["Gold", "2gold", "go-ld", "go ld", ""])
    def test_what_is_no_name(self, name):
        with pytest.raises(ConfigError, match=facts("small letters", repr(name))):
            register_loss(name)(squared)

    @pytest.mark.parametrize("decorator", [register_loss, register_schedule])
    def test_without_a_name(self, decorator):
        with pytest.raises(ConfigError, match=facts(decorator.__name__, "needs a name")):
            decorator(squared)

    def test_the_function_stays_what_it_is(self):
        assert register_loss("gold")(squared) is squared


class TestLoss:
    def test_an_elementwise_one_is_mixed(self):
        register_loss("gold")(squared)
        loss, _ = LossConfig(terms={"gold": 2.0, "mse": 1.0}).build()
        coefficients = torch.tensor([2.0, 1.0])
        assert loss(coefficients, elements()).tolist() == pytest.approx([0.75, 0.0, 0.75])
        assert not loss.over_batch

    def test_one_over_the_batch(self):
        register_loss("worst", over_batch=True)(lambda one: squared(one).max())
        loss, _ = LossConfig(terms={"worst": 1.0}).build()
        assert loss.over_batch
        assert float(loss(torch.ones(1), elements())) == 0.25

    @pytest.mark.parametrize(
        ("over_batch", "value", "words"),
        [
            (False, lambda one: squared(one).mean(), "returned (), expected a tensor of shape (3,)"),
            (False, lambda one: squared(one)[:, None], "returned (3, 1), expected a tensor of shape (3,)"),
            (False, lambda one: 0.5, "returned float"),
            (True, squared, "returned (3,), expected a tensor of shape ()"),
        ],
    )
    def test_another_shape_is_refused(self, over_batch, value, words):
        register_loss("gold", over_batch=over_batch)(value)
        with pytest.raises(ShapeError, match=facts("'gold'", words)):
            LossConfig(terms={"gold": 1.0}).build()[0].terms(elements())

    def test_one_that_fails_is_named(self):
        register_loss("gold")(lambda one: one.score)
        with pytest.raises(TrainingError, match=facts("'gold'", "AttributeError", "'score'", f"Mend {__name__}")) as it:
            LossConfig(terms={"gold": 1.0}).build()[0].terms(elements())
        assert isinstance(it.value.__cause__, AttributeError)

    def test_what_it_needs_is_checked(self):
        with pytest.raises(ConfigError, match=facts("needs is 'probs'", "log_probs")):
            register_loss("gold", needs="probs")

    @pytest.mark.parametrize("thing", [3, dict])
    def test_no_function(self, thing):
        with pytest.raises(ConfigError, match=facts("register_loss decorates a function", "'gold'")):
            register_loss("gold")(thing)


class TestSchedule:
    def test_keys_and_their_limits(self):
        def power(progress: float, *, exponent: float, start: float = 0.5) -> float:
            return start * progress**exponent

        register_schedule("power")(power)
        weight = LossConfig(terms={"mse": {"schedule": "power", "exponent": 2}}).terms["mse"]
        assert weight(progress=0.5) == 0.125
        assert weight.model_dump() == {"schedule": "power", "exponent": 2.0, "start": 0.5}
        with pytest.raises(ValueError, match="exponent\n  Field required"):
            LossConfig(terms={"mse": {"schedule": "power"}})

    def test_no_function_of_progress(self):
        def keys_by_place(progress: float, rate: float) -> float:
            return rate

        def without_type(progress, *, rate=1.0):
            return rate

        def nothing() -> float:
            return 1.0

        def with_a_tag(progress: float, *, schedule: str = "") -> float:
            return 1.0

        for wrong in (keys_by_place, without_type, nothing, with_a_tag):
            with pytest.raises(ConfigError, match=facts("'wrong'", "after a * its keys", "Write such as")):
                register_schedule("wrong")(wrong)
        with pytest.raises(ConfigError, match="decorates a function of progress"):
            register_schedule("wrong")(3)

    def test_what_is_no_number(self):
        register_schedule("broken")(lambda progress: progress / 0.0 if progress else float("nan"))
        weight = LossConfig(terms={"mse": {"schedule": "broken"}}).terms["mse"]
        with pytest.raises(TrainingError, match=facts("'broken'", "nan", "progress 0")):
            weight(progress=0.0)

    def test_one_that_fails_is_named(self):
        register_schedule("broken")(lambda progress: 1 / progress)
        weight = LossConfig(terms={"mse": {"schedule": "broken"}}).terms["mse"]
        with pytest.raises(TrainingError, match=facts("'broken'", "progress 0", "ZeroDivisionError", __name__)) as it:
            weight(progress=0.0)
        assert isinstance(it.value.__cause__, ZeroDivisionError)

    def test_types_that_cannot_be_read(self):
        def unknown(progress: float, *, rate: Rate) -> float:  # noqa: F821 - what it is about
            return rate

        def no_value(progress: float, *, rate: torch.nn.Module) -> float:
            return 1.0

        for function, words in ((unknown, "NameError"), (no_value, "torch.nn.modules")):
            with pytest.raises(ConfigError, match=facts("schedule 'wrong'", words, f"Mend {__name__}")):
                register_schedule("wrong")(function)
        assert "wrong" not in SCHEDULES


class TestInstalled:
    def test_loaded_when_first_needed(self, tmp_path, monkeypatch):
        modules = {"tiny_loss": LOSS, "tiny_schedule": SCHEDULE}
        points = {"losses": {"log_cosh": "tiny_loss:log_cosh"}, "schedules": {"sawtooth": "tiny_schedule:sawtooth"}}
        monkeypatch.syspath_prepend(install(tmp_path, modules, points))
        assert "log_cosh" in list(COMPONENTS)
        LossConfig(terms={"mse": {"schedule": "linear", "start": 0.0, "end": 1.0}})
        with pytest.raises(ValueError, match=facts("no loss 'log_cos'", "did you mean log_cosh?")):
            LossConfig(terms={"log_cos": 1.0})
        assert not {"tiny_loss", "tiny_schedule"} & sys.modules.keys()
        LossConfig(terms={"log_cosh": {"schedule": "sawtooth"}})
        assert {"tiny_loss", "tiny_schedule"} <= sys.modules.keys()
        assert COMPONENTS.origins(["mse", "log_cosh"]) == {
            "log_cosh": Origin(module="tiny_loss", distribution="tiny-parts", version="0.1.0")
        }

    def test_a_broken_one_is_named(self, tmp_path, monkeypatch):
        points = {"losses": {"log_cosh": "tiny_loss:log_cosh"}}
        monkeypatch.syspath_prepend(install(tmp_path, {"tiny_loss": "import no_such_module"}, points))
        for _ in range(2):
            with pytest.raises(ValueError, match=facts("tiny-parts 0.1.0", "'log_cosh'", "No module named")):
                LossConfig(terms={"log_cosh": 1.0})
        LossConfig(terms={"mse": 1.0})

    def test_one_that_does_not_register(self, tmp_path, monkeypatch):
        points = {"losses": {"gold": "tiny_loss:log_cosh"}}
        monkeypatch.syspath_prepend(install(tmp_path, {"tiny_loss": LOSS}, points))
        with pytest.raises(ConfigError, match=facts("tiny-parts 0.1.0 names 'gold'", "does not register it")):
            _ = COMPONENTS["gold"]

    def test_two_of_one_name(self, tmp_path, monkeypatch):
        points = {"losses": {"log_cosh": "tiny_loss:log_cosh"}}
        monkeypatch.syspath_prepend(install(tmp_path / "a", {"tiny_loss": LOSS}, points))
        monkeypatch.syspath_prepend(install(tmp_path / "b", {"other": LOSS}, points, name="other-parts"))
        with pytest.raises(
            ConfigError, match=facts("'log_cosh'", "tiny-parts 0.1.0", "other-parts 0.1.0", "Uninstall")
        ):
            _ = COMPONENTS["log_cosh"]

    def test_a_module_does_not_take_its_name(self, tmp_path, monkeypatch):
        points = {"losses": {"gold": "tiny_loss:gold"}}
        monkeypatch.syspath_prepend(install(tmp_path, {"tiny_loss": LOSS}, points))
        with pytest.raises(ConfigError, match=facts("already 'gold'", "tiny-parts 0.1.0")):
            register_loss("gold")(squared)


class TestPointedTo:
    def test_a_file_in_this_process_and_those_that_it_starts(self, tmp_path, monkeypatch):
        (tmp_path / "my_parts.py").write_text(LOSS, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        add_plugins(["my_parts.py"])
        assert os.environ[PLUGINS] == str(tmp_path / "my_parts.py")
        assert COMPONENTS["log_cosh"].function(elements()).shape == (3,)
        (origin,) = COMPONENTS.origins(["log_cosh"]).values()
        assert origin.module == "my_parts"
        assert len(origin.sha256) == 64

    def test_a_module_in_an_archive(self, tmp_path, monkeypatch):
        with zipfile.ZipFile(tmp_path / "parts.zip", "w") as archive:
            archive.writestr("zipped_parts.py", LOSS)
        monkeypatch.syspath_prepend(tmp_path / "parts.zip")
        add_plugins(["zipped_parts"])
        assert COMPONENTS.origin("log_cosh").sha256 == hashlib.sha256(LOSS.encode()).hexdigest()

    @pytest.mark.parametrize("file", ["<stdin>", "gone.py", None])
    def test_a_module_without_source(self, monkeypatch, file):
        register_loss("gold")(squared)
        monkeypatch.setattr(sys.modules[__name__], "__file__", file)
        assert COMPONENTS.origin("gold") == Origin(module=__name__, sha256=None)

    def test_the_environment_is_read_when_a_name_is_not_known(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "my_loss.py").write_text(LOSS, encoding="utf-8")
        (tmp_path / "my_schedule.py").write_text(SCHEDULE, encoding="utf-8")
        monkeypatch.setenv(PLUGINS, os.pathsep.join(["my_loss", str(tmp_path / "my_schedule.py")]))
        _ = COMPONENTS["mse"]
        assert "my_loss" not in sys.modules
        assert "sawtooth" in SCHEDULES
        assert "log_cosh" in COMPONENTS

    @pytest.mark.parametrize(
        ("plugin", "text", "words"),
        [
            ("gone.py", None, ["The plugin", "gone.py", "there is no file"]),
            ("no_such_module", None, ["The plugin no_such_module", "No module named"]),
            ("bad.py", "def (", ["bad.py", "SyntaxError"]),
            ("my-parts.py", "", ["my-parts.py", "no name of a module"]),
            ("json.py", "", ["json.py", "there is a module json already"]),
            ("takes.py", LOSS.replace("log_cosh", "mse"), ["takes.py", "already 'mse'"]),
        ],
    )
    def test_what_cannot_be_loaded(self, tmp_path, monkeypatch, plugin, text, words):
        if text is not None:
            (tmp_path / plugin).write_text(text, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        for _ in range(2):  # it does not count as loaded
            with pytest.raises(ConfigError, match=facts(*words)):
                add_plugins([plugin])


FORGED = {"losses": {"gold": {"module": "mine", "distribution": "\x1b[2Jpip install evil"}}}


class TestRecorded:
    def test_what_is_not_here_is_named(self, tmp_path):
        there = {"gold": Origin(module="tiny", distribution="tiny-parts", version="0.2.0")}
        with pytest.raises(CheckpointError, match=facts("'gold'", "tiny-parts 0.2.0", "Install tiny-parts")):
            COMPONENTS.check_origins(there, tmp_path)
        with pytest.raises(CheckpointError, match=facts("'gold'", "module my_parts", "--plugin", PLUGINS)):
            COMPONENTS.check_origins({"gold": Origin(module="my_parts")}, tmp_path)

    def test_what_has_changed_is_warned_of(self, tmp_path, monkeypatch, caplog):
        points = {"losses": {"log_cosh": "tiny_loss:log_cosh"}}
        monkeypatch.syspath_prepend(install(tmp_path, {"tiny_loss": LOSS}, points))
        recorded = COMPONENTS.origins(["log_cosh"])
        with caplog.at_level(logging.WARNING):
            COMPONENTS.check_origins(recorded, tmp_path)
            assert not caplog.messages
            earlier = recorded["log_cosh"].model_copy(update={"version": "0.0.9"})
            COMPONENTS.check_origins({"log_cosh": earlier}, tmp_path)
        assert "tiny-parts 0.0.9" in caplog.messages[0]
        assert "tiny-parts 0.1.0" in caplog.messages[0]

    @pytest.mark.parametrize(
        "parts", [3, {"losses": 3}, {"losses": {"gold": 3}}, {"losses": {"gold": {"modul": ""}}}, FORGED]
    )
    def test_damage(self, parts):
        with pytest.raises((CheckpointError, ConfigError), match="parts"):
            recorded_origins({"parts": parts}, "losses")
