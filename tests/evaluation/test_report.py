"""The report: in its text, and as a browser shows it."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
import spacy
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_modernbert.evaluation.documents import read_examples
from spacy_modernbert.evaluation.matching import Match
from spacy_modernbert.evaluation.report import (
    breakable,
    chance,
    draw_curve,
    make_matrix,
    number,
    order_labels,
    percent,
    render_report,
    signed,
)
from spacy_modernbert.evaluation.resampling import Resampling
from spacy_modernbert.evaluation.summary import summarize, summarize_comparison

from .toys import score

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# What a script finds in a page is put at its end, for the browser to print.
FINDING = """
<script>
addEventListener("load", () => {
  const found = {};
%s
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
</script>
"""

# What a reader does, and what is then to be seen. It runs in the page.
PROBE = """
  const all = (selector) => [...document.querySelectorAll(selector)];
  const key = (name) => document.body.dispatchEvent(
    new KeyboardEvent("keydown", { key: name, bubbles: true }));
  found.wide = document.documentElement.scrollWidth - innerWidth;
  found.background = getComputedStyle(document.body).backgroundColor;
  found.intervals = all(".interval").filter((each) => each.checkVisibility())
    .map((each) => each.textContent);
  found.documents = all("#length .in-docs, #length td.docs")
    .filter((each) => each.checkVisibility()).map((each) => each.textContent);
  found.plots = all(".plot svg").map((svg) => svg.getBoundingClientRect().height > 50);
  found.bars = all(".kinds .fill").map((bar) => bar.getBoundingClientRect().width);
  found.parsed = all("details.doc").map((doc) => doc.querySelectorAll("mark").length);
  found.borders = [...new Set(all("mark.e").map((mark) => {
    const style = getComputedStyle(mark);
    return `${style.borderTopStyle} ${style.borderTopWidth} ${style.borderLeftWidth}`;
  }))].length;
  document.querySelector("#order").focus();
  document.activeElement.blur();
  key("n");
  found.first = document.activeElement.textContent;
  key("n");
  found.second = document.activeElement.textContent;
  key("p");
  found.back = document.activeElement.textContent;
  key("p");
  found.last = document.activeElement.closest("details").dataset.index;
  document.querySelector("[name=kind][value=k0]").click();
  document.querySelector("[name=label][value=B]").click();
  found.off = all("mark.e").map((mark) => mark.classList.contains("off"));
  found.shown = document.getElementById("shown").textContent;
  all("[name=kind]:checked").forEach((box) => box.click());
  found.listed = all("details.doc").filter((doc) => !doc.hidden).length;
"""


# How far things reach beyond what they are in.
BEYOND = """
  found.wide = document.documentElement.scrollWidth - innerWidth;
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  found.beyond = [[".t", ".block"], [".chip", "li"], [".filter label", "fieldset"]]
    .map(([selector, around]) => {
      const rights = [...document.querySelectorAll(selector)].map((each) => [
        each.getBoundingClientRect(), each.closest(around)?.getBoundingClientRect(),
      ]);
      const inner = rights.filter(([each, outer]) => each.width && outer);
      return [inner.length > 0,
        inner.every(([each, outer]) => each.right <= outer.right + 1)];
    });
"""

# In many documents, of which the first 25 are shown.
STEPS = """
  const $ = (selector) => document.querySelector(selector);
  const key = (name, options = {}, target = document.body) => target.dispatchEvent(
    new KeyboardEvent("keydown", { key: name, bubbles: true, ...options }));
  const at = () => {
    const each = document.activeElement;
    const doc = each.closest("details");
    const place = doc && [...doc.querySelectorAll("mark")].indexOf(each);
    return doc && [Number(doc.dataset.index), place, doc.checkVisibility()];
  };
  $("nav a").focus();
  key("n", {}, $("nav a"));
  found.elsewhere = at();
  // Nothing has the focus, and the documents have not had it.
  document.activeElement.blur();
  key("n");
  found.nowhere = at();
  $("#order").focus();
  key("n", {}, $("#order"));
  document.activeElement.blur();
  key("n", { ctrlKey: true });
  found.unheard = at();
  found.steps = ["n", "n"].map((name) => { key(name); return at(); });
  // The one that it stands at is filtered out.
  $("[name=label][value=B]").click();
  key("n");
  found.on = at();
  key("p");
  found.back = at();
  found.far = ["n", "n", "n"].map((name) => { key(name); return at(); });
  // So is the document that it stands in.
  $("[name=label][value=A]").click();
  key("n");
  found.farther = at();
"""

# From the row of a document without errors.
FROM_A_ROW = """
  const row = document.querySelector("[data-index='10'] summary");
  const index_of = (key) => {
    row.focus();
    row.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    return Number(document.activeElement.closest("details").dataset.index);
  };
  found.indices = ["n", "p", "n"].map(index_of);
"""

LISTED = """
  const listed = () => [...document.querySelectorAll("details.doc")]
    .filter((doc) => !doc.hidden).map((doc) => Number(doc.dataset.index));
  found.all = listed();
  document.querySelector("[name=kind][value=k0]").click();
  found.without_correct = listed();
"""

# Cells of the confusion matrix, which are buttons.
CELLS = """
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (each) => each.checkVisibility();
  const cell = (gold, found) =>
    document.querySelector(`td[data-gold="${gold}"][data-found="${found}"] button`);
  const look = () => ({
    docs: all("details.doc").filter(seen).map((doc) => Number(doc.dataset.index)),
    marks: all("mark.e:not(.off)").filter(seen)
      .map((each) => all("mark.e").indexOf(each)),
    at: all("mark.e").indexOf(document.activeElement),
    current: all("[aria-current]").map((each) => each.getAttribute("aria-label")),
    told: all(".pair").filter(seen).map((each) => each.textContent),
    clear: all(".clear").filter(seen).length,
    labels: all("[name=label]").filter(seen).length,
    shown: document.getElementById("shown").textContent,
  });
  found.cells = all(".matrix button").map((each) => each.textContent);
  document.querySelector("[name=kind][value=k1]").click();
  document.querySelector("[name=label][value=B]").click();
  cell("B", "A").click();
  found.mislabelled = look();
  document.getElementById("next").click();
  found.next = look().at;
  cell("A", "A").click();
  found.diagonal = look();
  cell("B", "").click();
  found.missed = look();
  cell("", "A").click();
  found.spurious = look();
  all(".clear").find(seen).click();
  found.cleared = look();
  found.focus = document.activeElement.name;
"""

# Of sixty.
FIND_LABELS = """
  const all = (selector) => [...document.querySelectorAll(selector)];
  const $ = (selector) => document.querySelector(selector);
  const boxes = () => all("[name=label]").filter((box) => box.checkVisibility());
  const search = $("[type=search]");
  const type = (text) => {
    search.value = text;
    search.dispatchEvent(new Event("input", { bubbles: true }));
  };
  found.folded = boxes().length;
  found.all = $(".chosen").textContent;
  $("#label-boxes summary").click();
  found.unfolded = boxes().length;
  found.first = boxes()[0].value;
  const [checkAll, checkNone] = all(".find button");
  checkNone.click();
  found.none = $("#shown").textContent;
  type("ing_0");
  found.listed = boxes().length;
  checkAll.click();
  found.some = $(".chosen").textContent;
  found.shown = $("#shown").textContent;
  search.focus();
  search.dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true }));
  found.isStill = document.activeElement === search;
  type("nothing");
  found.unknown = getComputedStyle($(".boxes"), "::after").content;
  // What hides the labels, and comes back to them.
  $(".matrix button").click();
  $("#pair .clear").click();
  found.back = document.activeElement.tagName;
  found.wide = document.documentElement.scrollWidth - innerWidth;
