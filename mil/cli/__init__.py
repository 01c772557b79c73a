"""The command line: parse, call one verb, print a table, pick the exit code."""

from . import whole_verbs, slide_verbs, bag_verbs, model_verbs, view_verbs  # noqa: F401, I001  imported in the order of the help
from .app import app, main

__all__ = ["app", "main"]
