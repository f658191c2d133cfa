"""The command on several hosts, here processes: it finds them, loses one, and resumes on fewer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jaxlabs.run_folder import RunFolder
from jaxlabs.training import hosts

CHECKOUT = Path(__file__).parents[3]
STEPS, SAVED = 80, 20


def test_run_that_loses_a_host_is_resumed_on_another_number_of_hosts(
    ours, tiny_flags, free_port, slurm_variables, tmp_path
):
    flags = [
        *tiny_flags,
        f"--steps={STEPS}",
        f"--checkpoint_every={SAVED}",
        f"--eval_every={STEPS}",
    ]
    flags += ["--steps_per_call=10", "--platform=cpu"]
    folder, processes = RunFolder(tmp_path / "run"), []

    def start(*more, variables):
        processes.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "experiments.gpt",
                    *flags,
                    f"--workdir={folder.path}",
                    *more,
                ],
                cwd=CHECKOUT,
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    try:
        port = free_port()
        for number in range(4):
            start(variables=slurm_variables(4, number, port))
        deadline = time.monotonic() + 240
        while not (folder.checkpoints / str(SAVED)).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        killed, *others = processes
        killed.send_signal(signal.SIGKILL)
        began = time.monotonic()
        errors = [other.communicate(timeout=120)[1] for other in others]
        assert time.monotonic() - began < 60
        assert [other.returncode for other in others] == [hosts.STATUS] * 3
        for number, error in enumerate(errors, 1):
            lines = error.splitlines()
            lost = (
                f"process {number} of 4: another process of the run was lost; restart all of them"
            )
            assert len([line for line in lines if lost in line]) == 1
            assert "Traceback" not in error
        killed.communicate()
        processes.clear()
        address = f"--coordinator=localhost:{free_port()}"
        for number in range(2):
            start(address, "--num_processes=2", f"--process_id={number}", variables={})
        outputs = [process.communicate(timeout=240) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
        assert "resuming at step " in outputs[0][1]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    resumed = folder.read_summary()
    assert resumed["steps"] == STEPS
    rows = [row["step"] for row in folder.read_metrics() if row["split"] == "train"]
    assert rows == sorted(set(rows))
    whole = ours(*flags, name="whole").read_summary()["metrics"]
    for name in (name for name in whole if name.endswith("loss")):
        assert abs(resumed["metrics"][name] - whole[name]) < 1e-3, name
