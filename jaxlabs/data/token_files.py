"""Token shards made by others, the `.bin` files of nanoGPT and llm.c, as the two parts of a text.

A folder has `*train*.bin` and, for the held-out part, `*val*.bin`; without these, and for a single
file, the last 10 % of the tokens are held out. The shards are memory-mapped where they are. They
are read once, to hash them and to check that the tokenizer has all their tokens; the result is kept
in a folder of prepared data.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data import prepared_folder, shards, tokenizers
from jaxlabs.data.prepared_folder import byte_progress
from jaxlabs.data.shards import ShardedTokens
from jaxlabs.data.tokenizers import Tokenizer

SUFFIX = ".bin"

VERSION = 1
"""Version of the kept result; another one is made again."""

CHUNK = 2**22
"""Tokens that are checked at once."""


@dataclasses.dataclass(frozen=True)
class TokenFiles:
    """Token shards.

    Attributes:
      name: the value of `--dataset`.
      root: the file, or the folder.
      train: shards of the training part, or of both parts if there are no others.
      held_out: shards of the held-out part.
    """

    name: str
    root: Path
    train: tuple[Path, ...]
    held_out: tuple[Path, ...]


class OpenTokens(NamedTuple):
    """The tokens of `TokenFiles`; `sha256` is the hash of all of them."""

    train: ShardedTokens
    held_out: ShardedTokens
    sha256: str


def find(name: str, path: Path) -> TokenFiles | None:
    """Returns the token shards of a path; None if it holds none.

    Raises:
      UserError: a folder of shards has none for training, or one that belongs to both parts.
    """
    if not path.is_dir():
        return TokenFiles(name, path, (path,), ()) if path.suffix == SUFFIX else None
    found = sorted(path.glob(f"*{SUFFIX}"))
    if not found:
        return None
    train = tuple(one for one in found if "train" in one.name)
    held_out = tuple(one for one in found if "val" in one.name)
    if both := [one.name for one in train if one in held_out]:
        raise UserError(f"{path / both[0]}: 'train' and 'val' are in its name; one of them")
    if not train:
        names = ", ".join(one.name for one in found[:5])
        raise UserError(f"{path}: has {names}, but no *train*.bin; *val*.bin is the held-out part")
    return TokenFiles(name, path, train, held_out)


def open_tokens(
    files: TokenFiles, tokenizer: Tokenizer, data_dir: str | Path | None = None
) -> OpenTokens:
    """Opens token shards, after a first reading that checks them.

    Raises:
      UserError: a shard is damaged, see `shards.open_shard`; or it has a token that the tokenizer
        does not have.
    """
    paths = (*files.train, *files.held_out)
    try:
        maps = {path: shards.open_shard(path) for path in paths}
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        many = f"{len(paths):,} shards are more than the files that a process may open"
        raise UserError(
            f"{files.root}: {many}; a higher limit (ulimit -n), or larger shards"
        ) from None
    if len({tokens.dtype for tokens in maps.values()}) > 1:
        kinds = ", ".join(f"{path.name} {tokens.dtype}" for path, tokens in maps.items())
        raise UserError(f"{files.root}: shards of several types ({kinds}); those of one are needed")
    cached = prepared_folder.folder(files.root, paths, data_dir, VERSION) / "tokens.json"
    checked = _read(cached)
    if checked is None:
        checked = _check(maps)
        _keep(cached, checked)
    for path, highest in zip(paths, checked["highest"], strict=True):
        if highest >= tokenizer.vocab_size:
            raise UserError(
                f"{path}: token {highest:,}, but the tokenizer has {tokenizer.vocab_size:,}: the"
                " shard is of another tokenizer, or of another byte order"
            )
    train = ShardedTokens([maps[path] for path in files.train])
    if files.held_out:
        held_out = ShardedTokens([maps[path] for path in files.held_out])
    else:
        train, held_out = split(train, int(0.9 * len(train)))
    return OpenTokens(train, held_out, checked["sha256"])


def split(tokens: ShardedTokens, border: int) -> tuple[ShardedTokens, ShardedTokens]:
    """Returns the tokens before `border` and the rest, without reading them."""
    before, after, first = [], [], 0
    for shard in tokens.shards:
        cut = min(max(border - first, 0), len(shard))
        before.append(shard[:cut])
        after.append(shard[cut:])
        first += len(shard)
    return ShardedTokens(before), ShardedTokens(after)


def require_tokenizer(value: str) -> None:
    """Raises ArgumentError unless a value of `--tokenizer` names the one of token shards."""
    if tokenizers.parse(value).kind not in ("bytes", "file"):
        raise ArgumentError(
            "tokenizer",
            f"{value} needs a text, but the data set is of token shards ({SUFFIX}); the tokenizer"
            " that made them: bytes, or a tokenizer file that ends in .json",
        )


def _check(maps: dict[Path, np.ndarray]) -> dict[str, Any]:
    """Returns the hash of all tokens, and the highest one of each shard."""
    digest, highest = hashlib.sha256(), []
    total = sum(tokens.nbytes for tokens in maps.values())
    with byte_progress("checking shards", total) as bar:
        for tokens in maps.values():
            highest_token = 0
            for start in range(0, len(tokens), CHUNK):
                part = np.asarray(tokens[start : start + CHUNK])
                digest.update(part.data)
                highest_token = max(highest_token, int(part.max()))
                bar.update(part.nbytes)
            highest.append(highest_token)
    return {"sha256": digest.hexdigest(), "highest": highest}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _keep(path: Path, checked: dict[str, Any]) -> None:
    """Writes the result; if that fails, the next run checks again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        prepared_folder.write_json(path, checked)
