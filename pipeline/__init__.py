"""Eedi: from a competition's raw CSVs to a ranked, validated submission.csv."""

__version__ = "0.1.0"
