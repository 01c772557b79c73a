"""The viewer's page of a slide in a browser, by mouse, keys and fingers."""

import re

from viewed_run import LIKELY


def test_keys_change_the_heatmap_at_once_and_find_the_hot_regions(browser):
    from selenium.webdriver.common.keys import Keys

    browser.open_slide("known")
    assert browser.find("#class").get_attribute("value") == "1"
    assert browser.find("#unread").text.startswith("1 tile could not be read")
    before = browser.stage()
    for key in (",", "a", "o", "h"):
        browser.press(key)
        after = browser.stage()
        assert (after != before).any(), key
        before = after
    browser.press("h", "a", "o")
    assert len(browser.texts("#region-list button")) >= 1
    browser.press("n")
    browser.drawn()
    assert browser.js("document.querySelector('#region-list [aria-current]').textContent").startswith("1")
    assert "max 0.90" in browser.texts("#region-list button")[0]
    browser.wait("location.hash.startsWith('#x=')")
    browser.press("[", "[")
    browser.drawn()
    assert browser.find("#threshold-value").text == "0.53"
    n_regions = len(browser.texts("#region-list button"))
    browser.set("threshold", 0.1)
    browser.drawn()
    assert browser.find("#region-count").text
    assert len(browser.texts("#region-list button")) <= n_regions + 1
    browser.set("threshold", 1)
    browser.drawn()
    assert browser.texts("#region-list li") == ["No tile of this class is at or above the threshold."]
    browser.find("#reset").click()
    browser.drawn()
    assert len(browser.texts("#region-list button")) == n_regions
    browser.press("?")
    assert browser.js("document.getElementById('help').open")
    assert browser.js("document.querySelectorAll('#keys dt').length") > 15
    browser.press(Keys.ESCAPE)
    assert not browser.js("document.getElementById('help').open")
    browser.press("c")
    browser.drawn()
    assert browser.find("#class").get_attribute("value") == "0"
    assert browser.console() == []


def test_of_classes_chosen_in_haste_the_last_one_is_shown(browser):
    browser.open_slide("known")
    before = browser.stage()
    browser.press("c", "c")
    browser.wait("performance.getEntriesByType('resource').some((e) => e.name.endsWith('/hot/0'))")
    browser.press(".", ",")
    assert browser.find("#class").get_attribute("value") == "1"
    assert (browser.stage() == before).all()
    browser.open_slide("known")
    browser.js("(() => { window.fetch = () => Promise.reject(new Error('cut')); })()")
    browser.press("c")
    browser.wait("document.getElementById('problems').textContent.includes('does not answer')")
    assert browser.find("#class").get_attribute("value") == "1"
    assert (browser.stage() == before).all()


def test_only_the_main_button_moves_the_slide(browser):
    def mouse(kind, x, **told):
        event = {"type": kind, "x": x, "y": 400} | told
        browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    browser.open_slide("known", "#x=1050&y=800&zoom=1")
    browser.press("h", "o", "t")  # so that pointing changes little
    for button, buttons, is_moved in (("right", 2, False), ("left", 1, True)):
        mouse("mouseMoved", 400)
        before = browser.stage()
        mouse("mousePressed", 400, button=button, buttons=buttons, clickCount=1)
        mouse("mouseMoved", 300, button=button, buttons=buttons)
        moved = browser.stage()[500:600, 100:400]
        assert (moved == before[500:600, 200:500]).all() == is_moved
        mouse("mouseReleased", 300, button=button, clickCount=1)


def test_a_tile_tells_its_probabilities_to_mouse_and_keys(browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.open_slide("known")
    browser.press("n")
    browser.drawn()
    stage = browser.find("#stage")
    ActionChains(browser.driver).move_to_element_with_offset(stage, 1, 1).perform()
    assert browser.find("#reading").is_displayed()
    assert re.search(r"p\(tumour\) 0\.[92]00", browser.find("#reading").text)
    stage.click()
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert "tile " in browser.find("#reading").text
    before = browser.stage()
    browser.press("+")
    assert (browser.stage() != before).any()
    assert browser.find("#overview").is_displayed()
    browser.press("0")
    browser.wait("Math.abs(Number(new URLSearchParams(location.hash.slice(1)).get('x')) - 1050) < 2")
    assert not browser.find("#overview").is_displayed()  # it would cover what is seen anyway
    assert f"{LIKELY:.2f}" in browser.texts("#region-list button")[0]


def test_fingers_move_and_zoom_and_point(browser):
    def touch(kind, *places):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def seen():
        browser.drawn()
        return browser.js("document.getElementById('scale-text').textContent")

    browser.open_slide("known", "#x=1050&y=800&zoom=1")
    before = browser.stage()
    touch("touchStart", (400, 400))
    touch("touchMove", (300, 400))
    touch("touchEnd")
    moved = browser.stage()
    assert (moved[200:600, 100:400] == before[200:600, 200:500]).all()
    assert seen().endswith(" 0.5 µm/px")
    touch("touchStart", (400, 400), (500, 400))
    touch("touchMove", (350, 400), (550, 400))
    touch("touchEnd")
    assert seen().endswith(" 0.25 µm/px")
    browser.press("n")
    browser.drawn()
    middle = browser.js(
        "(({ width, height, x, y }) => [x + width / 2, y + height / 2])"
        "(document.getElementById('stage').getBoundingClientRect())"
    )
    touch("touchStart", middle)
    touch("touchEnd")
    assert browser.find("#reading").is_displayed()


def test_a_slide_that_is_gone_or_was_never_readable_says_so(browser):
    browser.open_slide("gone")
    assert "no such file" in browser.find("#problems").text
    assert "check the path in the slide table" in browser.find("#problems").text
    assert browser.texts("#region-list li")  # its scores are there
    browser.find("#problems button").click()
    assert not browser.find("#problems").is_displayed()
    browser.open_slide("damaged")
    assert browser.find("#problems").text.startswith("tile: ")
    assert browser.console() == []
