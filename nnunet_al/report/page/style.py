"""Style sheet and icon of the report: for wide screens, telephones and print."""

from __future__ import annotations

from importlib.resources import files

# a curve in a square, as a data address, so that no browser asks for /favicon.ico
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%230072B2'/%3E"
    "%3Cpath d='M2.5 13C4 6 8 4 13.5 3.5' fill='none' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)

STYLE = files("nnunet_al.report.page").joinpath("style.css").read_text(encoding="utf-8")
