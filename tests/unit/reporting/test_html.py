"""``report.html``: self-contained, well-formed, escaped, deterministic, and complete."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from support.report_pages import FACTS
from support.sample_documents import sample_documents
from support.sample_variants import searched_by_pairs, with_random_networks

from android_bench.device import DeviceInfo
from nasflow.base.errors import UsageError
from stages.documents import ComputeCost, Verification
from stages.reporting.classes import ClassAccuracy, ClassResult
from stages.reporting.html import render_report
from stages.reporting.run_result import build_result

VOID = {"meta", "br", "link", "img", "hr", "input"}
NASTY = DeviceInfo(
    kind="android",
    model='<script>alert("1")</script>\x1b[31m & co',
    soc="{{ 7 * 7 }}",
    os_build="'><img src=x>",
    runtime="r",
    virtual=True,
)


class Reader(HTMLParser):
    """Checks that elements nest, and collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "data", "srcset"):
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def prose(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(device: DeviceInfo | None = None, **verification: object) -> str:
    documents = sample_documents(device=device) if device else sample_documents()
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    documents["verify"] = verify.model_copy(update=verification)
    return render_report(documents, build_result(documents, FACTS))


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def html() -> str:
    return page()


def test_the_report_needs_nothing_but_itself(html: str) -> None:
    reader = read(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert all(link.startswith("#") for link in reader.links)
    without_namespace = html.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_namespace)
    assert "default-src 'none'" in html


def test_every_link_has_its_target_and_every_target_is_one(html: str) -> None:
    reader = read(html)
    assert len(reader.ids) == len(set(reader.ids))
    assert reader.links
    assert {link[1:] for link in reader.links} <= set(reader.ids)


def test_the_report_shows_the_promised_sections(html: str) -> None:
    prose = read(html).prose
    for words in (
        "The found network is 1.57 times as fast as MobileNetV2 0.5, at an accuracy that does not differ",
        "Speed-up at equal accuracy",
        "The network",
        "Accuracy against latency",
        "Predicted and measured",
        "Measurement noise",
        "Latency by layer and kernel",
        "±4.4 % (95 % interval)",
        "The search",
        "Architecture probabilities by epoch",
        "Final architecture probabilities",
        "Search cost",
        "In all, to find it 66 0.066",
        "Rank agreement of supernet and final accuracy",
        "found 87.90 (1) 91.84 (1)",
        "random 86.40 (2) 90.93 (2)",
        "Training",
        "Conversion",
        "Methods",
        "Sample Computer",
        "2026-03-04 05:06 UTC",
        "All 48 measured blocks",
        "Seed 17",
        "torch 2.13.0",
        "Load, 1 min 0.31",
    ):
        assert words in prose, words


def test_every_network_has_its_figures_in_the_table(html: str) -> None:
    prose = read(html).prose
    for network in build_result(sample_documents()).verification.networks:
        assert f"{network.name} " in prose
        assert f"{network.accuracy_percent:.2f} {network.accuracy_interval_95[0]:.2f} to" in prose


def test_every_figure_is_drawn_for_a_page_and_for_a_phone(html: str) -> None:
    documents = searched_by_pairs(sample_documents())
    priced = render_report(documents, build_result(documents, FACTS))
    for drawn, count in ((html, 15), (priced, 16)):
        assert drawn.count('<div class="wide"><svg') == drawn.count('<div class="narrow"><svg') == count
        assert drawn.count('role="img"') + drawn.count('role="group"') == 2 * count


def test_light_dark_print_and_phone_are_provided_for(html: str) -> None:
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 700px", 'name="viewport"'):
        assert rule in html


def test_equal_documents_give_equal_pages(html: str) -> None:
    assert page() == html


def test_foreign_strings_are_shown_and_do_nothing() -> None:
    html = page(NASTY)
    reader = read(html)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    assert "\x1b" not in html
    assert '<script>alert("1")</script> & co' in reader.prose
    assert "{{ 7 * 7 }}" in reader.prose


def test_a_simulated_phone_is_announced() -> None:
    assert "not those of a phone" in read(page(NASTY)).prose
    assert "not those of a phone" not in read(page()).prose


def test_nothing_is_claimed_where_the_interval_holds_1() -> None:
    prose = read(
        page(
            ratio=0.98,
            ratio_interval_95=(0.95, 1.01),
            equal_accuracy_speedup=1 / 0.98,
            equal_accuracy_speedup_interval_95=(0.99, 1.05),
        )
    ).prose
    assert "No difference in speed can be shown between the found network and MobileNetV2 0.5" in prose
    assert "times as fast" not in prose


def test_latency_has_a_price_in_the_report_where_it_had_one_in_the_search(html: str) -> None:
    documents = searched_by_pairs(sample_documents())
    priced = read(render_report(documents, build_result(documents, FACTS))).prose
    for words in ("Latency multiplier", "the multiplier is the weight of latency in the loss"):
        assert words in priced
        assert words not in read(html).prose


def test_the_report_says_what_probabilities_mean_and_how_the_network_was_chosen(html: str) -> None:
    prose = read(html).prose
    assert "when the search ended: the greater part is given to the path that is best by what was" in prose
    assert "agrees with the most probable one in 62 % of the searched layers" in prose
    assert "the most probable whole one that meets the target on the device" in prose
    assert "the most probable of those that kept the target there was taken" in prose
    documents = searched_by_pairs(sample_documents())
    other = read(render_report(documents, build_result(documents, FACTS))).prose
    assert "Probability of each candidate when the search ended. The outlined one" in other
    assert "{%" not in prose + other


def test_of_many_classes_all_stand_in_a_table_and_of_few_in_the_drawing_alone(html: str) -> None:
    documents = sample_documents()
    result = build_result(documents, FACTS)
    accuracy = ClassAccuracy(correct=7, accuracy_percent=70, accuracy_interval_95=(39.7, 89.2), confusions=())
    classes = tuple(
        ClassResult(name=f"kind {n}", images=10, found=accuracy, reference=None if n == 39 else accuracy)
        for n in range(40)
    )
    many = result.verification.model_copy(update={"classes": classes})
    prose = read(render_report(documents, result.model_copy(update={"verification": many}))).prose
    assert "Accuracy on each of the 40 classes" in prose
    assert all(f"kind {n} 10 70.0 39.7 to 89.2" in prose for n in range(40))
    assert "Accuracy on each of the" not in read(html).prose


def test_the_report_does_not_say_that_supernet_accuracy_chose_the_network(html: str) -> None:
    prose = read(html).prose
    assert "accuracy in the supernet chose nothing" in prose
    assert "biased" not in prose


def test_rounds_of_a_device_that_was_disturbed_throughout_are_shown_as_such() -> None:
    prose = read(page(disturbed=True, rounds_dropped=30, max_ratio=5.0, verdict="inconclusive")).prose
    assert "the device was slowed down: nothing is decided" in prose
    assert "In 30 of them the device was slowed down" in prose


def test_what_an_older_version_did_not_record_is_said_to_be_missing(html: str) -> None:
    documents = sample_documents()
    documents["search"] = documents["search"].model_copy(update={"compute_cost": None})
    old = render_report(documents, build_result(documents, FACTS))
    assert "Search – " in read(old).prose
    assert "In all, to find it 66 –" in read(old).prose
    assert "was not recorded" in read(old).prose
    assert "was not recorded" not in read(html).prose


def test_gpu_hours_have_a_column_where_a_gpu_was_held(html: str) -> None:
    documents = sample_documents()
    compute_cost = ComputeCost(seconds=7200, processor_seconds=3600, accelerator_seconds=7200)
    documents["search"] = documents["search"].model_copy(update={"compute_cost": compute_cost})
    prose = read(render_report(documents, build_result(documents, FACTS))).prose
    assert "CPU-hours GPU-hours" in prose
    assert "Search 1.000 2.000" in prose
    assert "GPU" not in read(html).prose


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_a_gates_verdict_is_shown_with_its_limit(verdict: str) -> None:
    html = page(verdict=verdict, max_ratio=0.7)
    assert f'<span class="verdict {verdict}">{verdict}</span>' in html
    assert "verify.max_ratio 0.7" in html


@pytest.mark.parametrize(
    ("count", "made"),
    [
        (0, "Found network and MobileNetV2s with one recipe"),
        (1, "Found network, random network and MobileNetV2s with one recipe"),
        (5, "Found network, 5 random networks and MobileNetV2s with one recipe"),
    ],
)
def test_as_many_random_networks_as_there_are_are_shown(count: int, made: str) -> None:
    documents = with_random_networks(sample_documents(), count)
    words = read(render_report(documents, build_result(documents))).prose
    assert made in words
    assert ("mean of 5 random networks of equal predicted latency" in words) == (count == 5)
    assert ("the difference from their mean takes networks and images as random" in words) == (count == 5)
    assert ("random 5" in words) == (count == 5)
    assert ("random" in {n.role for n in build_result(documents).verification.networks}) == (count > 0)


def test_conditions_that_could_not_be_read_are_left_out() -> None:
    documents = sample_documents()
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    networks = tuple(
        n.model_copy(update={"measurement": n.measurement.model_copy(update={"conditions": None})})
        for n in verify.networks
    )
    prose = read(page(networks=networks)).prose
    assert "Load, 1 min" not in prose
    assert "None" not in prose


def test_an_unfinished_run_has_no_report() -> None:
    documents = sample_documents()
    result = build_result(documents)
    del documents["search"]
    with pytest.raises(UsageError, match="search"):
        render_report(documents, result)
