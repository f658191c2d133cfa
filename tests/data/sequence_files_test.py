import re

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import sequence_files
from jaxlabs.data.grammars import tagging
from jaxlabs.data.sequence_data import (
    END,
    SPECIAL_TOKENS,
    SequenceDataConfig,
    load_splits,
    sequence_data,
)
from jaxlabs.data.vocab import PADDING, Vocab

SMALL = SequenceDataConfig(train_sentences=300, test_sentences=40)
CONLL = "We PRP O\nmet VBD O\nJordan NNP B-PER\n\n-DOCSTART- -X- O\n\nParis NNP B-LOC\n"


def write(folder, content):
    path = folder / "mine.txt"
    path.write_text(content)
    return path


def test_columns_become_words_and_tags(tmp_path):
    ((first,), (second,)), warnings = sequence_files.read("tagging", write(tmp_path, CONLL))
    assert first == (("We", "met", "Jordan"), ("O", "O", "B-PER"))
    assert second == (("Paris",), ("B-LOC",))
    assert warnings == []


def test_tabs_and_lines_become_pairs(tmp_path):
    path = write(tmp_path, "good\tall is well\r\n\nbad\tall is lost\nbad\tno\ngood\tyes\n")
    groups, _ = sequence_files.read("sentiment", path)
    assert [pair[0] for pair in groups[:2]] == [
        (("all", "is", "well"), ("good",)),
        (("all", "is", "lost"), ("bad",)),
    ]
    path = write(tmp_path, "the moon\tla luna\nthe moon\tla luna\n")
    groups, _ = sequence_files.read("translation", path)
    assert groups == [[(("the", "moon"), ("la", "luna"))]]
    path = write(tmp_path, "the moon hears\nyes\n")
    groups, _ = sequence_files.read("next_word", path)
    assert groups == [[(("the",), ("moon",)), (("the", "moon"), ("hears",))]]


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("tagging", "We O\nmet O O\n", "line 2: 3 columns; 2 as in most lines are needed"),
        ("tagging", "We PRP O\n\nJordan B-PER\n", "line 3: 2 columns; 3 as in most lines"),
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
def test_malformed_lines_are_named(tmp_path, task, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}.*{re.escape(message)}"):
        sequence_files.read(task, path)


@pytest.mark.parametrize("task", sequence_files.TASKS)
def test_splits_of_a_grammar_are_disjoint(task):
    splits, warning = load_splits(task, "grammar", 0, SMALL)
    assert warning is None
    sources = {name: {source for source, _ in part} for name, part in splits.items()}
    assert [len(part) for part in splits.values()] == [300, 40, 40]
    assert not sources["train"] & sources["test"]
    assert not sources["test"] & sources["long"]
    longest = max(len(source) for source in sources["train"])
    assert min(len(source) for source in sources["long"]) > longest
    assert splits == load_splits(task, "grammar", 0, SMALL)[0]
    assert splits != load_splits(task, "grammar", 1, SMALL)[0]


def test_splits_of_a_file_are_disjoint_and_long_has_the_longest(tmp_path):
    generator = np.random.default_rng(0)
    pairs = [tagging.sample(generator, range(4, 12 + i % 12))[0] for i in range(120)]
    lines = {" ".join(words) for words in pairs}
    path = write(tmp_path, "\n".join(f"yes\t{line}" for line in sorted(lines)))
    splits, warning = load_splits("sentiment", str(path), 0, SMALL)
    assert warning is None
    sources = {name: {" ".join(source) for source, _ in part} for name, part in splits.items()}
    assert set.union(*sources.values()) == lines
    assert sum(map(len, sources.values())) == len(lines)
    lengths = {name: [len(source) for source, _ in part] for name, part in splits.items()}
    assert min(lengths["long"]) > max(lengths["train"] + lengths["test"])
    assert splits != load_splits("sentiment", str(path), 1, SMALL)[0]
    # In plain text, no line contributes targets to both.
    path = write(tmp_path, "\n".join(sorted(lines)))
    splits, _ = load_splits("next_word", str(path), 0, SMALL)
    whole = {
        name: {line for line in lines for s, t in part if f"{' '.join([*s, *t])} ".startswith(line)}
        for name, part in splits.items()
    }
    assert not whole["train"] & (whole["test"] | whole["long"])
    assert max(len(s) for s, _ in splits["train"]) < min(len(s) for s, _ in splits["long"])


