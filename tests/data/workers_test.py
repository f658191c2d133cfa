"""Worker processes read the batches of the process itself, in order and after a jump."""

import os
import subprocess
import sys
import textwrap
import time

import chex
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data.host import HostExamples

pytest.importorskip("grain")


class Squares:
    """Examples with the process that read them."""

    def __len__(self):
        return 11

    def __getitem__(self, i):
        if i == 9:
            raise OSError("disk full")
        return {"x": np.full(3, i * i), "process": os.getpid()}


@pytest.fixture(scope="module")
def squares():
    pair = HostExamples(Squares(), 9, workers=2), HostExamples(Squares(), 9)
    yield pair
    pair[0]._ahead.close()


def test_batches_of_workers_equal_those_of_the_process(squares):
    ahead, alone = squares
    processes = set()
    for step in (0, 1, 2, 3, 4, 2, 3):
        found, expected = ahead.batch_at(5, step, 4), alone.batch_at(5, step, 4)
        processes |= set(found.pop("process").tolist())
        del expected["process"]
        chex.assert_trees_all_equal(found, expected)
        chex.assert_trees_all_equal_dtypes(found, expected)
    assert os.getpid() not in processes
    assert len(processes) == 4  # two, and two after the jump


def test_an_error_of_a_worker_is_that_of_the_example(squares):
    examples = HostExamples(Squares(), 11, shuffle=False, workers=1)
    examples.batch_at(0, 1, 4)
    with pytest.raises(UserError, match=r"^training data: example 9: OSError: disk full$"):
        examples.batch_at(0, 2, 4)


SCRIPT = """
    import os, signal, sys, time
    from jaxlabs.data.host import HostExamples

    def example(i):
        return {"process": os.getpid()}

    if __name__ == "__main__":
        examples = HostExamples(example, 8, workers=1)
        print(examples.batch_at(0, 0, 1)["process"][0], flush=True)
        time.sleep(60)
"""


def test_workers_end_with_a_killed_run(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        os.kill(worker, 0)
        process.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    pytest.fail("the worker was still running after 10 seconds")
