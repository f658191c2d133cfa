"""Tokenizers: decoding inverts encoding, in any language."""

import json
import random

import numpy as np
import pytest

from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data import tokenizers
from jaxlabs.data.tokenizers import ByteTokenizer, CharTokenizer, WordTokenizer, split_words

TEXTS = {
    "english": "First Citizen:\nBefore we proceed any further, hear me speak.\n",
    "line ends": "one\r\ntwo\rthree\n\x00",
    "astral": "naïve 東京 😀👩‍🚀 \U0010ffff",
    "surrogates": "half \ud83d of a pair \ude00",
    "combining": "é e\u0301",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_decode_inverts_encode(text):
    tokenizer = CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text)
    assert len(tokens) == len(text)
    assert tokenizer.decode(tokens) == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_tokens_are_indices_of_the_sorted_alphabet(text):
    alphabet = sorted(set(text))
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.vocab.size == len(alphabet)
    assert tokenizer.encode(text).tolist() == [alphabet.index(character) for character in text]


# JSON joins surrogate pairs into one character; UTF-8 files have no surrogates.
@pytest.mark.parametrize("name", sorted(TEXTS.keys() - {"surrogates"}))
def test_char_tokenizer_json_round_trip(name):
    tokenizer = CharTokenizer.from_text(TEXTS[name])
    assert CharTokenizer.from_json(json.loads(json.dumps(tokenizer.to_json()))) == tokenizer


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(1, np.uint8), (256, np.uint8), (257, np.uint16), (65_536, np.uint16), (65_537, np.uint32)],
)
def test_tokens_have_the_narrowest_dtype(size, dtype):
    text = "".join(chr(point) for point in range(0x10000, 0x10000 + size))
    tokens = CharTokenizer.from_text(text).encode(text)
    assert tokens.dtype == dtype
    np.testing.assert_array_equal(tokens, np.arange(size))


def test_long_random_text_round_trip():
    letters = [chr(point) for point in random.Random(0).sample(range(0xD800), 500)]
    text = "".join(random.Random(1).choices(letters, k=20_000))
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_empty_text_has_no_tokens():
    tokenizer = CharTokenizer("ab")
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == ""


def test_unknown_characters_are_named():
    with pytest.raises(UserError) as caught:
        CharTokenizer.from_text("hello\n").encode("zażółć é\n")
    assert str(caught.value) == (
        "unknown characters ' ', 'a', 'z', 'é', 'ó', 'ć', 'ł', 'ż'; "
        "the 5 characters of the training text are '\\nehlo'"
    )


def test_message_about_many_unknown_characters_stays_short():
    known = CharTokenizer.from_text("".join(map(chr, range(0x4E00, 0x4E00 + 3000))))
    with pytest.raises(UserError) as caught:
        known.encode("abcdefghijklmnop")
    message = str(caught.value)
    assert "'j' and 6 more; the 3000 characters" in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("tokens", [[0, 2], [-1]])
def test_decoding_a_token_that_does_not_exist_is_an_error(tokens):
    with pytest.raises(ValueError, match=r"token (2|-1) is not one of 0\.\.1"):
        CharTokenizer("ab").decode(tokens)


@pytest.mark.parametrize("alphabet", ["", "ba", "aab"])
def test_invalid_alphabet_is_an_error(alphabet):
    with pytest.raises(UserError, match="distinct characters, in ascending order"):
        CharTokenizer.from_json({"kind": "characters", "alphabet": alphabet})


def test_json_of_another_tokenizer_is_an_error():
    with pytest.raises(
        UserError, match=r"^tokenizer: kind 'words' found, 'characters' is accepted$"
    ):
        CharTokenizer.from_json({"kind": "words", "alphabet": "ab"})


SENTENCES = ["It's our time.", "The people's time isn't over."]


@pytest.fixture(scope="module")
def words():
    return WordTokenizer.from_lines(SENTENCES)


def test_words_are_split_as_in_the_penn_treebank():
    # Penn Treebank: clitics and punctuation are split, opening and closing quotes differ, a full
    # stop is split at the end of a line only.
    text = "Don't say \"never\", Mr. Smith.\nWe can't."
    expected = "Do n't say `` never '' , Mr. Smith . We ca n't ."
    assert split_words(text) == expected.split()


def test_word_ids_follow_pad_and_unk_in_order(words):
    known = sorted(["It", "'s", "our", "time", ".", "The", "people", "is", "n't", "over"])
    assert words.words == tuple(known)
    assert words.vocab.size == len(known) + 2
    tokens = words.encode("our people went over .")
    assert tokens.tolist() == [
        *(known.index("our") + 2, known.index("people") + 2),
        *(1, known.index("over") + 2, known.index(".") + 2),
    ]
    assert tokens.dtype == np.uint8


def test_words_below_min_count_are_unknown():
    assert WordTokenizer.from_lines(SENTENCES, min_count=2).words == ("'s", ".", "time")


