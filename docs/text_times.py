"""Times of a tokenizer on a text file, those of guides/data.md.

`python docs/text_times.py tiny_shakespeare.txt bpe:512` encodes in memory, with `--prepare` into
shards. Times are of the processor, summed over cores.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxlabs.data import windows
from jaxlabs.data.host_streams import HostTokenStream
from jaxlabs.data.prepare import prepare
from jaxlabs.data.text_files import find
from jaxlabs.data.text_tokenizer import TextInMemory, text_tokenizer


def main() -> None:
    """Prints one value per line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("tokenizer")
    parser.add_argument("--prepare", action="store_true")
    arguments = parser.parse_args()
    measure = in_shards if arguments.prepare else in_memory
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.text, arguments.tokenizer, folder)


def in_memory(path: Path, value: str, folder: str) -> None:
    """Trains a tokenizer on the training part of a text, and encodes both parts."""
    text = path.read_text(encoding="utf-8")
    parts, size = windows.split_text(text), len(text.encode())
    tokenizer, training = timed(lambda: text_tokenizer(value, TextInMemory(*parts), folder))
    tokens, encoding = timed(lambda: sum(len(tokenizer.encode(part)) for part in parts))
    print(
        f"vocabulary {tokenizer.vocab_size}, tokens {tokens}, {size / tokens:.2f} bytes per token"
    )
    print(f"train {training:.1f} s, encode {size / encoding / 1e6:.1f} MB/s")


def in_shards(path: Path, value: str, folder: str) -> None:
    """Prepares a text, opens it again, and reads batches of 64 windows of 256 tokens."""
    files, before = find(path), peak_memory()
    _, preparing = timed(lambda: prepare(files, value, folder))
    memory = peak_memory() - before
    prepared, opening = timed(lambda: prepare(files, value, folder))
    print(f"prepare {preparing:.1f} s, memory {memory / 1e6:.0f} MB")
    shards = sum(shard.stat().st_size for shard in prepared.folder.glob("*.bin"))
    print(f"shards {shards / 1e6:.0f} MB, open again {1e3 * opening:.1f} ms")
    stream = HostTokenStream(prepared.train, 256, None)
    stream.batch_at(0, 0, 64)  # compiles the random numbers
    _, reading = timed(lambda: [stream.batch_at(0, step, 64) for step in range(1, 201)])
    print(f"a batch of 64 x 256 tokens {1e3 * reading / 200:.2f} ms")


def peak_memory() -> int:
    """Returns the peak of the resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Returns the result of a call and its processor time in seconds."""
    start = time.process_time()
    return function(), time.process_time() - start


if __name__ == "__main__":
    main()