def test_missing_file_and_single_sentence_are_errors(tmp_path):
    with pytest.raises(UserError, match=r"no data set or file 'gramar'.*did you mean 'grammar'"):
        load_splits("tagging", "gramar", 0, SMALL)
    with pytest.raises(UserError, match=r"mine.txt: too few different sentences \(1\)"):
        load_splits("tagging", str(write(tmp_path, "We O\n")), 0, SMALL)


SENTENCES = [f"w{i} is w{i * i % 7} {'very ' * (i % 3)}so" for i in range(40)]


def data_of(folder, task, content):
    return sequence_data(task, str(write(folder, content)), 0, SMALL, lambda task, splits: {})


def test_targets_of_a_source_stay_in_one_split_and_duplicates_are_ignored(tmp_path):
    lines = [f"{source}\tanswer {n}" for source in SENTENCES for n in (1, 2, 2, 3)]
    path = write(tmp_path, "\n".join(lines))
    splits, warning = load_splits("translation", str(path), 0, SMALL)
    assert warning == f"{path}: 40 of 160 sentences are duplicates and are ignored"
    pairs = [pair for part in splits.values() for pair in part]
    assert sorted(f"{' '.join(s)}\t{' '.join(t)}" for s, t in pairs) == sorted(
        " ".join(line.split(" ")) for line in set(lines)
    )
    sides = [{source for source, _ in part} for part in splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 40


@pytest.mark.parametrize("task", ["sentiment", "tagging"])
def test_a_sentence_with_two_labels_keeps_both(tmp_path, task):
    if task == "sentiment":
        lines = ["pos\tfine", "neg\tfine", "neg\tfine", "pos\tgood", "neg\tbad"]
        expected = {(("fine",), ("pos",)), (("fine",), ("neg",))}
    else:
        lines = ["fine O", "", "fine B-X", "", "fine B-X", "", "good O"]
        expected = {(("fine",), ("O",)), (("fine",), ("B-X",))}
    path = write(tmp_path, "\n".join(lines))
    groups, warnings = sequence_files.read(task, path)
    assert set(groups[0]) == expected
    assert len(groups[0]) == 2
    assert warnings == [
        f"1 of {4 + (task == 'sentiment')} sentences are duplicates and are ignored"
    ]


def test_next_word_keeps_the_count_of_repeated_lines(tmp_path):
    path = write(tmp_path, "a b c\n" * 5 + "\n".join(SENTENCES) + "\nalone\n")
    groups, warnings = sequence_files.read("next_word", path)
    assert sorted(groups[0]) == [(("a",), ("b",))] * 5 + [(("a", "b"), ("c",))] * 5
    assert len(groups) == 41
    assert warnings == ["1 of 46 lines have a single word and are ignored"]
    data = data_of(tmp_path, "next_word", path.read_text())
    assert data.warning == f"{path}: {warnings[0]}"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            ["label\tsentence", *(f"{'pos' if len(s) % 2 else 'neg'}\t{s}" for s in SENTENCES)],
            ", line 1: label 'label' has a single sentence; every label needs two, and a header",
        ),
        (
            [f"{s}\t{'pos' if len(s) % 2 else 'neg'}" for s in SENTENCES],
            ": 40 labels for 2 different sentences; every label needs two sentences, and the",
        ),
        (
            [f"{s}\t{label}" for s in SENTENCES for label in ("pos", "neg")],
            ": 40 labels for 2 different sentences; every label needs two sentences, and the",
        ),
        (
            [f"{'pos' if i % 10 else f'odd {i}'}\t{s}" for i, s in enumerate(SENTENCES, start=8)],
            ", line 3: label 'odd 10' has a single sentence, as have 3 others; every label needs",
        ),
    ],
    ids=["header", "swapped", "swapped twice", "rare"],
)
def test_header_or_swapped_columns_are_an_error(tmp_path, lines, complaint):
    path = write(tmp_path, "\n".join(lines))
    with pytest.raises(UserError) as caught:
        load_splits("sentiment", str(path), 0, SMALL)
    assert str(caught.value).startswith(f"{path}{complaint}")
    assert "\n" not in str(caught.value)


