import dataclasses
import math

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import tokenizers
from jaxlabs.data.batches import batch_at
from jaxlabs.data.speech_data import (
    classification_data,
    constant_baselines,
    encode_prompt,
    word_lm_data,
)
from jaxlabs.data.speeches import load
from jaxlabs.data.tokenizers import WordTokenizer

FILLING = {
    "train_CLS.tsv": (
        "0\tWe hope.\n0\tWe hope for peace and for work.\n2\tRead my lips.\n1\tI decide.\n"
    ),
    "test_CLS.tsv": (
        "1\tI decide for peace.\n2\tUnheard-of nonsense\n0\tWe hope and work and hope.\n"
    ),
    "train_LM.txt": "We hope for work.\nI read and decide.\nWe work for peace and hope.\n",
    "test_LM_obama.txt": "We hope for peace and work.\n",
    "test_LM_wbush.txt": "I decide for us all.\n",
    "test_LM_hbush.txt": "Read and work for peace.\n",
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "speeches"
    path.mkdir()
    for name, text in FILLING.items():
        (path / name).write_text(text)
    return path


def test_six_files_are_loaded(folder):
    read = load(str(folder))
    assert read.train.labels == (0, 0, 2, 1)
    assert read.train.texts[1] == "We hope for peace and for work."
    assert read.test.labels == (1, 2, 0)
    assert list(read.test_texts) == ["obama", "wbush", "hbush"]
    assert read.test_texts["wbush"] == FILLING["test_LM_wbush.txt"]
    assert not read.comparable
    assert read.warning is None
    assert (
        " ".join(read.tokenizer.words) == ". I Read We and decide for hope lips my peace read work"
    )
    shares = read.oov_rates()
    assert shares["test_LM_wbush.txt"] == pytest.approx(2 / 6)  # us, all
    assert shares["test_LM_obama.txt"] == 0
    assert shares["test_CLS.tsv"] == pytest.approx(2 / 14)  # Unheard-of, nonsense


def test_hash_covers_every_file_and_ignores_line_ends(folder):
    before = load(str(folder)).sha256
    for name, text in FILLING.items():
        (folder / name).write_bytes(text.replace("\n", "\r\n").encode())
    assert load(str(folder)).sha256 == before
    for name, text in FILLING.items():
        (folder / name).write_text(text + text.splitlines()[0])
        assert load(str(folder)).sha256 != before
        (folder / name).write_text(text)


def test_other_files_under_the_published_name_are_a_warning(folder):
    found = load("speeches", folder.parent)
    assert not found.comparable
    assert "not the published files" in found.warning


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0\tYes.\n7\tNo.\n", "line 2: label '7' is not accepted; 0, 1, 2"),
        ("obama\tYes.\n", "line 1: label 'obama' is not accepted; 0, 1, 2"),
        ("0\tYes.\t1\tNo.\n", "line 1: 4 columns in '0"),
        ("0\tYes.\n\n1 No.\n", "line 3: 1 column in '1 No.'; a label, a tab and a sentence are"),
        ("0\tYes.\n1\t \n", "line 2: an empty column; a label, a tab and a sentence"),
        ("", "the file is empty; a UTF-8 text file is needed"),
        (" \n\n", "holds no sentence; one per line is needed"),
    ],
)
def test_errors_name_file_and_line(folder, content, message):
    for file in ("train_CLS.tsv", "test_CLS.tsv"):
        (folder / file).write_text(content)
        with pytest.raises(UserError) as caught:
            load(str(folder))
        assert message in str(caught.value)
        assert str(caught.value).startswith(str(folder / file))
        assert "\n" not in str(caught.value)
        (folder / file).write_text(FILLING[file])


@pytest.mark.parametrize("file", ["train_CLS.tsv", "test_CLS.tsv"])
def test_speaker_without_sentences_is_an_error(folder, file):
    (folder / file).write_text("0\tYes we can.\n2\tRead my lips.\n")
    with pytest.raises(UserError, match=rf"{file}: no sentence of W. Bush; every label is needed"):
        load(str(folder))


@pytest.mark.parametrize("fraction", [0.3, 0.7])
def test_validation_split_without_a_speaker_is_an_error(folder, fraction):
    with pytest.raises(UserError, match=r"^validation_fraction: 0\.\d of 4 sentences leaves no"):
        classification_data(load(str(folder)), 8, fraction)


def test_missing_files_are_named(folder):
    for name in ("test_CLS.tsv", "test_LM_hbush.txt"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"test_CLS\.tsv, test_LM_hbush\.txt missing; needed are"):
        load(str(folder))


