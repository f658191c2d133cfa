"""The page is one whole, self-contained file, and says only what the folder says."""

import re
from html.parser import HTMLParser

import pytest

from jaxlabs.config import UserError
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

    def having(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(folder):
    return Page(write_report(folder).read_text())


def test_page_nests_and_holds_every_section_once_and_in_order(drawn_run):
    page = Page(drawn_run.report.read_text())
    sections = [attrs["id"] for attrs in page.having("section")]
    assert sections == [
        "published",
        "loss",
        "samples",
        "figures",
        "pictures",
        "settings",
        "environment",
        "reproduce",
    ]
    assert len(page.having("h1")) == 1


def test_page_asks_nothing_of_the_network(drawn_run):
    source = drawn_run.report.read_text()
    page = Page(source)
    addresses = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert not page.having("script")
    assert "@import" not in source
    assert "url(" not in source


def test_every_picture_has_an_alternative_and_a_caption(drawn_run):
    page = Page(drawn_run.report.read_text())
    images = page.having("img")
    assert (
        len(images)
        == len(page.having("figcaption"))
        == len(list(drawn_run.figures.glob("*.png")))
        == 6
    )
    assert all(attrs["alt"] for attrs in images)


def test_samples_show_their_markup_as_text(drawn_run):
    source = drawn_run.report.read_text()
    assert "&lt;stand&gt; &amp; fall" in source
    assert "<stand>" not in source
    page = Page(source)
    assert (drawn_run.samples / "final.txt").read_text() in page.text
    assert "step 250 <b>of</b> & all" in page.text


def test_everything_else_is_escaped_as_well(short_run):
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
    assert not page.having("script")
    assert page.text.count("<script>") > 10


def test_published_figure_stands_beside_ours(drawn_run):
    text = Page(drawn_run.report.read_text()).text
    assert "1.88 nats" in text
    assert f"{drawn_run.read_summary()['metrics']['held_out_loss']:.4f} nats" in text


def test_reason_is_told_where_figures_are_not_comparable(short_run):
    summary = short_run.read_summary()
    summary["comparison"][0] |= {
        "comparable": False,
        "not_comparable_reason": "trained on another text",
    }
    short_run.write_summary(summary)
    assert "Not comparable: trained on another text" in page_of(short_run).text


def test_headline_holds_loss_parameters_steps_and_time(drawn_run):
    source = drawn_run.report.read_text()
    tiles = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", source)
    loss = drawn_run.read_summary()["metrics"]["held_out_loss"]
    assert dict(tiles) == {
        "loss, held out": f"{loss:.4f} nats",
        "parameters": "808,769",
        "steps": "2,000",
        "training time": "1 min 01 s",
    }


def test_baselines_are_ranked_with_the_model_among_them(drawn_run):
    source = drawn_run.report.read_text()
    (table,) = re.findall(r"without training</h3>.*?</table>", source, re.DOTALL)
    order = re.findall(r'<th scope="row">(.*?)</th>', table)
    assert order == ["uniform", "unigram", "bigram", "5-gram", "this model, held out"]


def test_settings_that_differ_from_the_preset_stand_out(drawn_run):
    source = drawn_run.report.read_text()
    (changed,) = re.findall(r'<tr class="changed">(.*?)</tr>', source.split('id="settings"')[1])
    assert "learning_rate" in changed
    assert "0.002" in changed
    assert "0.001" in changed


def test_command_that_made_the_run_is_told(drawn_run):
    assert ">python -m experiments.gpt --learning_rate=0.002</pre>" in drawn_run.report.read_text()


def test_fresh_run_has_a_page_without_what_is_missing(fresh_run):
    page = page_of(fresh_run)
    assert [attrs["id"] for attrs in page.having("section")] == ["published"]
    assert "has not ended" in page.text


def test_running_run_shows_what_is_logged(short_run):
    (short_run.path / "summary.json").unlink()
    text = page_of(short_run).text
    assert "2,000 of 2,000 steps are logged" in text
    last = [row["loss"] for row in short_run.read_metrics() if row["split"] == "held_out"][-1]
    assert f"{last:.4f} nats" in text


def test_report_survives_rows_that_are_not_finite(short_run):
    short_run.append_metrics([{"step": 2010, "split": "train", "loss": float("nan")}])
    short_run.append_metrics([{"step": 2010, "split": "held_out", "loss": float("nan")}])
    assert page_of(short_run)


def test_page_stays_small_enough_to_mail(drawn_run):
    assert drawn_run.report.stat().st_size < 1_500_000


def test_page_is_replaced_and_leaves_no_rest(short_run):
    before = write_report(short_run).read_bytes()
    assert write_report(short_run).read_bytes() == before
    assert not list(short_run.path.rglob(".*partial"))


def test_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        write_report(RunFolder(tmp_path))


def test_facts_of_the_environment_are_listed(drawn_run):
    text = Page(drawn_run.report.read_text()).text
    for fact in ("device: platform", "versions: jax", "0.10.2", "dataset: characters", "1115394"):
        assert fact in text
