"""Conversion of documents to Markdown text: a module for each kind of format, and the converter that selects one."""
