"""Colours of report and dashboard, on a light ground and on a dark one."""

from __future__ import annotations

from typing import Literal

Tone = Literal["card", "ink", "muted", "line", "faint", "accent"]

LIGHT: dict[Tone, str] = {
    "card": "#ffffff",
    "ink": "#1d211a",
    "muted": "#5c6357",
    "line": "#e3e2da",
    "faint": "#b3b7a9",
    "accent": "#55752f",
}
DARK: dict[Tone, str] = {
    "card": "#171912",
    "ink": "#e9ebe2",
    "muted": "#a5ab99",
    "line": "#2e3228",
    "faint": "#666c5a",
    "accent": "#a9c774",
}


def css_variables() -> str:
    """The colours as CSS variables that follow the reader's light or dark setting."""
    light, dark = (";".join(f"--{tone}:{color}" for tone, color in colors.items()) for colors in (LIGHT, DARK))
    return f":root{{{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
