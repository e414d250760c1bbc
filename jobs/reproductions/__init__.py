"""Tables and figures of the paper, made again; a new one is a file and a line here."""

from jobs.reproductions import fig3, fig4, fig6, fig7, fig8, fig9, tab1, tab2, tab3, tab4
from jobs.reproductions.base import Reproduction

REPRODUCTIONS: dict[str, Reproduction] = {
    "tab1": tab1.TABLE,
    "tab2": tab2.TABLE,
    "tab3": tab3.TABLE,
    "tab4": tab4.TABLE,
    "fig2": fig7.EXAMPLE,
    "fig3": fig3.FIGURE,
    "fig4": fig4.FIGURE,
    "fig6": fig6.FIGURE,
    "fig7": fig7.FIGURE,
    "fig8": fig8.FIGURE,
    "fig9": fig9.FIGURE,
}
"""By name in the paper."""
