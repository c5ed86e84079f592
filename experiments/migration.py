"""`dmpo migrate`: experiment files, runs and comparisons of format 1, rewritten as format 2.

A file takes the place of the old one whole. The new files of a run are first all written to a folder inside it and then
moved into place, `config.yaml` last: a run that is interrupted still counts as one of format 1, and the same command
completes it.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmpo.files import sync_folder, whole
from experiments.config import formats, yaml_io
from experiments.errors import ConfigError, shown
from experiments.runs.folder import RunFolder, read_lines

_STAGED = "migration"  # complete, to be moved into place
_PARTIAL = "migration.partial"  # being written
_COMPARISON = "comparison.json"

Note = Callable[[str], None]


def migrate(path: Path, note: Note) -> int:
    """Rewrite an experiment file, the folder of a run or that of a comparison with all its runs.

    Args:
        path: of the file or folder.
        note: is called with each thing that is lost.

    Returns:
        How many files or runs were of format 1.

    Raises:
        ConfigError: there is no such thing at `path`, it is being written or cannot be read.
        RunError: a line of a run's metrics is damaged.
        dmpo.CheckpointError: the checkpoint of a run cannot be read.
        OSError: the disk is full, or the folder cannot be written to; what was there still is.
    """
    if path.is_dir() and (path / _COMPARISON).is_file():
        return _migrate_comparison(path, note)
    if path.is_dir():
        return int(_migrate_run(RunFolder.existing(path), note))
    return int(_migrate_file(path, note))


def _migrate_file(path: Path, note: Note) -> bool:
    """Rewrite an experiment file, keep the old one beside it, and say whether it was of format 1."""
    text = yaml_io.file_text(path)
    if _is_current(text, path):
        return False
    kept = path.with_name(f"{path.name}.format1")
    if kept.exists():
        raise ConfigError(f"{shown(str(kept), 300)} is there already, where the old file is kept; move it away")
    content = _migrated_config(path, note)
    shutil.copy2(path, kept)
    _write(path, content)
    return True


def _migrate_run(folder: RunFolder, note: Note) -> bool:
    """Rewrite the files of a run, and say whether it was of format 1."""
    if folder.is_being_written():
        raise ConfigError(f"{shown(str(folder.path), 300)} is being trained; stop it first")
    staged, partial = folder.path / _STAGED, folder.path / _PARTIAL
    if not staged.is_dir():
        if _is_current(yaml_io.file_text(folder.config), folder.config):
            return False
        shutil.rmtree(partial, ignore_errors=True)
        for name, content in _migrated_files(folder, note).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            _write(partial / name, content)
        os.replace(partial, staged)
        sync_folder(folder.path)
    for file in sorted(staged.rglob("*"), key=lambda file: file.name == folder.config.name):
        if file.is_file():
            os.replace(file, folder.path / file.relative_to(staged))
    shutil.rmtree(staged)
    return True


def _migrate_comparison(path: Path, note: Note) -> int:
    """Rewrite all runs of a comparison and the overrides that it was begun with, and count the runs of format 1."""
    runs = [file.parent for file in sorted(path.glob("runs/*/config.yaml"))]
    migrated = sum(_migrate_run(RunFolder(run), note) for run in runs)
    file = path / _COMPARISON
    data = _read_json(file)
    before = data.get("overrides", [])
    overrides = [formats.renamed_override(override) for override in before]
    if overrides != before:
        _write(file, _json(data | {"overrides": overrides}))
    return migrated


def _migrated_files(folder: RunFolder, note: Note) -> dict[str, bytes | dict[str, Any]]:
    """The new files of a run by their path in it: bytes, or the state of a checkpoint."""
    files: dict[str, bytes | dict[str, Any]] = {folder.config.name: _migrated_config(folder.config, note)}
    for report in folder.path.glob("evaluation*.json"):
        files[report.name] = _json(_renamed_metrics(_read_json(report)))
    old = folder.metrics.read_bytes() if folder.metrics.is_file() else b""
    if folder.metrics.is_file():
        files[folder.metrics.name] = _migrated_lines(folder.metrics, old)
    if folder.checkpoint.is_file():
        from dmpo.checkpoint_migration import load_version_1

        state = load_version_1(folder.checkpoint)
        if isinstance(state.get("metrics_bytes"), int):  # of lines that are longer or shorter now
            state["metrics_bytes"] = len(_migrated_lines(folder.metrics, old[: state["metrics_bytes"]]))
        files[str(folder.checkpoint.relative_to(folder.path))] = state
    return files


def _migrated_config(path: Path, note: Note) -> bytes:
    text, notes = formats.migrate_text(yaml_io.file_text(path), str(path))
    for lost in notes:
        note(f"{path}: {lost}")
    return text.encode()


def _migrated_lines(path: Path, content: bytes) -> bytes:
    """The complete lines of `metrics.jsonl` with the metrics' new names."""
    return "".join(json.dumps(_renamed_metrics(line)) + "\n" for line in read_lines(path, content)).encode()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: {error}; put a good copy in its place, or delete it") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is damaged: it holds no JSON object; put a good copy in its place, or delete it")
    return value


def _renamed_metrics(value: Any) -> Any:
    """The same JSON with the metrics' new names wherever one is a key."""
    if isinstance(value, dict):
        return {formats.renamed_metric(key): _renamed_metrics(inner) for key, inner in value.items()}
    return [_renamed_metrics(inner) for inner in value] if isinstance(value, list) else value


def _is_current(text: str, path: Path) -> bool:
    """Whether an experiment file is of the present format; one of a newer version is refused."""
    data = yaml_io.read_text(text, str(path))
    if data.get("format") == formats.FORMAT:
        return True
    if formats.is_format_1(text, data, path):
        return False
    formats.check_format(text, data, path)
    return True


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _write(path: Path, content: bytes | dict[str, Any]) -> None:
    if isinstance(content, dict):
        from dmpo.checkpoint import save_checkpoint

        save_checkpoint(path, content)
        return
    with whole(path) as file:
        file.write(content)
