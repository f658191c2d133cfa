"""Other processes of a check: what they find and how they fail."""

import shutil

import pytest

from jaxlabs.runner import check_processes
from jaxlabs.runner.check_processes import Processes
from jaxlabs.training.checks import Failed


@pytest.fixture
def finished(here, monkeypatch):
    """`finished(result)`: other processes, all of which have this result."""

    def make(result):
        monkeypatch.setattr(Processes, "result", lambda *_, **__: result)
        return Processes("gpt", [], here)

    return make


def test_compilation_of_a_later_call_fails(finished):
    line = "recompiled, because of [0]: float32[2] -> float32[3]"
    with pytest.raises(Failed, match=r"^recompiled, because of \[0\]"):
        check_processes.compiles_once(finished({"recompiled": [line], "calls": 3}))
    found = check_processes.compiles_once(finished({"recompiled": [], "calls": 3}))
    assert found == "one compilation for 3 calls"


def test_run_that_did_not_end_is_not_resumed(here):
    (here / "run").mkdir()
    with pytest.raises(Failed, match=r"^the run did not end$"):
        check_processes.resumes(Processes("gpt", [], here))


def test_failed_process_gives_its_last_line(here):
    with pytest.raises(Failed, match="unknown lab"):
        Processes("no_such_lab", [], here).result("train", "run")


def test_script_that_checks_its_lab_when_it_is_loaded_is_refused(spirals, here):
    script = shutil.copy(spirals, here / "script.py")
    with open(script, "a", encoding="utf-8") as file:
        file.write("\njl.check(LAB)\n")
    with pytest.raises(Failed, match=r'jl\.check: .* if __name__ == "__main__":'):
        Processes(str(script), [], here).result("train", "run")
