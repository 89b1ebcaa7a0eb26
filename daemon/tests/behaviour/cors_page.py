"""Has a page read a file of another origin: cors_page.py PAGE OPEN CLOSED.

The page at PAGE may read the file OPEN, whose content is 0123456789, and upload beside it; CLOSED it may not read. Ends
with 1 and a sentence for each thing that is wrong.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from listing_page import Browser  # noqa: E402

READ = """
return fetch(%r, {headers: {Range: "bytes=2-4"}}).then(async (answer) => [
  answer.status, await answer.text(), answer.headers.get("Content-Range"), answer.headers.get("ETag") !== null
])
"""
WRITE = "return fetch(%r, {method: 'PUT', body: 'new'}).then((answer) => [answer.status, answer.headers.get('Location')])"
REFUSED = "return fetch(%r).then(() => 'read', () => 'refused')"


def main():
    page, open_file, closed_file = sys.argv[1:4]
    new = open_file.replace("/file", "/new")
    faults = []
    browser = Browser()
    try:
        browser.ask("POST", "/url", {"url": page})
        for script, expected in [
            (READ % open_file, [206, "234", "bytes 2-4/10", True]),
            (WRITE % new, [201, "/new"]),
            (REFUSED % closed_file, "refused"),
        ]:
            found = browser.run(script)
            if found != expected:
                faults.append(f"{script}: {found} instead of {expected}")
    finally:
        browser.close()
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
