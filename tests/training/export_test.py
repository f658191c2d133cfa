"""Tests of jaxlabs/training/export.py."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from jaxlabs.config import UserError
from jaxlabs.models.transformer_lm import TransformerLM, TransformerLMConfig
from jaxlabs.training.export import export_safetensors, read_safetensors

TREE = {
    "head": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T, "bias": np.ones(3)},
    "scale": np.asarray(2, np.float32),
}


def load(path):
    arrays, header = read_safetensors(path)
    metadata = {name: json.loads(text) for name, text in header.items()}
    return unflatten_dict(arrays, sep="."), metadata


# --- A program in numpy that runs an exported character GPT.
def read(path):
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = {name: json.loads(text) for name, text in header.pop("__metadata__").items()}
    arrays = {
        name: np.frombuffer(content[start:][slice(*entry["data_offsets"])], "<f4").reshape(
            entry["shape"]
        )
        for name, entry in header.items()
    }
    return arrays, metadata


def norm(x, p, name):
    deviation = x - x.mean(-1, keepdims=True)
    normal = deviation / np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e-5)
    return normal * p[f"{name}.scale"] + p[f"{name}.bias"]


def forward(p, settings, tokens):
    (batch, time), embed_dim, heads = tokens.shape, settings["embed_dim"], settings["num_heads"]
    angles = np.arange(time)[:, None] * 10_000.0 ** (-np.arange(0, embed_dim, 2) / embed_dim)
    table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(time, embed_dim)
    x = p["embedding.embedding"][tokens] * embed_dim**0.5 + table
    for block in [f"blocks_{i}" for i in range(settings["num_layers"])]:
        y = norm(x, p, f"{block}.attention_norm")
        q, k, v = (
            (y @ p[f"{block}.attention.{name}_kernel"]).reshape(batch, time, heads, -1)
            for name in ("query", "key", "value")
        )
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / (embed_dim // heads) ** 0.5
        weights = np.exp(np.where(np.tri(time, dtype=bool), scores, -np.inf))
        weights /= weights.sum(-1, keepdims=True)
        joined = np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, time, embed_dim)
        x = x + joined @ p[f"{block}.attention.out.kernel"] + p[f"{block}.attention.out.bias"]
        y = norm(x, p, f"{block}.ffn_norm")
        y = np.maximum(y @ p[f"{block}.ffn.up_proj.kernel"] + p[f"{block}.ffn.up_proj.bias"], 0)
        x = x + y @ p[f"{block}.ffn.down_proj.kernel"] + p[f"{block}.ffn.down_proj.bias"]
    return norm(x, p, "final_norm") @ p["head.kernel"] + p["head.bias"]


# --- 40 lines.


def test_numpy_computes_the_logits_from_the_file(tmp_path, key):
    config = TransformerLMConfig(
        vocab_size=13, context_length=16, embed_dim=24, num_layers=2, num_heads=3, mlp_dim=40
    )
    model = TransformerLM(config)
    tokens = np.random.default_rng(0).integers(13, size=(2, 16))
    shapes = jax.eval_shape(model.init, key, jnp.asarray(tokens))["params"]
    # Random values: zero biases and unit scales would hide a wrong name.
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: np.float32(0.4 * rng.normal(size=leaf.shape)), shapes)
    export_safetensors(params, tmp_path / "p.safetensors", {"settings": config.flat()})

    arrays, metadata = read(tmp_path / "p.safetensors")
    expected = jax.jit(model.apply)({"params": params}, jnp.asarray(tokens))
    logits = forward(arrays, metadata["settings"], tokens)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(logits).max() > 0.5


def test_exported_tree_round_trips(tmp_path):
    metadata = {"settings": {"embed_dim": 8, "window": None}, "data_spec": "ab\n\u00e9", "step": 3}
    export_safetensors(TREE, tmp_path / "p.safetensors", metadata)
    params, read_metadata = load(tmp_path / "p.safetensors")
    assert read_metadata == metadata
    assert jax.tree.structure(params) == jax.tree.structure(TREE)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, TREE)
    jax.tree.map(np.testing.assert_array_equal, params, TREE)


def test_names_are_paths_and_values_in_c_order_for_any_memory_layout(tmp_path):
    assert not TREE["head"]["kernel"].flags.c_contiguous
    export_safetensors(TREE, tmp_path / "p.safetensors", {})
    content = (tmp_path / "p.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {name: entry["shape"] for name, entry in header.items() if name[0] != "_"} == {
        "head.kernel": [3, 2],
        "head.bias": [3],
        "scale": [],
    }
    assert np.asarray([0, 3, 1, 4, 2, 5], "<f4").tobytes() in content


def test_bfloat16_and_jax_arrays_become_float32(tmp_path):
    export_safetensors({"a": jnp.full((2,), 1.5, jnp.bfloat16)}, tmp_path / "p.safetensors", {})
    params, _ = load(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(params["a"], np.full(2, 1.5, np.float32))


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.safetensors"
    export_safetensors(TREE, path, {"step": 1})

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(UserError, match="the disk is full"):
        export_safetensors(TREE, path, {"step": 2})
    assert [file.name for file in tmp_path.iterdir()] == ["p.safetensors"]
    assert load(path)[1] == {"step": 1}


def test_missing_and_truncated_files_give_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "p.safetensors")
    export_safetensors(TREE, tmp_path / "p.safetensors", {})
    whole = (tmp_path / "p.safetensors").read_bytes()
    for content in [b"", b"hello", whole[:-4]]:
        (tmp_path / "p.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"p\.safetensors: .*; a file of --mode=export"):
            load(tmp_path / "p.safetensors")
