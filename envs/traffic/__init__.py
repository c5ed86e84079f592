"""Scenarios on roads, driven by SUMO."""
