"""Tests of the page in a browser, at desktop and phone width.

The page is in a frame of the given width, because a headless window has a minimum width; the outer
page writes its measurements into its title.
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
  for (const details of page.querySelectorAll("details")) {{
    details.removeAttribute("name");
    details.open = true;
  }}
  const root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(
    (node) => node.getBoundingClientRect().right > root.clientWidth + 1
  );
  document.title = JSON.stringify({{
    width: root.clientWidth,
    scroll: root.scrollWidth,
    wide: wide.map((node) => node.outerHTML.slice(0, 80)),
    images: [...page.images].map((image) => image.naturalWidth),
    shown: [...page.images].map((image) => image.getBoundingClientRect().width),
  }});
}});
</script></body></html>"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path"),
]


def probe_page(page, width, folder):
    """Returns (measurements of the probe, console lines) at one width in pixels."""
    probe = folder / "probe.html"
    probe.write_text(PROBE.format(width=width, page=html.escape(page)), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", probe.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(title[1])), console


@pytest.mark.parametrize("width", [1200, 390])
def test_page_loads_and_fits_the_viewport(reported_run, tmp_path, width):
    found, console = probe_page(reported_run.report.read_text(), width, tmp_path)
    assert console == []
    assert found["width"] == width
    assert found["wide"] == []
    assert found["scroll"] <= width
    assert len(found["images"]) == 6
    assert min(found["images"]) > 0
    assert min(found["shown"]) > 0.85 * min(width, 640)


@pytest.mark.parametrize(
    ("fault", "symptom"),
    [
        ("<script>undefinedFunction()</script>", "console"),
        ('<img src="data:image/png;base64,AAAA" alt="">', "image"),
        ('<div style="width:700px">wide</div>', "width"),
    ],
)
def test_probe_detects_faults(reported_run, tmp_path, fault, symptom):
    page = reported_run.report.read_text().replace("</main>", f"{fault}</main>")
    found, console = probe_page(page, 390, tmp_path)
    noticed = {
        "console": bool(console),
        "image": min(found["images"]) == 0,
        "width": found["scroll"] > 390 and bool(found["wide"]),
    }
    assert {name for name, there in noticed.items() if there} == {symptom}
