"""Traffic measures of an episode, from arrays (T+1, M): the start and the outcomes of T actions, for M vehicles.

| metric                       | unit | what                                                                          |
|------------------------------|------|-------------------------------------------------------------------------------|
| `eval/speed_std`             | m/s  | standard deviation over the vehicles at one moment, mean over time            |
| `eval/headway`               | m    | free road to the vehicle in front, mean                                       |
| `eval/headway_min`           | m    | the smallest of all                                                           |
| `eval/acceleration`          | m/s² | mean amount                                                                   |
| `eval/jerk`                  | m/s³ | mean amount of the change of acceleration                                     |
| `eval/time_to_collision_min` | s    | the smallest of all; absent where nobody comes nearer to the one in front     |
| `eval/throughput`            | 1/h  | vehicles that pass a point of the road                                        |
| `eval/fuel`, `eval/co2`      | g/km | of one vehicle, by the simulator's emission model                             |

All but the smallest are means over episodes. They are taken up to the first collision of an episode, that action
included, because a wreck would be found to drive smoothly. The throughput alone, as `eval/speed`, is taken up to the
horizon: vehicles that were on the road when an episode ended early stand there from then on.

What an environment does not report is not measured. Where vehicles come and go, ``vehicle`` numbers the one that each
agent has, 0 is none, and only those on the road count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.meter import StateMeter
from envs.types import Array, Bools

#: Keys read of ``info["traffic"]``, each (E, M): m/s, m, m/s of the vehicle in front, m, and mg since the last action.
NAMES = ("speed", "headway", "front_speed", "length", "fuel", "co2", "vehicle")


class TrafficMeter:
    """Meter of speeds, collisions and the measures of the table, of one episode of each environment.

    `speed` and `speed_final` are means over all vehicles after each action, up to the horizon and in the last third;
    after an episode's early end the vehicles that were on the road stand. `collisions` counts episodes with one.

    Args:
        seconds: from one step to the next.
        steps: in an episode that lasts to the horizon.
    """

    def __init__(self, seconds: float, steps: int) -> None:
        self.seconds, self.steps = seconds, steps
        self._states = StateMeter("traffic")
        self._measured: dict[str, list[Array]] = {}  # T+1 of (E, M)
        self._speeds: list[Array] = []  # T of (E,), means over vehicles
        # (E,) once begun: actions, those up to a collision, and whether there was one.
        self._lengths = self._driven = np.zeros(0, dtype=np.int64)
        self._collided = np.zeros(0, dtype=np.bool_)

    def start(self, info: dict[str, Any]) -> None:
        """See :class:`~envs.meter.Meter`."""
        self._states.start(info)
        self._measure(info.get("traffic", {}))

    def step(self, info: dict[str, Any], running: Bools) -> None:
        """See :class:`~envs.meter.Meter`."""
        self._states.step(info, running)
        if not self._speeds and not len(self._collided):
            self._collided = np.zeros_like(running)
            self._lengths, self._driven = np.zeros((2, len(running)), dtype=np.int64)
        self._lengths += running
        self._driven += running & ~self._collided
        self._collided |= running & info.get("collision", False)
        traffic = info.get("traffic", {})
        self._measure(traffic)
        if "speed" in traffic:
            self._speeds.append(_mean_over_vehicles(traffic["speed"], traffic.get("vehicle")))

    def metrics(self) -> dict[str, float]:
        """See :class:`~envs.meter.Meter`."""
        found = {"collisions": float(self._collided.sum())}
        if self._speeds:
            episodes = zip(np.stack(self._speeds, 1), self._lengths, strict=True)
            rows = [self._up_to_the_horizon(row[:length]) for row, length in episodes]
            whole = [_mean_known(row) for row in rows]
            last = [_mean_known(row[len(row) * 2 // 3 :]) for row in rows]
            found |= {"speed": float(np.mean(whole)), "speed_final": float(np.mean(last))}
        states = {name: np.stack(rows) for name, rows in self._measured.items()}
        return found | measure(states, self._driven, self.seconds, self._lengths, self.steps)

    def _up_to_the_horizon(self, speed: Array) -> Array:
        # Mean speeds (T,) of an episode, and zeros behind its early end unless nobody was on the road any more.
        return speed if np.isnan(speed[-1]) else np.append(speed, np.zeros(self.steps - len(speed)))

    def trajectory(self) -> dict[str, Array]:
        """See :class:`~envs.meter.Meter`."""
        return self._states.trajectory()

    def _measure(self, traffic: Mapping[str, Array]) -> None:
        for name in traffic.keys() & NAMES:
            self._measured.setdefault(name, []).append(traffic[name].astype(np.float32))


def _mean_over_vehicles(x: Array, vehicle: Array | None) -> Array:
    # (E,) of (E, M); where vehicles come and go, of those in the agents' slots, and NaN where there is none.
    if vehicle is None:
        return np.asarray(np.mean(x, axis=1))
    return np.array([row[own > 0].mean() if own.any() else np.nan for row, own in zip(x, vehicle, strict=True)])


def _mean_known(x: Array) -> float:
    known = x[~np.isnan(x)]
    return float(known.mean()) if len(known) else 0.0


def measure(
    states: Mapping[str, Array], actions: Array, seconds: float, lengths: Array | None = None, steps: int = 0
) -> dict[str, float]:
    """Measures of the table, by name without `eval/`.

    Args:
        states: by their names in `NAMES`, perhaps not all, each (T+1, E, M).
        actions: (E,), number of each episode's actions up to a collision.
        seconds: between two rows.
        lengths: (E,), number of each episode's actions up to its end, if there are more; later rows are not read.
        steps: number of actions up to the horizon, if that is later than an episode's end.
    """
    episodes = []
    for e, (count, length) in enumerate(zip(actions, actions if lengths is None else lengths, strict=True)):
        whole = {name: x[: length + 1, e].astype(np.float64) for name, x in states.items()}
        one = _episode({name: x[: count + 1] for name, x in whole.items()}, seconds)
        if whole.keys() >= {"speed", "headway", "length"} and one:
            one["throughput"] = _throughput(whole, max(steps - length, 0))
        episodes.append(one)
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for episode in episodes for name in episode):
        values = [episode[name] for episode in episodes if name in episode]
        found[name] = min(values) if name.endswith("_min") else float(np.mean(values))
    return found


def _episode(state: Mapping[str, Array], seconds: float) -> dict[str, float]:
    if "vehicle" in state:
        state = by_vehicle(state)
    speed, found = state.get("speed"), {}
    if speed is None or not speed.size:
        return {}
    change = acceleration(speed, seconds)
    found["speed_std"] = float(speed[1:].std(axis=1).mean())
    found["acceleration"] = float(np.abs(change).mean())
    if len(change) > 1:
        found["jerk"] = float(np.abs(np.diff(change, axis=0)).mean() / seconds)
    if "headway" in state:
        found |= _following(state, speed, state["headway"])
    driven = distance(speed, seconds)
    for name in ("fuel", "co2"):
        if name in state and driven > 0:
            # 1 mg/m = 1 g/km
            found[name] = float(state[name][1:].sum() / driven)
    return found


def by_vehicle(state: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays (T+1, V) of V vehicles instead of (T+1, N) of agents, masked while a vehicle is nobody's."""
    numbers = state["vehicle"]
    vehicles = np.unique(numbers[numbers > 0])
    there = numbers[:, None] == vehicles[:, None]  # (T+1, V, N)
    absent = ~there.any(axis=2)
    return {
        name: np.ma.masked_array(np.where(there, x[:, None], 0.0).sum(axis=2), absent)
        for name, x in state.items()
        if name != "vehicle"
    }


