"""Tests of jaxlabs/report/page.py: one self-contained file, made from the run folder."""

import re
from html.parser import HTMLParser

import pytest

from jaxlabs.config import UserError
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report import html, sections
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Collects tags with attributes and visible text, and checks that tags nest."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def find_all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(folder):
    return Page(write_report(folder, LAB).read_text())


def test_page_has_valid_nesting_and_all_sections_in_order(reported_run):
    page = Page(reported_run.report.read_text())
    sections = [attrs["id"] for attrs in page.find_all("section")]
    assert sections == [
        "published",
        "loss",
        "samples",
        "metrics",
        "plots",
        "settings",
        "environment",
        "reproduce",
    ]
    assert len(page.find_all("h1")) == 1


def test_page_is_self_contained(reported_run):
    source = reported_run.report.read_text()
    page = Page(source)
    urls = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert urls
    assert all(url.startswith("data:") for url in urls)
    assert not page.find_all("script")
    assert "@import" not in source
    assert "url(" not in source


def test_every_figure_has_alt_text_and_a_caption(reported_run):
    page = Page(reported_run.report.read_text())
    images = page.find_all("img")
    assert (
        len(images)
        == len(page.find_all("figcaption"))
        == len(list(reported_run.figures.glob("*.png")))
        == 6
    )
    assert all(attrs["alt"] for attrs in images)


def test_markup_in_samples_is_escaped(reported_run):
    source = reported_run.report.read_text()
    assert "&lt;stand&gt; &amp; fall" in source
    assert "<stand>" not in source
    page = Page(source)
    assert (reported_run.samples / "final.txt").read_text() in page.text
    assert "step 250 <b>of</b> & all" in page.text


def test_control_characters_which_html_does_not_have_are_replaced():
    assert html.text("\x1b[0m\x00\x9b\x7f a\tb\r\nc\xa0é<") == "�[0m��� a\tb\r\nc\xa0é&lt;"


def test_all_other_fields_are_escaped(short_run):
    evil = "<script>alert('x')</script>&\""
    config = short_run.read_config()
    config["dataset"]["name"] = evil
    config["settings"] = {evil: evil}
    config["preset_settings"] = {evil: ""}
    config["preset"] = config["command"] = evil
    short_run.write_config(config)
    summary = short_run.read_summary()
    summary["metrics"] = {evil: 1.0}
    summary["baselines"] = {evil: 2.0}
    summary["environment"] = {evil: {evil: evil}}
    summary["parameters_sha256"] = evil
    row = summary["comparison"][0]
    summary["comparison"] = [row | dict.fromkeys(("quantity", "source", "note"), evil)]
    summary["comparison"] += [row | {"comparable": False, "not_comparable_reason": evil}]
    short_run.write_summary(summary)
    page = page_of(short_run)
    assert not page.find_all("script")
    assert page.text.count("<script>") > 10


def test_published_value_is_shown_beside_ours(reported_run):
    text = Page(reported_run.report.read_text()).text
    assert "1.88 nats" in text
    assert f"{reported_run.read_summary()['metrics']['held_out_loss']:.4f} nats" in text


def test_losses_have_standard_errors_and_the_page_says_of_what(short_run):
    summary = short_run.read_summary()
    loss = summary["metrics"]["held_out_loss"]
    summary["metrics"] |= {"held_out_loss_stderr": 0.01234, "held_out_bits_per_byte": 2.5}
    summary["metrics"] |= {"alone_stderr": 0.5}
    summary["evaluated"] = {
        "held_out": {"tokens": 499_968, "of": 10_000_000},
        "sliding_window": {"tokens": 900, "of": 900},
    }
    short_run.write_summary(summary)
    page = page_of(short_run)
    assert page.text.count(f"{loss:.4f} ± 0.0123") == 2  # of the published results, and of all
    assert page.text.count(f"{loss:.4f} ± 0.0123 nats") == 1
    assert "standard error of a loss over windows" in page.text
    assert "held out: 499,968 of 10,000,000 targets are scored" in page.text
    assert "sliding window: 900" not in page.text
    assert "held out loss stderr" not in page.text  # it stands beside the loss
    assert "alone stderr" in page.text


def test_page_without_standard_errors_does_not_mention_them(short_run):
    assert "standard error" not in page_of(short_run).text


def test_not_comparable_reason_is_shown(short_run):
    summary = short_run.read_summary()
    summary["comparison"][0] |= {
        "comparable": False,
        "not_comparable_reason": "trained on another text",
    }
    short_run.write_summary(summary)
    assert "Not comparable: trained on another text" in page_of(short_run).text


