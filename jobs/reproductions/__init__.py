"""Tables and figures of the paper, made again; a new one is a file and a line here."""

from jobs.reproductions import fig3, fig4, tab1, tab2, tab3, tab4
from jobs.reproductions.base import Reproduction

REPRODUCTIONS: dict[str, Reproduction] = {
    "tab1": tab1.TABLE,
    "tab2": tab2.TABLE,
    "tab3": tab3.TABLE,
    "tab4": tab4.TABLE,
    "fig3": fig3.FIGURE,
    "fig4": fig4.FIGURE,
}
"""By name in the paper."""