def test_lines_are_tokenized_separately(words):
    lines = "\n".join(SENTENCES)
    apart = np.concatenate([words.encode(sentence) for sentence in SENTENCES])
    np.testing.assert_array_equal(words.encode(lines), apart)
    assert 1 not in apart
    assert words.encode(" \n\n ").shape == (0,)


def test_decode_detokenizes_known_words(words):
    for sentence in SENTENCES:
        assert words.decode(words.encode(sentence)) == sentence
    assert words.decode([0, *words.encode("time"), 1, 0, 0]) == "time <unk>"
    assert words.vocab.labels([0, 1, 2]) == ["<pad>", "<unk>", "'s"]
    with pytest.raises(ValueError, match=r"token 12 is not one of 0\.\.11"):
        words.vocab.labels([12])


def test_word_tokenizer_json_round_trip(words):
    saved = json.loads(json.dumps(words.to_json()))
    assert WordTokenizer.from_json(saved | {"speakers": ["a"]}) == words
    with pytest.raises(UserError, match=r"^tokenizer: kind 'characters' found, 'words' is"):
        WordTokenizer.from_json({"kind": "characters", "alphabet": "ab"})
    with pytest.raises(UserError, match="distinct, in ascending order"):
        WordTokenizer.from_json({"kind": "words", "words": ["b", "a"]})


def test_parts_of_a_long_text_are_encoded_like_the_whole(monkeypatch):
    monkeypatch.setattr(tokenizers, "PART", 7)
    for text in TEXTS.values():
        tokenizer = CharTokenizer.from_text(text)
        tokens = tokenizer.encode(text * 3)
        assert tokens.tolist() == [tokenizer.alphabet.index(character) for character in text * 3]
    with pytest.raises(UserError, match="unknown characters 'c', 'd'"):
        CharTokenizer("ab").encode("a" * 9 + "c" + "a" * 9 + "d")


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("char", ("char", None, None)),
        ("word", ("word", None, None)),
        ("bytes", ("bytes", None, None)),
        ("bpe:257", ("bpe", 257, None)),
        ("bpe:262144", ("bpe", 262_144, None)),
        ("own/tokenizer.json", ("file", None, "own/tokenizer.json")),
        ("bpe:512.json", ("file", None, "bpe:512.json")),
    ],
)
def test_values_of_the_flag_are_parsed(value, choice):
    assert tokenizers.parse(value) == choice


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("bpe:256", "'bpe:256' is not accepted; bpe with a vocabulary of 257 to 262,144 tokens"),
        ("bpe:999999999", "bpe with a vocabulary of 257 to 262,144 tokens"),
        ("bpe:4k", "'bpe:4k' is not accepted; char, word, bytes, bpe:SIZE such as bpe:4096, or a"),
        ("bpe", "'bpe' is not accepted; char, word, bytes, bpe:SIZE"),
        ("chars", "did you mean 'char'"),
        ("", "'' is not accepted; char, word"),
        ("tokenizer.model", "or a tokenizer file that ends in .json"),
    ],
)
def test_other_values_of_the_flag_are_refused_in_one_line(value, message):
    with pytest.raises(ArgumentError) as error:
        tokenizers.parse(value)
    assert error.value.argument == "tokenizer"
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_of_tokens_add_up_to_those_of_the_text(words):
    for text in TEXTS.values():
        tokenizer = CharTokenizer.from_text(text)
        size = len(text.encode("utf-8", "surrogatepass"))
        assert tokenizer.token_bytes()[tokenizer.encode(text)].sum() == size
    text = TEXTS["astral"]
    assert ByteTokenizer().token_bytes()[ByteTokenizer().encode(text)].sum() == len(text.encode())
    assert words.token_bytes() is None  # the words do not determine the text


@pytest.mark.parametrize("cut", range(40, 60))
def test_any_tokenizer_says_where_a_text_may_be_split(words, cut):
    text = "The people's time. It's over.\nIt isn't our time, é \n\nover!"
    for tokenizer in (words, CharTokenizer.from_text(text), ByteTokenizer()):
        point = tokenizer.split_point(text[:cut])
        parts = [tokenizer.encode(text[:point]), tokenizer.encode(text[point:])]
        np.testing.assert_array_equal(np.concatenate(parts), tokenizer.encode(text))
    assert words.split_point(text[:cut]) >= 30


def test_pieces_name_unknown_words(words):
    assert words.pieces("Our time isn't here.") == ["Our", "time", "is", "n't", "here", "."]
    assert words.labels(words.encode("Our time")) == ["<unk>", "time"]


def test_hash_is_that_of_the_tokenizer(words):
    assert words.sha256 == tokenizers.load(words.to_json() | {"speakers": []}).sha256
    others = [CharTokenizer("ab"), CharTokenizer("abc"), ByteTokenizer(), words]
    assert len({tokenizer.sha256 for tokenizer in others}) == 4
    assert {type(tokenizers.load(one.to_json())) for one in others} == {type(o) for o in others}
