"""Sphinx's settings for the course as a site. tools/book.py copies this folder, the notebooks and docs/ into one place.

No page asks the network for anything: plotly.js and MathJax are copied from installed packages, the theme brings its own
fonts. A page also works opened from a folder or a memory stick.
"""

from typing import Any

from sphinx.application import Sphinx

project = "tfexplore"
html_title = "tfexplore"
author = "tfexplore contributors"
extensions = ["myst_nb", "sphinx.ext.githubpages"]
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_favicon = "_static/mark.svg"
html_css_files = ["book.css"]
html_show_copyright = False
html_show_search_summary = False  # it would fetch pages, which a browser refuses for a page opened from a folder
html_theme_options = {
    "logo": {
        "image_light": "_static/mark.svg",
        "image_dark": "_static/mark.svg",
        "text": "tfexplore",
        "alt_text": "tfexplore",
    },
    "use_download_button": True,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "secondary_sidebar_items": {"docs/*": ["page-toc"]},  # notebooks have none: their figures need the room
}
html_context = {"default_mode": "light"}  # the figures are drawn for white paper

nb_execution_mode = "off"  # the stored outputs are the ones that nbval checked
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # stored notebooks carry no widgets, so their scripts are not needed
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

# MathJax as SVG: one file and no fonts, which Firefox would not load for a page opened from a folder. Version 3.
mathjax_path = "mathjax.js"
mathjax3_config = {"options": {"enableMenu": False}}  # its menu offers parts that are not here


def figures_where_needed(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Loads plotly.js, once, on the pages that have live figures."""
    if 'class="explorer live"' in context.get("body", ""):
        app.add_js_file("plotly.min.js", loading_method="defer")
        app.add_js_file("figures.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("html-page-context", figures_where_needed)
