"""How Sphinx builds the site: `make docs`."""

import importlib.metadata

project = "rebar_tf"
author = copyright = "The rebar_tf authors"
release = importlib.metadata.version("rebar_tf")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "results/report/*.md"]
suppress_warnings = ["toc.not_included"]  # tables that a page links to
html_theme = "furo"
html_title = "rebar_tf"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "dollarmath"]

default_role = "literal"  # docstrings have single backticks for code
autodoc_inherit_docstrings = False  # those of Keras are Markdown
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True}
napoleon_custom_sections = [("Call arguments", "params_style")]
napoleon_use_rtype = False
napoleon_use_ivar = True


def setup(app):
    app.connect("autodoc-process-docstring", indent_examples, priority=400)  # before napoleon


def indent_examples(app, what, name, obj, options, lines):
    """Examples as napoleon wants them; in the docstrings they are not indented, as in Keras's."""
    in_example = False
    for i, line in enumerate(lines):
        in_example = line.strip() == "Example:" or (in_example and bool(line.strip()))
        if in_example and line.strip() != "Example:":
            lines[i] = f"    {line}"
