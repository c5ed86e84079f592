"""The learners, one a file, with their settings."""