def test_possible_header_of_translations_is_a_warning(tmp_path):
    lines = ["english\tfrench", *(f"{s}\tle {s}" for s in SENTENCES)]
    warning = data_of(tmp_path, "translation", "\n".join(lines)).warning
    assert "line 1 ('english', 'french') is read as a pair; if it is a header, remove" in warning
    assert data_of(tmp_path, "translation", "\n".join(lines[1:])).warning is None
    # The first lines of published files have one word and are no headers.
    lines = ["Go.\tVa !", "Hi.\tSalut !", "Run!\tCours !", *lines[1:]]
    assert data_of(tmp_path, "translation", "\n".join(lines)).warning is None


def test_attribution_column_is_ignored_with_a_warning(tmp_path):
    lines = [f"{s}\tle {s}\tCC-BY 2.0 Attribution: tatoeba.org #{len(s)}" for s in SENTENCES]
    data = data_of(tmp_path, "translation", "\n".join(lines))
    assert "CC-BY" not in data.data_spec["targets"]
    assert data.warning == (
        f"{tmp_path / 'mine.txt'}: the third column ('CC-BY 2.0 Attribution: tatoeba.org #11' in"
        " the first line) is ignored"
    )
    without = data_of(
        tmp_path, "translation", "\n".join(line.rpartition("\t")[0] for line in lines)
    )
    assert without.dataset["sha256"] == data.dataset["sha256"]
    lines[3] = lines[3].rpartition("\t")[0]
    with pytest.raises(UserError, match=r"mine.txt, line 4: 2 columns in .*; 3 as in most lines"):
        data_of(tmp_path, "translation", "\n".join(lines))


BLANKS_IN_WORDS = ["10\u00a0000", "\u3000", "a\u2009b", "c\x85d", "e\u2028f", "g\x1ch", "i\x0bj"]


@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n", "\r"])
def test_only_ascii_blanks_separate_columns_and_words(tmp_path, separator, end):
    path = tmp_path / "mine.txt"
    rows = [f"{word}{separator}O" for word in BLANKS_IN_WORDS]
    path.write_bytes(("\ufeff" + end.join(rows) + end).encode())
    groups, _ = sequence_files.read("tagging", path)
    assert groups == [[(tuple(BLANKS_IN_WORDS), ("O",) * len(rows))]]
    path.write_bytes((" ".join(BLANKS_IN_WORDS) + end + "x\ty" + end).encode())
    groups, _ = sequence_files.read("next_word", path)
    assert [*groups[0][-1][0], *groups[0][-1][1]] == BLANKS_IN_WORDS
    assert groups[1] == [(("x",), ("y",))]
    sentence = " ".join(BLANKS_IN_WORDS)
    path.write_bytes(end.join([f"{sentence}\tle {sentence}", f"x\t{sentence}", ""]).encode())
    groups, _ = sequence_files.read("translation", path)
    assert groups[0] == [(tuple(BLANKS_IN_WORDS), ("le", *BLANKS_IN_WORDS))]


def test_space_inside_a_column_is_part_of_the_word(tmp_path):
    rows = ["New York\tNNP\tB-LOC", "is\tVBZ\tO\t", "far\tRB  X\tO"]
    (((words, tags),),), _ = sequence_files.read("tagging", write(tmp_path, "\n".join(rows)))
    assert (words, tags) == (("New\u00a0York", "is", "far"), ("B-LOC", "O", "O"))


@pytest.mark.parametrize(
    "lines",
    [
        ["# sent_id = 1", "# text = vitamin O", "vitamin\tO", "#\tO", "", "# x", "Jim\tB-PER"],
        ["# sent_id = 1", "vitamin O", "# O", "", "# newdoc id = 4", "Jim B-PER"],
    ],
    ids=["tabs", "spaces"],
)
def test_comment_lines_are_ignored_with_a_warning(tmp_path, lines):
    groups, warnings = sequence_files.read("tagging", write(tmp_path, "\n".join(lines)))
    assert groups == [[(("vitamin", "#"), ("O", "O"))], [(("Jim",), ("B-PER",))]]
    assert warnings == [f"{3 if '# x' in lines else 2} comment lines are ignored"]


