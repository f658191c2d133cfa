"""Times of the kernels of jaxlabs/layers/cpu over those of what they replace.

`python docs/kernel_times.py` prints the table of guides/precision-and-speed.md for this machine and
version of jax: values and gradients, median of interleaved repeats, ten passes in a compiled loop.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlabs.layers import rnn_cells
from jaxlabs.layers.cpu import chunked_attention, conv3x3, resize
from jaxlabs.layers.cpu.flash_attention import flash_attention
from jaxlabs.layers.cpu.masked_attention import dense_attention
from jaxlabs.layers.cpu.matmul import kernel_gradient
from jaxlabs.layers.cpu.rnn_scan import rnn_scan
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.training import malloc

PASSES = 10
"""Passes in one call."""


class Pair(NamedTuple):
    """A kernel, and what it replaces."""

    name: str
    shapes: str
    kernel: Callable[..., jax.Array]
    replaced: Callable[..., jax.Array]
    operands: tuple[jax.Array, ...]
    gradients: bool = True  #: whether values and gradients are timed, or values alone


def main() -> None:
    """Prints a row per kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    malloc.configure_malloc()
    print(f"jax {jax.__version__}\n\n| kernel | shapes | kernel | replaced | ratio |")
    print("|---|---|---|---|---|")
    for pair in pairs():
        ours, theirs = times(pair, repeats)
        cells = pair.name, pair.shapes, f"{ours:.2f} ms", f"{theirs:.2f} ms", f"{ours / theirs:.2f}"
        print(f"| {' | '.join(cells)} |", flush=True)


def times(pair: Pair, repeats: int) -> tuple[float, ...]:
    """Returns the milliseconds of a pass of the kernel and of what it replaces."""
    functions = [repeated(function, pair.gradients) for function in (pair.kernel, pair.replaced)]
    measured = [[], []]
    for repeat in range(repeats + 1):  # the first one compiles
        for function, found in zip(functions, measured, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(*pair.operands))
            if repeat:
                found.append(1e3 * (time.perf_counter() - start) / PASSES)
    return tuple(map(statistics.median, measured))


def repeated(function: Callable[..., jax.Array], gradients: bool) -> Callable[..., jax.Array]:
    """Returns a function that runs passes one after another, each on changed operands."""

    def one_pass(operands):
        if not gradients:
            return function(*operands)
        output, vjp = jax.vjp(function, *operands)
        return vjp(output)

    @jax.jit
    def run(*operands):
        def body(_, carry):
            operands, checksum = carry
            results = lax.optimization_barrier(one_pass(operands))
            checksum += sum(
                leaf.ravel()[0].astype(jnp.float32) for leaf in jax.tree.leaves(results)
            )
            changed = tuple(
                x.at[(0,) * x.ndim].add((checksum * 1e-9).astype(x.dtype)) for x in operands
            )
            return changed, checksum

        return lax.fori_loop(0, PASSES, body, (operands, jnp.float32(0)))[1]

    return run


def pairs() -> Iterator[Pair]:
    """Yields all kernels in the order of the table."""
    normal = np.random.default_rng(0).standard_normal

    def arrays(*shapes):
        return tuple(jnp.asarray(normal(shape), jnp.float32) for shape in shapes)

    def transposed(x, gradient):
        return jnp.dot(x.T, gradient, precision=lax.Precision.HIGHEST)

    def in_bfloat16(x, gradient):
        x, gradient = x.astype(jnp.bfloat16), gradient.astype(jnp.bfloat16)
        return jnp.dot(x.T, gradient, preferred_element_type=jnp.float32)

    for precision, replaced in (("highest", transposed), ("bfloat16", in_bfloat16)):
        for rows, width, columns in ((2048, 1536, 384), (8192, 256, 65)):
            yield Pair(
                f"`matmul`, {'float32' if precision == 'highest' else precision}",
                f"{rows} rows, {width} x {columns}",
                lambda x, gradient, precision=precision: kernel_gradient(x, gradient, precision),
                replaced,
                arrays((rows, width), (rows, columns)),
                gradients=False,
            )
    for name, attend, replaced, shape, window in (
        ("chunked", chunked_attention.query_chunked_attention, dense_attention, (4, 6, 256), None),
        ("chunked", chunked_attention.query_chunked_attention, dense_attention, (1, 6, 1024), None),
        ("flash", flash_attention, chunked_attention.query_chunked_attention, (1, 4, 2048), None),
        ("flash", flash_attention, chunked_attention.query_chunked_attention, (1, 4, 4096), None),
        ("flash", flash_attention, chunked_attention.query_chunked_attention, (4, 6, 2048), None),
        ("flash", flash_attention, chunked_attention.block_local_attention, (1, 4, 4096), 256),
        ("flash", flash_attention, chunked_attention.block_local_attention, (1, 4, 8192), 256),
        (
            "block-local",
            chunked_attention.block_local_attention,
            chunked_attention.query_chunked_attention,
            (4, 3, 1024),
            64,
        ),
    ):
        mask = AttentionMask(window=window)
        yield Pair(
            f"attention, {name}",
            f"{' x '.join(map(str, shape))}, {f'window {window}' if window else 'causal'}",
            lambda *qkv, attend=attend, mask=mask: attend(*qkv, mask, precision="highest"),
            lambda *qkv, attend=replaced, mask=mask: attend(*qkv, mask, precision="highest"),
            arrays(*3 * [(*shape, 64)]),
        )
    for size, width, out in ((28, 64, 64), (14, 128, 128), (7, 128, 128)):
        operands = arrays((8, size, size, width), (3, 3, width, out))
        for implementation in ("matmuls", "winograd"):
            yield Pair(
                f"`conv3x3`, {implementation}, over XLA's",
                f"8 of {size} x {size}, {width} to {out}",
                lambda x, kernel, name=implementation: conv3x3.conv3x3(x, kernel, "highest", name),
                lambda x, kernel: lax.conv_general_dilated(
                    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                ),
                operands,
            )
    for cell in rnn_cells.CELLS:
        yield recurrent(cell, arrays)
    (images,) = arrays((32, 28, 28, 64))
    yield Pair(
        "`resize`, max-pooling",
        "32 of 28 x 28 x 64",
        resize.max_pool_2x2,
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        (images,),
    )
    yield Pair(
        "`resize`, upsampling",
        "32 of 14 x 14 x 64",
        resize.upsample_2x_bilinear,
        lambda x: jax.image.resize(x, (32, 28, 28, 64), "bilinear"),
        arrays((32, 14, 14, 64)),
    )


def recurrent(cell: str, arrays: Callable[..., tuple[jax.Array, ...]]) -> Pair:
    """Returns the scan of a cell, 64 x 128 steps of 256 units."""
    gates, states = {"rnn": (1, 1), "lstm": (4, 2), "gru": (3, 1)}[cell]
    operands = arrays((128, 64, gates * 256), (256, gates * 256))
    operands = operands[0], operands[1] / 16
    state = tuple(jnp.zeros((64, 256)) for _ in range(states))
    bias = jnp.zeros(gates * 256) if cell == "gru" else None

    def ours(inputs, kernel):
        return rnn_scan(cell, False, "highest", inputs, kernel, bias, state, None)[0]

    def plain(inputs, kernel):
        trace = rnn_cells.scan_cell(cell, inputs, kernel, bias, state, precision="highest")
        return trace.states[0]

    return Pair(f"`rnn_scan`, {cell}", "64 x 128 steps, 256 units", ours, plain, operands)


if __name__ == "__main__":
    main()
