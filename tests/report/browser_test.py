"""The page in a real browser, as wide as a desk's screen and as a phone's.

The page is put into a frame of the wanted width, since a headless window has a least width; the
page around the frame writes what it finds into its own title.
"""

import html
import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",  # as on a phone, where they take no width
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
    "--dump-dom",
)
PROBE = """<!doctype html><html><head><meta charset="utf-8"><title>waiting</title></head><body>
<iframe id="frame" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("frame").contentDocument;
  for (const fold of page.querySelectorAll("details")) {{
    fold.removeAttribute("name");
    fold.open = true;
  }}
  const root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(
    (node) => node.getBoundingClientRect().right > root.clientWidth + 1
  );
  document.title = JSON.stringify({{
    width: root.clientWidth,
    scroll: root.scrollWidth,
    wide: wide.map((node) => node.outerHTML.slice(0, 80)),
    pictures: [...page.images].map((picture) => picture.naturalWidth),
    shown: [...page.images].map((picture) => picture.getBoundingClientRect().width),
  }});
}});
</script></body></html>"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path"),
]


def look(page, width, folder):
    """Returns (what the probe found, console lines) for one page at one width in pixels."""
    probe = folder / "probe.html"
    probe.write_text(PROBE.format(width=width, page=html.escape(page)), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", probe.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(title[1])), console


@pytest.mark.parametrize("width", [1200, 390])
def test_page_loads_whole_and_fits(drawn_run, tmp_path, width):
    found, console = look(drawn_run.report.read_text(), width, tmp_path)
    assert console == []
    assert found["width"] == width
    assert found["wide"] == []
    assert found["scroll"] <= width
    assert len(found["pictures"]) == 6
    assert min(found["pictures"]) > 0
    assert min(found["shown"]) > 0.85 * min(width, 640)


@pytest.mark.parametrize(
    ("fault", "symptom"),
    [
        ("<script>undefinedFunction()</script>", "console"),
        ('<img src="data:image/png;base64,AAAA" alt="">', "picture"),
        ('<div style="width:700px">wide</div>', "width"),
    ],
)
def test_faults_are_noticed(drawn_run, tmp_path, fault, symptom):
    page = drawn_run.report.read_text().replace("</main>", f"{fault}</main>")
    found, console = look(page, 390, tmp_path)
    noticed = {
        "console": bool(console),
        "picture": min(found["pictures"]) == 0,
        "width": found["scroll"] > 390 and bool(found["wide"]),
    }
    assert {name for name, there in noticed.items() if there} == {symptom}
