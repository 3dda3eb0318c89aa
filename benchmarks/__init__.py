"""Measurements of the converter. Run them all with `make bench`; the figures are kept in RESULTS.md and results.json."""
