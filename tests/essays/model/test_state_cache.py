"""Token states are computed once for all runs, rounded to float16 and no further, and never those of another essay."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from feature_caches import BY_TOKEN, MANY_TEXTS, TEXTS, digest_of, essays_of, flipped, model_of, parts_in, states_of
from safetensors.numpy import load_file, save_file
from tiny_scorer import random_essays, scoring_model

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.model import activations, essay_cache
from aes_dynloss.essays.model.essay_cache import essay_digest
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.model.state_cache import STATES, StateCache, stored_states

pytestmark = pytest.mark.usefixtures("several_passes")

LOWER = BY_TOKEN["lower"]


def tokens_in(essays: EssayExamples) -> int:
    return sum(len(chunk) for essay in essays.essays for chunk in essay.chunks)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def computed_states(model: ScoringModel, essays: EssayExamples) -> list[np.ndarray]:
    """As transformers gives them, essay by essay."""
    found = []
    for essay in essays.essays:
        ids = [torch.from_numpy(chunk)[None].long() for chunk in essay.chunks]
        with torch.no_grad():
            answers = [model.encoder(input_ids=chunk, output_hidden_states=True) for chunk in ids]
        frozen = model.config.frozen_layers
        states = [answer[0] if frozen == "all" else answer.hidden_states[frozen] for answer in answers]
        found.append(torch.cat(states, dim=1)[0].numpy())
    return found


def with_large_states(model: ScoringModel) -> ScoringModel:
    """Beyond float16's range, under the frozen layers and after them."""
    with torch.no_grad():
        for name in ("embeddings.LayerNorm.weight", "encoder.layer.0.output.LayerNorm.weight"):
            model.encoder.get_parameter(name).mul_(1e5)
    return model


class TestHits:
    @pytest.mark.parametrize("kind", BY_TOKEN)
    def test_a_second_run_computes_nothing(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path, tmp_path: Path, kind: str
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        first, batches = states_of(
            accelerator, model_of(encoder, cache_folder, **BY_TOKEN[kind]), essays, tmp_path / "run"
        )
        assert batches > 1
        assert not (tmp_path / "run").exists()
        second, batches = states_of(accelerator, model_of(encoder, cache_folder, **BY_TOKEN[kind]), essays)
        assert batches == 0
        assert same(second, first)
        model = model_of(encoder, None, **BY_TOKEN[kind])
        for states, exact in zip(first, computed_states(model, essays), strict=True):
            assert states.dtype == np.float16
            np.testing.assert_allclose(states, exact, rtol=2**-10, atol=1e-5)

    def test_states_are_float16_of_what_is_computed_and_no_worse(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path, exact_states: None
    ) -> None:
        """The fixture keeps float32: rounding that is what a run without the fixture keeps."""
        essays = essays_of(encoder, TEXTS)
        exact, _ = states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays)
        with mock.patch.object(activations, "stored_states", stored_states):
            rounded, _ = states_of(accelerator, model_of(encoder, cache_folder / "other", **LOWER), essays)
        assert {states.dtype for states in exact} == {np.dtype(np.float32)}
        assert same(rounded, [states.astype(np.float16) for states in exact])

    def test_in_another_order_of_another_fold_under_other_settings(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        first, _ = states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays)
        rows = np.array([4, 1, 2, 1])
        other = replace(essays.select(rows), groups=np.array([1, 0, 1, 1]), targets=np.ones(4))
        model = model_of(encoder, cache_folder, **LOWER, pooling="cls", head="ordinal", encoder_dropout=0.3)
        with torch.no_grad():  # as a run starts that goes on with another one's upper layers
            model.encoder.get_parameter("encoder.layer.1.output.dense.weight").add_(0.1)
        model.encoder.config.hidden_dropout_prob = 0.4
        found, batches = states_of(accelerator, model, other)
        assert batches == 0
        assert same(found, [first[row] for row in rows])

    def test_only_new_essays_are_computed(self, accelerator: Accelerator, encoder: Path, cache_folder: Path) -> None:
        first, _ = states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays_of(encoder, TEXTS[:3]))
        shards = set(parts_in(cache_folder))
        essays = essays_of(encoder, ["good car", *TEXTS])
        found, _ = states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays)
        assert same(found[1:4], first)
        new = set(parts_in(cache_folder)) - shards
        digests = {digest.tobytes() for path in new for digest in load_file(path)["digests"]}
        assert digests == {essay_digest(essays.essays[row].chunks) for row in (0, 4, 5)}

    def test_shards_hold_no_text_and_no_token(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays)
        tables = [load_file(path) for path in parts_in(cache_folder)]
        assert all(table.keys() == {"states", "ends", "digests"} for table in tables)
        assert sum(len(table["states"]) for table in tables) == tokens_in(essays)
        assert sum(len(table["ends"]) for table in tables) == len(TEXTS)

    def test_what_is_said_beforehand(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "aes_dynloss")
        some, every = essays_of(encoder, TEXTS[:2]), essays_of(encoder, TEXTS)
        states_of(accelerator, model_of(encoder, cache_folder, **LOWER), some)
        before = sum(path.stat().st_size for path in parts_in(cache_folder))
        states_of(accelerator, model_of(encoder, cache_folder, **LOWER), every)
        after = sum(path.stat().st_size for path in parts_in(cache_folder))
        second = [record for record in caplog.records if record.name == activations.__name__][1]
        assert second.getMessage().startswith("Encoded essays: 2 in ")
        assert second.getMessage().endswith(", 3 to compute (0.0 MB); 0.0 MB in all.")
        *_, new, whole = second.args
        width = parts_width(cache_folder)
        assert new * 1e6 == pytest.approx((tokens_in(every) - tokens_in(some)) * width * 2 + 3 * 40)
        assert whole * 1e6 == pytest.approx(before + new * 1e6)
        assert after > before + new * 1e6  # by the headers of its files


