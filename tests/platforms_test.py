"""The package runs on Linux, macOS and Windows by construction: what only Unix has is not used."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxlabs import labs
from jaxlabs.run_folder import WRITTEN
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import run_name

ROOT = Path(__file__).parents[1]
PATHS = sorted([*ROOT.glob("jaxlabs/**/*.py"), *ROOT.glob("experiments/**/*.py")])

UNIX_MODULES = {"crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline"}
UNIX_MODULES |= {"resource", "select", "spwd", "syslog", "termios", "tty"}
"""Modules that Windows lacks; its `select` accepts sockets alone."""

PORTABLE = {
    "os": "PathLike _exit abort cpu_count close devnull dup dup2 environ fdopen fsdecode fsencode"
    " fspath fstat fsync get_terminal_size getcwd getpid linesep listdir lstat makedirs mkdir open"
    " pardir path pathsep read remove replace scandir sep stat stat_result strerror unlink"
    " walk write O_APPEND O_CREAT O_EXCL O_RDONLY O_RDWR O_WRONLY access W_OK R_OK",
    "signal": "SIGABRT SIGINT SIGTERM SIG_IGN Signals getsignal raise_signal set_wakeup_fd signal",
}
"""Attributes that the package may use: Windows has them."""

GUARDED = {
    "jaxlabs/benchmark/worker.py": {"os.killpg", "signal.SIGKILL"},
    "jaxlabs/training/compile_cache.py": {"os.getuid", "os.sched_getaffinity"},
    "jaxlabs/training/hosts.py": {"os.pread", "ctypes.CDLL(None)"},
    "jaxlabs/training/malloc.py": {"ctypes.CDLL(None)"},
    "jaxlabs/training/memory.py": {"ctypes.CDLL(None)"},
}
"""What follows a check of the platform."""


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def used(path: Path) -> set[str]:
    """Returns what a module uses of `os`, `signal` and the C library of Unix."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name, attribute = node.value.id, node.attr
            if name in PORTABLE and attribute not in PORTABLE[name].split():
                found.add(f"{name}.{attribute}")
        elif isinstance(node, ast.ImportFrom) and node.module in PORTABLE:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node) == "ctypes.CDLL(None)":
            found.add("ctypes.CDLL(None)")
    return found


def imported(path: Path) -> set[str]:
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return found


def test_no_module_imports_what_windows_lacks():
    assert {str(path): names for path in PATHS if (names := imported(path) & UNIX_MODULES)} == {}


def test_what_windows_lacks_is_used_behind_a_check_of_the_platform():
    found = {path.relative_to(ROOT).as_posix(): names for path in PATHS if (names := used(path))}
    assert found == GUARDED
    for name in GUARDED:
        checks = ('sys.platform == "win32"', 'platform.libc_ver()[0] != "glibc"')
        assert any(check in (ROOT / name).read_text(encoding="utf-8") for check in checks)


IMPORTS = """
import os, signal, subprocess, sys
import filelock, jax, jax._src.distributed, matplotlib, orbax.checkpoint, psutil, scipy.optimize
import scipy.stats, tensorboardX, tqdm
for name in {modules}:
    sys.modules[name] = None
for name in ("O_NOFOLLOW", "O_NONBLOCK", "fork", "getuid", "geteuid", "killpg", "mkfifo", "pread",
             "set_blocking", "sysconf", "uname"):
    delattr(os, name)
for name in ("SIGKILL", "SIGALRM", "SIGHUP", "SIGPIPE", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
for name in {imports}:
    __import__(name)
"""


def test_every_module_is_imported_without_what_windows_lacks():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PATHS]
    names = [name.removesuffix(".__init__") for name in names if ".peers" not in name]
    code = IMPORTS.format(modules=sorted(UNIX_MODULES - {"posix"}), imports=names)
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.I)
"""What Windows refuses in the name of a file."""


@pytest.mark.parametrize("name", labs.names())
def test_names_of_folders_and_files_are_valid_on_windows(name):
    lab = labs.load(name)
    written = {*WRITTEN, *lab.presets, *lab.plots}
    if isinstance(lab, Lab):
        written |= set(lab.sweeps)
        written |= {run_name(point) for sweep in lab.sweeps.values() for point in sweep.points()}
    assert [each for each in written if FORBIDDEN.search(each)] == []


def test_run_name_of_any_values_is_valid_on_windows_and_unique():
    values = ["a/b", "a\\b", "a_b", "a%2Fb", "C:\\x", "x?", 'a"b', "1.", "<x>", "a|b", "*"]
    names = [run_name({"dataset": value, "seed": 0}) for value in values]
    names += [run_name({"seed": 0, "dataset": value}) for value in values]
    assert len({name.lower() for name in names}) == len(names)
    assert [each for each in names if FORBIDDEN.search(each)] == []
    assert run_name({"learning_rate": 1e-3, "norm": None}) == "learning_rate=0.001,norm=none"
