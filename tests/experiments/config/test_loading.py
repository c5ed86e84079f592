from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

import dmpo as learners
import envs
import graphs
from dmpo.nn import layers
from experiments.config import loading
from experiments.config.json_schema import Schema
from experiments.config.schema import (
    SCHEMA_FILE,
    Experiment,
    experiment_model,
    graph_model,
    json_schema,
)
from experiments.errors import ConfigError
from experiments.runs.evaluation import make_learner

RING = "scenario: {name: ring}\nalgorithm: {name: dppo}\n"
PLATOON = "scenario: {name: cacc_catchup}\nalgorithm: {name: dppo}\n"


def check(text: str, *overrides: str) -> loading.Loaded:
    return loading.check(loading.yaml_io.read_text(text, "f.yaml"), overrides)


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        check(text, *overrides)
    return refused.value.problems


# What is in the file, the path that must be named, and what else the message must say.
BAD: list[tuple[str, str, str]] = [
    # unknown keys and names, with the nearest right one
    (RING + "foo: 1", "foo", "allowed: name, format, scenario, graph, algorithm, train, evaluate, log"),
    (RING + "trian: {seed: 1}", "trian", "did you mean train?"),
    (RING + "kappa: 2", "kappa", "did you mean algorithm.kappa?"),
    (RING + "num_envs: 2", "num_envs", "did you mean train.num_envs?"),
    (RING + "seed: 2", "seed", "did you mean train.seed?"),
    (RING + "train: {sed: 1}", "train.sed", "did you mean seed?"),
    (RING + "train: {env-steps: 1}", "train.env-steps", "did you mean env_steps?"),
    (RING + "evaluate: {evry: 1}", "evaluate.evry", "did you mean every?"),
    (RING + "log: {each: 1}", "log.each", "allowed: every"),
    (RING + "graph: {name: cycle, k: 2}", "graph.k", "unknown key (given 2)"),
    (RING + "graph: {name: k_nearest, K: 2}", "graph.K", "did you mean k?"),
    (RING + "graph: {name: kNearest}", "graph.name", "did you mean k_nearest?"),
    ("scenario: {name: rnig}\nalgorithm: {name: dppo}", "scenario.name", "did you mean ring?"),
    ("scenario: {name: ring}\nalgorithm: {name: DPPO}", "algorithm.name", "did you mean dppo?"),
    ("scenario: {name: ring, ring_lenght: 3}\nalgorithm: {name: dppo}", "scenario.ring_lenght", "ring_length"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, kapa: 3}", "algorithm.kapa", "did you mean kappa?"),
    ("scenario: {name: ring, observation: publishd}\nalgorithm: {name: dppo}", "scenario.observation", "'published'?"),
    ("scenario: {name: ring, observation: mine}\nalgorithm: {name: dppo}", "scenario.observation", "--import MODULE"),
    (
        "scenario: {name: ring, observation: 3}\nalgorithm: {name: dppo}",
        "scenario.observation",
        "published or relative",
    ),
    ("scenario: {name: mine}\nalgorithm: {name: dppo}", "scenario.name", "--import MODULE"),
    (RING + "graph: {name: mine}", "graph.name", "--import MODULE"),
    ("scenario: {name: ring}\nalgorithm: {name: mine}", "algorithm.name", "--import MODULE"),
    # what is missing
    ("{}", "scenario", "missing"),
    ("scenario: {name: ring}", "algorithm", "missing"),
    ("scenario: {}\nalgorithm: {name: dppo}", "scenario.name", "missing; allowed: cacc_catchup"),
    (RING + "graph: {k: 2}", "graph.name", "missing"),
    (RING + "graph: {name: file}", "graph.path", "missing; allowed: text"),
    # wrong types
    ("scenario: ring\nalgorithm: {name: dppo}", "scenario", "a mapping {name: …} with one of the names cacc_catchup"),
    ("scenario: [ring]\nalgorithm: {name: dppo}", "scenario", "a mapping"),
    ("scenario: {name: [ring]}\nalgorithm: {name: dppo}", "scenario.name", "allowed: cacc_catchup"),
    ("scenario: {name: ring}\nalgorithm: null", "algorithm", "a mapping"),
    (RING + "graph: complete", "graph", "or null"),
    (RING + "name: 3", "name", "text"),
    (RING + "name: ../up", "name", "text of the form"),
    (RING + "name: ''", "name", "text"),
    (RING + "train: 3", "train", "a mapping with keys among env_steps"),
    (RING + "train: {seed: true}", "train.seed", "a whole number from 0"),
    (RING + "train: {seed: '1'}", "train.seed", "a whole number from 0"),
    (RING + "train: {seed: 1.5}", "train.seed", "a whole number from 0"),
    (RING + "train: {seed: {x: 1}}", "train.seed", "a whole number from 0"),
    (RING + "train: {env_steps: many}", "train.env_steps", "a whole number from 1"),
    (RING + "train: {device: 3}", "train.device", "text"),
    (RING + "evaluate: {scenario: 3}", "evaluate.scenario", "a mapping"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, share_parameters: yes}", "algorithm.share_parameters", "true or"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, lr_policy: 1e-3x}", "algorithm.lr_policy", "a number above 0"),
    (
        "scenario: {name: ring}\nalgorithm: {name: dppo, hidden_sizes: 64}",
        "algorithm.hidden_sizes",
        "a list, each a whole number",
    ),
    (
        "scenario: {name: ring}\nalgorithm: {name: dppo, hidden_sizes: [64, x]}",
        "algorithm.hidden_sizes.1",
        "a whole number",
    ),
    ("scenario: {name: ring, ring_length: [220, x]}\nalgorithm: {name: dppo}", "scenario.ring_length", "or a list ["),
    ("scenario: {name: ring, ring_length: [220]}\nalgorithm: {name: dppo}", "scenario.ring_length", "or a list ["),
    # impossible values
    ("scenario: {name: ring}\nalgorithm: {name: dppo, kappa: -1}", "algorithm.kappa", "a whole number of at least 0"),
    ("scenario: {name: ring}\nalgorithm: {name: cppo, kappa: 3}", "algorithm.kappa", "unknown key (given 3)"),
    ("scenario: {name: ring}\nalgorithm: {name: cppo, objective: tam}", "algorithm.objective", "team or selfish"),
    ("scenario: {name: ring}\nalgorithm: {name: ia2c, clip: 0.2}", "algorithm.clip", "unknown key (given 0.2)"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, gamma: 1.5}", "algorithm.gamma", "of at most 1"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, clip: .nan}", "algorithm.clip", "a finite number"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, clip: 1e999}", "algorithm.clip", "a finite number"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, kl_target: 0}", "algorithm.kl_target", "above 0 or null"),
    ("scenario: {name: ring, mode: test}\nalgorithm: {name: dppo}", "scenario.mode", "train or evaluate"),
    ("scenario: {name: ring, num_vehicles: 0}\nalgorithm: {name: dppo}", "scenario.num_vehicles", "a whole number"),
    ("scenario: {name: cacc_catchup, num_vehicles: 1001}\nalgorithm: {name: dppo}", "scenario.num_vehicles", "1,000"),
    ("scenario: {name: ring, ring_length: 100001}\nalgorithm: {name: dppo}", "scenario.ring_length", "to 100,000"),
    (
        "scenario: {name: ring, ring_length: [220, 5000]}\nalgorithm: {name: dppo}",
        "scenario.ring_length",
        "4,781 lengths",
    ),
    ("scenario: {name: ring, num_vehicles: 2001}\nalgorithm: {name: dppo}", "scenario.num_vehicles", "from 1 to 2,000"),
    ("scenario: {name: ring, horizon: 1e7}\nalgorithm: {name: dppo}", "scenario.horizon", "from 1 to 1,000,000"),
    ("scenario: {name: figure_eight, horizon: 1e7}\nalgorithm: {name: dppo}", "scenario.horizon", "to 1,000,000"),
    ("scenario: {name: cacc_catchup, horizon: 1e7}\nalgorithm: {name: dppo}", "scenario.horizon", "to 1,000,000"),
    ("scenario: {name: cacc_slowdown, horizon: 1e7}\nalgorithm: {name: dppo}", "scenario.horizon", "to 1,000,000"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, rollout_steps: 1e6}", "algorithm.rollout_steps", "1 to 100,000"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, epochs: 1e4}", "algorithm.epochs", "from 1 to 1,000"),
    ("scenario: {name: ring}\nalgorithm: {name: dppo, minibatches: 1e5}", "algorithm.minibatches", "from 1 to 10,000"),
    (
        "scenario: {name: ring}\nalgorithm: {name: dppo, hidden_sizes: [64, 5000]}",
        "algorithm.hidden_sizes.1",
        "from 1 to 4,096",
    ),
    (
        f"scenario: {{name: ring}}\nalgorithm: {{name: dppo, hidden_sizes: {[8] * 9}}}",
        "algorithm.hidden_sizes",
        "at most 8 of them",
    ),
    (RING + "train: {env_steps: 0}", "train.env_steps", "from 1"),
    (RING + "train: {num_envs: -3}", "train.num_envs", "from 1"),
    (RING + "train: {threads: 0}", "train.threads", "from 1 to 1,024 or null"),
    (RING + "evaluate: {every: 0}", "evaluate.every", "from 1"),
    # what two keys together make impossible
    (
        "scenario: {name: ring}\nalgorithm: {name: dppo, share_parameters: true, consensus: 1}",
        "algorithm.consensus",
        "leave one of them out",
    ),
    ("scenario: {name: ring, ring_length: 100}\nalgorithm: {name: dppo}", "scenario.ring_length", "too short"),
    ("scenario: {name: ring, ring_length: [270, 220]}\nalgorithm: {name: dppo}", "scenario.ring_length", "low <= high"),
    ("scenario: {name: ring, action_repeat: 7}\nalgorithm: {name: dppo}", "scenario.action_repeat", "does not divide"),
    (PLATOON + "graph: {name: k_nearest, k: 8}", "graph.k", "below n=8"),
    (PLATOON + "graph: {name: k_nearest, k: 3}", "graph.k", "a multiple of 2"),
    (PLATOON + "graph: {name: grid, rows: 3}", "graph.rows", "8 agents"),
    (PLATOON + "graph: {name: file, path: absent.graphml}", "graph.path", "cannot be read"),
    (PLATOON + "graph: {name: file, path: five.edgelist}", "graph.path", "labels must be 0..7"),
    (RING + "train: {num_envs: 2, workers: 3}", "train.workers", "from 1 to train.num_envs = 2"),
    (RING + "train: {device: cuda:99}", "train.device", "on this machine"),
    (RING + "train: {precision: float16}", "train.precision", "float32 or bfloat16"),
    (RING + "evaluate: {scenario: {horizn: 300}}", "evaluate.scenario.horizn", "did you mean horizon?"),
    (RING + "evaluate: {scenario: {horizon: -1}}", "evaluate.scenario.horizon", "a whole number from 1"),
    (RING + "evaluate: {scenario: {mode: train}}", "evaluate.scenario.mode", "may not be given"),
    (RING + "evaluate: {scenario: {name: ring}}", "evaluate.scenario.name", "may not be given"),
    (RING + "evaluate: {scenario: {num_vehicles: 10}}", "evaluate.scenario", "agents would be 10"),
    (RING + "evaluate: {scenario: {observation: relative}}", "evaluate.scenario", "observations would be"),
]


