"""Checkpoints: one file of tensors and plain values, whole at any moment and loaded without running anything in it."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

FORMAT = "dmpo checkpoint"
VERSION = 1


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read or written."""


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a checkpoint beside the old one and then put it in its place, so that a kill leaves one of them whole.

    Args:
        path: of the file; the folder must exist.
        state: dicts, lists and tuples of tensors, numbers, strings, booleans and None.

    Raises:
        CheckpointError: something else is in it, which could not be loaded again.
    """
    _check_plain(state, "state")
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save({"format": FORMAT, "version": VERSION, "state": state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync_folder(path.parent)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state in a checkpoint; tensors on the CPU.

    Raises:
        CheckpointError: there is none, it is damaged, or it is something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {os.fspath(path)!r}.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        cause = str(error).strip().split("\n")[0] or type(error).__name__
        remedy = "It is damaged, or no checkpoint of this program. Nothing in it was run. Use another checkpoint."
        raise CheckpointError(f"The checkpoint {os.fspath(path)!r} cannot be read: {cause}. {remedy}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"The file {os.fspath(path)!r} was not written as a checkpoint by this program.")
    if content.get("version") != VERSION:
        wanted = f"this program reads version {VERSION}"
        raise CheckpointError(f"The checkpoint {os.fspath(path)!r} has version {content.get('version')}, {wanted}.")
    state: dict[str, Any] = content["state"]
    return state


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check_plain(inner, f"{where}[{number}]")
    elif type(value) not in (torch.Tensor, int, float, str, bool, type(None)):
        allowed = "a checkpoint holds dicts, lists and tuples of tensors, numbers, strings, booleans and None"
        raise CheckpointError(f"{where} is a {type(value).__name__}; {allowed}.")


def _sync_folder(folder: Path) -> None:
    # The new name outlives a power cut only once the folder is on the disk as well.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
