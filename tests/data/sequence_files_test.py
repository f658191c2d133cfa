import re

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import sequence_files
from jaxlabs.data.grammars import tagging
from jaxlabs.data.sequence_splits import (
    END,
    PADDING,
    Numbering,
    SequenceDataConfig,
    sequence_data,
    splits_of,
)

SMALL = SequenceDataConfig(train_sentences=300, test_sentences=40)
CONLL = "We PRP O\nmet VBD O\nJordan NNP B-PER\n\n-DOCSTART- -X- O\n\nParis NNP B-LOC\n"


def write(folder, content):
    path = folder / "mine.txt"
    path.write_text(content)
    return path


def test_columns_become_words_and_tags(tmp_path):
    (first,), (second,) = sequence_files.read("tagging", write(tmp_path, CONLL))
    assert first == (("We", "met", "Jordan"), ("O", "O", "B-PER"))
    assert second == (("Paris",), ("B-LOC",))


def test_tabs_and_lines_become_pairs(tmp_path):
    path = write(tmp_path, "good\tall is well\r\n\nbad\tall is lost\n")
    assert [pair[0] for pair in sequence_files.read("sentiment", path)] == [
        (("all", "is", "well"), ("good",)),
        (("all", "is", "lost"), ("bad",)),
    ]
    path = write(tmp_path, "the moon\tla luna\nthe moon\tla luna\n")
    assert sequence_files.read("translation", path) == [[(("the", "moon"), ("la", "luna"))]]
    path = write(tmp_path, "the moon hears\nyes\n")
    assert sequence_files.read("next_word", path) == [
        [(("the",), ("moon",)), (("the", "moon"), ("hears",))]
    ]


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("tagging", "We O\nmet O O\n", "line 2: 3 columns; 2 as in the lines before are needed"),
        ("tagging", "We PRP O\n\nJordan B-PER\n", "line 3: 2 columns; 3 as in the lines before"),
        ("tagging", "We O\nmet\n", "line 2: 1 column; a word and its tag are needed"),
        ("tagging", "We O\nmet PER\n", "line 2: tag 'PER' is not accepted; O, B-<kind> or I-"),
        ("sentiment", "good\tyes\ngood no\n", "line 2: 1 column in 'good no'; a label, a tab"),
        ("sentiment", "good\tyes\tno\n", "line 1: 3 columns in"),
        ("translation", "the moon\t \n", "line 1: an empty column; a sentence, a tab and its"),
        ("next_word", "yes\n\n", "holds no sentence"),
        ("translation", "\n", "holds no sentence"),
        ("sentiment", "", "the file is empty"),
    ],
)
def test_bad_lines_are_named(tmp_path, task, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}.*{re.escape(message)}"):
        sequence_files.read(task, path)


@pytest.mark.parametrize("task", sequence_files.TASKS)
def test_splits_of_a_grammar_share_no_sentence(task):
    splits = splits_of(task, "grammar", 0, SMALL)
    sources = {name: {source for source, _ in part} for name, part in splits.items()}
    assert [len(part) for part in splits.values()] == [300, 40, 40]
    assert not sources["train"] & sources["test"]
    assert not sources["test"] & sources["longer"]
    longest = max(len(source) for source in sources["train"])
    assert min(len(source) for source in sources["longer"]) > longest
    assert splits == splits_of(task, "grammar", 0, SMALL)
    assert splits != splits_of(task, "grammar", 1, SMALL)


def test_splits_of_a_file_share_no_sentence_and_hold_the_longest_out(tmp_path):
    generator = np.random.default_rng(0)
    pairs = [tagging.draw(generator, range(4, 12 + i % 12))[0] for i in range(120)]
    lines = {" ".join(words) for words in pairs}
    path = write(tmp_path, "\n".join(f"yes\t{line}" for line in sorted(lines)))
    splits = splits_of("sentiment", str(path), 0, SMALL)
    sources = {name: {" ".join(source) for source, _ in part} for name, part in splits.items()}
    assert set.union(*sources.values()) == lines
    assert sum(map(len, sources.values())) == len(lines)
    lengths = {name: [len(source) for source, _ in part] for name, part in splits.items()}
    assert min(lengths["longer"]) > max(lengths["train"] + lengths["test"])
    assert splits != splits_of("sentiment", str(path), 1, SMALL)
    # Of plain text, no line gives words to be guessed in both.
    path = write(tmp_path, "\n".join(sorted(lines)))
    splits = splits_of("next_word", str(path), 0, SMALL)
    whole = {
        name: {line for line in lines for s, t in part if f"{' '.join([*s, *t])} ".startswith(line)}
        for name, part in splits.items()
    }
    assert not whole["train"] & (whole["test"] | whole["longer"])
    assert max(len(s) for s, _ in splits["train"]) < min(len(s) for s, _ in splits["longer"])


def test_a_file_must_be_there_and_hold_two_sentences(tmp_path):
    with pytest.raises(UserError, match=r"no data set or file 'gramar'.*did you mean 'grammar'"):
        splits_of("tagging", "gramar", 0, SMALL)
    with pytest.raises(UserError, match=r"mine.txt: too few different sentences \(1\)"):
        splits_of("tagging", str(write(tmp_path, "We O\n")), 0, SMALL)


def test_arrays_are_padded_behind_the_mark_of_the_end():
    data = sequence_data("translation", "grammar", 0, SMALL, lambda task, splits: {"a": 1.0})
    source, target = Numbering(tuple(data.vocabulary["sources"])), data.train.arrays["targets"]
    (words, right), *_ = splits_of("translation", "grammar", 0, SMALL)["train"]
    row = data.train.arrays["inputs"][0]
    np.testing.assert_array_equal(row[: len(words) + 1], [*source.encode(words), END])
    assert (row[len(words) + 1 :] == PADDING).all()
    assert target[0, len(right)] == END
    np.testing.assert_array_equal(data.train.arrays["weights"] > 0, target != PADDING)
    assert data.train.arrays["weights"][0].sum() == len(right) + 1
    assert data.baselines() == {
        "a": 1.0,
        **{f"{split}_optimal_exact_match": 1.0 for split in ("test", "longer")},
        **{f"{split}_optimal_bleu": 100.0 for split in ("test", "longer")},
    }
    aligned = sequence_data("tagging", "grammar", 0, SMALL, lambda task, splits: {}).train.arrays
    assert aligned["targets"].shape[1] == aligned["inputs"].shape[1] - 1  # <eos> has no tag


def test_unknown_words_are_named_once():
    with pytest.raises(UserError, match="unknown words 'zork', 'blimp'; known are moon, the"):
        Numbering(("moon", "the")).encode(["the", "zork", "blimp", "zork"])