def test_stat_tiles_show_loss_parameters_steps_and_time(reported_run):
    source = reported_run.report.read_text()
    tiles = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", source)
    loss = reported_run.read_summary()["metrics"]["held_out_loss"]
    assert dict(tiles) == {
        "loss, held out": f"{loss:.4f} nats",
        "parameters": "808,769",
        "steps": "2,000",
        "training time": "1 min 01 s",
    }


def test_baselines_of_another_split_and_scores_are_not_ranked():
    rows = [{"split": split, "step": 1, "loss": 2.0} for split in ("test", "long")]
    baselines = {"test_entropy": 1.5, "long_entropy": 1.0, "test_optimal_bleu": 100.0}
    section = sections.final_metrics({"metrics": {}, "baselines": baselines}, rows)
    assert re.findall(r'<th scope="row">(.*?)</th>', section) == [
        "this model, test",
        "test entropy",
    ]


def test_baselines_and_model_are_ranked_by_loss(reported_run):
    source = reported_run.report.read_text()
    (table,) = re.findall(r"Baselines</h3>.*?</table>", source, re.DOTALL)
    order = re.findall(r'<th scope="row">(.*?)</th>', table)
    assert order == ["uniform", "unigram", "bigram", "5-gram", "this model, held out"]


def test_settings_that_differ_from_the_preset_are_highlighted(reported_run):
    source = reported_run.report.read_text()
    (changed,) = re.findall(r'<tr class="changed">(.*?)</tr>', source.split('id="settings"')[1])
    assert "learning_rate" in changed
    assert "0.002" in changed
    assert "0.001" in changed


def test_command_of_the_run_is_shown(reported_run):
    assert (
        ">python -m experiments.gpt --learning_rate=0.002</pre>" in reported_run.report.read_text()
    )


@pytest.mark.parametrize(
    ("requested", "used", "note"),
    [
        ("tiny_shakespeare", "python_reference", "  # trained on python_reference: "),
        ("tiny_shakespeare", "tiny_shakespeare", ""),
        ("/home/user/book.txt", "book.txt", ""),
    ],
)
def test_command_says_that_a_named_data_set_was_not_found(requested, used, note):
    config = {"command": "jaxlabs gpt", "dataset": {"name": used}}
    page = sections.reproduce(config | {"settings": {"dataset": requested}}, {})
    note += f"{requested} was not found" if note else ""
    assert f">jaxlabs gpt{note}<" in page


def test_page_of_a_new_run_has_only_available_sections(fresh_run):
    page = page_of(fresh_run)
    assert [attrs["id"] for attrs in page.find_all("section")] == ["published"]
    assert "Incomplete run" in page.text


def test_page_of_a_running_run_shows_logged_metrics(short_run):
    (short_run.path / "summary.json").unlink()
    text = page_of(short_run).text
    assert "2,000 of 2,000 steps are logged" in text
    last = [row["loss"] for row in short_run.read_metrics() if row["split"] == "held_out"][-1]
    assert f"{last:.4f} nats" in text


def test_report_accepts_non_finite_rows(short_run):
    short_run.append_metrics([{"step": 2010, "split": "train", "loss": float("nan")}])
    short_run.append_metrics([{"step": 2010, "split": "held_out", "loss": float("nan")}])
    assert page_of(short_run)


def test_page_size_is_limited(reported_run):
    assert reported_run.report.stat().st_size < 1_500_000


def test_page_is_replaced_atomically(short_run):
    before = write_report(short_run, LAB).read_bytes()
    assert write_report(short_run, LAB).read_bytes() == before
    assert not list(short_run.path.rglob(".*partial"))


def test_folder_without_a_run_raises(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        write_report(RunFolder(tmp_path), LAB)


def test_environment_is_listed(reported_run):
    text = Page(reported_run.report.read_text()).text
    for entry in ("device: platform", "versions: jax", "0.10.2", "dataset: characters", "1115394"):
        assert entry in text


def test_settings_are_shown_with_what_they_were_resolved_to():
    config = {
        "settings": {"compute_dtype": "auto", "seed": 3},
        "preset_settings": {"compute_dtype": "auto", "seed": 0},
        "tuned": {"compute_dtype": "bfloat16", "seed": 3},
    }
    text = Page(sections.settings(config)).text
    assert "compute_dtypeauto, resolved to bfloat16same" in text
    assert "seed30" in text
    assert "1 of 2 differ from the preset." in text
