"""Experiment files: schema, reading, checks, messages."""
