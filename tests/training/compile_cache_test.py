"""Tests of jaxlabs/training/compile_cache.py: where programs are kept, and equal results."""

import os
import subprocess
import sys

import jax
import pytest

from jaxlabs.run_folder import RunFolder
from jaxlabs.training import compile_cache


@pytest.fixture(autouse=True)
def no_cache():
    """JAX without a cache, as in a command; afterwards it has that of the tests again."""
    with compile_cache.restored():
        compile_cache._set(None, 1.0)
        yield


def test_cache_is_in_the_data_folder_of_this_processor(tmp_path):
    with compile_cache.restored():
        compile_cache.enable(tmp_path)
        folder = tmp_path / "compiled" / compile_cache.processor()
        assert jax.config.jax_compilation_cache_dir == str(folder)
        assert folder.is_dir()
    assert jax.config.jax_compilation_cache_dir is None


def test_cache_of_the_user_is_kept(tmp_path):
    compile_cache._set(str(tmp_path / "mine"), 1.0)
    compile_cache.enable(tmp_path)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")


def test_there_is_no_cache_where_none_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "compiled").write_text("a file")
    compile_cache.enable(tmp_path)
    assert jax.config.jax_compilation_cache_dir is None
    for name in ("JAXLABS_DATA_DIR", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a home directory
    compile_cache.enable(None)
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("cpu MHz: 2596.1", "cpu MHz: 3100.0"), True),
        (("avx2 avx512f", "avx2"), False),
        (("model: 17", "model: 1"), False),
    ],
)
def test_processors_differ_by_their_instructions(change, same, tmp_path, monkeypatch):
    core = "processor: {}\nmodel: 17\ncpu MHz: 2596.1\nflags: fma avx2 avx512f\n\n"
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(compile_cache, "CPU_INFO", file)
    file.write_text("".join(map(core.format, range(2))))
    before = compile_cache.processor()
    file.write_text("".join(core.replace(*change).format(number) for number in range(2)))
    assert (compile_cache.processor() == before) == same


def test_processors_differ_by_their_cores(monkeypatch):
    names = []
    for cores in ("2", "3"):
        monkeypatch.setenv("PJRT_NPROC", cores)
        names.append(compile_cache.processor())
    assert names[0] == names[1].replace("-3-", "-2-") != names[1]


def test_oldest_programs_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 25)
    folder = tmp_path / "compiled" / compile_cache.processor()
    folder.mkdir(parents=True)
    for age, name in enumerate("abcd"):
        (folder / name).write_bytes(b"0123456789")
        os.utime(folder / name, (0, 1000 - age))
    compile_cache.enable(tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == ["a", "b"]


def test_second_command_compiles_nothing_and_learns_the_same(tmp_path, tiny_flags):
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    hashes, files = [], []
    for name in ("first", "second"):
        flags = [*tiny_flags, "--steps=2", f"--data_dir={tmp_path}", f"--workdir={tmp_path / name}"]
        command = [sys.executable, "-m", "jaxlabs", "gpt", "--platform=cpu", *flags]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        hashes.append(RunFolder(tmp_path / name).read_summary()["parameters_sha256"])
        files.append(sorted((tmp_path / "compiled").rglob("*-cache")))
    assert hashes[0] == hashes[1]
    assert files[0] == files[1] != []


def test_damaged_program_is_compiled_again(tmp_path):
    compile_cache.enable(tmp_path)
    assert jax.jit(lambda x: x + 1)(1) == 2
    for program in (tmp_path / "compiled").rglob("*-cache"):
        program.write_bytes(program.read_bytes()[:-100])
    jax.clear_caches()
    with pytest.warns(UserWarning, match="cache"):
        assert jax.jit(lambda x: x + 1)(1) == 2
