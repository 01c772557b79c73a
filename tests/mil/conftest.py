"""The viewer, a browser and a run to look at, each once a session."""

import shutil

import pytest
from viewed_run import make_viewed_run
from viewer_browser import DESK, Browser
from viewer_client import serving

from mil import Run


@pytest.fixture(scope="session")
def viewed_run(tmp_path_factory) -> Run:
    """A run as the viewer meets it: do not write into it."""
    return make_viewed_run(tmp_path_factory.mktemp("viewed"))


@pytest.fixture(scope="session")
def viewer(viewed_run):
    """The viewer of that run, which answers."""
    with serving(viewed_run) as server:
        yield server


@pytest.fixture(scope="session")
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


@pytest.fixture
def browser(chromium, viewer) -> Browser:
    """A person before the viewer, who has not been there before."""
    told = {"origin": viewer.url.rstrip("/"), "storageTypes": "local_storage"}
    chromium.execute_cdp_cmd("Storage.clearDataForOrigin", told)
    chromium.get(f"{viewer.url}static/icon.svg")
    chromium.execute_script("sessionStorage.clear()")
    chromium.get_log("browser"), chromium.get_log("performance")
    browser = Browser(chromium, viewer)
    browser.size(DESK)
    return browser
