"""A page of the viewer, and a person before it: at a desk or with a tablet."""

import base64
import io
import json

import numpy as np
from PIL import Image

from mil.view import key_of

DESK, TABLET = (1280, 800), (768, 1024)
WAIT_S = 10


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