"""

# What lists them all, in frames of their own.
SCROLL = """
  const $ = (selector) => document.querySelector(selector);
  const place = (selector) => $(selector).getBoundingClientRect();
  const table = $("#labels .wide");
  found.beyond = table.scrollWidth - table.clientWidth;
  found.heights = [table, $("#confusion .wide")].map(
    (each) => each.clientHeight < 1000);
  table.scrollTo(0, 300);
  found.scrolled = table.scrollTop;
  found.head = place("#labels thead th").top - place("#labels .wide").top;
  const matrix = $("#confusion .wide");
  found.matrix = matrix.scrollWidth - matrix.clientWidth;
  matrix.scrollTo(100, 0);
  found.side = place(".matrix tbody th").left - place("#confusion .wide").left;
"""

# From outside the page.
UNSCRIPTED = """
  const page = frames[0].document;
  const all = (selector) => [...page.querySelectorAll(selector)];
  for (const doc of all("details.doc")) doc.open = true;
  found.marks = all("details.doc").map((doc) =>
    [...doc.querySelectorAll("mark")].filter((mark) => mark.checkVisibility()).length);
  found.controls = all("button, input, select, kbd, #documents summary")
    .filter((each) => each.checkVisibility()).map((each) => each.tagName);
  found.counts = all(".count").map((each) => each.textContent);
