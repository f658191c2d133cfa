"""The style sheet of the page: light and dark mode, wide and narrow screens, print."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1d2129; --muted: #5d6470; --line: #e0e3e8; --tint: #f5f6f8;
  --accent: #0064a3; --warn: #a34700;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --ink: #e4e7ec; --muted: #9aa3b0; --line: #2c323b; --tint: #1c2027;
    --accent: #6fb7ea; --warn: #f0a263;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: break-word;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 0.25rem; }
h2 {
  font-size: 1.2rem; margin: 2.75rem 0 0.75rem; padding-top: 0.9rem;
  border-top: 1px solid var(--line);
}
h3 { font-size: 1rem; margin: 1.75rem 0 0.5rem; }
p { margin: 0.5rem 0; }
.lede, figcaption, .note { color: var(--muted); }
figcaption, .note { font-size: 0.875rem; }
dl.stats {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.75rem;
  margin: 1.25rem 0;
}
dl.stats div { background: var(--tint); border-radius: 0.5rem; padding: 0.7rem 0.9rem; }
dl.stats dt { color: var(--muted); font-size: 0.8125rem; }
dl.stats dd { margin: 0; font-size: 1.2rem; font-weight: 600; line-height: 1.3; }
table { border-collapse: collapse; width: 100%; font-size: 0.875rem; line-height: 1.4; }
th, td {
  text-align: left; vertical-align: top; padding: 0.4rem 0.9rem 0.4rem 0;
  border-bottom: 1px solid var(--line);
}
th { font-weight: 600; }
thead th { color: var(--muted); font-weight: 500; }
tbody th { font-weight: 500; }
th:last-child, td:last-child { padding-right: 0; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td .note { margin: 0; }
code { font-size: 0.9em; overflow-wrap: anywhere; }
tr.changed th, tr.changed td { font-weight: 700; }
.caveat { color: var(--warn); }
figure { margin: 1rem 0 2rem; max-width: 40rem; }
figure img {
  display: block; width: 100%; height: auto; background: #ffffff; padding: 0.6rem;
  border: 1px solid var(--line); border-radius: 0.5rem;
}
figcaption { margin-top: 0.5rem; }
pre {
  background: var(--tint); border-radius: 0.5rem; padding: 0.8rem 1rem; margin: 0.6rem 0;
  font: 0.8125rem/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.matrices { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; margin: 0.6rem 0 1.2rem; }
.matrix { max-width: 100%; overflow-x: auto; }
.matrix table { width: auto; font-size: 0.75rem; }
.matrix caption { text-align: left; padding-bottom: 0.25rem; color: var(--muted); white-space:
nowrap; } .matrix td {
  padding: 0.15rem 0.35rem; border: 0; text-align: right; font-variant-numeric: tabular-nums;
}
pre.wide { white-space: pre; overflow-wrap: normal; overflow-x: auto; }
details { border-bottom: 1px solid var(--line); padding: 0.4rem 0; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 36rem) {
  figure { margin: 1rem -0.5rem 2rem; }
  figure img { padding: 0.25rem; }
  figcaption { padding: 0 0.5rem; }
  table.cards th { font-weight: 600; }
  table.cards thead { position: absolute; left: -200vw; }
  table.cards tr { display: block; border-bottom: 1px solid var(--line); padding: 0.5rem 0; }
  table.cards td, table.cards th { display: block; border: 0; padding: 0.1rem 0; }
  table.cards td.number { text-align: left; }
  table.cards td[data-label]::before { content: attr(data-label) ": "; color: var(--muted); }
}
@media print { details:not([open]) { display: none; } body { max-width: none; } }
"""
