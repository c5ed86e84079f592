"""Checkpoints: one file of tensors and plain values, whole at any moment and loaded without running anything in it."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmpo.files import whole

FORMAT = "dmpo checkpoint"
VERSION = 2
_PLAIN = (int, float, str, bool, type(None))
_ALLOWED = "a checkpoint holds dicts, lists and tuples of dense tensors, numbers, strings, booleans and None"
_DAMAGED = "It is damaged, or no checkpoint of this program. Nothing in it was run. Use another checkpoint."


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read or written."""


class CheckpointVersionError(CheckpointError):
    """A checkpoint of another version than is read."""


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a checkpoint beside the old one and then put it in its place, so that a kill leaves one of them whole.

    Args:
        path: of the file; the folder must exist.
        state: dicts, lists and tuples of tensors, numbers, strings, booleans and None.

    Raises:
        CheckpointError: something else is in it, which could not be loaded again.
        OSError: the disk is full, or the folder cannot be written to; the old one is still there.
    """
    _check_plain(state, "state")
    with whole(Path(path)) as file:
        try:
            torch.save({"format": FORMAT, "version": VERSION, "state": state}, file)
        except RuntimeError as error:
            # PyTorch closes its archive even though the disk is full, and complains of that instead.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | os.PathLike[str], version: int = VERSION) -> dict[str, Any]:
    """State in a checkpoint; tensors on the CPU.

    Args:
        path: of the file.
        version: of the checkpoint; `dmpo.checkpoint_migration` reads an older one.

    Raises:
        CheckpointVersionError: it has another version.
        CheckpointError: there is none, a bit of it has changed, or it is something else.
        MemoryError: it is larger than the memory.
    """
    content, name = _read(path), repr(os.fspath(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"The file {name} was not written as a checkpoint by this program. Give one that was.")
    if content.get("version") != version:
        raise CheckpointVersionError(_version_message(name, content.get("version"), version))
    state = content.get("state")
    if not isinstance(state, dict):
        raise CheckpointError(f"The checkpoint {name} holds no state. {_DAMAGED}")
    return state


def _read(path: str | os.PathLike[str]) -> Any:
    name = repr(os.fspath(path))
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_plain(content, "its content")
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {name}.") from error
    except MemoryError:
        raise
    except Exception as error:  # of whatever kind: a damaged file leads the libraries that read it anywhere
        cause = str(error).strip().split("\n")[0] or type(error).__name__
        raise CheckpointError(f"The checkpoint {name} cannot be read: {cause}. {_DAMAGED}") from error
    return content


def _version_message(name: str, found: object, wanted: int) -> str:
    said = f"The checkpoint {name} has version {found}, and this program reads version {wanted}"
    if isinstance(found, int) and found < wanted:
        return f"{said}; rewrite its run with: dmpo migrate RUN_DIR"
    return f"{said}; it was written by a newer version of dmpo"


def _check_archive(path: str | os.PathLike[str]) -> None:
    """Refuse what PyTorch would read without looking: changed bits, and archives larger than their file."""
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > os.path.getsize(path):
            raise CheckpointError("it holds more bytes than it has, as only a bomb does")
        broken = archive.testzip()
    if broken is not None:
        raise CheckpointError(f"{broken} in it has changed since it was written")


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check_plain(inner, f"{where}[{number}]")
    elif type(value) is Tensor:
        # A view can stand for far more numbers than are stored, and copying it takes the memory of all of them.
        if value.layout != torch.strided or value.nbytes > value.untyped_storage().nbytes():
            raise CheckpointError(f"{where} is a sparse or expanded tensor {tuple(value.shape)}; {_ALLOWED}.")
    elif type(value) not in _PLAIN:
        raise CheckpointError(f"{where} is a {type(value).__name__}; {_ALLOWED}.")