@pytest.mark.parametrize(("text", "path", "what"), BAD, ids=[f"{path}-{n}" for n, (_, path, _) in enumerate(BAD)])
def test_bad_input_ends_in_one_message_that_names_the_key(
    dmpo: Callable[..., Any], folder: Path, text: str, path: str, what: str
) -> None:
    (folder / "bad.yaml").write_text(text, encoding="utf-8")
    (folder / "five.edgelist").write_text("0 1\n1 11\n", encoding="utf-8")
    result = dmpo("train", "bad.yaml", "--output", "run")
    assert result.status == 2
    assert result.out == ""
    (line,) = [line for line in result.err.splitlines() if line.startswith(f"error: {path}: ")]
    assert what in line
    assert "Traceback" not in result.err
    assert not (folder / "run").exists()


def test_a_precision_that_gains_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "supports_bfloat16", lambda device: True)
    experiment = loading.load("ic3net_ring", ["train.precision=bfloat16"]).experiment
    with pytest.raises(ConfigError, match="bfloat16 is of no use"):
        make_learner(experiment, experiment.scenario)
    monkeypatch.setattr(layers, "supports_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match="train.precision.*allowed: float32, since cpu on this machine"):
        loading.load("dppo_ring", ["train.precision=bfloat16"])


def test_every_problem_has_its_line() -> None:
    text = "scenario: {name: ring, horizon: 0}\nalgorithm: {name: dppo, gama: 1, clip: -1}\ntrain: {seed: x}"
    paths = [line.partition(":")[0] for line in problems(text)]
    assert sorted(paths) == ["algorithm.clip", "algorithm.gama", "scenario.horizon", "train.seed"]


def test_problems_between_keys_are_listed_together() -> None:
    text = PLATOON + "graph: {name: k_nearest, k: 8}\ntrain: {num_envs: 1, workers: 2}\nevaluate: {scenario: {name: x}}"
    paths = [line.partition(":")[0] for line in problems(text)]
    assert paths == ["evaluate.scenario.name", "graph.k", "train.workers"]


def test_a_message_stays_short_whatever_was_given() -> None:
    (line,) = problems(RING + f"name: {'x' * 10_000}")
    assert len(line) < 300
    keys = "\n".join(f"key{n}: 1" for n in range(1000))
    with pytest.raises(ConfigError) as refused:
        check(RING + keys)
    assert str(refused.value).splitlines()[-1] == "… and 980 more"


def test_hostile_text_is_printed_harmlessly(dmpo: Callable[..., Any], folder: Path) -> None:
    result = dmpo("train", "dppo_ring", "scenario.[/bold]\x1b[31m=1", "name=[red]\x1b[31m")
    assert result.status == 2
    assert "\x1b" not in result.err


def test_defaults_come_from_where_they_are_used() -> None:
    experiment = check(RING).experiment
    assert experiment.scenario == envs.parameters("ring")()
    assert experiment.algorithm == learners.settings_of("dppo")(name="dppo")
    assert experiment.graph is None
    assert experiment.name == "dppo_ring"


@pytest.mark.parametrize("name", graphs.names())
def test_each_topology_has_a_model_with_its_defaults(name: str) -> None:
    fields = graph_model(name).model_fields
    assert list(fields) == ["name", *graphs.parameters(name)]
    for key, parameter in graphs.parameters(name).items():
        assert fields[key].is_required() if parameter.default is parameter.empty else True
        assert fields[key].default == parameter.default or fields[key].is_required()
        assert fields[key].description
        assert not str(fields[key].description).endswith(f"{key} of {name}.")  # the docstring describes it


def test_overrides_reach_every_part() -> None:
    changed = ["train.seed=3", "algorithm.kappa=1", "graph.name=k_nearest", "graph.k=6", "algorithm.lr_policy=1e-4"]
    experiment = check(RING, *changed, "train.env_steps=4e5", "evaluate.scenario.horizon=300").experiment
    assert (experiment.train.seed, experiment.algorithm.kappa, experiment.graph.k) == (3, 1, 6)
    assert (experiment.algorithm.lr_policy, experiment.train.env_steps) == (1e-4, 400_000)
    assert experiment.evaluate.scenario == {"horizon": 300}


def test_an_override_of_a_part_of_a_number_is_explained() -> None:
    assert problems(RING + "train: {seed: 1}", "train.seed.x=1") == [
        "train.seed.x: train.seed is 1, which has no parts; override train.seed itself"
    ]


def test_another_name_starts_from_its_own_defaults_and_says_what_was_left_out() -> None:
    text = PLATOON + "graph: {name: small_world, k: 4, p: 0.5}\nevaluate: {scenario: {target_speed: final}}"
    loaded = check(text, "graph.k=2", "graph.name=k_nearest")
    assert loaded.experiment.graph == graph_model("k_nearest")(name="k_nearest", k=2)
    assert loaded.notes == ["graph.name=k_nearest: left out graph.k, graph.p, made for small_world"]
    loaded = check(text, "scenario.name=ring")
    assert loaded.experiment.evaluate.scenario == {}
    assert "evaluate.scenario" in loaded.notes[0]


def test_the_same_name_leaves_its_parameters_alone() -> None:
    loaded = check(RING + "graph: {name: k_nearest, k: 6}", "graph.name=k_nearest")
    assert loaded.experiment.graph.k == 6
    assert not loaded.notes


@pytest.mark.parametrize("scenario", envs.names())
@pytest.mark.parametrize("topology", [name for name in graphs.names() if name != "file"])
def test_every_scenario_goes_with_every_topology(scenario: str, topology: str) -> None:
    check(f"scenario: {{name: {scenario}}}\nalgorithm: {{name: dppo}}\ngraph: {{name: {topology}}}")


@pytest.mark.parametrize("name", loading.presets())
def test_presets_are_valid_and_stay_the_same_when_written_out(name: str) -> None:
    experiment = loading.load(name).experiment
    assert experiment.name == name
    assert loading.check(loading.yaml_io.read_text(loading.dump(experiment), "f")).experiment == experiment


def test_there_is_a_preset_for_every_scenario_and_editors_complete_them() -> None:
    assert {loading.load(name).experiment.scenario.name for name in loading.presets()} == set(envs.names())
    for path in loading.presets().values():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == "# yaml-language-server: $schema=../schema.json"
        assert (path.parent / "../schema.json").resolve() == SCHEMA_FILE.resolve()


def test_what_is_written_out_is_complete() -> None:
    written = loading.yaml_io.read_text(loading.dump(check(RING).experiment), "f")
    assert list(written) == ["format", "name", "scenario", "graph", "algorithm", "train", "evaluate", "log"]
    for axis in ("scenario", "algorithm"):
        assert next(iter(written[axis])) == "name"
    assert set(written["scenario"]) == set(envs.parameters("ring").model_fields)
    assert set(written["algorithm"]) == set(learners.settings_of("dppo").model_fields)


def test_a_topology_registered_by_the_user_is_known_at_once() -> None:
    name = "test_config_ladder"

    @graphs.register(name)
    def ladder(n: int, rungs: int = 2) -> Any:
        """Two rails.

        Args:
            n: number of agents.
            rungs: between the
                rails.
        """
        return graphs.make("path", n=n)

    try:
        experiment = check(RING + f"graph: {{name: {name}, rungs: 3}}").experiment
        assert experiment.graph.rungs == 3
        assert graph_model(name).model_fields["rungs"].description == "between the rails."
        assert "did you mean rungs?" in problems(RING + f"graph: {{name: {name}, rung: 3}}")[0]
    finally:
        graphs.registry._topologies._entries.pop(name)


def test_the_schema_is_of_what_is_loaded() -> None:
    assert isinstance(check(RING).experiment, Experiment)
    assert isinstance(check(RING).experiment, experiment_model())
    assert "name" not in json_schema()["required"]


HOSTILE = [
    None,
    True,
    0,
    -1,
    3,
    1.5,
    1e300,
    2**63 - 1,
    "",
    "x",
    "../x",
    "\0",
    "a" * 1000,
    [],
    [1, 2],
    [[1]],
    {},
    {"x": 1},
]


def test_whatever_stands_anywhere_is_either_loaded_or_refused_with_its_path() -> None:
    places, random = Schema(json_schema()).paths, Random(0)
    loaded = 0
    for _ in range(200):
        data: dict[str, Any] = {"scenario": {"name": random.choice(envs.names())}, "algorithm": {"name": "dppo"}}
        for *parents, key in random.sample(places, k=random.randint(1, 2)):
            here = data
            for parent in parents:
                here = here.setdefault(parent, {})
                if not isinstance(here, dict):
                    break
            else:
                here[key + random.choice(["", "", "", "x"])] = random.choice(HOSTILE)
        try:
            experiment = loading.check(data).experiment
        except ConfigError as error:
            assert all(": " in line and len(line) < 1000 for line in error.problems)
        else:
            loaded += 1
            assert loading.check(loading.yaml_io.read_text(loading.dump(experiment), "f")).experiment == experiment
    assert 0 < loaded < 100
