"""Localized models of the dynamics: fitting, rolling out, measuring."""
