"""YAML in, results out: configuration, command line, runner, plots and presets."""
