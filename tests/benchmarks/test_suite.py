"""Suite of `dmpo bench`: rows, limits, memory and reports."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import dmpo
import envs
from benchmarks import acting, dmpo_parts, iteration, scale, suite, training
from benchmarks.dmpo_parts import Sizes
from benchmarks.machine import flops, in_fresh_process, peak_megabytes
from benchmarks.rows import Options, Row, read
from dmpo.nn.layers import StackedMLP, supports_bfloat16
from experiments.errors import ConfigError

pytestmark = pytest.mark.usefixtures("threads")

QUICK = Options(quick=True)
PRECISIONS = ["float32", "bfloat16"] if supports_bfloat16("cpu") else ["float32"]
TINY = Sizes(starts=4, steps=2, sequences=4, sequence_steps=2, model_fit_steps=1)


def row(value: float | None, unit: str = "ms", size: str = "8 agents", **rest: float) -> Row:
    return Row(piece="parts", what="epoch", size=size, value=value, unit=unit, **rest)


def test_a_rate_is_good_when_high_and_a_time_when_low() -> None:
    rate, time = row(50.0, "env steps/s", limit=200.0, obvious=10.0), row(50.0, "ms", limit=10.0, obvious=200.0)
    assert (rate.reached, rate.ratio) == (0.25, 5.0)
    assert (time.reached, time.ratio) == (0.2, 4.0)
    assert rate.against(row(25.0, "env steps/s")) == 2.0
    assert time.against(row(25.0)) == 0.5
    for nothing in (row(None, limit=1.0, obvious=1.0), row(1.0)):
        assert nothing.reached is None and nothing.ratio is None


def test_a_report_is_read_as_it_was_written_and_compared_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.json"
    first = [row(10.0, limit=1.0), row(20.0, size="22 agents"), row(None, size="400 agents")]
    second = [row(5.0), row(20.0, size="100 agents"), row(1.0, size="400 agents")]
    monkeypatch.setattr(suite, "PIECES", {"parts": lambda options: iter(first)})
    written = suite.bench([], QUICK, path, None, print)
    assert read(path) == written
    monkeypatch.setattr(suite, "PIECES", {"parts": lambda options: iter(second), "rest": lambda options: iter(())})
    capsys.readouterr()
    report = suite.bench(["parts"], QUICK, None, path, lambda line: None)
    assert report.ratios(written) == [2.0, None, None]  # only of the same work
    shown = capsys.readouterr().out
    assert "against" in shown and "5 ms" in shown and "100 agents" in shown


def test_what_cannot_be_measured_says_why_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(options: Options) -> Iterator[Row]:
        raise ConfigError("algorithm: device is not possible")

    monkeypatch.setattr(suite, "PIECES", {"acting": refused, "parts": lambda options: iter([row(1.0)])})
    one, other = suite.bench([], QUICK, None, None, print).rows
    assert one.value is None and "device is not possible" in one.note
    assert other.value == 1.0


def test_what_was_given_wrongly_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "PIECES", dict.fromkeys(suite.PIECES, lambda options: pytest.fail("measured")))
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    (tmp_path / "other.json").write_text('{"rows": []}', encoding="utf-8")
    with pytest.raises(ConfigError, match='--only: "part" is unknown; did you mean parts'):
        suite.bench(["part"], QUICK, None, None, print)
    for name in ("none", "list", "other"):
        with pytest.raises(ConfigError, match=rf"^--against: .*{name}.json"):
            suite.bench([], QUICK, None, tmp_path / f"{name}.json", print)
    with pytest.raises(ConfigError, match="--device: .* is not possible"):
        suite.bench([], Options(device="abacus"), None, None, print)


def test_operations_are_counted_in_the_gradients_of_stacked_layers_as_well() -> None:
    agents, samples, widths = 3, 10, (4, 8, 2)
    network = StackedMLP(agents, widths[0], widths[1:-1], widths[-1], 1.0, torch.Generator())
    x = torch.rand(samples, agents, widths[0])
    one, two = (2 * agents * samples * a * b for a, b in pairwise(widths))
    assert flops(lambda: network(x)) == one + two
    # Backwards each layer has a product for its weights, and the second one for its input.
    assert flops(lambda: network(x).sum().backward()) == 2 * one + 3 * two


def test_the_memory_of_a_fresh_process_is_its_own() -> None:
    before = in_fresh_process(peak_megabytes)
    held = torch.ones(100_000_000)  # 400 MB
    assert peak_megabytes() > 400
    assert in_fresh_process(peak_megabytes) == pytest.approx(before, abs=100)
    assert len(held) == 100_000_000


@pytest.mark.parametrize("whole", [False, True])
def test_an_iteration_is_timed_part_by_part_both_ways(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    for name, few in (("QUICK", TINY), ("REAL_STEPS", 3), ("INNER_ITERATIONS", 1), ("EPOCHS", 2), ("UPDATES", 2)):
        monkeypatch.setattr(iteration, name, few)
    rows = list(iteration.rows(Options(quick=True, whole=whole)))
    for found, precision in zip(rows, PRECISIONS, strict=True):
        assert set(found.shares) == {"environment", "acting", "model rollout", "actor and critic", "model update"}
        assert sum(found.shares.values()) == pytest.approx(1)
        assert found.obvious and found.value and found.limit
        work = "3 real steps, 1 × [4 × 2 rollout, 2 epochs], 2 model updates of 4 × 2"
        assert found.size == f"{work}, {precision}"
        assert ("added up" in found.note) == (not whole)


def test_parts_and_acting_carry_their_limit_and_the_obvious_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dmpo_parts, "QUICK", TINY)
    monkeypatch.setattr(acting, "QUICK", TINY)
    product, as_pytorch_comes, *parts = dmpo_parts.rows(QUICK)
    assert product.unit == as_pytorch_comes.unit == "GFLOP/s"
    rollout, update, epoch = dmpo_parts.PARTS
    expected = [(what, p) for what in (rollout, update, epoch) for p in (PRECISIONS if what != update else ["float32"])]
    assert [(part.what, part.size.split(", ")[-1]) for part in parts] == expected
    for found in [*parts, *acting.rows(QUICK)]:
        assert found.limit is not None and found.limit > 0
        assert found.obvious is not None


def test_every_learner_is_trained() -> None:
    experiments = [training.load(what, Options(quick=quick)) for what in training.CASES for quick in (False, True)]
    assert {experiment.algorithm.name for experiment in experiments} == set(dmpo.names())
    assert {experiment.train.device for experiment in experiments} == {"cpu"}


def test_the_shares_of_training_are_all_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ["rollout_steps=10", "model_starts=4", "model_horizon=2", "model_share=1", "epochs=1", "minibatches=1"]
    overrides = [f"algorithm.{each}" for each in few]
    monkeypatch.setattr(training, "CASES", {"dmpo": ("dmpo_cacc_catchup", overrides)})
    monkeypatch.setattr(training, "STEPS", 20)
    found = training.measure("dmpo", QUICK)
    assert set(found.shares) == {"environment", "acting", "update", "model"}
    assert min(found.shares.values()) > 0 and sum(found.shares.values()) <= 1  # a loaded machine takes time in between
    assert found.value and found.limit and found.megabytes
    train = training.load("dmpo", QUICK).train
    threads = f"{train.threads} and {train.update_threads} threads"  # while SUMO steps, and while it waits
    assert found.size == f"200 env steps × 8 agents an iteration, {threads}"


def test_costs_are_compared_with_22_agents_and_refusals_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(function: object, name: str, agents: int, options: Options) -> tuple[dict[str, float], float]:
        if agents > 100:
            raise ConfigError("scenario.num_vehicles: too many")
        return {"acting": agents / 11, "environment": 3.0}, 5.0

    monkeypatch.setattr(scale, "AGENTS", (22, 55, 400))
    monkeypatch.setattr(scale, "bare", lambda name, agents: 1.5)
    monkeypatch.setattr(scale, "in_fresh_process", measure)
    found = list(scale.rows(Options()))
    notes = ["", "", "2.50 of 22 agents'", "1.00 of 22 agents'", "scenario.num_vehicles: too many"]
    assert [each.note for each in found] == notes * 2
    assert [each.value for each in found] == [2, 3, 5, 3, None] * 2
    assert [each.reached for each in found] == [None, 0.5, None, 0.5, None] * 2


@pytest.mark.parametrize("agents", scale.AGENTS)
def test_rings_of_all_sizes_are_as_dense_as_the_published_one(agents: int) -> None:
    ring = scale.scenario("ring", agents)
    parameters = {key: value for key, value in ring.items() if key != "name"}
    envs.parameters("ring").model_validate(parameters)
    assert ring["ring_length"] / agents == pytest.approx(245 / 22, rel=0.01)


@pytest.mark.parametrize("name", scale.SCENARIOS)
def test_the_simulation_alone_is_a_limit_for_any_number_of_agents(name: str) -> None:
    assert all(0 < scale.bare(name, agents) < 1_000 for agents in (4, 30))


def test_the_cost_of_an_agents_step_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "QUICK", TINY)
    costs, memory = scale.measure("ring", 4, QUICK)
    assert set(costs) == {"acting", "environment", *dmpo_parts.PARTS}
    assert memory > 0 and costs["acting"] > 0
