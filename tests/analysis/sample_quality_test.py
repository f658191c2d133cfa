import random

import pytest

from jaxlabs.analysis.sample_quality import longest_copy, sample_quality

PLAY = "FIRST CITIZEN:\nSpeak, o'er all.\n\nALL:\nThou know'st it well.\n\nJOHN OF GAUNT:\nNo.\n"


def longest_copy_by_brute_force(samples, text):
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
        assert longest_copy(samples, text) == longest_copy_by_brute_force(samples, text)


def test_a_copied_stretch_is_found_at_its_full_length():
    text = "".join(random.Random(1).choices("abcd", k=5000))
    for length in [37, 64, 65]:
        sample = "zz" + text[1234 : 1234 + length] + "z"
        assert longest_copy(["no", sample], text) == length


def test_no_copy_reaches_from_one_sample_into_the_next():
    assert longest_copy(["abc", "def"], "abcdef") == 3


def test_the_training_text_itself_is_all_real_and_all_copied():
    measures = sample_quality([PLAY], PLAY)
    assert measures == {"real_words": 1.0, "named_speeches": 1.0, "longest_copy": len(PLAY)}


def test_real_words_are_counted_regardless_of_case_and_one_by_one():
    # speak, THOU, o'er and well occur; "citizenry" and "ell" do not although parts of words do.
    measures = sample_quality(["speak THOU 'o'er citizenry, well ell."], PLAY)
    assert measures["real_words"] == pytest.approx(4 / 6)


def test_a_word_that_the_end_cut_off_does_not_count():
    assert sample_quality(["Speak all qx"], PLAY)["real_words"] == 1.0
    assert sample_quality(["Speak all qx "], PLAY)["real_words"] == pytest.approx(2 / 3)


def test_speeches_open_with_a_name_on_a_line_of_its_own():
    sample = "\nJOHN:\nThou art\nMARY:\nno\n\n\nFoo bar: baz\n\nKing Henry VI:\nx\n\nlower:\ny"
    # Speeches open with "JOHN:", "Foo bar: baz", "King Henry VI:" and "lower:"; MARY opens none.
    assert sample_quality([sample], PLAY)["named_speeches"] == pytest.approx(2 / 4)


def test_names_are_reported_for_plays_only():
    assert "named_speeches" not in sample_quality([PLAY], "A novel.\n\nChapter two.\n")


def test_an_empty_sample_has_nothing_real_and_nothing_copied():
    expected = {"real_words": 0.0, "named_speeches": 0.0, "longest_copy": 0.0}
    assert sample_quality([""], PLAY) == expected
    assert sample_quality([], PLAY) == expected


@pytest.mark.real_data
def test_held_out_shakespeare_is_mostly_real_words_in_named_speeches(data_dir):
    path = data_dir / "tiny_shakespeare.txt"
    if not path.exists():
        pytest.skip(f"needs real data: {path} is missing")
    text = path.read_text()
    split = int(0.9 * len(text))
    measures = sample_quality([text[split : split + 5000]], text[:split])
    assert 0.9 < measures["real_words"] < 1
    assert measures["named_speeches"] > 0.9
    assert 10 < measures["longest_copy"] < 100
