"""Construction of learners and environments for training and evaluation, and policies on other graphs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import dmpo as learners
from experiments.comparisons.job import SilentCallback
from experiments.config import loading
from experiments.config.schema import Experiment
from experiments.errors import ConfigError
from experiments.runs import evaluation, runner
from experiments.runs.evaluation import load_learner, make_learner
from experiments.runs.folder import RunFolder
from tests.experiments.conftest import TINY, tiny_experiment


@pytest.mark.parametrize(
    ("cores", "given", "threads", "update_threads"),
    [
        (2, [], 1, 2),  # one is SUMO's while it steps
        (1, [], 1, 1),
        (64, [], 4, 4),  # more have nothing to do
        (8, ["train.workers=6"], 2, 4),
        (8, ["train.threads=1"], 1, 1),  # who asks for one has others to run
        (8, ["train.threads=3", "train.update_threads=6"], 3, 6),
        (8, ["train.update_threads=1"], 4, 1),
    ],
)
def test_pytorch_has_the_cores_that_sumo_leaves(
    monkeypatch: pytest.MonkeyPatch, cores: int, given: list[str], threads: int, update_threads: int
) -> None:
    monkeypatch.setattr(evaluation.os, "sched_getaffinity", lambda _: set(range(cores)))
    train = evaluation.with_threads(loading.load("dppo_ring", given).experiment).train
    assert (train.threads, train.update_threads) == (threads, update_threads)


def on_ring(algorithm: str, graph: str, vehicles: int = 11, **settings: Any) -> Experiment:
    sections = {
        "scenario": {"name": "ring", "num_vehicles": vehicles, "ring_length": 11 * vehicles, "observation": "relative"},
        "graph": {"name": graph} | ({"k": 4} if graph == "k_nearest" else {}),
        "algorithm": {"name": algorithm, **settings},
    }
    return loading.check(sections).experiment


def trained_learner(experiment: Experiment) -> Any:
    """A learner whose policies and normalizers are anything but those it began with."""
    learner: Any = make_learner(experiment, experiment.scenario)
    random = torch.Generator().manual_seed(0)
    for parameter in learner.policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=random)
    learner.update_normalizer(3 + 5 * torch.randn(50, learner.num_agents, learner.features, generator=random))
    return learner


def received(states: Tensor, graph: str, agent: int) -> Tensor:
    """States (B, N, D) with zeros for those that an agent on a ring does not receive on a graph."""
    agents = states.shape[1]
    reach = {"complete": agents, "k_nearest": 2, "cycle": 1, "empty": 0}[graph]
    away = torch.tensor([min((j - agent) % agents, (agent - j) % agents) for j in range(agents)])
    return states.masked_fill((away > reach).unsqueeze(1), 0.0)


@pytest.mark.parametrize("algorithm", ["dppo", "dmpo", "cppo", "ia2c", "dsac", "dmpo_sac"])
@pytest.mark.parametrize(
    ("trained", "here"),
    [("complete", "cycle"), ("complete", "k_nearest"), ("k_nearest", "cycle"), ("cycle", "empty"), ("cycle", "cycle")],
)
def test_each_message_meets_the_weights_that_were_learned_for_its_pair(algorithm: str, trained: str, here: str) -> None:
    begun, experiment = (on_ring(algorithm, graph, normalize_observations=True) for graph in (trained, here))
    whole = trained_learner(begun)
    learner: Any = load_learner(begun, experiment, whole.state_dict())
    observations = 3 + 5 * torch.randn(4, 11, whole.features)
    states = whole.states(observations)
    commands = learner.act(observations, deterministic=True)
    for agent in range(11):
        expected = whole.policy(
            received(states, here, agent)
        ).detach()  # a policy of the graph of training that is fed zeros
        assert torch.equal(learner.policy(states)[:, agent], expected[:, agent])
        mode = whole.distribution.env_actions(whole.distribution.mode(expected))
        np.testing.assert_array_equal(commands[:, agent], mode[:, agent])


def test_everything_is_refused_where_anybody_receives_from_a_neighbor_without_weights() -> None:
    begun = on_ring("dppo", "cycle")
    state = trained_learner(begun).state_dict()
    for graph in ("complete", "k_nearest"):
        with pytest.raises(ConfigError, match=r"agent 0 receives from agent 2, and has places only for agents 1, 10; "):
            load_learner(begun, on_ring("dppo", graph), state)
    with pytest.raises(ConfigError, match="agent 0 receives from agent 1, and has no place for any other; "):
        load_learner(on_ring("dppo", "empty"), begun, trained_learner(on_ring("dppo", "empty")).state_dict())


@pytest.mark.parametrize("share_parameters", [False, True])
def test_a_state_from_before_neighbors_were_kept_is_of_the_graph_in_its_configuration(share_parameters: bool) -> None:
    settings = {"share_parameters": share_parameters}
    begun, experiment = (on_ring("dppo", graph, **settings) for graph in ("complete", "cycle"))
    state = trained_learner(begun).state_dict()
    observations = torch.randn(4, 11, 5)
    found: Any = load_learner(begun, experiment, state).act(observations, deterministic=True)
    del state["policy"]["sources"]
    old: Any = load_learner(begun, experiment, state)
    np.testing.assert_array_equal(old.act(observations, deterministic=True), found)
    with pytest.raises(ValueError, match="size mismatch"):
        load_learner(experiment, experiment, state)


@pytest.mark.parametrize("algorithm", ["dppo", "dmpo"])
def test_a_shared_policy_drives_a_longer_ring_as_it_drove_its_own(algorithm: str) -> None:
    settings = {"share_parameters": True, "normalize_observations": True}
    begun, experiment = (on_ring(algorithm, "cycle", vehicles, **settings) for vehicles in (6, 12))
    trained = trained_learner(begun)
    learner: Any = load_learner(begun, experiment, trained.state_dict())
    states = 3 + 5 * torch.randn(4, 12, trained.features)
    commands = learner.act(states, deterministic=True)
    here, there = trained.policy.neighborhood.index[2], learner.policy.neighborhood.index  # (K,), (N, K)
    for i in range(12):
        around = torch.zeros(4, 6, trained.features)
        around[:, here] = states[:, there[i]]
        np.testing.assert_allclose(commands[:, i], trained.act(around, deterministic=True)[:, 2], atol=1e-6)
    assert commands.std() > 0.01


def test_a_shared_policy_fits_any_number_of_agents_but_no_more_neighbors() -> None:
    small, large, dense = (
        on_ring("dppo", *graph, share_parameters=True) for graph in (("cycle", 4), ("cycle", 9), ("k_nearest", 9))
    )
    state = trained_learner(small).state_dict()
    assert load_learner(small, large, state)
    with pytest.raises(ConfigError, match="agent 0 receives from 4 others here, and the network has weights for 2"):
        load_learner(small, dense, state)
    own = on_ring("dppo", "cycle", 4)
    with pytest.raises(ConfigError, match=r"here are 9 agents, and 4 have a policy of their own.*share_parameters"):
        load_learner(own, on_ring("dppo", "cycle", 9), trained_learner(own).state_dict())


def test_a_policy_that_remembers_fits_any_number_of_agents_and_neighbors() -> None:
    tiny, large = (
        loading.check(yaml.safe_load(TINY) | {"algorithm": {"name": "ic3net"}}, overrides).experiment
        for overrides in ([], ["scenario.num_vehicles=9", "graph.name=complete"])
    )
    trained = trained_learner(tiny)
    trained.explore(torch.ones(2, 3, 5), torch.ones(2, dtype=torch.bool))  # what it remembers stays behind
    learner: Any = load_learner(tiny, large, trained.state_dict())
    direct: Any = make_learner(large, large.scenario)
    direct.policy.load_state_dict(trained.policy.state_dict() | {"sources": direct.policy.sources})
    for first in (True, False):
        observations, begins = torch.randn(2, 9, 5), np.full(2, first)
        expected = direct.act(observations, deterministic=True, first=begins)
        np.testing.assert_array_equal(learner.act(observations, deterministic=True, first=begins), expected)


@pytest.fixture(scope="module")
def on_a_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with the graph in a file, 0 – 1 – 2; not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "graph.txt").write_text("0 1\n1 2\n", encoding="utf-8")
    experiment = tiny_experiment("graph.name=file", f"graph.path={folder / 'graph.txt'}", "train.env_steps=40")
    runner.train(experiment, folder / "run", SilentCallback())
    return folder


@pytest.fixture
def run(on_a_path: Path, folder: Path) -> Path:
    """A copy of the run, in the working directory with its graph."""
    shutil.copytree(on_a_path, folder, dirs_exist_ok=True)
    config = RunFolder(folder / "run").config
    config.write_text(config.read_text(encoding="utf-8").replace(str(on_a_path), str(folder)), encoding="utf-8")
    return folder / "run"


def test_a_policy_is_evaluated_elsewhere_as_far_as_its_weights_allow(run: Path, dmpo: Callable[..., Any]) -> None:
    fits = dmpo("evaluate", run, "graph.name=empty", "scenario.horizon=20", "--output", "there.json")
    assert fits.status == 0
    found = json.loads(Path("there.json").read_text(encoding="utf-8"))
    assert found["metrics"]["eval/length"] == 20
    for override, what in (
        ("graph.name=complete", "agent 0 receives from agent 2, and has places only for agents 1; "),
        ("scenario.num_vehicles=4 graph.name=path", "here are 4 agents"),
        ("scenario.name=ring graph.name=empty", "observe 5 numbers each and choose from 4 actions, and here they"),
        ("algorithm.kappa=0", "allowed to change: scenario, graph"),
        ("graph.name=k_nearest", "graph.k"),
    ):
        refused = dmpo("evaluate", run, *override.split())
        assert refused.status == 2
        assert what in refused.err
        assert "Traceback" not in refused.err


def test_a_graph_that_changed_since_the_training_is_noticed(run: Path, dmpo: Callable[..., Any]) -> None:
    (run.parent / "graph.txt").write_text("0 2\n1 2\n", encoding="utf-8")
    result = dmpo("evaluate", run)
    assert result.status == 2
    assert "agent 0 receives from agent 2, and has places only for agents 1; " in result.err


def test_a_checkpoint_from_before_neighbors_were_kept_is_evaluated_and_resumed(
    run: Path, dmpo: Callable[..., Any]
) -> None:
    def evaluate(*overrides: str) -> Any:
        result = dmpo("evaluate", run, "scenario.horizon=20", *overrides, "--output", "there.json")
        assert result.status == 0
        return json.loads(Path("there.json").read_text(encoding="utf-8"))["episodes"]

    found = evaluate(), evaluate("graph.name=empty")
    checkpoint = RunFolder(run).checkpoint
    state = learners.load_checkpoint(checkpoint)
    del state["trainer"]["learner"]["policy"]["sources"]
    learners.save_checkpoint(checkpoint, state)
    assert (evaluate(), evaluate("graph.name=empty")) == found
    assert dmpo("evaluate", run, "graph.name=complete").status == 2
    assert dmpo("train", "--resume", run, "train.env_steps=80").status == 0
    assert learners.load_checkpoint(checkpoint)["trainer"]["learner"]["policy"]["sources"].tolist()[0] == [0, 1, -1]
