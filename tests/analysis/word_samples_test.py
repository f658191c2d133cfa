import numpy as np
import pytest

from jaxlabs.analysis import word_samples
from jaxlabs.config import UserError
from jaxlabs.data.tokenizers import WordTokenizer

TOKENIZER = WordTokenizer.from_lines(["We will keep our promise .", "They won't ."])


def test_prompt_is_encoded_by_words():
    tokens = word_samples.known_tokens("They will keep our promise", TOKENIZER.to_json())
    np.testing.assert_array_equal(tokens, TOKENIZER.encode("They will keep our promise"))
    assert TOKENIZER.labels(tokens) == ["They", "will", "keep", "our", "promise"]


def test_default_prompt_is_full_stop():
    tokens = word_samples.known_tokens(None, TOKENIZER.to_json())
    assert TOKENIZER.labels(tokens) == ["."]
    silent = WordTokenizer(("one", "two"))
    assert silent.labels(word_samples.known_tokens(None, silent.to_json())) == ["one"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            "We keep Zorks, zorks and Zorks",
            "--prompt: unknown words 'Zorks', ',', 'zorks', 'and'; words of the training text are"
            " accepted, of which there are 9",
        ),
        ("we will", "--prompt: unknown words 'we'; "),
        (" \n", "--prompt: ' \\n' is not accepted; one word or more"),
    ],
)
def test_unknown_words_of_a_prompt_are_named(prompt, message):
    with pytest.raises(UserError) as error:
        word_samples.known_tokens(prompt, TOKENIZER.to_json())
    assert message in str(error.value)
    assert "\n" not in str(error.value)
