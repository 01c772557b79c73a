"""The viewer as a person has it: in a browser, by mouse and by keys, at a desk and on a tablet."""

import base64
import io
import json
import re
import shutil
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from viewed_run import HOSTILE, HOSTILE_LABEL, LIKELY, SIZE_PX, make_viewed_run

from mil import load_scores
from mil.view import ViewServer
from mil.view.cohort_table import cohort_rows, key_of
from mil.view.routes import Routes
from mil.view.slide_data import SlideData
from tiling import exact_corners, load_grid, open_slide, side_level0_px
from tiling.overlay import tint

STYLE = Path(__file__).parents[2] / "mil" / "view" / "static" / "style.css"
DESK, TABLET = (1280, 800), (768, 1024)
WAIT_S = 10
TABLE_IS_READY = "document.getElementById('table')?.getAttribute('aria-busy') === 'false'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("viewed")


@pytest.fixture(scope="module")
def run(folder):
    return make_viewed_run(folder)


@pytest.fixture(scope="module")
def server(run):
    with ViewServer(run) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests, which reaches nothing but this machine."""
    paths = shutil.which("chromium"), shutil.which("chromedriver")
    if None in paths:
        pytest.skip("no chromium and chromedriver on this machine")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "no-first-run"):
        options.add_argument(f"--{flag}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(paths[1]))
    yield driver
    driver.quit()


class Browser:
    """A page of the viewer, and a person before it."""

    def __init__(self, driver, server) -> None:
        self.driver, self.url = driver, server.url

    def size(self, size_px, *, theme="light") -> None:
        told = {"width": size_px[0], "height": size_px[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", told)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, path="", *, ready="#table") -> None:
        self.driver.get("about:blank")  # a new page also where only what follows # differs
        self.driver.get(self.url + path)
        self.wait(f"document.querySelector('{ready}').getAttribute('aria-busy') === 'false'")

    def open_slide(self, slide_id, place="") -> None:
        self.open(f"slides/{key_of(slide_id)}{place}", ready="#stage")

    def js(self, script):
        return self.driver.execute_script(f"return {script}")

    def wait(self, condition) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, WAIT_S, 0.02).until(lambda _: self.js(condition), condition)

    def drawn(self) -> None:
        self.wait("document.querySelector('#stage').getAttribute('aria-busy') === 'false'")

    def press(self, *keys) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def texts(self, selector) -> list[str]:
        return self.js(f"[...document.querySelectorAll('{selector}')].map((e) => e.textContent)")

    def set(self, name, value) -> None:
        """Move a control, as a hand would."""
        self.js(
            f"(() => {{ const c = document.getElementById('{name}'); c.value = '{value}'; "
            "c.dispatchEvent(new Event('input')); c.dispatchEvent(new Event('change')); })()"
        )

    def stage(self) -> np.ndarray:
        """What is drawn of the slide, uint8 (H, W, 3)."""
        self.drawn()
        url = self.js("document.getElementById('stage').toDataURL('image/png')")
        return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def outside(self) -> list[str]:
        """Requests that went anywhere else."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert urls
        return [u for u in urls if not u.startswith((self.url, "about:blank"))]


@pytest.fixture
def browser(chromium, server):
    told = {"origin": server.url.rstrip("/"), "storageTypes": "local_storage"}
    chromium.execute_cdp_cmd("Storage.clearDataForOrigin", told)
    chromium.get(f"{server.url}static/icon.svg")
    chromium.execute_script("sessionStorage.clear()")
    chromium.get_log("browser"), chromium.get_log("performance")
    browser = Browser(chromium, server)
    browser.size(DESK)
    return browser


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


def test_of_many_slides_only_rows_near_those_that_are_seen_are_in_the_page(browser, run, monkeypatch):
    rows = [row | {"slide_id": f"slide {n}"} for n, row in enumerate(200 * cohort_rows(run, []))]
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


@pytest.mark.parametrize("zoom", [0.43, 1, 3.7])
def test_the_heatmap_lies_on_the_slide_in_the_colours_of_the_overlay(browser, run, folder, zoom):
    seen = _look(browser, run, "known", (1180, 830), zoom)
    expected = tint(seen.bare, seen.values, 0.65)
    assert np.abs(seen.painted.astype(int) - expected)[~seen.is_edge].max() <= 3
    assert 0.02 < (seen.values[~seen.is_edge] > 0.5).mean() < 0.98
    with open_slide(run.cohort().slides[0].path) as slide:
        _compare_to_the_slide(seen, slide.read(0, 0, 0, SIZE_PX))
    tumour = cv2.imread(str(folder / "tumour.png"), cv2.IMREAD_GRAYSCALE) > 0
    inside = _at(tumour, seen) & ~seen.is_edge & ~np.isnan(seen.values)
    assert seen.values[inside].mean() > 0.6
    assert (browser.console(), browser.outside()) == ([], [])


