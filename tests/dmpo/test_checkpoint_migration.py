from typing import Any

import pytest
import torch

from dmpo import checkpoint_migration


@pytest.mark.parametrize(
    "state",
    [
        {"a": {"b.c": 1, "d": [1, (2, [3])], "e": ()}, "f": {}, "g": None, "h": []},
        {"x": [{"y": (1,)}, {"y": ()}]},
        {},
    ],
)
def test_a_flattened_state_is_put_together_again(state: dict[str, Any]) -> None:
    assert checkpoint_migration.unflatten(checkpoint_migration.flatten(state)) == state


def test_keys_are_renamed_moved_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    table = ((r"/memory/", "/buffer/"), (r"^old/(\w+)/", r"new/"), (r"/unused$", None))
    monkeypatch.setattr(checkpoint_migration, "RENAMED_KEYS", table)
    paths = ["x/memory/batches/(0)", "old/part/weight", "x/unused"]
    assert [checkpoint_migration.renamed(path) for path in paths] == ["x/buffer/batches/(0)", "new/weight", None]


def test_tensors_pass_untouched() -> None:
    tensor = torch.arange(3)
    assert checkpoint_migration.flatten({"a": [tensor]})["a/[0]"] is tensor
