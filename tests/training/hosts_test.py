"""Training in several processes gives the result of one process."""

import pathlib
import sys

import numpy as np
import pytest

from jaxlabs.run_folder import RunFolder

WORKER = pathlib.Path(__file__).with_name("hosts_worker.py")


@pytest.fixture(scope="module")
def run(free_port, run_together):
    """`run(path, processes, devices_each) -> (arrays of each, run folder, stderr of each)`."""

    def run(path, *, processes, devices_each):
        port, outputs = free_port(), [path / f"{number}.npz" for number in range(processes)]
        commands = []
        for number, output in enumerate(outputs):
            numbers = map(str, (port, processes, number, devices_each))
            commands.append([sys.executable, str(WORKER), *numbers, str(path / "run"), str(output)])
        errors = [error for _, error in run_together(commands)]
        return [dict(np.load(output)) for output in outputs], RunFolder(path / "run"), errors

    return run


@pytest.fixture(scope="module")
def two(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("two"), processes=2, devices_each=1)


@pytest.fixture(scope="module")
def one(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("one"), processes=1, devices_each=2)


def test_each_process_reads_only_its_rows(two):
    first, second = (arrays["rows_read"].tolist() for arrays in two[0])
    assert (first, second) == ([[0, 4]], [[4, 8]])


def test_processes_have_equal_states(two):
    (first, second), _, _ = two
    assert first.keys() == second.keys()
    for name in first.keys() - {"rows_read"}:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_two_processes_that_read_shards_equal_one_with_two_devices(two, one):
    ours, theirs = two[0][0], one[0][0]
    assert ours.keys() == theirs.keys()
    assert ours["last.step"] == 6
    for name in ours.keys() - {"rows_read"}:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_checkpoint_of_two_processes_is_restored_in_both(two):
    for arrays in two[0]:
        assert arrays["at_4.step"] == 4
        assert (arrays["at_4.params.head.kernel"] != arrays["last.params.head.kernel"]).any()


def test_only_process_0_writes_the_folder_and_the_terminal(two, one):
    rows, other_rows = two[1].read_metrics(), one[1].read_metrics()
    written = [(row["step"], row["split"]) for row in rows]
    assert written == [(row["step"], row["split"]) for row in other_rows]
    assert len(set(written)) == len(written) == 6 + 3
    for row, other in zip(rows, other_rows, strict=True):
        np.testing.assert_allclose(row["loss"], other["loss"], rtol=1e-5)
    samples = {path.name for path in two[1].samples.iterdir()}
    assert samples == {"step-000000.txt", "step-000004.txt", "step-000006.txt"}
    assert "step 6/6: held_out loss" in two[2][0]
    assert "held_out" not in two[2][1]
