"""Experiment files: schema, YAML, format versions, checks and error messages."""