def test_tiles_that_another_tool_has_placed_lie_where_it_says(browser, run):
    seen = _look(browser, run, "wrong", (400, 300), 1.3)
    expected = tint(seen.bare, seen.values, 0.65)
    assert np.abs(seen.painted.astype(int) - expected)[~seen.is_edge].max() <= 3


@dataclass(frozen=True)
class Seen:
    """The screen with and without heatmap, the level-0 places of its pixels, and p(tumour) there."""

    painted: np.ndarray
    bare: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    is_edge: np.ndarray


def _look(browser, run, slide_id, middle, zoom) -> Seen:
    browser.open_slide(slide_id, f"#x={middle[0]}&y={middle[1]}&zoom={zoom}")
    browser.press("o", "t")  # without lines
    painted = browser.stage()
    browser.press("h")
    bare = browser.stage()
    places = [
        (np.arange(n) + 0.5 - np.floor(n / 2 - at * zoom + 0.5)) / zoom
        for n, at in zip(bare.shape[1::-1], middle, strict=True)
    ]
    grid = load_grid(run.grid_path(slide_id))
    p_tumour = load_scores(run.scores_path(slide_id), grid=grid).probability[:, 1]
    return Seen(painted, bare, *places, *_under(grid, p_tumour, *places, 1.5 / zoom))


def _under(grid, p_tumour, columns, rows, near) -> tuple[np.ndarray, np.ndarray]:
    """p(tumour) under each pixel of the screen, and what is near an edge or on a tile that is crossed out."""
    values = np.full((len(rows), len(columns)), np.nan, np.float32)
    is_edge = np.zeros(values.shape, bool)
    side = side_level0_px(grid)
    for corner, p in zip(exact_corners(grid), p_tumour, strict=True):
        apart = [places - start for places, start in zip((rows, columns), corner[::-1], strict=True)]
        inner, outer = (np.ix_(*((a >= by) & (a < side - by) for a in apart)) for by in (near, -near))
        is_edge[outer] = True
        is_edge[inner] = np.isnan(p)
        values[np.ix_(*((a >= 0) & (a < side) for a in apart))] = p
    return values, is_edge


def _at(picture, seen, dx=0.0, dy=0.0) -> np.ndarray:
    places = zip((seen.rows + dy, seen.columns + dx), picture.shape[:2], strict=True)
    return picture[np.ix_(*(np.clip(p.astype(int), 0, n - 1) for p, n in places))]


def _compare_to_the_slide(seen, pixels) -> None:
    """The screen shows the slide's pixels in their place: moved by two pixels of the screen it fits worse."""
    smooth = cv2.GaussianBlur(pixels, (0, 0), 1.5)
    step = seen.columns[1] - seen.columns[0]
    places = zip((seen.rows, seen.columns), pixels.shape[:2], strict=True)
    inside = np.ix_(*((p > 30) & (p < n - 30) for p, n in places))

    def misfit(dx, dy):
        return np.abs(
            _at(smooth, seen, dx * step, dy * step)[inside].astype(float) - seen.bare[inside]
        ).mean()

    assert misfit(0, 0) < min(misfit(dx, dy) for dx, dy in ((-2, 0), (2, 0), (0, -2), (0, 2)))


def test_keys_change_the_heatmap_at_once_and_find_the_hot_regions(browser):
    from selenium.webdriver.common.keys import Keys

    browser.open_slide("known")
    assert browser.find("#class").get_attribute("value") == "1"
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


def test_where_tiles_overlap_the_reading_is_of_those_under_the_pointer(browser, run, monkeypatch):
    from selenium.webdriver.common.action_chains import ActionChains

    told = SlideData.load(run, "wrong")
    assert told.scores is not None
    grid = replace(
        told.grid, coords=np.array([[300, 300], [330, 300]]), tissue_fraction=told.grid.tissue_fraction[:2]
    )
    probability = np.array([[0.8, 0.2], [0.4, 0.6]], np.float32)
    two = SlideData(grid, replace(told.scores, probability=probability))
    monkeypatch.setattr(SlideData, "load", lambda *_: two)
    browser.open_slide("wrong", "#x=350&y=330&zoom=1")
    stage = browser.find("#stage")
    for away, reading in ((0, "p(tumour) 0.400 mean of 2 tiles"), (40, "p(tumour) 0.600 tile 2")):
        ActionChains(browser.driver).move_to_element_with_offset(stage, away, 0).perform()
        assert reading in " ".join(browser.find("#reading").text.split())
    browser.press("c")
    browser.wait("document.getElementById('class').value === '0'")


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
    browser.press("0")
    browser.wait("Math.abs(Number(new URLSearchParams(location.hash.slice(1)).get('x')) - 1050) < 2")
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


def test_a_slide_that_is_gone_or_was_never_readable_says_so(browser):
    browser.open_slide("gone")
    assert "no such file" in browser.find("#problems").text
    assert "check the path in the slide table" in browser.find("#problems").text
    assert browser.texts("#region-list li")  # its scores are there
    browser.open_slide("damaged")
    assert browser.find("#problems").text.startswith("tile: ")
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
