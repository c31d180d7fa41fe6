"""Style sheet and icon of the report: for wide screens, telephones and print."""

from __future__ import annotations

# a curve in a square, as a data address, so that no browser asks for /favicon.ico
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%230072B2'/%3E"
    "%3Cpath d='M2.5 13C4 6 8 4 13.5 3.5' fill='none' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)

STYLE = """\
:root { --ink: #1a1a1a; --quiet: #595959; --line: #d4d4d4; --tint: #f5f7f9; --link: #005a8f; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0 auto; padding: 0 1rem 3rem; max-width: 64rem; background: #fff; color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  overflow-wrap: anywhere; }
h1 { margin: 2rem 0 .3rem; font-size: 1.8rem; line-height: 1.2; }
h2 { margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 2px solid var(--ink); font-size: 1.35rem;
  line-height: 1.25; }
h3 { margin: 1.8rem 0 .4rem; font-size: 1.08rem; line-height: 1.3; }
p, ul { margin: .6rem 0; max-width: 46rem; }
.lead, footer p { color: var(--quiet); }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; }
nav { margin: 1.2rem 0; padding: .8rem 1.1rem; background: var(--tint); border-radius: .4rem; }
nav h2 { margin: 0 0 .3rem; padding: 0; border: 0; font-size: 1rem; }
nav ol { margin: 0; padding-left: 1.4rem; columns: 15rem auto; }
nav li { break-inside: avoid; padding: .1rem 0; }
section { scroll-margin-top: 1rem; }
figure { margin: 1.2rem 0; }
figure > img { display: block; width: 100%; max-width: 34rem; height: auto; }
.figures { display: grid; gap: 0 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
figcaption { color: var(--quiet); font-size: .9rem; text-align: left; max-width: 46rem; }
figcaption { margin-top: .35rem; }
div.tiles { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
div.tiles img { display: block; width: 100%; max-width: 34rem; height: auto; }
.scroll { overflow-x: auto; overflow-wrap: normal; margin: .5rem 0; }
.file { font-family: ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; font-size: .92em; }
summary { cursor: pointer; margin: .4rem 0; color: var(--link); font-size: .9rem; }
table { border-collapse: collapse; font-size: .87rem; line-height: 1.35; }
th, td { padding: .28rem .7rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
tbody th { font-weight: inherit; }
.title { color: var(--ink); font-weight: 600; }
th:not(:first-child), td:not(:first-child) { padding-left: .3rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
tbody .number { white-space: nowrap; }
pre { overflow-x: auto; margin: .6rem 0; padding: .7rem .9rem; background: var(--tint); border-radius: .4rem;
  font: .82rem/1.5 ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; }
dl { margin: .6rem 0; display: grid; gap: .1rem 1.6rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
dl div { display: flex; gap: .6rem; border-bottom: 1px solid var(--line); padding: .15rem 0; }
dt { flex: 0 0 9.5rem; color: var(--quiet); }
dd { margin: 0; min-width: 0; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); font-size: .9rem; }
@media (max-width: 40rem) {
  h1 { font-size: 1.45rem; }
  h2 { font-size: 1.2rem; }
}
@media print {
  @page { margin: 16mm 14mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, pre { background: none; border: 1px solid var(--line); }
  h2, h3 { break-after: avoid; }
  p { orphans: 3; widows: 3; }
  figure, tr, dl div, div.tiles img { break-inside: avoid; }
  figure.tiles, figure.table { break-inside: auto; }
  figure > img { max-height: 215mm; width: auto; }
  .figures { display: block; }
  summary { color: inherit; list-style: none; }
  details::details-content { display: block; content-visibility: visible; block-size: auto; overflow: visible; }
  div.tiles { grid-template-columns: 1fr 1fr; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  tbody td, tbody th { min-width: 4em; overflow-wrap: anywhere; }
  tbody .number { min-width: 0; }
  .wide { font-size: 6.5pt; }
  .wide thead th, .wide tbody th, .wide tbody td { padding: .2rem; overflow-wrap: anywhere; white-space: normal; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  a { color: inherit; text-decoration: none; }
}
"""
