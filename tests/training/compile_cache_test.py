"""Tests of jaxlabs/training/compile_cache.py: where programs are kept, and equal results."""

import os
import subprocess
import sys

import jax
import pytest

from jaxlabs.run_folder import RunFolder
from jaxlabs.training import compile_cache

CORE = (
    "processor: {}\nvendor_id: AuthenticAMD\nmodel: 17\ncpu MHz: 2596.1\n"
    "flags: fma avx2 avx512f\n\n"
)


@pytest.fixture(autouse=True)
def no_cache():
    """JAX without a cache, as in a command; afterwards it has that of the tests again."""
    with compile_cache.restored():
        compile_cache._set(None, 1.0)
        yield


@pytest.fixture(autouse=True)
def cpu_info(tmp_path, monkeypatch):
    """The description of a processor for which there is a cache; it may be replaced."""
    file = tmp_path / "cpuinfo"
    file.write_text("".join(map(CORE.format, range(2))))
    monkeypatch.setattr(compile_cache, "CPU_INFO", file)
    return file


def enabled(data_dir):
    """The folder of the cache that is enabled; None if there is none."""
    with compile_cache.restored():
        compile_cache.enable(data_dir)
        return jax.config.jax_compilation_cache_dir


def test_cache_is_in_the_data_folder_and_only_this_user_may_write_there(tmp_path):
    folder = enabled(tmp_path)
    (private,) = tmp_path.glob("compiled*")
    assert os.path.dirname(folder) == str(private)
    if hasattr(os, "getuid"):
        assert private.name == f"compiled-{os.getuid()}"
        assert private.stat().st_mode & 0o777 == 0o700
    assert jax.config.jax_compilation_cache_dir is None


def test_folder_that_others_may_write_is_not_used(tmp_path):
    assert enabled(tmp_path) is not None
    (private,) = tmp_path.glob("compiled*")
    private.chmod(0o777)
    assert enabled(tmp_path) is None


def test_cache_of_the_user_is_kept(tmp_path):
    compile_cache._set(str(tmp_path / "mine"), 1.0)
    assert enabled(tmp_path) == str(tmp_path / "mine")


def test_there_is_no_cache_where_none_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert enabled(tmp_path / "file") is None
    for name in ("JAXLABS_DATA_DIR", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a home directory
    assert enabled(None) is None


def test_there_is_no_cache_for_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert enabled(tmp_path) is None


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="programs for CPUs")
def test_there_is_no_cache_on_processors_of_intel(tmp_path, cpu_info):
    cpu_info.write_text(CORE.replace("AuthenticAMD", "GenuineIntel"))
    assert enabled(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("cpu MHz: 2596.1", "cpu MHz: 3100.0"), True),
        (("avx2 avx512f", "avx2"), False),
        (("model: 17", "model: 1"), False),
    ],
)
def test_processors_differ_by_their_instructions(change, same, tmp_path, cpu_info):
    before = enabled(tmp_path)
    cpu_info.write_text(CORE.replace(*change))
    assert (enabled(tmp_path) == before) == same


@pytest.mark.parametrize("variable", ["PJRT_NPROC", "NPROC"])
def test_folders_differ_by_the_number_of_threads(variable, tmp_path, monkeypatch):
    before = enabled(tmp_path)
    monkeypatch.setenv(variable, "77")
    assert enabled(tmp_path) != before


def test_oldest_programs_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 25)
    folder = compile_cache.pathlib.Path(enabled(tmp_path))
    (folder / "xla_gpu_per_fusion_autotune_cache_dir").mkdir()  # JAX puts it there
    for age, name in enumerate("abcd"):
        (folder / f"{name}-cache").write_bytes(b"0123456789")
        os.utime(folder / f"{name}-cache", (0, 1000 - age))
    assert enabled(tmp_path) == str(folder)
    assert sorted(file.name for file in folder.glob("*-cache")) == ["a-cache", "b-cache"]


def test_second_command_compiles_nothing_and_learns_the_same(tmp_path, tiny_flags):
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment |= {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DEBUG_LOG_MODULES": "jax._src.compiler",
    }
    hashes, errors = [], []
    for name in ("first", "second"):
        flags = [*tiny_flags, "--steps=2", f"--workdir={tmp_path / name}"]
        command = [sys.executable, "-m", "jaxlabs", "gpt", "--platform=cpu", *flags]
        done = subprocess.run(
            command, env=environment, check=True, stderr=subprocess.PIPE, text=True
        )
        errors.append(done.stderr)
        hashes.append(RunFolder(tmp_path / name).read_summary()["parameters_sha256"])
    assert hashes[0] == hashes[1]
    assert "MISS for 'jit_multi_step'" in errors[0]
    assert "hit for 'jit_multi_step'" in errors[1]
    assert "MISS" not in errors[1]
    assert "cpu_aot_loader" not in errors[1]


def test_damaged_program_is_compiled_again(tmp_path):
    compile_cache.enable(tmp_path)
    assert jax.jit(lambda x: x + 1)(1) == 2
    for program in tmp_path.rglob("*-cache"):
        program.write_bytes(program.read_bytes()[:-100])
    jax.clear_caches()
    with pytest.warns(UserWarning, match="cache"):
        assert jax.jit(lambda x: x + 1)(1) == 2
