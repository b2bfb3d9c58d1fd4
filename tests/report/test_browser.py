"""The page in a browser: every control, every name, both colour schemes, a narrow window.

Needs Chromium, its chromedriver and selenium; the look at accessibility needs axe-core too. What is
not here is skipped: see .ci/run for how it comes.
"""

import pathlib
import shutil

import pytest
from report.test_page import ODD, with_odd_names

from aepsl_tf.report import page

selenium = pytest.importorskip("selenium", reason="no selenium here: the page is not driven")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = pathlib.Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDE, NARROW = 1200, 360


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium here: the page is not driven")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def segmenter(title, plain, crf, how="", ceiling=False):
    return {"title": title, "plain": plain, "crf": crf, "how": how, "ceiling": ceiling}


@pytest.fixture(scope="module")
def files(finished, tmp_path_factory):
    """The page of the finished run with odd names, and one of a run with nothing but phases."""
    folder = tmp_path_factory.mktemp("pages")
    found = with_odd_names(page.of_run(finished.run_dir))
    measured = ("sentences", "losses", "steps", "segmenters", "results", "gallery")
    empty = {name: [] for name in measured}
    ceiling = {"segmenters": [
        segmenter("PSL", 0.5, 0.6), segmenter("PSL and mirrored", 0.55, None, " and mirrored"),
        segmenter("Supervised", 0.8, None, ceiling=True),
        segmenter("Supervised at scale 2", 0.9, None, " at scale 2", ceiling=True)]}  # fmt: skip
    pages = {"whole": {}, "empty": empty, "ceiling": ceiling}
    for name, shown in ((name, found | other) for name, other in pages.items()):
        (folder / f"{name}.html").write_text(page.html(shown))
    return folder, found


@pytest.fixture
def show(browser, files):
    """`show(name, dark, width)` loads a page."""

    def load(name="whole", dark=False, width=WIDE):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {
            "name": "prefers-reduced-motion",
            "value": "reduce",
        }  # clicks wait for no scrolling
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((files[0] / f"{name}.html").as_uri())
        assert browser.get_log("browser") == []
        return browser

    return load


def at(browser, id_):
    return browser.find_element("id", id_)


def texts(browser, selector):
    return [one.text for one in browser.find_elements("css selector", selector)]


def focused(browser):
    return browser.execute_script("return document.activeElement")


def buttons(browser):
    return browser.find_elements("css selector", "#thumbnails button")


def test_names_are_shown_as_they_are(show, files):
    browser, (_, found) = show(), files
    assert at(browser, "run").text == ODD[2] and browser.title == f"AE-PSL: {ODD[2]}"
    assert texts(browser, "#class-table tbody th") == [c["name"] for c in found["classes"]]
    assert browser.find_elements("css selector", "main b, main script") == []
    for index, picture in enumerate(found["gallery"]):
        buttons(browser)[index].click()
        assert at(browser, "picture-title").text == picture["id"]
        assert ", ".join(picture["tags"]) in at(browser, "picture-facts").text


def test_the_search_finds_tags_and_ids(show, files):
    browser, (_, found) = show(), files
    search, count = at(browser, "search"), len(found["gallery"])
    tag = found["gallery"][0]["tags"][0]
    search.send_keys(tag.upper())
    expected = [p["id"] for p in found["gallery"] if any(tag in t for t in [*p["tags"], p["id"]])]
    assert 0 < len(expected) < count
    assert at(browser, "count").text.startswith(f"{len(expected)} of {count} pictures")
    assert len(buttons(browser)) == len(expected)
    assert at(browser, "picture-title").text == expected[0]
    search.send_keys("no such picture")
    assert buttons(browser) == [] and texts(browser, "#layers figure") == []
    for _ in range(len(tag) + 20):
        search.send_keys(Keys.BACKSPACE)
    assert len(buttons(browser)) == count
    options = browser.find_elements("css selector", "#tags option")
    assert tag in [option.get_attribute("value") for option in options]


def test_one_slides_through_the_erase_steps(show):
    browser = show()
    step = at(browser, "step")
    assert at(browser, "step-value").text == "1 of 2"
    assert "Mined by step 1" in texts(browser, "figcaption")
    step.send_keys(Keys.ARROW_RIGHT)
    assert at(browser, "step-value").text == "2 of 2"
    assert step.get_attribute("aria-valuetext") == "step 2 of 2"
    captions = texts(browser, "figcaption")
    assert "Erased before step 2" in captions and "Mask S of steps 1 to 2" in captions
    assert "Mined by step 1" not in captions
    widths = browser.execute_script(
        "return [...document.querySelectorAll('#layers img')].map((image) => image.naturalWidth)"
    )
    assert len(widths) == len(captions) and 0 < min(widths) <= max(widths) <= 320


def test_a_picture_without_steps_has_none_to_slide(show):
    browser = show()
    buttons(browser)[-1].click()
    assert texts(browser, "figcaption") == ["Picture", "PSL++", "Truth"]
    assert not at(browser, "step").is_enabled()
    assert "none" in at(browser, "step-value").text


