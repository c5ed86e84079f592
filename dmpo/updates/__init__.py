"""Gradient steps of policies and critics, and the targets they are taken towards."""
