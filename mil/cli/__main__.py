"""`python -m mil.cli` is `slidebag`."""

from . import main

main()