def test_segmenters_beside_a_ceiling_that_was_measured_alike(show):
    rows = texts(show("ceiling"), "#segmenter-table tbody tr")
    assert [row.replace("\n", " ") for row in rows] == [
        "PSL 0.500 0.600 75%", "PSL and mirrored 0.550 \u2013 \u2013",
        "Supervised (ceiling) 0.800 \u2013 100%",
        "Supervised at scale 2 (ceiling) 0.900 \u2013 100%",
    ]  # fmt: skip
    assert texts(show(), "#segmenter-table thead th") == ["segmenter", "mIoU", "with CRF"]


def test_the_keys_of_the_list(show, files):
    browser, (_, found) = show(), files
    ids = [p["id"] for p in found["gallery"]]
    buttons(browser)[0].click()
    for key, index in ((Keys.ARROW_DOWN, 1), (Keys.ARROW_DOWN, 2), (Keys.ARROW_UP, 1),
                       (Keys.END, len(ids) - 1), (Keys.ARROW_DOWN, len(ids) - 1),
                       (Keys.HOME, 0), (Keys.ARROW_UP, 0)):  # fmt: skip
        focused(browser).send_keys(key)
        assert at(browser, "picture-title").text == ids[index]
        assert focused(browser) == buttons(browser)[index]
        current = [b.get_attribute("aria-current") == "true" for b in buttons(browser)]
        assert [i for i, is_current in enumerate(current) if is_current] == [index]
    for key, step in ((Keys.ARROW_RIGHT, 2), (Keys.ARROW_RIGHT, 2), (Keys.ARROW_LEFT, 1)):
        focused(browser).send_keys(key)
        assert at(browser, "step-value").text == f"{step} of 2"


def test_all_is_reached_by_the_tab_key(show):
    """One stop for the list of pictures, whatever its length; the focus can be seen."""
    browser, reached = show(), []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        one = focused(browser)
        if one.tag_name == "body":
            break
        reached.append(one.get_attribute("id") or one.tag_name)
        assert browser.execute_script(
            "return getComputedStyle(arguments[0]).outlineWidth", one
        ) == ("3px"), reached
    assert {"theme", "search", "step", "result", "summary", "a"} <= set(reached)
    assert reached.count("button") == 1


def test_the_colours_follow_the_system_and_the_button(show):
    paper = "return getComputedStyle(document.body).backgroundColor"
    for dark in (False, True):
        browser = show(dark=dark)
        before, button = browser.execute_script(paper), at(browser, "theme")
        assert button.text == ("Light colours" if dark else "Dark colours")
        button.click()
        assert browser.execute_script(paper) != before
        assert button.text == ("Dark colours" if dark else "Light colours")
        button.click()
        assert browser.execute_script(paper) == before


def test_every_result_has_its_classes(show, files):
    browser, (_, found) = show(), files
    choice = Select(at(browser, "result"))
    assert len(choice.options) == len(found["results"])
    for index, result in enumerate(found["results"]):
        choice.select_by_index(index)
        shown = ["–" if iou is None else f"{iou:.3f}" for iou in result["iou"]]
        assert texts(browser, "#class-table td") == shown
        confused = texts(browser, "#confused li")
        assert len(confused) == len(result["confused"])
        for (truth, said, _), line in zip(result["confused"], confused, strict=True):
            names = [found["classes"][c]["name"] for c in (truth, said)]
            assert line.endswith(" of {} is taken for {}".format(*names))


def test_numbers_and_colours_unfold_and_links_lead_somewhere(show):
    browser = show()
    for summary in browser.find_elements("css selector", "summary"):
        inside = summary.find_element("xpath", "following-sibling::*")
        assert not inside.is_displayed()
        summary.click()
        assert inside.is_displayed()
    for link in browser.find_elements("css selector", "nav a"):
        target = link.get_attribute("href").partition("#")[2]
        assert at(browser, target).is_displayed()


def test_a_run_with_nothing_measured_says_what_is_not_there(show):
    browser = show("empty")
    absent = [line.split(":")[0] for line in texts(browser, "#absent li")]
    assert absent == ["Numbers to put in words", "Pictures", "Erase steps", "Segmenters",
                      "IoU by class"]  # fmt: skip
    assert texts(browser, "nav a") == ["Phases"]
    assert texts(browser, "#stages h3")


@pytest.mark.parametrize("name", ["whole", "empty"])
def test_nothing_is_wider_than_a_narrow_window(show, name):
    browser = show(name, width=NARROW)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= NARROW


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core here: accessibility is not looked at")
@pytest.mark.parametrize("name", ["whole", "empty"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_accessibility(show, name, dark, width):
    browser = show(name, dark, width)
    for summary in browser.find_elements("css selector", "summary"):
        summary.click()
    browser.execute_script(AXE.read_text())
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run().then((r) => done(r.violations.map("
        "(v) => [v.impact, v.id, v.nodes.map((n) => n.html.slice(0, 99))])))"
    )
    assert found == []