def _following(state: Mapping[str, Array], speed: Array, headway: Array) -> dict[str, float]:
    found = {"headway": float(headway[1:].mean()), "headway_min": float(headway[1:].min())}
    if "front_speed" in state:
        following = (np.ma.compressed(x[1:]) for x in (headway, speed, state["front_speed"]))  # who is there
        closest = float(time_to_collision(*following).min(initial=np.inf))
        found |= {"time_to_collision_min": closest} if np.isfinite(closest) else {}
    return found


def _throughput(state: Mapping[str, Array], undriven: int) -> float:
    # Of a whole episode, behind whose early end the vehicles on the road stand where they were.
    if "vehicle" in state:
        state = by_vehicle(state)
    speed = np.ma.filled(state["speed"][1:], 0.0)  # (T, M)
    spacing = np.ma.filled(state["headway"][1:] + state["length"][1:], 0.0)
    standing = np.repeat(spacing[-1:], undriven, axis=0)
    return throughput(np.concatenate([speed, np.zeros_like(standing)]), np.concatenate([spacing, standing]))


def acceleration(speed: Array, seconds: float) -> Array:
    """Mean acceleration (T, M) in m/s² during each action, from speeds (T+1, M) in m/s."""
    change: Array = np.diff(speed, axis=0) / seconds
    return change


def distance(speed: Array, seconds: float) -> float:
    """Meters that all vehicles drove together, from speeds (T+1, M) in m/s by the trapezoid rule."""
    return float(0.5 * seconds * (speed[:-1] + speed[1:]).sum())


def time_to_collision(headway: Array, speed: Array, front_speed: Array) -> Array:
    """Seconds until a vehicle hits the one in front if both hold their speeds; infinite where it comes no nearer.

    TTC = h / (v − v_front) where v > v_front (Hayward, 1972), elementwise.
    """
    closing = speed - front_speed
    never: Array = np.full(closing.shape, np.inf)
    return np.divide(np.maximum(headway, 0.0), closing, out=never, where=closing > 0)  # type: ignore[no-any-return]


def throughput(speed: Array, spacing: Array) -> float:
    """Vehicles an hour, by Edie's definition (1963): distance driven over the area of road and time that was occupied.

    q = Σ v / Σ s over moments and vehicles, s the spacing (m) from front bumper to front bumper. On a closed loop
    the spacings add to its length, and q is the number that passes a point, averaged over all points; of a platoon it
    is what a point that it drives past would count.
    """
    return float(3600.0 * speed.sum() / spacing.sum())
