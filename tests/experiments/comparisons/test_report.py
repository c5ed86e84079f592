"""The report as text, and as a browser shows it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from experiments.comparisons import report
from experiments.runs.records import RunRecord, read_record
from tests.conftest import Command
from tests.experiments.browser import chromium
from tests.experiments.comparing import make_run, two_variants

HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)> {{ 7 * 7 }} $a_b$ &amp;"""


class Page(HTMLParser):
    """Tags with their attributes, and the text of the body's."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def write(records: list[RunRecord], folder: Path, title: str = "A comparison") -> str:
    return report.write(records, folder, title, "dmpo compare a.yaml b.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on two variants, the first with episodes and model errors; not to be changed."""
    folder = tmp_path_factory.mktemp("report")
    extra = {"model/state_error": 0.01, "model/reward_error": 0.1}
    write(two_variants(folder / "runs", extra=extra, episode=True), folder / "made")
    return folder / "made"


def test_a_report_has_its_numbers_and_pictures_beside_it(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == ["plots", "report.html", "statistics.json"]
    names = [path.name.removeprefix("cacc_catchup_") for path in sorted((made / "plots").iterdir())]
    assert names == ["final_results.png", "graph_0.png", "learning_curves.png", "model_errors.png", "time_space.png"]
    numbers = json.loads((made / "statistics.json").read_text(encoding="utf-8"))
    entries = numbers["scenarios"]["cacc_catchup"]["entries"]
    assert entries["fast"]["final"]["value"] == pytest.approx(-3.1)
    assert entries["fast"]["finals"] == pytest.approx([-3.0, -3.1, -3.2])
    assert entries["slow"]["over_best_other"]["other"] == "fast"


def test_a_page_needs_nothing_but_itself(made: Path) -> None:
    text = (made / "report.html").read_text(encoding="utf-8")
    addresses = [
        value
        for _, attributes in Page(text).tags
        for key, value in attributes.items()
        if key in ("src", "href") and value
    ]
    assert len(addresses) == 5
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not re.search(r"url\(|@import|<script|<link", text)


def test_a_page_says_who_wins_and_how_it_was_made(made: Path) -> None:
    text = " ".join(Page((made / "report.html").read_text(encoding="utf-8")).text.split())
    for words in (
        "fast wins with −3.1 (−3.2 to −3, 3 runs), before slow with −6",
        "dmpo compare a.yaml b.yaml",
        "python 3, torch 2",
        "Complete configuration of slow",
        "num_vehicles: 3",
        "algorithm.kappa",
    ):
        assert words in text, words


def test_what_differs_is_shown_and_what_does_not_is_not(tmp_path: Path) -> None:
    text = write(two_variants(tmp_path / "runs"), tmp_path / "report")
    (table,) = re.findall(r'<table class="differences">.*?</table>', text, re.DOTALL)
    keys = [re.sub(r"<[^>]*>", "", key) for key in re.findall(r"<th><code>(.*?)</code>", table)]
    assert keys == ["algorithm.kappa"]  # neither the seed nor the name


def test_the_same_runs_give_the_same_bytes(tmp_path: Path, made: Path) -> None:
    extra = {"model/state_error": 0.01, "model/reward_error": 0.1}
    write(two_variants(tmp_path / "runs", extra=extra, episode=True), tmp_path / "again")
    for path in sorted(made.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(made)).read_bytes(), path.name


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page all of whose names would do harm if they were not escaped."""
    folder = tmp_path_factory.mktemp("hostile")
    runs = [make_run(folder / "runs", HOSTILE, seed, [-9.0, -3.0], controllers={HOSTILE: -4.0}) for seed in range(2)]
    write([*runs, make_run(folder / "runs", "harmless", 0, [-9.0, -4.0])], folder / "report", HOSTILE)
    return folder / "report" / "report.html"


def test_names_are_text_and_nothing_else(hostile: Path) -> None:
    page = Page(hostile.read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert page.text.count("{{ 7 * 7 }}") > 5


def test_one_seed_and_no_episode_make_a_report(tmp_path: Path) -> None:
    text = write([make_run(tmp_path / "runs", "only", 0, [-9.0, -3.0])], tmp_path / "report")
    assert "one run, so no interval" in text
    assert "Nothing but the seeds." in text
    assert not (tmp_path / "report" / "plots" / "cacc_catchup_time_space.png").exists()


def test_where_policies_were_evaluated_as_well_is_a_table(tmp_path: Path) -> None:
    first, second = two_variants(tmp_path / "runs")[:1], two_variants(tmp_path / "others")[-1:]
    for run, found in ((first[0], {"metrics": {"eval/reward": -7.25}}), (second[0], {"misfit": "too many neighbors"})):
        run.folder.evaluation_on("complete").write_text(json.dumps(found), encoding="utf-8")
    records = [read_record(run.label, run.folder.path) for run in (*first, *second)]
    page = Page(write(records, tmp_path / "made"))
    assert ("table", {"class": "transfer"}) in page.tags
    assert "-7.25" in page.text.replace("\u2212", "-")
    assert "does not fit" in page.text
    numbers = json.loads((tmp_path / "made" / "statistics.json").read_text(encoding="utf-8"))
    entries = numbers["scenarios"]["cacc_catchup"]["entries"]
    assert entries[first[0].label]["final_on"]["complete"]["value"] == -7.25
    assert entries[second[0].label]["final_on"] == {"complete": None}


def test_the_folder_of_a_run_is_left_alone(tmp_path: Path, dmpo: Command) -> None:
    run = make_run(tmp_path / "runs", "a", 0, [-9.0, -3.0]).folder.path
    before = sorted(run.rglob("*"))
    found = dmpo("report", run, "--output", run)
    assert found.status == 2
    assert "is the folder of a run; choose another" in found.err
    assert sorted(run.rglob("*")) == before


def test_the_command_labels_runs_by_their_folders(tmp_path: Path, dmpo: Command) -> None:
    for label, seed in (("one", 0), ("one", 1), ("two", 0)):
        record = make_run(tmp_path / "made", label, seed, [-9.0, -3.0 - seed])
        record.folder.path.rename(tmp_path / f"{label}-seed{seed}")
    runs = [tmp_path / name for name in ("one-seed0", "one-seed1", "two-seed0")]
    found = dmpo("report", *runs, "--output", tmp_path / "report", "--title", "Mine")
    assert (found.status, found.err) == (0, "")
    numbers = json.loads((tmp_path / "report" / "statistics.json").read_text(encoding="utf-8"))
    entries = numbers["scenarios"]["cacc_catchup"]["entries"]
    assert {label: entry["seeds"] for label, entry in entries.items()} == {"one": [0, 1], "two": [0]}
    text = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8")).text
    assert f"dmpo report {runs[0]}" in text
    again = dmpo("report", runs[0], runs[0], "--output", tmp_path / "other")
    assert again.status == 2
    assert 'are both "one" with seed 0' in again.err
    assert not (tmp_path / "other").exists()


def test_an_unfinished_run_is_refused(tmp_path: Path, dmpo: Command) -> None:
    run = make_run(tmp_path / "runs", "a", 0, [-9.0, -3.0]).folder
    run.evaluation.unlink()
    found = dmpo("report", run.path, "--output", tmp_path / "report")
    assert found.status == 1
    assert "is not finished; go on with" in found.err


def test_a_browser_shows_the_page_on_a_phone_and_on_a_desk(made: Path, tmp_path: Path) -> None:
    page = made / "report.html"
    with chromium(tmp_path) as browser:
        for width, scheme in ((360, "light"), (1280, "dark")):
            browser.open(page, width, scheme=scheme)
            assert browser.evaluate("document.documentElement.clientWidth") == width
            assert browser.evaluate("document.documentElement.scrollWidth") == width  # nothing to scroll sideways
            assert browser.evaluate("document.images.length") == 5
            assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 300)")
            rows = "[...document.querySelectorAll('tbody')].map(body => body.rows.length)"
            assert browser.evaluate(rows) == [4, 1, 6]  # variants and controllers, what differs, runs
            browser.screenshot(tmp_path / "page.png")
            with Image.open(tmp_path / "page.png") as picture:
                assert picture.width == width
                corner = picture.convert("L").getpixel((0, 0))
            assert corner < 50 if scheme == "dark" else corner == 255
        requests = {address for address in browser.requests if not address.startswith("data:")}
        assert requests == {page.as_uri()}
        assert browser.complaints == []


def test_hostile_names_do_nothing_in_a_browser(hostile: Path, tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:
        browser.open(hostile, 360)
        assert browser.evaluate("document.title") == HOSTILE
        assert browser.evaluate("document.scripts.length") == 0
        assert browser.evaluate("document.documentElement.scrollWidth") == 360
        assert browser.complaints == []
