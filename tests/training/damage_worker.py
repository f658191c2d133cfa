"""One of two processes: `damage_worker.py PORT PROCESS_ID FOLDER OUT`.

For each folder of checkpoints FOLDER/<damage>, restores in both processes. Process 1 reads the
newest checkpoint from FOLDER/<damage>-seen, as if its disk were damaged. Then both save another.
"""

import pathlib
import sys

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxlabs.training import devices, hosts, sharding
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.state import create_state

TX = optax.sgd(0.1, momentum=0.9)
NEWEST = 3


def numbered(step):
    """Returns a state of numpy arrays; all values depend on the step."""
    variables = {"params": {"sharded": np.arange(8.0, dtype=np.float32) + step}}
    variables["params"]["replicated"] = np.full(3, step, np.float32)
    return create_state(None, variables, TX).replace(step=np.int32(step))


def placed(state):
    """Returns a state whose arrays named `sharded` are split over the processes."""
    mesh = devices.data_parallel().mesh

    def place(path, leaf):
        split = "sharded" in jax.tree_util.keystr(path)
        placement = NamedSharding(mesh, PartitionSpec(*[sharding.BATCH_AXES] * split))
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, placement, lambda index: leaf[index])

    return jax.tree_util.tree_map_with_path(place, state)


def main(port, process_id, folder, out):
    """Runs one process."""
    devices.start("cpu", f"localhost:{port}", 2, int(process_id))
    like, found = placed(numbered(0)), {}
    for path in sorted(pathlib.Path(folder).iterdir()):
        if path.name.endswith("-seen"):
            continue
        with Checkpoints(path, keep=5) as checkpoints:
            restore = checkpoints._reader._checkpointer.restore

            def restore_seen(directory, args, path=path, restore=restore):
                if process_id == "1" and directory.name == str(NEWEST):
                    directory = path.with_name(f"{path.name}-seen") / str(NEWEST)
                return restore(directory, args=args)

            checkpoints._reader._checkpointer.restore = restore_seen
            state = checkpoints.restore(like)
            found[f"{path.name}.steps"] = np.array(checkpoints.steps())
            for name, leaf in devices.to_host(state).params.items():
                found[f"{path.name}.{name}"] = leaf
            checkpoints.save(placed(numbered(NEWEST + 1)), {}, None)
        with Checkpoints(path, keep=5) as checkpoints:
            state = devices.to_host(checkpoints.restore(like))
        found[f"{path.name}.after"] = state.step
    np.savez(out, **found)
    hosts.leave()  # prints the log


if __name__ == "__main__":
    main(*sys.argv[1:])