def test_unknown_name_is_an_error_with_a_suggestion(tmp_path):
    with pytest.raises(
        UserError, match=r"no data set or folder 'speechs'.*did you mean 'speeches'"
    ):
        load("speechs")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="no data set or folder"):
        load(str(tmp_path / "file"))


def test_fallback_warns_and_has_a_known_optimum(tmp_path):
    made = load("speeches", tmp_path)
    assert f"not in {tmp_path / 'speeches'}" in made.warning
    assert "not comparable" in made.warning
    assert "\n" not in made.warning
    assert made.name == "speaker_grammar"
    assert not made.comparable
    assert made == dataclasses.replace(load("speaker_grammar"), warning=made.warning)
    assert set(made.oov_rates().values()) == {0.0}
    assert len(made.train.texts) == 2092
    assert set(made.train.labels) == {0, 1, 2}
    # The entropy rate is exact for this text; the unigram entropy is an upper bound.
    tokens = made.tokenizer.encode(made.train_text)
    shares = np.bincount(tokens)[2:] / len(tokens)
    assert made.text_facts["entropy_rate"] < -(shares * np.log(shares)).sum() - 1
    data = classification_data(made, 16)
    assert data.baselines()["bayes_accuracy"] == made.speaker_facts["bayes_accuracy"]
    assert "entropy_rate" not in data.baselines()


@pytest.mark.real_data
def test_published_speeches_have_the_published_sizes(data_dir):
    found = load("speeches", data_dir)
    assert found.comparable
    assert found.warning is None
    assert len(found.train.texts) == 2092
    assert np.bincount(found.test.labels).tolist() == [250, 250, 250]
    # Line by line: "about 5,640"; the write-up's 5,755 come from another sentence splitter.
    assert found.tokenizer.vocab.size == 5638
    baselines = classification_data(found, 32).baselines()
    assert classification_data(found, 32).dataset["test_sentences_in_training"] == 551
    # The first epoch of the write-up is this constant prediction.
    assert round(100 * baselines["constant_train_accuracy"], 2) == 44.65
    assert round(100 * baselines["constant_accuracy"], 2) == 33.33
    assert {file: round(100 * share, 2) for file, share in found.oov_rates().items()} == {
        "test_CLS.tsv": 0.93,
        "test_LM_obama.txt": 1.97,
        "test_LM_wbush.txt": 2.13,
        "test_LM_hbush.txt": 2.13,
    }


def test_sentences_are_padded_and_truncated(folder):
    data = classification_data(load(str(folder)), block=5)
    tokenizer = WordTokenizer.from_json(data.data_spec)
    rows = data.train.arrays["inputs"]
    assert rows.shape == (4, 5)
    assert [tokenizer.vocab.labels(row) for row in rows[:2]] == [
        ["We", "hope", ".", "<pad>", "<pad>"],
        ["We", "hope", "for", "peace", "and"],
    ]
    assert list(data.eval_sets) == ["test", "test_unseen", "train_sentences"]
    assert data.eval_sets["test"].arrays["labels"].tolist() == [1, 2, 0]
    assert data.dataset["test_sentences_all_unknown"] == 1
    assert data.data_spec["speakers"] == ["Obama", "W. Bush", "H. Bush"]
    assert data.data_spec["examples"][0] == [0, "We hope and work and hope."]
    batch = batch_at(data.train, 0, 1, 3)  # the last batch of the epoch: one sentence, two missing
    assert batch["weights"].tolist() == [1, 0, 0]
    assert batch["inputs"].dtype == np.int32


def test_unseen_test_sentences_are_a_split(folder):
    repeated = FILLING["test_CLS.tsv"] + "2\tRead my lips.\n0\tRead my lips!\n"
    (folder / "test_CLS.tsv").write_text(repeated)
    data = classification_data(load(str(folder)), block=5)
    assert data.eval_sets["test"].count == 5
    unseen = data.eval_sets["test_unseen"]
    assert unseen.arrays["labels"].tolist() == [1, 2, 0, 0]
    assert data.dataset["test_sentences_in_training"] == 1
    (folder / "test_CLS.tsv").write_text(FILLING["train_CLS.tsv"])
    assert "test_unseen" not in classification_data(load(str(folder)), block=5).eval_sets


def test_validation_sentences_are_not_trained_on(folder):
    made = load("speaker_grammar")
    whole = classification_data(made, 16)
    parts = classification_data(made, 16, validation_fraction=0.25)
    assert list(parts.eval_sets) == ["validation", "test", "test_unseen", "train_sentences"]
    held, kept = parts.eval_sets["validation"], parts.train
    assert (held.count, kept.count) == (523, 1569)
    np.testing.assert_array_equal(
        whole.eval_sets["test"].arrays["inputs"], parts.eval_sets["test"].arrays["inputs"]
    )

    def multiset(*examples):
        rows = [
            [*r, n]
            for e in examples
            for r, n in zip(e.arrays["inputs"].tolist(), e.arrays["labels"].tolist(), strict=True)
        ]
        return sorted(rows)

    assert multiset(held, kept) == multiset(whole.train)