def parts_width(folder: Path) -> int:
    return int(load_file(parts_in(folder)[0])["states"].shape[1])


class TestMisses:
    @pytest.fixture
    def essays(self, encoder: Path) -> EssayExamples:
        return essays_of(encoder, TEXTS)

    @pytest.fixture
    def filled(self, accelerator: Accelerator, encoder: Path, cache_folder: Path, essays: EssayExamples) -> Path:
        states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays)
        return cache_folder

    def check_computed(self, accelerator: Accelerator, model: ScoringModel, essays: EssayExamples) -> None:
        assert states_of(accelerator, model, essays)[1] > 1
        assert len(list(Path(model.config.features_cache).glob("*.states"))) == 2

    @pytest.mark.parametrize("name", ["embeddings.LayerNorm.bias", "encoder.layer.0.output.dense.weight"])
    def test_another_frozen_weight(
        self, accelerator: Accelerator, encoder: Path, filled: Path, essays: EssayExamples, name: str
    ) -> None:
        model = model_of(encoder, filled, **LOWER)
        with torch.no_grad():
            model.encoder.get_parameter(name)[3] += 1e-3
        self.check_computed(accelerator, model, essays)

    def test_another_depth(self, accelerator: Accelerator, encoder: Path, filled: Path, essays: EssayExamples) -> None:
        self.check_computed(accelerator, model_of(encoder, filled, **BY_TOKEN["all"]), essays)

    def test_another_configuration_of_the_same_weights(
        self, accelerator: Accelerator, encoder: Path, filled: Path, essays: EssayExamples, tmp_path: Path
    ) -> None:
        other = Path(shutil.copytree(encoder, tmp_path / "other"))
        values = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(values | {"hidden_act": "relu"}))
        self.check_computed(accelerator, model_of(other, filled, **LOWER), essays)

    def test_another_precision(self, encoder: Path, filled: Path, essays: EssayExamples) -> None:
        accelerator = Accelerator(cpu=True)
        accelerator.state._mixed_precision = "bf16"
        accelerator.native_amp = True
        try:
            self.check_computed(accelerator, model_of(encoder, filled, **LOWER), essays)
        finally:
            accelerator.state._mixed_precision = "no"

    def test_other_code_of_the_encoder(
        self,
        accelerator: Accelerator,
        encoder: Path,
        filled: Path,
        essays: EssayExamples,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(essay_cache.transformers, "__version__", "999")
        self.check_computed(accelerator, model_of(encoder, filled, **LOWER), essays)


class EndedError(Exception):
    """What ends a run from without."""


def ended(run: Callable[[], object], kept: int) -> None:
    """A run that ends when some shards are kept and the next one is computed."""
    add, shards = StateCache.add, []

    def ending(cache: StateCache, values: dict[bytes, Any]) -> None:
        if len(shards) == kept:
            raise EndedError
        shards.append(add(cache, values))

    with mock.patch.object(StateCache, "add", ending), pytest.raises(EndedError):
        run()


@pytest.mark.parametrize("cached", [True, False], ids=["in a cache", "in the run's folder"])
class TestResumed:
    @pytest.fixture
    def states(
        self, accelerator: Accelerator, encoder: Path, tmp_path: Path, cached: bool
    ) -> Callable[..., tuple[list[np.ndarray], int]]:
        def run(name: str = "place") -> tuple[list[np.ndarray], int]:
            """A run, each time as if in a process of its own."""
            folder = tmp_path / name
            model = model_of(encoder, folder if cached else None, **LOWER)
            return states_of(accelerator, model, essays_of(encoder, MANY_TEXTS), Path("none") if cached else folder)

        return run

    @pytest.mark.parametrize("kept", [[1], [5], [1, 2]])
    def test_the_rest_is_computed_to_the_same_bits(
        self, states: Callable[..., tuple[list[np.ndarray], int]], tmp_path: Path, kept: list[int]
    ) -> None:
        whole, batches = states("whole")
        assert batches > 6
        for number in kept:
            ended(states, number)
        (folder,) = tmp_path.glob("place/**/*.states")
        assert len(list(folder.iterdir())) == sum(kept)
        (folder / ".abc.safetensors.123.tmp").write_bytes(b"half")
        found, rest = states()
        assert rest == batches - sum(kept)
        assert same(found, whole)
        assert {path.suffix for path in folder.iterdir()} == {".safetensors"}
        again, rest = states()
        assert rest == 0
        assert same(again, whole)

    def test_a_full_disk_loses_nothing_that_was_kept(
        self, states: Callable[..., tuple[list[np.ndarray], int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended(states, 3)
        before = {
            path: path.read_bytes() for path in tmp_path.rglob("*.safetensors") if path.parent.suffix == ".states"
        }
        with monkeypatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(essay_cache.os, "fsync", full)
            with pytest.raises(CheckpointError, match=r"cache of token states .* cannot be written: No space left on"):
                states()
        kept = {path: path.read_bytes() for path in before}
        assert kept == before
        assert states()[1] == states("whole")[1] - 3


class TestBeyondFloat16:
    @pytest.mark.parametrize("kind", BY_TOKEN)
    def test_states_are_kept_exactly_and_it_is_said(
        self,
        accelerator: Accelerator,
        encoder: Path,
        cache_folder: Path,
        caplog: pytest.LogCaptureFixture,
        kind: str,
    ) -> None:
        essays = essays_of(encoder, TEXTS[:3])
        model = with_large_states(model_of(encoder, cache_folder, **BY_TOKEN[kind]))
        if kind == "all":
            with torch.no_grad():
                model.encoder.get_parameter("encoder.layer.1.output.LayerNorm.weight").mul_(1e5)
        with caplog.at_level(logging.WARNING, "aes_dynloss"):
            found, _ = states_of(accelerator, model, essays)
        assert any("beyond float16's range: kept in float32" in record.message for record in caplog.records)
        for states, exact in zip(found, computed_states(model, essays), strict=True):
            assert np.abs(exact).max() > 65_504
            assert states.dtype == np.float32
            np.testing.assert_allclose(states, exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max())
        again, batches = states_of(accelerator, model, essays)
        assert batches == 0
        assert same(again, found)

    def test_the_border(self) -> None:
        assert stored_states(torch.tensor([65_504.0, -65_504.0])).tolist() == [65_504, -65_504]
        for beyond in (65_520.0, -70_000.0, torch.inf, torch.nan):
            kept = stored_states(torch.tensor([1.0 + 2**-20, beyond]))
            assert kept.dtype == np.float32
            np.testing.assert_array_equal(kept, np.array([1.0 + 2**-20, beyond], dtype=np.float32))


def made_cache(folder: Path) -> StateCache:
    """Two shards: essays 1 to 3, of so many tokens, and 4."""
    folder.mkdir(parents=True)
    cache = StateCache(folder / "made.states", '{"depth": 1}', 4)
    for numbers in ([1, 2, 3], [4]):
        cache.add({digest_of(number): np.full((number, 4), number, dtype=np.float16) for number in numbers})
    return cache


def rewritten(path: Path, **changes: Any) -> None:
    """A damage that has a fitting checksum, so that what follows it is what is judged."""
    tables = load_file(path) | changes
    index = tables["digests"].tobytes() + tables["ends"].tobytes()
    metadata = {"identity": '{"depth": 1}', "sha256": essay_cache._checksum(index, tables["states"])}
    save_file(tables, path, metadata)


def a_bit(name: str) -> Callable[[Path], None]:
    """Of a table."""
    return lambda path: flipped(path, path.read_bytes().index(load_file(path)[name].tobytes()))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "header"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cannot be used"),
    "a bit of a state": (a_bit("states"), "does not have its checksum"),
    "a bit of a digest": (a_bit("digests"), "does not have its checksum"),
    "an end": (lambda path: flipped(path, path.read_bytes().index(load_file(path)["ends"].tobytes()) + 8), "checksum"),
    "the last end": (lambda path: rewritten(path, ends=np.array([1, 3, 7])), "do not fit together"),
    "no ends": (lambda path: rewritten(path, ends=np.array([], dtype=np.int64)), "do not fit together"),
    "narrow": (lambda path: rewritten(path, states=np.zeros((6, 3), np.float16)), "do not fit together"),
    "wide numbers": (lambda path: rewritten(path, states=np.zeros((6, 4))), "do not fit together"),
    "another encoder's": (
        lambda path: save_file(load_file(path), path, {"identity": "{}"}),
        "something else than token states of this encoder",
    ),
}


class TestDamage:
    @pytest.mark.parametrize("name", DAMAGES)
    def test_is_refused_and_left_alone(self, cache_folder: Path, name: str) -> None:
        cache, (damage, words) = made_cache(cache_folder), DAMAGES[name]
        wanted = [digest_of(number) for number in (4, 2, 3)]
        assert [states.tolist() for states in cache.find(wanted).values()] == [[[n] * 4] * n for n in (4, 2, 3)]
        (shard,) = (path for path in parts_in(cache_folder) if len(load_file(path)["ends"]) == 3)
        damage(shard)
        content = shard.read_bytes()
        with pytest.raises(CheckpointError, match=words) as caught:
            cache.find([digest_of(3)])
        assert f"The cache of token states {shard} cannot be used" in str(caught.value)
        assert "Remove the file, and its token states are computed anew" in str(caught.value)
        assert shard.read_bytes() == content

    def test_shards_of_other_essays_are_not_read_for_their_checksums(self, cache_folder: Path) -> None:
        """Runs on one prompt of many would read all of them each time."""
        cache, checksum = made_cache(cache_folder), mock.Mock(wraps=essay_cache._checksum)
        with mock.patch.object(essay_cache, "_checksum", checksum):
            for wanted, checked in (([4, 5], 1), ([2, 4], 2), ([5], 0)):
                checksum.reset_mock()
                assert len(cache.find([*map(digest_of, wanted)])) == sum(number < 5 for number in wanted)
                assert checksum.call_count == checked
            checksum.reset_mock()
            assert len(cache.find([*map(digest_of, range(1, 5))], check=False)) == 4
            assert checksum.call_count == 0

    def test_in_a_run(self, accelerator: Accelerator, encoder: Path, cache_folder: Path) -> None:
        essays = essays_of(encoder, TEXTS)
        first, batches = states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays)
        shard = parts_in(cache_folder)[0]
        a_bit("states")(shard)
        with pytest.raises(CheckpointError, match=r"does not have its checksum\. Remove the file"):
            states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays)
        shard.unlink()
        again, rest = states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays)
        assert 0 < rest < batches
        assert same(again, first)

    def test_states_that_this_encoder_does_not_compute(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path
    ) -> None:
        """In order by every checksum, such as of a version that computed others."""
        essays, model = essays_of(encoder, TEXTS), model_of(encoder, cache_folder, **LOWER)
        cache = StateCache.of(model, "no", cache_folder)
        cache_folder.mkdir(parents=True)
        random = np.random.default_rng(0)
        for row in range(len(TEXTS)):
            one = essays.select([row])
            states = random.normal(size=(tokens_in(one), cache.width)).astype(np.float16)
            cache.add({essay_digest(one.essays[0].chunks): states})
        with pytest.raises(CheckpointError, match=r"\.states are not those that this encoder computes\. Remove that"):
            states_of(accelerator, model, essays)
        assert len(model.encoder_layers) == 2

    def test_removed_meanwhile(self, accelerator: Accelerator, encoder: Path, cache_folder: Path) -> None:
        add = StateCache.add

        def removed(cache: StateCache, values: dict[bytes, Any]) -> None:
            add(cache, values)
            shutil.rmtree(cache.path)

        with (
            mock.patch.object(StateCache, "add", removed),
            pytest.raises(CheckpointError, match=r"Token states were removed from .* during this run\. Run it again\."),
        ):
            states_of(accelerator, model_of(encoder, cache_folder, **LOWER), essays_of(encoder, TEXTS))

    def test_the_first_to_keep_an_essay_has_the_last_word(self, cache_folder: Path) -> None:
        """Whatever the names of the shards: later runs read what the first one trained on."""
        cache = made_cache(cache_folder)
        for number in range(5, 9):
            values = {digest_of(2): np.full((2, 4), 99), digest_of(number): np.full((1, 4), number)}
            cache.add({digest: states.astype(np.float16) for digest, states in values.items()})
        found = cache.find([digest_of(number) for number in range(1, 9)])
        assert [float(found[digest_of(number)].max()) for number in range(1, 9)] == [*range(1, 9)]


