"""Annotated texts and tagged sentences in the formats of other tools, read and written."""
