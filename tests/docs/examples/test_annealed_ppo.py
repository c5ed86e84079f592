"""The learner of the user's own that docs/own_learner.md shows."""

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import dmpo as learners
from dmpo import registry
from tests.conftest import Command
from tests.dmpo.environment import PointMasses

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "annealed_ppo.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, whose learner is forgotten after the test: other tests count those that come with the package."""
    monkeypatch.setattr(registry._algorithms, "_entries", dict(registry._algorithms._entries))
    monkeypatch.delitem(sys.modules, "docs.examples.annealed_ppo", raising=False)
    return import_module("docs.examples.annealed_ppo")


def test_the_page_shows_the_example_which_has_sixty_lines_at_most() -> None:
    source, page = EXAMPLE.read_text(encoding="utf-8"), (ROOT / "docs" / "own_learner.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```python\n# annealed_ppo.py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert source.endswith(shown)
    assert len(source.splitlines()) <= 60


def test_the_entropy_bonus_halves_in_each_half_life(example: Any) -> None:
    settings = example.AnnealedPPOSettings(entropy_coef=0.8, half_life=0.25)
    assert [settings.entropy_coef_at(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.8, 0.4, 0.2, 0.05])


def test_it_learns_from_its_own_rewards_alone(example: Any) -> None:
    env = PointMasses(num_envs=16, horizon=30)
    env.graph = nx.empty_graph(3)
    settings = example.AnnealedPPOSettings(gamma=0.95, gae_lambda=0.9, rollout_steps=30, lr_policy=5e-3, lr_value=5e-3)
    learner = learners.make_learner(settings, env.graph, env.observation_space, env.action_space)
    assert isinstance(learner, example.AnnealedPPO)
    test = PointMasses(num_envs=16, horizon=30)
    before = learners.evaluate(test, learner, seed=1).metrics["eval/reward"]
    for metrics in learners.Trainer(env, learner, 30 * 16 * 15, seed=0).iterations():
        assert metrics["comm/bytes_per_agent_step"] == 0
    assert learners.evaluate(test, learner, seed=1).metrics["eval/reward"] > 0.5 * before  # rewards are negative


@pytest.mark.usefixtures("example")
def test_the_command_line_trains_it_by_name(dmpo: Command, folder: Path) -> None:
    tiny = ["train.env_steps=40", "train.num_envs=2", "train.threads=1", "scenario.horizon=20", "evaluate.every=1000"]
    command = ["--import", "docs.examples.annealed_ppo", "train", "dppo_ring", "algorithm.name=annealed_ppo"]
    result = dmpo(*command, "algorithm.rollout_steps=4", "algorithm.half_life=0.5", *tiny, "--output", "run")
    assert result.status == 0, result.err
    assert "half_life: 0.5" in (folder / "run" / "config.yaml").read_text(encoding="utf-8")
    refused = dmpo(*command, "algorithm.half_life=2", *tiny, "--output", "other")
    assert refused.status == 2 and "algorithm.half_life" in refused.err
