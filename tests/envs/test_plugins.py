"""Scenarios and observations of the user's own work by their names, in worker processes too."""

from pathlib import Path

import pytest

from envs import plugins
from envs.traffic.observations import Observations
from tests.envs.helpers import run_python

# What is registered stays: it must not stand in this module, which every test run imports.
MINE = """
from typing import Literal
import numpy as np
import envs
from envs.traffic import loop, platoon

class WaveParameters(platoon.PlatoonParameters):
    name: Literal["cacc_wave"] = "cacc_wave"
    amplitude: float = 3.0

@envs.register("cacc_wave")
class Wave(platoon.PlatoonScenario[WaveParameters]):
    Parameters = WaveParameters

    def _start(self, factor):
        n, seconds = self.num_agents, 0.1 * np.arange(self.parameters.horizon + 1)
        leader = 15.0 + self.parameters.amplitude * np.sin(seconds)
        return np.full(n, 20.0), np.full(n, 15.0), leader

@platoon.observations.register("headway", size=1)
def headway(platoon):
    return platoon.headway[..., None] / 100

@loop.observations.register("gap", size=2)
def gap(traffic):
    return np.stack([traffic.gap, traffic.relative_speed], axis=-1)
"""
USE = """
if __name__ == "__main__":
    with envs.make("cacc_wave", num_envs=2, workers=2, horizon=20, amplitude=5.0, observation="headway") as env:
        obs, info = env.reset()
        print(obs.shape, obs.mean(), env.observation_space.shape)
        info = env.step(np.zeros((2, 8)))[4]
        print(round(info["state"]["leader_speed"][0, 0], 6))
    with envs.make("ring", num_envs=1, ring_length=220, observation="gap") as env:
        print(env.reset()[0][0, 0])
"""


def test_what_a_module_registers_is_known_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    seen = run_python("-c", "import numpy as np, envs, mine" + USE, folder=tmp_path)
    assert seen.stderr == ""
    # 15 + 5 sin 0.1, and 220 m over 22 vehicles of 5 m.
    assert seen.stdout.splitlines() == ["(2, 8, 1) 0.2 (1,)", "15.499167", "[5. 0.]"]


def test_what_the_main_script_registers_is_known_in_every_process(tmp_path: Path) -> None:
    one = """
if __name__ == "__main__":
    with envs.make("cacc_wave", num_envs=1, observation="headway") as env:
        print(env.reset()[0].shape)
"""
    (tmp_path / "main.py").write_text(MINE + one)
    seen = run_python("main.py", folder=tmp_path)
    assert (seen.stdout, seen.stderr) == ("(1, 8, 1)\n", "")


LATE = """
if __name__ == "__main__":
    exec(MINE)
    for name, observation in (("cacc_catchup", "headway"), ("cacc_wave", "published")):
        try:
            envs.make(name, num_envs=1, observation=observation)
        except (ValueError, envs.SimulationError) as error:
            print(error)
"""


def test_what_no_other_process_can_find_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(f"import numpy as np, envs\nMINE = {MINE!r}\n{LATE}")
    observation, scenario = run_python("main.py", folder=tmp_path).stdout.splitlines()
    assert observation.startswith("there is no observation 'headway' (there are: published")
    assert "died at its start" in scenario and "registers its own scenarios above" in scenario


def test_two_of_one_name_are_refused_but_a_reloaded_one_replaces_itself() -> None:
    table: dict[str, object] = {}
    plugins.enter(table, "observation", "mine", Observations.size)
    plugins.enter(table, "observation", "mine", Observations.size)
    with pytest.raises(
        ValueError, match=r"two observations are called 'mine', .*Observations.size and .*\.observe; reg"
    ):
        plugins.enter(table, "observation", "mine", Observations.observe)
    assert table == {"mine": Observations.size}