@pytest.mark.parametrize(
    ("task", "lines"),
    [
        ("tagging", ["10\t000\tO", "We\tO", "met\tO"]),
        ("tagging", ["We O", "met PRP O", "Jim PRP B-PER"]),
        ("translation", ["a\tb\tc", "d\te", "f\tg"]),
        ("sentiment", ["a b", "pos\te", "neg\tg"]),
    ],
)
def test_first_line_with_another_number_of_columns_is_named(tmp_path, task, lines):
    with pytest.raises(UserError, match=r"mine\.txt, line 1: \d columns?.* needed$"):
        sequence_files.read(task, write(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize("seed", range(3))
def test_every_label_has_training_and_test_sentences(tmp_path, seed):
    # One frequent label, one with two sentences, one with two long ones.
    lines = [f"many\t{s}" for s in SENTENCES] + ["two\ta b", "two\ta c"]
    lines += [f"long\t{word * 30}" for word in ("x ", "y ")]
    splits, warning = load_splits("sentiment", str(write(tmp_path, "\n".join(lines))), seed, SMALL)
    for part in ("train", "test"):
        assert {label for _, (label,) in splits[part]} == {"many", "two", "long"}
    assert warning is None
    assert len(splits["test"]) == 4 + 1 + 1


def test_tags_missing_from_a_split_are_named(tmp_path):
    lines = [f"{s.split()[0]} O\n" for s in SENTENCES] + ["Jim B-PER\n"]
    warning = data_of(tmp_path, "tagging", "\n".join(lines)).warning
    assert warning.endswith(": no test sentence has B-PER")


def test_arrays_are_padded_after_eos():
    data = sequence_data("translation", "grammar", 0, SMALL, lambda task, splits: {"a": 1.0})
    source = Vocab(tuple(data.data_spec["sources"]), SPECIAL_TOKENS)
    target = data.train.arrays["targets"]
    (words, right), *_ = load_splits("translation", "grammar", 0, SMALL)[0]["train"]
    row = data.train.arrays["inputs"][0]
    np.testing.assert_array_equal(row[: len(words) + 1], [*source.encode(words), END])
    assert (row[len(words) + 1 :] == PADDING).all()
    assert target[0, len(right)] == END
    np.testing.assert_array_equal(data.train.arrays["weights"] > 0, target != PADDING)
    assert data.train.arrays["weights"][0].sum() == len(right) + 1
    assert data.baselines() == {
        "a": 1.0,
        **{f"{split}_optimal_exact_match": 1.0 for split in ("test", "long")},
        **{f"{split}_optimal_bleu": 100.0 for split in ("test", "long")},
    }
    aligned = sequence_data("tagging", "grammar", 0, SMALL, lambda task, splits: {}).train.arrays
    assert aligned["targets"].shape[1] == aligned["inputs"].shape[1] - 1  # <eos> has no tag


class Counted(str):
    """A word that counts its comparisons and the calls of its hash."""

    uses = 0

    def __hash__(self):
        Counted.uses += 1
        return str.__hash__(self)

    def __eq__(self, other):
        Counted.uses += 1
        return str.__eq__(self, other)


class Joined(tuple):
    """Words that count their copies."""

    copies = 0

    def __radd__(self, other):
        Joined.copies += 1
        return (*other, *self)


def test_word_lookup_is_constant_time():
    words = [Counted(f"w{i:04}") for i in range(1000)]
    vocab = Vocab(Joined(words), SPECIAL_TOKENS)
    Counted.uses = 0
    numbers = [vocab.ids.get(f"w{i:04}", END) for i in range(0, 2000, 2)]
    assert numbers == [*range(3, 1003, 2), *[END] * 500]
    assert Counted.uses < 5000
    assert vocab.decode([*numbers[:500], END]) == words[::2]
    assert Joined.copies <= 1


def test_unknown_words_are_named_once():
    with pytest.raises(
        UserError, match="unknown words 'zork', 'blimp'; the vocabulary is moon, the"
    ):
        Vocab(("moon", "the"), SPECIAL_TOKENS).encode(["the", "zork", "blimp", "zork"])