def test_class_weights_give_equal_totals(folder):
    data = classification_data(load(str(folder)), block=5, class_weights=True)
    weights = data.train.arrays["weights"]
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 4 / 3, 4 / 3], rtol=1e-6)
    assert not any("weights" in part.arrays for part in data.eval_sets.values())


def test_constant_baselines():
    metrics = constant_baselines(np.array([0, 0, 0, 1, 2]), np.array([0, 1, 2, 2]))
    assert metrics["constant_accuracy"] == 0.25
    assert metrics["constant_train_accuracy"] == 0.6
    assert metrics["constant"] == pytest.approx(-(math.log(0.6) + 3 * math.log(0.2)) / 4)


def test_prompt_without_known_words_is_an_error(folder):
    tokenizer = load(str(folder)).tokenizer
    assert len(encode_prompt(tokenizer, "We hope strongly.")) == 4
    with pytest.raises(UserError, match=r"prompt: ' ' has no word"):
        encode_prompt(tokenizer, " ")
    with pytest.raises(
        UserError,
        match=r"all words of 'Qui vivra verra' are out of vocabulary; at least one of the 13",
    ):
        encode_prompt(tokenizer, "Qui vivra verra")


def no_baselines(train, held_out, vocab_size):
    return {"held_out": len(held_out), "vocabulary": vocab_size}


def scored(examples):
    """The scored targets, in order."""
    weights = examples.arrays["weights"].astype(bool)
    return examples.arrays["targets"][weights].tolist()


def test_both_conventions_score_every_word_once(folder):
    found = load(str(folder))
    data = word_lm_data(found, block=3, baselines=no_baselines)
    names = ["train_text", "obama", "wbush", "hbush"]
    assert list(data.eval_sets) == names
    final = data.final_eval_sets()
    assert list(final) == [f"{name}_sliding" for name in names]
    texts = {"train_text": found.train_text, **found.test_texts}
    for name, text in texts.items():
        tokens = found.tokenizer.encode(text).tolist()
        assert scored(data.eval_sets[name]) == tokens[1:]
        assert scored(final[f"{name}_sliding"]) == tokens[1:]
        # From the fourth word on, each has the full context of three words.
        full = final[f"{name}_sliding"].arrays["weights"][1:]
        assert (full == [[0, 0, 1]] * len(full)).all()
    np.testing.assert_array_equal(data.train.tokens, found.tokenizer.encode(found.train_text))
    assert data.baselines() == {"held_out": 7 + 6 + 6, "vocabulary": 15}


def test_held_out_text_is_the_end_of_the_training_text(folder):
    found = load(str(folder))
    whole = found.tokenizer.encode(found.train_text).tolist()
    data = word_lm_data(found, block=3, baselines=no_baselines, validation_fraction=0.3)
    assert data.monitor == "validation"
    held = scored(data.eval_sets["validation"])
    assert [*data.train.tokens.tolist(), *held] == whole[: len(data.train.tokens)] + whole[
        -len(held) :
    ]
    assert len(data.train.tokens) + len(held) + 1 == len(whole)


def test_text_shorter_than_a_block_is_an_error(folder):
    with pytest.raises(UserError, match="one window needs at least"):
        word_lm_data(load(str(folder)), block=6, baselines=no_baselines)


@pytest.mark.parametrize("tokenizer", ["char", "bytes", "bpe:300"])
def test_speeches_are_split_by_characters_with_other_tokenizers(folder, tokenizer, tmp_path):
    found = load(str(folder))
    options = {"tokenizer": tokenizer, "data_dir": tmp_path, "validation_fraction": 0.3}
    data = word_lm_data(found, 3, no_baselines, **options)
    encoder = tokenizers.load(data.data_spec)
    border = len(found.train_text) - round(0.3 * len(found.train_text))
    texts = {"validation": found.train_text[border:], "train_text": found.train_text[:border]}
    texts |= found.test_texts
    assert list(data.eval_sets) == list(texts)
    for name, text in texts.items():
        assert scored(data.eval_sets[name]) == encoder.encode(text).tolist()[1:]
    assert encoder.decode(data.train.tokens) == texts["train_text"]
    assert data.loss_unit == f"nats per {encoder.unit}"
    assert not {"oov_rates", "entropy_rate"} & data.dataset.keys()
    np.testing.assert_array_equal(data.token_bytes, encoder.token_bytes())
    assert word_lm_data(found, 3, no_baselines).token_bytes is None
