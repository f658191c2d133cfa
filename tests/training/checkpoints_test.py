"""Tests of jaxlabs/training/checkpoints.py: exact restore, and detection of damage."""

import logging
import shutil
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.config import UserError
from jaxlabs.training import checkpoints as checkpoints_module
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import create_state

# When several reads fail at once, TensorStore's threads raise unraisable exceptions.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

METADATA = {"settings": {"width": 3}, "data_spec": {"alphabet": "aé\n"}, "dataset": {"sha256": "0"}}


def numbered(step: int):
    """Returns a small state with every kind of leaf; all values depend on the step."""
    params = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
    variables = {"params": params, "batch_stats": {"mean": jnp.zeros(3)}}
    state = create_state(None, variables, TX, ema_decay=0.5)
    scaled = jax.tree.map(lambda leaf: leaf * (1 / 3) + step if leaf.ndim else leaf, state)
    return scaled.replace(step=jnp.int32(step), skipped=jnp.int32(step % 3))


TX = optax.adamw(1e-3)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder with checkpoints of steps 1, 2 and 3; read-only."""
    path = tmp_path_factory.mktemp("three") / "checkpoints"
    with Checkpoints(path, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(numbered(step), METADATA, float(step))
    return path


@pytest.fixture
def folder(three, tmp_path):
    return shutil.copytree(three, tmp_path / "checkpoints")


def contents(path):
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def restored_step(folder, **options):
    """Returns the restored step, after checking that the state is bit-identical."""
    with Checkpoints(folder, keep=3, **options) as checkpoints:
        state = checkpoints.restore(numbered(0))
    chex.assert_trees_all_equal(state, numbered(int(state.step)))
    chex.assert_trees_all_equal_dtypes(state, numbered(0))
    return int(state.step)


def test_state_with_ema_and_batch_stats_is_restored_bit_identical(three):
    assert restored_step(three, read_only=True) == 3


def test_empty_folder_has_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        assert checkpoints.steps() == []
        assert checkpoints.restore(numbered(0)) is None


def test_metadata_round_trips(three):
    with Checkpoints(three, keep=3, read_only=True) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3]
        assert METADATA.items() <= checkpoints.read_metadata(2).items()


def test_newest_checkpoint_up_to_a_step_is_restored(three):
    with Checkpoints(three, keep=3, read_only=True) as checkpoints:
        assert int(checkpoints.restore(numbered(0), at_most=2).step) == 2
        assert checkpoints.restore(numbered(0), at_most=0) is None


def test_latest_and_best_are_kept_across_processes(tmp_path):
    losses = {1: 5.0, 2: 1.0, 3: None, 4: 3.0, 5: float("nan"), 6: 2.0, 7: 4.0, 8: None}
    for steps in ((1, 2, 3), (4, 5), (6,), (7, 8)):
        with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
            for step in steps:
                checkpoints.save(numbered(step), METADATA, losses[step])
            kept = checkpoints.steps()
        saved = [step for step in losses if step <= steps[-1]]
        assert kept == sorted({2, *saved[-2:]})
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        checkpoints.save(numbered(9), METADATA, 0.5)
        assert checkpoints.steps() == [8, 9]
    assert int(restored_step(tmp_path / "checkpoints")) == 9


def test_only_incomplete_checkpoints_are_removed(folder):
    incomplete = [
        folder / f"{step}.orbax-checkpoint-tmp{end}" for step, end in ((4, ""), (5, "-17"))
    ]
    mine = [folder / name for name in ("my.orbax-checkpoint-tmp-x", "3.orbax-checkpoint-tmp.bak")]
    for path in (*incomplete, *mine):
        path.mkdir()
    with Checkpoints(folder, keep=3) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3]
    assert [path.exists() for path in (*incomplete, *mine)] == [False, False, True, True]


def test_checkpoints_with_other_settings_are_refused(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        first = METADATA | {"settings": {"seed": 3, "batch_size": 8}}
        checkpoints.save(numbered(4), first, None)
        same = METADATA | {"settings": {"seed": 3, "batch_size": 8, "steps": 1000}}
        checkpoints.require_run(RunConfig, same)
        other = METADATA | {"settings": {"seed": 4, "batch_size": 8}}
        with pytest.raises(UserError, match=r"of step 4 in .* seed \(stored 3, given 4\)"):
            checkpoints.require_run(RunConfig, other)


def test_saving_a_step_twice_keeps_the_first(folder):
    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints.save(numbered(4), METADATA, 1.0)
        checkpoints.save(numbered(4).replace(params=numbered(0).params), METADATA, 9.0)
        assert checkpoints.steps() == [1, 2, 3, 4]
    assert restored_step(folder) == 4


def test_state_may_be_donated_as_soon_as_it_is_saved(tmp_path):
    large = {"params": {"w": jnp.arange(1 << 20, dtype=jnp.float32)}}
    state = create_state(None, large, optax.sgd(1.0))
    overwrite = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(state, METADATA, None)
        for _ in range(20):
            state = overwrite(state)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        restored = checkpoints.restore(state)
    np.testing.assert_array_equal(restored.params["w"], np.arange(1 << 20))


def test_state_is_restored_with_the_sharding_of_the_given_state(three, make_placement):
    placement = make_placement(4)
    with Checkpoints(three, keep=3, read_only=True) as checkpoints:
        state = checkpoints.restore(placement.replicate(numbered(0)))
    shardings = {leaf.sharding for leaf in jax.tree.leaves(state)}
    assert all(sharding == placement.replicated for sharding in shardings)


def data_files(folder, step):
    """Returns the files of a checkpoint with its state, relative to its folder."""
    checkpoint = folder / str(step)
    return sorted(
        file.relative_to(checkpoint)
        for file in checkpoint.rglob("*")
        if file.is_file() and file.parent.name in ("d", "state")
    )


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, lambda file: file.unlink()])
def test_damage_to_any_file_is_harmless_or_detected(folder, caplog, damage):
    found = 0
    for name in data_files(folder, 3):
        shutil.copytree(folder / "3", folder.parent / "copy")
        damage(folder / "3" / name)
        caplog.clear()
        step = restored_step(folder)  # checks that the state is bit-identical
        assert step in (2, 3)
        lines = [record.getMessage() for record in caplog.records if record.name == "jaxlabs"]
        if step == 2:
            found += 1
            (line,) = lines
            assert line.startswith("The checkpoint of step 3 is damaged (")
            assert line.endswith("); using the previous one.")
            assert "\n" not in line
            assert (folder / "damaged" / "3").is_dir()
        else:
            assert lines == []
        shutil.rmtree(folder / "3", ignore_errors=True)
        shutil.copytree(folder.parent / "copy", folder / "3")
        shutil.rmtree(folder.parent / "copy")
    assert found >= 2


def test_corrupted_value_in_a_readable_file_is_detected_by_the_checksum(
    folder, caplog, monkeypatch
):
    """Damage that the file format cannot detect: a value was corrupted before writing."""
    with Checkpoints(folder, keep=3) as checkpoints:
        wrong = numbered(4)
        bias = wrong.params["bias"].at[1].set(jnp.nextafter(wrong.params["bias"][1], 9.0))
        right = checkpoints.read_metadata(3)["fingerprint"]
        monkeypatch.setattr("jaxlabs.training.checkpoints.checksum", lambda arrays: right)
        checkpoints.save(wrong.replace(params=wrong.params | {"bias": bias}), METADATA, None)
    monkeypatch.undo()
    assert restored_step(folder) == 3
    assert "its arrays do not match their checksum" in caplog.text


def test_state_with_narrow_dtypes_is_restored_bit_identical(tmp_path):
    params = {"half": jnp.arange(3, dtype=jnp.bfloat16), "mask": jnp.array([True, False])}
    state = create_state(None, {"params": params}, optax.identity())
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(state, METADATA, None)
        restored = checkpoints.restore(jax.tree.map(jnp.zeros_like, state))
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal_dtypes(restored, state)


def test_checkpoint_of_any_optimizer_is_read_into_a_state_without_one(three):
    variables = {"params": numbered(0).params, "batch_stats": numbered(0).batch_stats}
    like = create_state(None, variables, optax.identity(), ema_decay=0.5)
    with Checkpoints(three, keep=3, read_only=True) as checkpoints:
        state = checkpoints.restore(like)
    expected = numbered(3).replace(tx=like.tx, opt_state=like.opt_state)
    chex.assert_trees_all_equal(state, expected)


def test_all_processes_wait_until_damaged_checkpoints_are_set_aside(folder, monkeypatch):
    """Those that list the checkpoints before see other steps, and would hang."""
    events = []
    with Checkpoints(folder, keep=3) as checkpoints:
        shutil.rmtree(folder / "3" / "state")
        reload = checkpoints._manager.reload
        monkeypatch.setattr(
            checkpoints_module.multihost_utils,
            "sync_global_devices",
            lambda name: events.append(("barrier", (folder / "3").exists())),
        )
        monkeypatch.setattr(
            checkpoints._manager, "reload", lambda: events.append(("reload", None)) or reload()
        )
        assert int(checkpoints.restore(numbered(0)).step) == 2
        assert checkpoints.steps() == [1, 2]
    assert events == [("barrier", False), ("reload", None)]


def test_other_users_of_the_absl_logger_are_heard(folder, caplog):
    restored_step(folder)
    absl = logging.getLogger("absl")
    assert absl.isEnabledFor(logging.WARNING)
    absl.warning("not of orbax")
    orbax = absl.makeRecord(
        "absl", logging.WARNING, "/lib/orbax/checkpoint/x.py", 1, "noise", (), None
    )
    absl.handle(orbax)
    assert [record.getMessage() for record in caplog.records] == ["not of orbax"]


def test_empty_newest_checkpoint_is_quarantined_and_can_be_saved_again(folder, caplog):
    shutil.rmtree(folder / "3")
    (folder / "3").mkdir()
    with Checkpoints(folder, keep=3) as checkpoints:
        assert int(checkpoints.restore(numbered(0)).step) == 2
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(numbered(3), METADATA, 3.0)
    assert "The checkpoint of step 3 is damaged" in caplog.text
    assert restored_step(folder) == 3


def test_abandoned_reads_of_a_damaged_checkpoint_print_nothing(folder, monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    for index in folder.rglob("manifest.ocdbt"):
        index.write_bytes(bytes(range(200)))
    with Checkpoints(folder, keep=3) as checkpoints, pytest.raises(UserError, match="can be read"):
        checkpoints.restore(numbered(0))
    for text in ("Event loop is closed", "a bug"):  # as threads report them
        sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(text)))
    assert [str(lost.exc_value) for lost in printed] == ["a bug"]


def test_incomplete_checkpoint_is_ignored(folder):
    (folder / "3").rename(folder / "3.orbax-checkpoint-tmp")
    assert restored_step(folder) == 2
    assert not (folder / "3.orbax-checkpoint-tmp").exists()


def test_all_damaged_checkpoints_give_one_line_with_the_remedy(folder, caplog):
    for step in (1, 2, 3):
        shutil.rmtree(folder / str(step) / "state")
    with Checkpoints(folder, keep=3) as checkpoints, pytest.raises(UserError) as caught:
        checkpoints.restore(numbered(0))
    assert str(caught.value) == (
        f"workdir: no checkpoint in {folder} can be read; `overwrite` starts over"
    )
    assert caplog.text.count("is damaged") == 3


@pytest.mark.parametrize("damaged", [False, True])
def test_read_only_mode_does_not_change_the_folder(folder, caplog, damaged):
    (folder / "7.orbax-checkpoint-tmp").mkdir()  # a checkpoint that another process is writing
    if damaged:
        shutil.rmtree(folder / "3" / "state")
    before = contents(folder), sorted(path.name for path in folder.iterdir())
    assert restored_step(folder, read_only=True) == (2 if damaged else 3)
    assert (contents(folder), sorted(path.name for path in folder.iterdir())) == before
    assert ("damaged" in caplog.text) == damaged


def test_importing_orbax_does_not_flood_the_log(folder, caplog):
    with caplog.at_level(logging.INFO):
        restored_step(folder)
    assert [record for record in caplog.records if record.name == "absl"] == []


def test_checkpoint_of_another_optimizer_is_refused_and_stays_in_place(folder, caplog):
    before = contents(folder)
    other = create_state(None, {"params": numbered(0).params}, optax.sgd(0.1), ema_decay=0.5)
    another = pytest.raises(UserError, match=r"is of another model or version: .* is absent, not ")
    with Checkpoints(folder, keep=3) as checkpoints, another:
        checkpoints.restore(other.replace(batch_stats={"variance": jnp.zeros(3)}))
    assert contents(folder) == before
    assert not caplog.records


def test_parameter_with_the_earlier_name_of_another_is_restored(tmp_path, caplog):
    variables = {"params": {"reader": {"kernel": jnp.ones(2)}, "encoder": {"kernel": jnp.zeros(2)}}}
    state = create_state(None, variables, TX)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(state, METADATA, None)
        restored = checkpoints.restore(jax.tree.map(jnp.zeros_like, state))
    chex.assert_trees_all_equal(restored, state)
    assert caplog.text == ""
