"""Environments beside the bare simulation, and mixed fleets beside others."""

import pytest

from benchmarks import env_throughput


@pytest.mark.parametrize("scenario", ["ring", "cacc_catchup"])
def test_both_rates_are_measured(scenario: str) -> None:
    rate = env_throughput.measure(scenario, num_envs=2, workers=2, rounds=2, steps=20)
    assert rate.scenario == scenario
    assert min(rate.through_envs, rate.bare) > 0


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("policy", [False, True])
def test_a_mixed_fleet_is_timed_in_the_traffic_of_one_that_learns_throughout(policy: bool) -> None:
    mixed, other = env_throughput.measure_fleets("figure_eight", 7, "idm", 2, workers=1, rounds=2, policy=policy)
    assert min(mixed.rate, other.rate) > 0
    assert mixed.speed == pytest.approx(other.speed, rel=0.01)
