"""Looks at a listing as people do: listing_page.py URL [DIRECTORY FOR PICTURES].

Chromium is driven through chromedriver (W3C WebDriver), by nothing but Python's own library. Ends with 1 and a sentence
for each thing that is wrong. The directory that is listed has to have at least two files, `file2` and `file10` among
them.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
# The contrast that WCAG 2 asks of text.
CONTRAST_MIN = 4.5

# Of each text that is seen: its contrast with what it stands on.
CONTRASTS = """
const luminance = (colour) => {
  const [red, green, blue] = colour.match(/[\\d.]+/g).map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const page = luminance(getComputedStyle(document.body).backgroundColor);
return ["h1", "h1 a", "h1 i", "th button", "td a", "td data", "td time", "footer p"].flatMap((selector) => {
  const element = document.querySelector(selector);
  if (!element) return [];
  const text = luminance(getComputedStyle(element).color);
  const contrast = (Math.max(page, text) + 0.05) / (Math.min(page, text) + 0.05);
  return [[selector, contrast]];
});
"""

NAMES = "return [...document.querySelectorAll('tbody:not(.up) a')].map((link) => link.textContent)"


class Browser:
    def __init__(self):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                self.url = "http://127.0.0.1:" + line.rsplit(" ", 1)[1].strip(". \n")
                break
        else:
            sys.exit("chromedriver did not start")
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
        options = {"args": arguments}
        always = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": always}})["sessionId"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.read().decode()[:500]}")

    def ask(self, method, path, body=None):
        return self.call(method, f"/session/{self.session}{path}", body)

    def tool(self, command, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script):
        return self.ask("POST", "/execute/sync", {"script": script, "args": []})

    def keys(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def close(self):
        self.ask("DELETE", "")
        self.driver.terminate()
        self.driver.wait()


def look(browser, url, pictures, faults):
    for width in WIDTHS:
        for scheme in SCHEMES:
            where = f"at {width} px, {scheme}"
            browser.tool(
                "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
            )
            browser.tool("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            browser.ask("POST", "/url", {"url": url})
            needed = browser.run("return document.documentElement.scrollWidth")
            if needed > width:
                faults.append(f"{where}: the page is {needed} px wide")
            is_dark = browser.run("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
            if is_dark != (scheme == "dark"):
                faults.append(f"{where}: the colours are the other ones")
            for selector, contrast in browser.run(CONTRASTS):
                if contrast < CONTRAST_MIN:
                    faults.append(f"{where}: {selector} has a contrast of {contrast:.1f}")
            if pictures:
                picture = base64.b64decode(browser.ask("GET", "/screenshot"))
                (pictures / f"listing-{width}-{scheme}.png").write_bytes(picture)


def use(browser, url, faults):
    browser.ask("POST", "/url", {"url": url})
    names = browser.run(NAMES)
    if names.index("file2") > names.index("file10"):
        faults.append(f"file10 comes before file2: {names}")
    browser.keys("/", *"file1")
    browser.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    if browser.run("return document.activeElement.id") != "filter":
        faults.append("a slash doesn't lead to the filter")
    left = browser.run(NAMES)
    if "file2" in left or "file10" not in left:
        faults.append(f"the filter leaves {left}")
    browser.keys("\ue00c")  # Escape
    if browser.run(NAMES) != names:
        faults.append("what the filter hid doesn't come back in its order")
    browser.keys("\ue015")  # ArrowDown
    if browser.run("return document.activeElement.textContent") != names[0]:
        faults.append("an arrow doesn't lead from the filter to the first entry")
    for expected in ("ascending", "descending"):
        browser.run("document.querySelector('button[value=size]').click()")
        if browser.run("return document.querySelector('th:nth-child(2)').ariaSort") != expected:
            faults.append(f"sizes aren't sorted: {expected}")
    by_script = browser.run(NAMES)
    browser.ask("POST", "/refresh", {})
    if browser.run(NAMES) != by_script:
        faults.append(f"the script sorts otherwise than the server: {by_script}")
    roles = browser.tool("Accessibility.getFullAXTree")["nodes"]
    seen = {node["role"]["value"] for node in roles if "role" in node and not node.get("ignored")}
    for role in ("table", "columnheader", "row", "cell", "searchbox", "heading"):
        if role not in seen:
            faults.append(f"a screen reader finds no {role}")
    for entry in browser.ask("POST", "/se/log", {"type": "browser"}):
        if "favicon" not in entry["message"]:
            faults.append("the browser says: " + entry["message"])


def main():
    url = sys.argv[1]
    pictures = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if pictures:
        os.makedirs(pictures, exist_ok=True)
    faults = []
    browser = Browser()
    try:
        look(browser, url, pictures, faults)
        use(browser, url, faults)
    finally:
        browser.close()
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
