"""Another device than the CPU for tests: a GPU where there is one, and one that any machine has.

The latter keeps its tensors in ordinary memory and calls itself `meta`. As on a GPU, they never meet those of the CPU
but where something is copied, and numpy cannot have them. On both, random numbers are drawn on the CPU, so that a
learner there does what the same learner does here.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class Generator(torch.Generator):
    """Draws on the CPU wherever it says it is."""

    device = torch.device("cpu")  # a plain attribute, which can be set

    def __new__(cls, device: torch.device | str = "cpu") -> Self:
        """As of the library."""
        generator = super().__new__(cls)
        generator.device = torch.device(device)
        return generator


class Elsewhere(Tensor):
    """A tensor on the device that any machine has."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Elsewhere":
        """The same numbers, there."""
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(cls, inner.shape, device="meta", **layout)
        made.inner = inner
        return made

    def tolist(self) -> Any:
        """Numbers."""
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it in ordinary memory."""
        return _apart(function, args, kwargs or {})


class Apart(TorchDispatchMode):
    """While it is entered, what is made on `meta` is made there."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it in ordinary memory."""
        return _apart(function, args, kwargs or {})


class DrawnHere(TorchDispatchMode):
    """While it is entered, random numbers are drawn on the CPU and copied to where they belong."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Draw, or do what is to be done."""
        kwargs = kwargs or {}
        if kwargs.get("generator") is None:
            return function(*args, **kwargs)
        if args and isinstance(args[0], Tensor):
            return args[0].copy_(function(torch.empty_like(args[0], device="cpu"), *args[1:], **kwargs))
        return function(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"])


def _apart(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    seen: list[Tensor] = []

    def inside(x: Tensor) -> Tensor:
        seen.append(x)
        return x.inner if isinstance(x, Elsewhere) else x

    inner_args, inner_kwargs = _each(inside, args), {key: _each(inside, x) for key, x in kwargs.items()}
    there = any(isinstance(x, Elsewhere) for x in seen)
    if there and function not in COPIES:
        lost = [tuple(x.shape) for x in seen if x.dim() and not isinstance(x, Elsewhere)]
        assert not lost, f"{function}: tensors of the CPU, {lost}, beside those of another device"
    device = kwargs.get("device")
    if device is not None:
        there, inner_kwargs["device"] = torch.device(device).type == "meta", "cpu"
    result = function(*inner_args, **inner_kwargs)
    if function._schema.name.endswith("_"):
        return args[0]
    outs = [kwargs[argument.name] for argument in function._schema.arguments if argument.is_out]
    return outs[0] if outs else (_each(Elsewhere, result) if there else result)


def _each(what: Callable[[Tensor], Tensor], x: Any) -> Any:
    if isinstance(x, Tensor):
        return what(x)
    return type(x)(_each(what, inner) for inner in x) if isinstance(x, list | tuple) else x


#: What is entered to use a device, by its name.
MODES: dict[str, Callable[[], TorchDispatchMode]] = {"meta": Apart, "cuda": DrawnHere}
