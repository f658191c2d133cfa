"""Byte-level BPE: equal to the library's, for any text; trained once and cached."""

import hashlib
import json
import math
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import tokenizers as library

from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data import bpe, tokenizers
from jaxlabs.data.bpe import BPETokenizer
from jaxlabs.data.tokenizers import ByteTokenizer

WORDS = ["the", "king", "of", "France", "isn't", "here,", "my", "lord;", "we'll", "ride", "10"]
TEXT = " ".join(random.Random(0).choices([*WORDS, "\n", "\n\nROMEO:\n", "naïve", "東京"], k=4000))

HOSTILE = {
    "emoji": "👩‍👩‍👧 flags 🇵🇱🇯🇵 and 😀",
    "combining": "e\u0301 ḗ a\u0300\u0301\u0302 नमस्ते",
    "nul": "a\0b \0\0 c",
    "line ends": "one\r\ntwo\rthree\n\n  four \t five\u2028six\u0085",
    "not latin": "naïve 東京都 Привет مرحبا \U0010ffff",
    "words not latin": "Всё смешалось в доме\nОблонских हिन्दी में लिखा ½ é \n東京\n\n都",
    "spaces": "  a   b \u00a0\u3000 c    ",
    "empty": "",
    "special": "a <|endoftext|> b",
    "contractions": "don't we'll I'VE o' the 's",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return bpe.trained([TEXT], 400, tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture(scope="module")
def like_gpt4(trained):
    """A tokenizer file of others: another splitter, and a special token."""
    tokenizer = library.Tokenizer.from_str(trained.content)
    pattern = library.Regex(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = library.pre_tokenizers.Split(pattern, "isolated")
    levels = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence([split, levels])
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.enable_truncation(5)
    return BPETokenizer(tokenizer.to_str())


@pytest.fixture(params=["trained", "like_gpt4"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def reference(tokenizer, text):
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_encoded_as_by_the_library_and_decoded_unchanged(tokenizer, text):
    tokens = tokenizer.encode(text)
    assert tokens.dtype == tokenizer.dtype == np.uint16
    assert tokens.tolist() == reference(tokenizer, text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.backend_tokenizer.decode(tokens.tolist(), skip_special_tokens=False) == text
    assert tokenizer.token_bytes()[tokens].sum() == len(text.encode())
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_any_size_are_encoded_as_the_whole_text(tokenizer, seed, monkeypatch):
    rng = random.Random(seed)
    parts = [*HOSTILE.values(), TEXT[:300], "  \n", " a b c ", "A's b'll C", "1 a 2 b3 c"]
    text = "".join(rng.choices(parts, k=60))
    monkeypatch.setattr(bpe, "PIECE", rng.choice([1, 7, 64]))
    assert len(list(bpe.split_pieces(text))) > 10
    assert "".join(bpe.split_pieces(text)) == text
    assert tokenizer.encode(text).tolist() == reference(tokenizer, text)


def test_text_is_split_where_what_follows_does_not_matter(tokenizer):
    for cut in range(200, 260):
        point = tokenizer.split_point(TEXT[:cut])
        assert 150 < point <= cut
        parts = [tokenizer.encode(part) for part in (TEXT[:point], TEXT[point:400])]
        np.testing.assert_array_equal(np.concatenate(parts), tokenizer.encode(TEXT[:400]))
    assert tokenizer.split_point("no,split!\n" * 10_000) == 0
    assert tokenizer.split_point("a b" + "x" * 50_000) == 1


POINTS = {"Всё смешалось в доме": 15, "東京\n都": 2, "1 a\n\n b": 3, "a  b é": 4}


@pytest.mark.parametrize(("text", "point"), POINTS.items())
def test_words_of_any_alphabet_and_lines_are_split(tokenizer, text, point):
    assert tokenizer.split_point(text) == point


def test_tokens_across_words_are_not_cut(trained):
    """Where a splitter keeps whole lines, or a token has a space, the text stays in one piece."""
    lines = library.Tokenizer.from_str(trained.content)
    lines.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    phrase = library.Tokenizer.from_str(trained.content)
    phrase.add_tokens(["my lord"])
    for tokenizer in (BPETokenizer(lines.to_str()), BPETokenizer(phrase.to_str())):
        assert tokenizer.split_point(TEXT) == 0
        assert tokenizer.encode(TEXT[:20_000]).tolist() == reference(tokenizer, TEXT[:20_000])


@pytest.mark.parametrize("letters", ["a", "abcdefgh"])
def test_a_megabyte_without_a_space_is_decoded_unchanged(trained, letters):
    text = "".join(random.Random(0).choices(letters, k=1_000_000))
    assert trained.decode(trained.encode(text)) == text


def test_lone_surrogates_become_replacement_characters(tokenizer):
    text = json.loads(r'"half \ud83d of a pair \ude00\ud83d, whole \ud83d\ude00"')
    expected = "half � of a pair ��, whole 😀"
    for any_text in (tokenizer, ByteTokenizer()):
        assert any_text.decode(any_text.encode(text)) == expected


def test_decoding_never_gives_a_part_of_a_character(trained):
    """An incomplete last character waits; bytes that are none are replaced, as the library does."""
    tokens = np.concatenate([trained.encode("a"), trained.encode("🦖")])
    assert len(tokens) == 5
    assert [trained.decode(tokens[:end]) for end in range(1, 6)] == ["a"] * 4 + ["a🦖"]
    assert trained.decode(tokens[1:].tolist() + tokens[:1].tolist()) == "🦖a"
    assert trained.decode([*tokens[:3], *tokens[:1]]) == "a�a"
    rng = np.random.default_rng(0)
    for kind in (trained, ByteTokenizer()):
        for _ in range(50):
            decoded = kind.decode(rng.integers(0, kind.vocab_size, 40))
            assert decoded.encode().decode() == decoded


def test_labels_name_every_token(trained, like_gpt4):
    assert trained.pieces(" the é\n") == [" the", " ", r"\xc3", r"\xa9", "\n"]
    assert trained.pieces("\0🦖") == [r"\x00", r"\xf0", r"\x9f", r"\xa6", r"\x96"]
    assert like_gpt4.pieces("a<|endoftext|>") == ["a", "<|endoftext|>"]
    assert ByteTokenizer().pieces("é\r") == [r"\xc3", r"\xa9", r"\r"]
    for kind in (trained, ByteTokenizer()):
        with pytest.raises(ValueError, match=r"token -1 is not one of 0\.\."):
            kind.labels([-1])
        with pytest.raises(ValueError, match=rf"token {kind.vocab_size} is not one of"):
            kind.decode([kind.vocab_size])


def test_json_round_trip_needs_no_file(tokenizer):
    saved = json.loads(json.dumps(tokenizer.to_json()))
    assert tokenizers.load(saved) == tokenizer
    assert tokenizers.load(saved | {"speakers": []}).sha256 == tokenizer.sha256
    assert tokenizers.load({"kind": "bytes"}) == ByteTokenizer()
    with pytest.raises(UserError, match="kind 'lines' found; characters, words, bytes or bpe"):
        tokenizers.load({"kind": "lines"})


def test_bytes_of_a_vocabulary_are_those_of_the_library():
    """Every character of the library's alphabet is one byte, every byte that can occur is right."""
    byte_of = bpe._byte_of_character()
    assert set(byte_of) == set(library.pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_of.values()) == list(range(256))
    level = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in map(chr, [*range(0x800), 0xFFFF, *range(0x10000, 0x110000, 0x10000)]):
        ((written, _),) = level.pre_tokenize_str(text)
        assert bytes(map(byte_of.get, written)) == text.encode()


def test_training_is_deterministic_and_of_the_wanted_size(trained, tmp_path):
    assert bpe.trained([TEXT], 400, tmp_path, progress=False) == trained
    assert bpe.trained([TEXT], 300, tmp_path, progress=False).vocab_size == 300


def test_a_short_text_has_fewer_tokens_and_the_line_says_so(tmp_path, capsys):
    size = bpe.trained(["aab aab"], 400, tmp_path).vocab_size
    assert size < 262
    start = f"tokenizer: BPE of {size} tokens, all that repeat, trained on 7 characters in "
    assert capsys.readouterr().err.startswith(start)


def test_cached_tokenizer_is_not_trained_again(tmp_path, monkeypatch, capsys):
    first = bpe.trained([TEXT], 300, tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert capsys.readouterr().err.startswith("tokenizer: BPE of 300 tokens trained on ")
    assert bpe.read_file(path) == first
    digest, name = path.with_name(path.name + ".sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
    monkeypatch.setattr(bpe, "_train", None)
    assert bpe.trained([TEXT], 300, tmp_path) == first
    assert capsys.readouterr().err == ""
    for other in [([TEXT], 301), ([TEXT + "."], 300)]:
        with pytest.raises(TypeError):  # trained, and not read from the cache
            bpe.trained(*other, tmp_path)


@pytest.mark.parametrize("damage", ["json", "json.sha256"])
def test_damaged_cache_is_trained_again(tmp_path, damage, capsys):
    first = bpe.trained([TEXT], 300, tmp_path, progress=False)
    (path,) = tmp_path.glob(f"*.{damage}")
    intact = path.read_bytes()
    path.write_bytes(intact[:-9])
    assert bpe.trained([TEXT], 300, tmp_path, progress=False) == first
    assert "damaged, its sha256 differs; trained again" in capsys.readouterr().err
    assert path.read_bytes() == intact


def test_a_cache_that_cannot_be_written_is_not_used(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert bpe.trained(["aab aab"], 300, tmp_path / "file" / "cache").vocab_size > 256
    assert "not kept: " in capsys.readouterr().err


def test_two_processes_train_once(tmp_path):
    (tmp_path / "text").write_text(TEXT)
    code = (
        "import pathlib, sys; from jaxlabs.data import bpe; folder = pathlib.Path(sys.argv[1]);"
        "print(bpe.trained([(folder / 'text').read_text()], 400, folder / 'cache').sha256)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=100) for process in started]
    assert len({out for out, _ in outputs}) == 1
    assert outputs[0][0]
    assert sorted("trained on" in err for _, err in outputs) == [False, True]
    assert len(list((tmp_path / "cache").glob("*.json"))) == 1
    assert not list((tmp_path / "cache").glob(".*"))


@pytest.mark.parametrize(("length", "count"), [(50_000_000, 1), (50_000_001, 50), (10**9, 50)])
def test_training_reads_at_most_50_million_characters(length, count):
    parts = bpe.training_parts(length)
    assert len(parts) == count
    assert sum(part.stop - part.start for part in parts) == 50_000_000
    assert (parts[0].start, parts[-1].stop) == (0, length)
    edges = [edge for part in parts for edge in (part.start, part.stop)]
    assert edges == sorted(edges)  # no character twice


def changed(tokenizer, **entries):
    return json.dumps(json.loads(tokenizer.content) | entries)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model": None}, r"^tokenizer: not a tokenizer of `tokenizers` [0-9.]+ \("),
        ({"pre_tokenizer": None, "normalizer": {"type": "Lowercase"}}, "is decoded as \"don't"),
        ({"normalizer": {"type": "NFKC"}}, "is decoded as"),
        (
            {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": False}},
            "is decoded as",
        ),
        ({"decoder": None}, None),
        ({"normalizer": {"type": "NFC"}}, None),
    ],
)
def test_only_tokenizers_that_keep_the_text_are_accepted(trained, entries, message):
    if message is None:
        assert BPETokenizer(changed(trained, **entries)).decode(trained.encode("a b")) == "a b"
        return
    with pytest.raises(UserError, match=message) as error:
        BPETokenizer(changed(trained, **entries))
    assert "\n" not in str(error.value)


def test_tokenizers_without_all_bytes_or_at_random_are_refused(trained):
    model = json.loads(trained.content)["model"]
    with pytest.raises(UserError, match="BPE with dropout is random; one without is accepted"):
        BPETokenizer(changed(trained, model=model | {"dropout": 0.1}))
    vocab = {token: index for token, index in model["vocab"].items() if token != "!"}
    with pytest.raises(UserError, match="1 of the 256 bytes have no token; a byte-level tokenizer"):
        BPETokenizer(changed(trained, model=model | {"vocab": vocab}))


def test_file_that_is_no_tokenizer_is_named(tmp_path, trained):
    path = tmp_path / "own.json"
    with pytest.raises(UserError, match=r"own\.json: cannot be read \(No such file"):
        bpe.read_file(path)
    path.write_text('{"kind": "characters"}')
    with pytest.raises(UserError, match=r"own\.json: tokenizer: not a tokenizer of `tokenizers`"):
        bpe.read_file(path)
    path.write_bytes(b"\xff{")
    with pytest.raises(UserError, match=r"own\.json: not UTF-8; a file of Hugging Face's"):
        bpe.read_file(path)
    path.write_text(trained.content, encoding="utf-8-sig")
    assert bpe.read_file(path) == trained


def test_missing_library_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ArgumentError, match=r"^tokenizer: .*pip install 'jaxlabs\[text\]'$"):
        bpe.trained([TEXT], 300, tmp_path)


@pytest.mark.benchmark
def test_encoding_is_as_fast_as_the_batches_of_the_library(tmp_path):
    """10 MB of generated words, in lines as a user would give them to the library."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("etaoinshrdlu"), rng.integers(1, 12))) for _ in range(20_000)]
    rank = 1 / np.arange(1, len(words) + 1)
    chosen = rng.choice(words, 1_600_000, p=rank / rank.sum())
    lines = [" ".join(chosen[start : start + 15]) + ".\n" for start in range(0, len(chosen), 15)]
    text = "".join(lines)
    tokenizer = bpe.trained([text], 4096, tmp_path, progress=False)
    calls = {
        "ours": lambda: tokenizer.encode(text),
        "theirs": lambda: tokenizer.backend_tokenizer.encode_batch(lines),
    }
    seconds = dict.fromkeys(calls, math.inf)
    for _ in range(3):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    assert seconds["ours"] <= seconds["theirs"] / 0.8, seconds
