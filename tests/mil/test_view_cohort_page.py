"""The viewer's table of the cohort in a browser, by mouse and keys, and what both pages look like."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from viewed_run import HOSTILE, HOSTILE_LABEL
from viewer_browser import DESK, TABLET, Browser
from viewer_client import copied, serving

from mil.view.cohort_table import cohort_rows, key_of
from mil.view.routes import Routes

STYLE = Path(__file__).parents[2] / "mil" / "view" / "static" / "style.css"
TABLE_IS_READY = "document.getElementById('table')?.getAttribute('aria-busy') === 'false'"


def test_the_cohort_shows_errors_first_and_hostile_names_as_text(browser):
    browser.open()
    assert browser.texts("tbody th") == ["damaged", "wrong", HOSTILE, "known", "gone"]
    assert HOSTILE_LABEL in browser.texts("td.label")
    assert browser.js("document.querySelectorAll('img, tbody script').length") == 0
    assert browser.texts("tr.failed .problem")[0].startswith("tile: ")
    assert browser.js("document.title") == "run · slidebag"
    assert (browser.console(), browser.outside()) == ([], [])


def test_sorting_and_filtering(browser):
    from selenium.webdriver.common.keys import Keys

    browser.open()
    browser.find("th.probability button").click()
    assert browser.texts("tbody th") == ["known", "wrong", HOSTILE, "gone", "damaged"]
    assert browser.find("th.probability").get_attribute("aria-sort") == "descending"
    browser.press(Keys.ENTER)  # the button has the focus
    assert browser.texts("tbody th") == ["gone", HOSTILE, "wrong", "known", "damaged"]
    browser.find(".kind.wrong").click()
    assert browser.texts("tbody th") == [HOSTILE, "wrong"]
    assert browser.find("#shown").text == "2 of 5 slides"
    browser.press(Keys.ESCAPE)
    browser.press("/")
    browser.press("of kn")
    browser.wait(TABLE_IS_READY)
    assert browser.texts("tbody th") == ["known"]
    browser.press(Keys.ESCAPE)
    assert len(browser.texts("tbody th")) == 5
    browser.set("of-label", "normal")
    browser.js("document.getElementById('filters').dispatchEvent(new Event('input'))")
    assert browser.texts("tbody th") == ["damaged", "wrong"]
    browser.find("th.probability button").click()
    browser.find(".kind.wrong").click()
    browser.open()  # as one has left it
    assert browser.texts("tbody th") == ["wrong"]
    assert browser.find("th.probability").get_attribute("aria-sort") == "descending"
    browser.press(Keys.ESCAPE)
    assert len(browser.texts("tbody th")) == 5


def test_by_keys_from_the_table_to_a_slide_to_the_next_and_back(browser):
    from selenium.webdriver.common.keys import Keys

    browser.open()
    browser.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert browser.js("document.activeElement.textContent") == HOSTILE
    browser.press(Keys.ENTER)
    browser.wait("document.getElementById('slide-id')?.textContent.includes('script')")
    browser.drawn()
    assert browser.find("h1").text == HOSTILE
    assert HOSTILE_LABEL in browser.find("#called").text
    browser.press("j")
    browser.wait("document.getElementById('slide-id')?.textContent === 'known'")
    browser.drawn()
    browser.press("b")
    browser.wait(TABLE_IS_READY)
    assert browser.js("document.activeElement.textContent") == "known"  # the slide that was seen last
    assert (browser.console(), browser.outside()) == ([], [])


def test_of_many_slides_only_rows_near_those_that_are_seen_are_in_the_page(browser, viewed_run, monkeypatch):
    rows = [row | {"slide_id": f"slide {n}"} for n, row in enumerate(200 * cohort_rows(viewed_run, []))]
    monkeypatch.setattr(sys.modules[Routes.__module__], "cohort_rows", lambda *_: rows)
    browser.open()
    assert browser.find("#shown").text == "1,000 slides"
    assert len(browser.texts("tbody tr")) < 500
    assert browser.js("document.documentElement.scrollHeight <= innerHeight")
    browser.js("document.querySelector('tbody tr:last-child').scrollIntoView()")
    browser.wait("document.querySelectorAll('tbody tr').length >= 400")
    browser.press("/")
    browser.press("slide 997")
    browser.wait(TABLE_IS_READY)
    assert browser.texts("tbody th") == ["slide 997"]


def test_the_report_is_linked_where_there_is_one(browser, viewed_run, tmp_path):
    browser.open()
    assert not browser.find("#report").is_displayed()
    run = copied(viewed_run, tmp_path)
    page = run.root / "report" / "index.html"
    page.parent.mkdir()
    page.write_text(
        '<html lang="en"><title>the report</title><style>b { color: red }</style>', encoding="utf-8"
    )
    with serving(run) as server:
        reported = Browser(browser.driver, server)
        reported.open()
        reported.press("r")
        reported.wait("document.title === 'the report'")
        assert reported.js("document.documentElement.className") == "in-viewer"
        browser.driver.get("about:blank")  # it holds a connection open
    assert browser.console() == []


@pytest.mark.parametrize("size_px", [DESK, TABLET])
def test_words_of_the_table_are_not_broken(browser, size_px):
    browser.size(size_px)
    browser.open()
    chips = browser.js("[...document.querySelectorAll('td.prediction .chip')].map((e) => e.clientHeight)")
    assert chips
    assert max(chips) < 30  # a second line would be as high again
    assert browser.js(
        "document.querySelector('.scroll').scrollWidth <= document.querySelector('.scroll').clientWidth"
    )


@pytest.mark.parametrize("page", ["", f"slides/{key_of('known')}"])
def test_dark_mode_and_a_tablet(browser, page):
    ready = "#stage" if page else "#table"
    browser.size(TABLET, theme="dark")
    browser.open(page, ready=ready)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = browser.js(ground)
    assert dark == "rgb(23, 24, 27)"
    browser.press("d")
    assert browser.js(ground) == "rgb(246, 245, 242)"
    browser.open(page, ready=ready)  # it was kept
    assert browser.js(ground) == "rgb(246, 245, 242)"
    assert browser.js("document.documentElement.scrollWidth <= innerWidth")
    controls = browser.driver.find_elements("css selector", "button, a, input, select, #stage, #bar")
    unnamed = [e.get_attribute("outerHTML") for e in controls if e.is_displayed() and not e.accessible_name]
    assert unnamed == []
    assert browser.console() == []


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_text_has_the_contrast_that_eyes_need(theme):
    """4.5 to 1, as WCAG 2.2 asks for (AA)."""
    block = STYLE.read_text(encoding="utf-8").partition(theme)[2].partition("}")[0]
    colour = {
        name: np.array([int(found[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        for name, found in re.findall(r"--([\w-]+): #(\w{6});", block)
    }

    def luminance(name):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[name]]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    pairs = [(ink, ground) for ink in ("ink", "faint", "accent") for ground in ("paper", "card")]
    pairs += [(name, f"{name}-paper") for name in ("wrong", "failed", "right", "accent")]
    pairs += [("ink", "accent-paper"), ("ink", "failed-paper"), ("faint", "failed-paper"), ("ink", "stage")]
    for ink, ground in pairs:
        light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