def test_mapped_files_keep_no_descriptor(cache_folder: Path) -> None:
    """There may be more shards than files that a process may open."""
    cache, descriptors = made_cache(cache_folder), Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    found = [cache.find([digest_of(1), digest_of(4)]) for _ in range(50)]
    assert len(list(descriptors.iterdir())) == before
    assert {float(one[digest_of(4)][3, 3]) for one in found} == {4}


class TestRoom:
    @pytest.mark.parametrize("cached", [True, False])
    def test_too_little_is_known_before_anything_is_computed(
        self, accelerator: Accelerator, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
    ) -> None:
        essays, (cache, run) = essays_of(encoder, TEXTS), (tmp_path / "cache", tmp_path / "run")
        model = model_of(encoder, cache if cached else None, **LOWER)
        width = int(model.encoder.config.hidden_size)
        needed = tokens_in(essays) * width * 2 + len(TEXTS) * 40
        free = SimpleNamespace(free=needed - 1)
        monkeypatch.setattr(essay_cache.shutil, "disk_usage", lambda _: free)
        folder = cache if cached else run / STATES
        words = (
            rf"The cache of token states {folder}/\w+\.states needs 0\.\d MB to add 5 essays, but {folder} has 0\.\d "
            r"MB free\. Make room, or set model\.features_cache to another folder\."
        )
        with pytest.raises(CheckpointError, match=words):
            states_of(accelerator, model, essays, run)
        assert not folder.exists()
        assert len(model.encoder_layers) == 2
        free.free = needed
        assert states_of(accelerator, model, essays, run)[1] > 1


@pytest.mark.parametrize(("frozen", "expected"), [(1, [3, 3, 0]), (2, [3, 3, 3]), ("all", [3, 3, 3])])
def test_the_encoder_runs_one_layer_further_than_is_frozen(
    accelerator: Accelerator, frozen: int | str, expected: list[int]
) -> None:
    """What hidden_states ends with may be normalised, what is before that is not."""
    model, essays = scoring_model(frozen_layers=frozen, pooling="attention"), random_essays((5, 40, 14))
    calls = [0, 0, 0]

    def count(layer: torch.nn.Module, *_: object) -> None:
        calls[layers.index(layer)] += 1

    layers = list(model.encoder_layers)
    for layer in layers:
        layer.register_forward_pre_hook(count)
    rounds = [[np.array([row])] for row in range(3)]
    found = list(activations._token_states(accelerator, model, essays, rounds))
    assert calls == expected
    assert [len(states) for _, (states,) in found] == [tokens_in(essays.select([row])) for row in range(3)]
    assert list(model.encoder_layers) == layers