"""

SHOW_ALL = """
  document.getElementById("all").focus();
  document.getElementById("all").click();
  Object.assign(found, document.activeElement.parentElement.dataset);
"""


FEW = Resampling(samples=20)


def find_nothing(docs):
    """The same documents, as of a pipeline that finds no entities."""
    return [
        replace(doc, matches=tuple(Match(mention, None) for mention in doc.gold))
        for doc in docs
    ]


def make_data(docs, **changes):
    return {
        "command": "python -m spacy modernbert evaluate <pipeline> data.spacy",
        "pipeline": "<pipeline>",
        "data": "data.spacy",
        "versions": {"spacy": "3.8"},
        "window": {"window": 8192, "overlap": 512},
        **summarize(docs, FEW, {"u": {"A"}}),
        "learning_curve": [
            {"step": 0, "score": 0.1, "loss": 5.0},
            {"step": 10, "score": 0.5, "loss": 1.0},
        ],
        "performance": {"ents_f": 0.25},
        "comparison": {
            "pipeline": "other",
            **summarize_comparison(docs, find_nothing(docs), FEW),
        },
        **changes,
    }


@pytest.fixture(scope="module")
def docs():
    gold = [(0, 1, "A"), (2, 3, "B"), (4, 6, "A"), (8, 10, "B"), (11, 12, "A")]
    found = [(0, 1, "A"), (2, 3, "A"), (4, 5, "A"), (9, 11, "A"), (13, 14, "A")]
    words = "u v <w> u & v u v w u v w u v w"
    return [
        score(words, gold, found, "all kinds"),
        score("u v w", [(0, 1, "A")], [(0, 1, "A")], "right"),
        score("u v w", [(0, 1, "B")], [], "missed"),
    ]


@pytest.fixture(scope="module")
def sixty():
    """As many labels, each missed as often as its number says, and once more."""
    docs = []
    for i in range(60):
        label = f"SOME_KIND_OF_THING_{i:02}"
        gold = [(2 * j, 2 * j + 1, label) for j in range(i + 1)]
        docs.append(score("u v " * (i + 1), gold, []))
    return docs


class Page(HTMLParser):
    """Elements that a browser would get from elsewhere, and the ids of links."""

    def __init__(self, html):
        super().__init__()
        self.outside, self.links, self.ids = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.outside += [
            value
            for name in ("src", "srcset", "data")
            if (value := attributes.get(name))
        ]
        if tag == "link":
            self.outside.append(attributes.get("href"))
        if tag == "a":
            self.links.append(attributes["href"])
        if "id" in attributes:
            self.ids.append(attributes["id"])


def test_it_needs_nothing_else(docs):
    html = render_report(make_data(docs), docs)
    page = Page(html)
    assert page.outside == []
    assert not re.search(r"url\(|@import|fetch\(|https?://", html)
    assert page.links and all(link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert "<pipeline>" not in html and "&lt;pipeline&gt;" in html
    assert html.count('<div class="text" lang="en" dir="ltr">') == len(docs)


def test_a_document_of_any_language():
    """It is not in English, as the page is, and reads as it begins."""
    made = [Doc(spacy.blank("xx").vocab, words=["דן", "ראה"]) for _ in range(2)]
    for doc in made:
        doc.ents = [Span(doc, 0, 1, "A")]
    docs = read_examples([Example(*made)])
    html = render_report(make_data(docs, comparison=None), docs)
    assert '<div class="text" lang="" dir="rtl">' in html


def test_its_numbers_are_those_of_the_data(docs):
    data = make_data(docs)
    html = render_report(data, docs)
    for row in (data["overall"], *data["labels"].values(), *data["modes"].values()):
        assert f">{percent(row['f'])}<" in html
    for kind, n in data["kinds"].items():
        assert re.search(rf'</span>{kind}</th><td class="n">{n}</td>', html)
    # Another number in the data is another number in the report.
    data["overall"]["f"] = 0.877
    assert '<div class="value">87.7</div>' in render_report(data, docs)


def test_what_is_not_known_is_said(docs):
    data = make_data(docs, window=None, comparison=None, learning_curve=[])
    data["slices"].update(edge=[], seen=[])
    html = render_report(data, docs)
    assert "no log of the training run" in html and "ents_f 0.25" in html
    assert "no encoder of spacy-modernbert that cuts" in html
    assert "training data were not given" in html
    assert "Against" not in html
    data = make_data(docs)
    html = render_report(data, docs)
    assert "no log of the training run" not in html and "Against other" in html


def test_a_score_that_is_a_sum():
    """Of several, by weights that are more than 1 together."""
    chart = draw_curve([{"step": i, "score": 0.9 * i} for i in range(3)], "score")
    assert all(0 <= y <= 100 for _, y, _ in chart.points)
    assert [text for _, text in chart.y_ticks][-1] == "2"


def test_nothing_to_show():
    docs = [score("u v w", [], [])]
    html = render_report(make_data(docs, comparison=None, learning_curve=[]), docs)
    # In each table of entities, and nothing is told to be unknown for it.
    assert html.count("There are no entities") == 5
    assert "no encoder of spacy-modernbert that cuts" not in html
    assert "training data were not given" not in html


def test_a_label_of_one_document(docs):
    """It has no interval, and all others have."""
    data = make_data(docs)
    label = next(iter(data["labels"]))
    n_ranges = render_report(data, docs).count('class="range"')
    data["labels"][label]["f_interval"] = None
    data["comparison"]["labels"][label].update(low=None, high=None, p_value=None)
    html = render_report(data, docs)
    assert html.count('class="range"') == n_ranges - 1
    assert html.count("in one document</td>") == 1


def test_a_comparison_by_one_document(docs):
    """Its interval would have no width, and p would be 1."""
    assert "p = " in render_report(make_data(docs), docs)
    html = render_report(make_data(docs[:1]), docs[:1])
    assert "With entities in at most one document, it cannot be said whether" in html
    assert "p = " not in html and ">Interval<" not in html
    # Nor has F one.
    assert "draws of documents lie" not in html and 'class="range"' not in html


def test_a_comparison_by_few_documents(docs):
    """As the command says."""
    told = "Of 3 documents, neither the interval nor p says much."
    assert told in render_report(make_data(docs), docs)
    enough = [*docs, *docs, *docs, *docs]
    assert "says much" not in render_report(make_data(enough), enough)
    # What has no entities does not count, nor what both find.
    nothing = score("u v w x", [], [], "nothing")
    alike = score("u v w x", [(0, 1, "A")], [(0, 1, "A")], "alike")
    for more, few in (
        (nothing, told),
        (alike, "They differ in 2 documents only, so p says little."),
    ):
        many = [*docs, *[more] * 9]
        data = make_data(many)
        others = [*find_nothing(docs), *[more] * 9]
        data["comparison"].update(summarize_comparison(many, others, FEW))
        assert few in render_report(data, many)


def test_a_label_that_is_never_true():
    """Nothing is told of how well it is found, and how often it is, of both."""
    docs = [score("u v w", [(1, 2, "B")], [(0, 1, "A"), (1, 2, "B")]) for _ in "ab"]
    html = render_report(make_data(docs), docs)
    row, *_ = re.findall(r'<th scope="row" title="A".*?</tr>', html, re.DOTALL)
    cells = re.findall(r'<td class="n[^>]*>([^<]*)<', row)
    assert cells == ["0", "2", "0.0", "–", "–"] and 'class="range"' not in row
    compared = html[html.index("Against other") :]
    assert 'colspan="3">no true ones; found 2, by the other 0</td>' in compared
    # Nor of a slice.
    (row,) = re.findall(r"<th[^>]*>seen in training<.*?</tr>", html, re.DOTALL)
    cells = re.findall(r'<td class="n[^>]*>([^<]*)<', row)
    assert cells == ["2", "0", "2", "0.0", "–", "–"]


def test_a_reference_without_entities():
    docs = [score("u v w", [], [(0, 1, "A"), (1, 2, "B")]) for _ in "ab"]
    html = render_report(make_data(docs), docs)
    assert "There are no true entities. 4 were found, and 0 by the other." in html
    tiles = re.findall(r'<div class="value">(.*?)</div>', html)
    assert tiles == ["–", "0.0", "–", "0"]


def test_matrix():
    matrix = make_matrix({"A": {"A": 3, "": 1}, "": {"B": 2}})
    assert matrix["columns"] == ["A", "B", "missed"]
    assert [row["name"] for row in matrix["rows"]] == ["A", "B", "spurious"]
    counts = [[cell["count"] for cell in row["cells"]] for row in matrix["rows"]]
    assert counts == [[3, 0, 1], [0, 0, 0], [0, 2, 0]]
    assert matrix["rows"][0]["cells"][0]["share"] == 0.75
    told = [[cell["what"] for cell in row["cells"]] for row in matrix["rows"]]
    assert told[0] == ["A found as A", "A found as B", "A missed"]
    assert told[2][:2] == ["A spurious", "B spurious"]
    assert matrix["left_out"] == 0


def test_the_confusion_of_many_labels():
    """A matrix grows with their square: those that are missed, spurious or
    taken for another most often are shown."""
    confusion = {f"L{i:03}": {f"L{i:03}": 5, "": i} for i in range(200)}
    confusion["L000"]["L001"] = 1000
    matrix = make_matrix(confusion)
    assert len(matrix["columns"]) == len(matrix["rows"]) == 21
    assert matrix["columns"][:3] == ["L000", "L001", "L182"]
    assert matrix["left_out"] == 180


def test_what_is_said_of_labels_that_are_left_out():
    """Errors of boundaries, of which the most frequent label here has the most, are
    not in the matrix, and labels that are shown may be equal to those that are not."""
    gold = [(3 * i, 3 * i + 2, "OFTEN") for i in range(9)]
    docs = [score("u v w " * 9, gold, [(s, e - 1, name) for s, e, name in gold])]
    docs += [score("u", [(0, 1, f"L{i:02}")], []) for i in range(20)]
    data = make_data(docs)
    assert data["kinds"]["boundary"] == 9
    html = render_report(data, docs)
    assert (
        "1 more label is not shown: missed, spurious or taken for another no more "
        "often than these." in html
    )
    assert 'title="OFTEN found as OFTEN"' not in html


def test_the_order_of_labels():
    """That of the alphabet or, of many, by how many there are."""
    few = {label: {"gold": i, "found": 0} for i, label in enumerate("ABCDEFGHIJKL")}
    assert order_labels(few) == list("ABCDEFGHIJKL")
    many = {**few, "M": {"gold": 0, "found": 5}}
    assert order_labels(many) == list("LKJIHGFMEDCBA")


def test_where_labels_break():
    assert breakable("A_B<_C") == "A_<wbr>B&lt;_<wbr>C"


def test_small_slices():
    """They are seen to be small, by the number of documents or of entities."""
    gold = [(i, i + 1, "A") for i in range(30)]
    docs = [
        *(score("u " * 30, gold[:1], []) for _ in range(10)),
        *(score("u " * 300, gold, []) for _ in range(5)),
        *(score("u " * 600, gold, []) for _ in range(4)),
    ]
    html = render_report(make_data(docs), docs)
    (rows,) = re.findall(r'<section id="length".*?</section>', html, re.DOTALL)
    row = r'<tr( class="few")?><th scope="row"[^>]*>(.*?)<span.*?>(.*?)<'
    assert re.findall(row, rows) == [
        (' class="few"', "0–255", "10 documents"),
        ("", "256–511", "5 documents"),
        (' class="few"', "512–1,023", "4 documents"),
    ]
    assert "fewer than 5 documents or 30 true entities" in rows
    html = render_report(make_data(docs[10:15]), docs[10:15])
    (rows,) = re.findall(r'<section id="length".*?</section>', html, re.DOTALL)
    assert ">5 documents<" in rows and "fewer than 5 documents" not in rows


def test_numbers():
    assert (percent(0.1234), signed(-0.05), signed(0.05)) == ("12.3", "−5.0", "+5.0")
    assert [number(n) for n in (7, 999.7, 12345, 1234.5, 0.123456)] == [
        "7",
        "1,000",
        "12,345",
        "1,234",
        "0.123",
    ]


def test_the_script_finds_what_it_looks_for(sixty):
    """Without a browser, at least that what it names is on the page."""
    html = render_report(make_data(sixty), sixty)
    script = html[html.index('"use strict"') :]
    script, rest = script.split("</script>", 1)
    page = html.replace(script, "") + rest
    ids = set(re.findall(r'\$\("([\w-]+)"\)', script))
    names = set(re.findall(r'chosen\("(\w+)"\)', script))
    classes = set(re.findall(r'querySelector(?:All)?\("[\w.]*?\.([\w-]+)"\)', script))
    assert ids and names == {"kind", "label"} and {"doc", "text", "count"} <= classes
    for attribute, wanted in (("id", ids), ("name", names)):
        for value in wanted:
            assert re.search(rf'{attribute}="?{value}["\s>]', page), value
    given = set(re.findall(r'toggle\("([\w-]+)"', script))  # by itself
    for value in classes - given:
        assert re.search(rf'class="?[^">]*\b{value}\b', page), value


# -- In a browser -----------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"there is no browser to look with: none of {', '.join(BROWSERS)}")
    return found


def look(browser, folder, html, width, *options, probe=PROBE):
    """RETURNS (Dict[str, Any]): What the probe found."""
    path = folder / "report.html"
    script = FINDING % probe
    path.write_text(html.replace("</body>", f"{script}</body>"), encoding="utf8")
    # The page is in a frame: windows have a least width, frames have none.
    return dump(
        browser,
        folder,
        f'<iframe src="report.html" style="width:{width}px;height:900px"></iframe>'
        "<script>addEventListener('load', () => document.body.append("
        "frames[0].document.getElementById('found')))</script>",
        *options,
    )


def dump(browser, folder, html, *options):
    """RETURNS (Dict[str, Any]): What a page found."""
    frame = folder / "frame.html"
    frame.write_text(html, encoding="utf8")
    done = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=5000",
            "--window-size=1400,1000",
            *options,
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(browser, docs, width, tmp_path):
    data = make_data(docs)
    html = render_report(data, docs)
    found = look(browser, tmp_path, html, width)
    assert found["wide"] <= 0  # nothing reaches beyond the page
    assert found["plots"] == [True, True, True]
    assert found["documents"] == (["3 documents"] if width == 390 else ["3"])
    # In words where there is no room for bars.
    intervals = [row["f_interval"] for row in data["labels"].values()]
    told = [f"{percent(low)}–{percent(high)}" for low, high in intervals]
    assert len(told) == 2 and found["intervals"] == (told if width == 390 else [])
    # correct, mislabelled, boundary, mislabelled boundary, missed, spurious
    most, *_ = found["bars"]
    assert [bar / most for bar in found["bars"]] == pytest.approx(
        [1, 0.5, 0.5, 0.5, 1, 0.5], abs=0.02
    )
    # Only the first is open, and the others are not parsed.
    assert found["parsed"] == [6, 0, 0]
    assert found["borders"] == 5  # by more than colour; the two of boundaries are alike
    assert found["first"].startswith("<w>") and "A" in found["first"]
    assert found["second"] != found["first"] == found["back"]
    assert found["last"] == "2"
    # Without what is right, and without what has to do with B only.
    assert found["off"] == [True, False, False, False, False, False, True]
    assert "1 of 3 documents, 5 errors" in found["shown"]
    assert found["listed"] == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_long_labels(browser, width, tmp_path):
    """Wherever they are, they are seen whole: nothing hides what is too long."""
    one, two = (
        f"BiologicalProcess_{name}RegulationOfTranscriptionFactorBinding"
        for name in ("Positive", "Negative")
    )
    words = "p53 and p53 with p53"
    gold = [(0, 1, one), (2, 3, one)]
    found = [(0, 1, two), (2, 3, one), (4, 5, two)]
    docs = [score(words, gold, found, "first")]
    seen = look(
        browser, tmp_path, render_report(make_data(docs), docs), width, probe=BEYOND
    )
    assert seen["wide"] <= 0
    assert seen["beyond"] == [[True, True]] * 3


@pytest.fixture(scope="module")
def many():
    """Errors in the first document, and behind those that are shown at once."""
    right = [(0, 1, "A")]
    labels = [(0, 1, "A"), (2, 3, "B"), (4, 5, "A"), (6, 7, "C")]
    return [
        score("u v u v u v u v", labels, [], "first"),
        *(score("u v", right, right, f"right {i}") for i in range(1, 27)),
        score("u v", right, [], "far"),
        score("u v", [(0, 1, "C")], [], "farther"),
    ]


def test_from_error_to_error(browser, many, tmp_path):
    html = render_report(make_data(many), many)
    found = look(browser, tmp_path, html, 1280, probe=STEPS)
    # The document, the entity in it, and whether it is to be seen.
    assert found == {
        "elsewhere": None,
        "nowhere": None,
        "unheard": None,
        "steps": [[0, 0, True], [0, 1, True]],
        "on": [0, 2, True],
        "back": [0, 0, True],
        "far": [[0, 2, True], [0, 3, True], [27, 0, True]],
        "farther": [28, 0, True],
    }


def test_from_a_row_to_the_errors_around_it(browser, many, tmp_path):
    html = render_report(make_data(many), many)
    found = look(browser, tmp_path, html, 1280, probe=FROM_A_ROW)
    assert found["indices"] == [27, 0, 27]


def test_documents_without_entities_are_listed_where_all_are(browser, tmp_path):
    docs = [score("u", [], []), score("u", [(0, 1, "A")], []), score("u", [], [])]
    html = render_report(make_data(docs), docs)
    found = look(browser, tmp_path, html, 1280, probe=LISTED)
    assert found == {"all": [0, 1, 2], "without_correct": [1]}


@pytest.mark.parametrize("width", [1280, 390])
def test_a_cell_leads_to_its_examples(browser, docs, width, tmp_path):
    empty = score("u v", [], [], "empty")
    html = render_report(make_data([*docs, empty]), [*docs, empty])
    found = look(browser, tmp_path, html, width, probe=CELLS)
    assert found["cells"] == ["3", "1", "2", "1", "1"]
    # The filter by label does not stand in its way, and is as it was when it is gone.
    assert found["mislabelled"] == {
        "docs": [0],
        "marks": [1, 3],
        "at": 1,
        "current": ["B found as A: 2"],
        "told": ["B found as A"] * 2,
        "clear": 2,
        "labels": 0,
        "shown": "1 of 4 documents, 2 examples of B found as A.",
    }
    assert found["next"] == 3
    # With those that are right, too.
    assert found["diagonal"]["docs"] == [0, 1]
    assert found["diagonal"]["marks"] == [0, 2] and found["diagonal"]["at"] == 0
    assert found["missed"]["docs"] == [2] and found["missed"]["told"][0] == "B missed"
    assert found["spurious"]["docs"] == [0] and found["spurious"]["marks"] == [5]
    assert found["cleared"]["docs"] == [0, 1] and found["cleared"]["labels"] == 2
    assert found["cleared"]["current"] == [] and found["cleared"]["clear"] == 0
    assert found["focus"] == "label"


@pytest.mark.parametrize("width", [1280, 390])
def test_many_labels_are_looked_for(browser, sixty, width, tmp_path):
    html = render_report(make_data(sixty), sixty)
    found = look(browser, tmp_path, html, width, probe=FIND_LABELS)
    assert found["wide"] <= 0
    assert (found["folded"], found["unfolded"], found["listed"]) == (0, 60, 10)
    assert (found["all"], found["some"]) == ("all 60", "10 of 60")
    assert found["first"] == "SOME_KIND_OF_THING_59"
    assert found["none"].startswith("0 of 60 documents")
    assert found["shown"].startswith("10 of 60 documents, 55 errors")
    assert found["isStill"] and "No label" in found["unknown"]
    assert found["back"] == "SUMMARY"


@pytest.mark.parametrize("width", [1280, 390])
def test_many_labels_scroll_under_their_headings(browser, sixty, width, tmp_path):
    html = render_report(make_data(sixty), sixty)
    found = look(browser, tmp_path, html, width, probe=SCROLL)
    assert found["beyond"] <= 0 and found["heights"] == [True, True]
    assert found["scrolled"] == 300 and abs(found["head"]) < 1
    assert found["matrix"] <= 0 or width == 390  # on a screen, it is seen whole
    assert abs(found["side"]) < 1


def test_without_a_script(browser, docs, tmp_path):
    """Documents can be opened and read, and what only a script would serve is gone."""
    html = render_report(make_data(docs), docs)
    (tmp_path / "report.html").write_text(html, encoding="utf8")
    # A frame that is allowed nothing runs none.
    frame = '<iframe src="report.html" sandbox="allow-same-origin"></iframe>'
    found = dump(browser, tmp_path, frame + FINDING % UNSCRIPTED)
    assert found == {
        "marks": [6, 1, 1],
        "controls": ["SUMMARY", "SUMMARY", "SUMMARY"],
        "counts": ["5 errors", "0 errors", "1 error"],
    }


def test_chance():
    assert list(map(chance, (1.0, 0.00012, 0.0001, 0.00009))) == [
        "= 1.0000",
        "= 0.0001",
        "= 0.0001",
        "< 0.0001",
    ]


def test_focus_goes_on_where_more_is_shown(browser, many, tmp_path):
    html = render_report(make_data(many), many)
    found = look(browser, tmp_path, html, 1280, probe=SHOW_ALL)
    assert found["index"] == "25"


def test_dark(browser, docs, tmp_path):
    html = render_report(make_data(docs), docs)
    light = look(browser, tmp_path, html, 1280)["background"]
    dark = look(
        browser, tmp_path, html, 1280, "--blink-settings=preferredColorScheme=0"
    )["background"]

    def brightness(colour):
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert brightness(dark) < 150 < 600 < brightness(light)
