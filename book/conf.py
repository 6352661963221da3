"""Sphinx's settings for the site. tools/book.py copies this folder, the notebooks and docs/ into one place.

No page asks the network for anything: plotly.js and MathJax are copied from installed packages, the theme brings its own
fonts. A page also works opened from a folder or a memory stick.
"""

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

project = "tfexplore"
html_title = "tfexplore"
author = "tfexplore contributors"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.githubpages",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxarg.ext",
    "generated",  # generated.py beside this file: equations, plots and lists made from the package
]
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_favicon = "_static/mark.svg"
html_css_files = ["book.css", "theme.css"]
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
    # notebooks have none: their figures need the room
    "secondary_sidebar_items": {"docs/**": ["page-toc"], "reference/**": ["page-toc"], "CONTRIBUTING": ["page-toc"]},
}
html_context = {"default_mode": "auto"}

nb_execution_mode = "off"  # the stored outputs are the ones that nbval checked
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # stored notebooks carry no widgets, so their scripts are not needed
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The reference. Docstrings are Google's style; `x` is code in them, as everywhere in this project.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "both"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_custom_sections = ["Shape", "Formula", "Paper"]
napoleon_use_rtype = False
napoleon_use_ivar = True  # a dataclass's fields are members already
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True

autodoc_type_aliases = {name: f"tfexplore.neurons.{name}" for name in ("TimeConstant", "Positive", "Decay")}

# Every reference must resolve. Those to other projects would with intersphinx, which takes their inventories from the network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|np|numpy|sympy|plotly|ipywidgets|nn|go|widgets|dist)\..*"),
    ("py:.*", r"(types|fractions|collections|pathlib|argparse|datetime|enum|abc)\..*"),
    ("py:.*", r"(DeviceMesh|Tensor|Expr|Symbol|ModuleType|Fraction|Path|Any|Callable|Iterable|Iterator|Mapping)"),
    ("py:class", r"tfexplore\.(timesplit\.ranks|puzzles\.\w+)\.\w+"),  # handles that a room passes to itself
    ("py:class", r"tfexplore\.explore\..*"),  # those that a result holds
    (
        "py:class",
        r"Rate|inf|(low|high|open)=.*|tfexplore\.(exchange\.layers\.\w+|neurons\.parameters\.Bound)",
    ),  # bounds
    ("py:class", r"(optional|default.*|(dict|list)\[.*)"),  # what Google's style writes beside a type, and parts of one
]

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
