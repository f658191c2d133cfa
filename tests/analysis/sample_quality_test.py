import random

import pytest

from jaxlabs.analysis.text_sampling import longest_copy, sample_quality

PLAY = "FIRST CITIZEN:\nSpeak, o'er all.\n\nALL:\nThou know'st it well.\n\nJOHN OF GAUNT:\nNo.\n"


def brute_force_longest_copy(samples, text):
    return max(
        (
            end - start
            for sample in samples
            for start in range(len(sample))
            for end in range(start + 1, len(sample) + 1)
            if sample[start:end] in text
        ),
        default=0,
    )


@pytest.mark.parametrize("letters", ["ab", "abcdefgh"])
def test_longest_copy_equals_brute_force(letters):
    rng = random.Random(0)
    for _ in range(60):
        text = "".join(rng.choices(letters, k=rng.randrange(0, 60)))
        samples = [
            "".join(rng.choices(letters + "z", k=rng.randrange(0, 25)))
            for _ in range(rng.randrange(0, 4))
        ]
        assert longest_copy(samples, text) == brute_force_longest_copy(samples, text)


def test_copied_substring_is_found_at_full_length():
    text = "".join(random.Random(1).choices("abcd", k=5000))
    for length in [37, 64, 65]:
        sample = "zz" + text[1234 : 1234 + length] + "z"
        assert longest_copy(["no", sample], text) == length


def test_copy_does_not_span_two_samples():
    assert longest_copy(["abc", "def"], "abcdef") == 3


def test_training_text_has_all_real_words_and_is_all_copied():
    metrics = sample_quality([PLAY], PLAY)
    assert metrics == {"real_words": 1.0, "named_speeches": 1.0, "longest_copy": len(PLAY)}


def test_real_words_are_whole_words_and_ignore_case():
    # speak, THOU, o'er and well occur; "citizenry" and "ell" do not although parts of words do.
    metrics = sample_quality(["speak THOU 'o'er citizenry, well ell."], PLAY)
    assert metrics["real_words"] == pytest.approx(4 / 6)


def test_truncated_last_word_does_not_count():
    assert sample_quality(["Speak all qx"], PLAY)["real_words"] == 1.0
    assert sample_quality(["Speak all qx "], PLAY)["real_words"] == pytest.approx(2 / 3)


def test_named_speeches_start_with_name_on_its_own_line():
    sample = "\nJOHN:\nThou art\nMARY:\nno\n\n\nFoo bar: baz\n\nKing Henry VI:\nx\n\nlower:\ny"
    # Speeches open with "JOHN:", "Foo bar: baz", "King Henry VI:" and "lower:"; MARY opens none.
    assert sample_quality([sample], PLAY)["named_speeches"] == pytest.approx(2 / 4)


def test_named_speeches_are_returned_for_plays_only():
    assert "named_speeches" not in sample_quality([PLAY], "A novel.\n\nChapter two.\n")


def test_empty_sample_has_zero_metrics():
    expected = {"real_words": 0.0, "named_speeches": 0.0, "longest_copy": 0.0}
    assert sample_quality([""], PLAY) == expected
    assert sample_quality([], PLAY) == expected


@pytest.mark.real_data
def test_held_out_shakespeare_has_mostly_real_words_in_named_speeches(data_dir):
    path = data_dir / "tiny_shakespeare.txt"
    if not path.exists():
        pytest.skip(f"needs real data: {path} is missing")
    text = path.read_text()
    split = int(0.9 * len(text))
    metrics = sample_quality([text[split : split + 5000]], text[:split])
    assert 0.9 < metrics["real_words"] < 1
    assert metrics["named_speeches"] > 0.9
    assert 10 < metrics["longest_copy"] < 100
