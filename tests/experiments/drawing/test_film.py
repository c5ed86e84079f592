import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from PIL import Image

from experiments.drawing import film
from experiments.drawing.film import Scene, SceneRenderer
from experiments.drawing.plots import INK, SPEEDS, speed_range

RADIUS = 40.0


def ring(moments: int = 12, vehicles: int = 6, others: int = 1) -> Scene:
    """Vehicles that circle, from 0 to 10 m/s; the last do not learn."""
    angle = np.linspace(0, 2 * np.pi, vehicles, endpoint=False) + 0.03 * np.arange(moments)[:, None]
    around = np.linspace(0, 2 * np.pi, 100)
    speed = np.broadcast_to(np.linspace(0.0, 10.0, vehicles), angle.shape)
    return Scene(
        title="a ring",
        roads=[RADIUS * np.stack([np.cos(around), np.sin(around)], axis=1)],
        x=RADIUS * np.cos(angle),
        y=RADIUS * np.sin(angle),
        heading=angle + np.pi / 2,
        speed=speed,
        length=np.full(angle.shape, 5.0),
        measured=speed[:, : vehicles - others],
        collided=np.zeros(moments, dtype=bool),
        graph=nx.cycle_graph(vehicles - others),
        seconds=0.1,
    )


def platoon(moments: int = 12) -> Scene:
    """Five vehicles behind one another on a long straight road at 15 m/s."""
    x = 1000.0 - 25.0 * np.arange(5) + 1.5 * np.arange(moments)[:, None]
    road = np.array([[0.0, -1.6], [9000.0, -1.6]])
    flat = np.zeros_like(x)
    speed = flat + 15.0
    return replace(ring(moments, 5), roads=[road], x=x, y=flat - 1.6, heading=flat, speed=speed, measured=speed)


def test_a_vehicle_is_drawn_at_its_place_at_its_length_and_in_the_color_of_its_speed() -> None:
    scene = ring()
    renderer = SceneRenderer(scene)
    renderer.frame(7)
    cars = renderer._moving["cars"]
    corners = np.array([path.vertices[:4] for path in cars.get_paths()])
    front, rear = corners[:, :2].mean(axis=1), corners[:, 2:].mean(axis=1)
    np.testing.assert_allclose(front, np.stack([scene.x[7], scene.y[7]], axis=1))
    np.testing.assert_allclose(np.hypot(*(front - rear).T), 5.0)
    cars.update_scalarmappable()
    np.testing.assert_allclose(cars.get_facecolor(), SPEEDS(speed_range(scene.speed[:, :5])(scene.speed[7])))


def test_a_picture_shows_the_colors_where_the_vehicles_are() -> None:
    scene = ring()
    renderer = SceneRenderer(scene)
    picture = renderer.frame(3)
    middle = np.stack([scene.x[3] - 2.5 * np.cos(scene.heading[3]), scene.y[3] - 2.5 * np.sin(scene.heading[3])], 1)
    across, up = renderer._map.transData.transform(middle).round().astype(int).T
    expected = 255 * SPEEDS(speed_range(scene.speed[:, :5])(scene.speed[3]))[:, :3]
    assert np.abs(picture[len(picture) - 1 - up, across] - expected).max() <= 2


def test_a_frame_does_not_depend_on_those_before_it() -> None:
    one, other = SceneRenderer(ring()), SceneRenderer(ring())
    for moment in (0, 11, 5):
        one.frame(moment)
    np.testing.assert_array_equal(one.frame(8), other.frame(8))


def test_learners_are_outlined() -> None:
    outlines = SceneRenderer(ring(others=2))._moving["cars"].get_edgecolor()
    assert len({tuple(color) for color in outlines[:4]}) == 1
    assert outlines[0] == pytest.approx([int(INK[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0])
    assert (outlines[4:, 3] == 0).all()


@pytest.mark.parametrize("graph", [nx.cycle_graph(5), nx.complete_graph(5), nx.empty_graph(5), nx.star_graph(4)])
@pytest.mark.parametrize("scene", [ring(), platoon()])
def test_every_message_is_an_arc_from_learner_to_learner(scene: Scene, graph: nx.Graph) -> None:
    vehicles = min(5, scene.length.shape[1])
    renderer = SceneRenderer(replace(scene, graph=graph))
    renderer.frame(2)
    arcs = renderer._moving["messages"].get_segments()
    assert len(arcs) == graph.number_of_edges()
    corners = np.array([path.vertices[:4] for path in renderer._moving["cars"].get_paths()])[:vehicles]
    places = corners.mean(axis=1)
    for arc, (sender, receiver) in zip(arcs, graph.edges, strict=True):
        np.testing.assert_allclose(arc[[0, -1]], places[[sender, receiver]])


def test_the_view_travels_with_a_platoon_and_stands_over_a_ring() -> None:
    assert SceneRenderer(platoon()).traveling and not SceneRenderer(ring()).traveling
    renderer, low, high = SceneRenderer(platoon()), *np.array(SceneRenderer(platoon())._map.viewLim.get_points())
    for moment in (0, 11):
        renderer.frame(moment)
        corners = np.concatenate([path.vertices for path in renderer._moving["cars"].get_paths()])
        assert (corners > low).all() and (corners < high).all()
    posts = [renderer._post_lines(moment)[0][0, 0] for moment in (0, 1)]
    assert posts[0] - posts[1] == pytest.approx(1.5)


def test_time_speed_and_a_collision_are_told() -> None:
    renderer = SceneRenderer(replace(ring(), collided=np.arange(12) >= 10))
    renderer.frame(9)
    assert renderer._moving["time"].get_text() == "0.9 s"
    assert renderer._moving["mean"].get_text() == "mean 4.0 m/s"  # of the five that learn
    renderer.frame(10)
    assert "collision" in renderer._moving["time"].get_text()


def test_without_ffmpeg_the_film_is_a_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = film.write_film(ring(), tmp_path / "film", fps=10, every=3)
    assert [p.name for p in tmp_path.iterdir()] == ["film.gif"]
    with Image.open(path) as gif:
        assert gif.n_frames == 4 and gif.info["duration"] == 100 and gif.info["loop"] == 0
        frames = [np.array(gif.convert("RGB"), dtype=int) for k in range(4) if gif.seek(k) is None]
    true = list(SceneRenderer(ring()).frames(range(0, 12, 3)))
    for seen, expected in zip(frames, true, strict=True):
        assert (seen[2, 2] == 255).all()
        assert np.abs(seen - expected).max(axis=2).mean() < 3


def fake_ffmpeg(folder: Path, status: int) -> None:
    """A program called ffmpeg that keeps what it was given."""
    script = folder / "ffmpeg"
    script.write_text(
        f"#!{sys.executable}\nimport sys\ndata = sys.stdin.buffer.read()\n"
        f"open(sys.argv[-1], 'wb').write(data)\nprint(sys.argv[1:], file=open(sys.argv[-1] + '.txt', 'w'))\n"
        f"sys.exit({status})\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def test_with_ffmpeg_the_film_is_an_mp4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(tmp_path, status=0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = film.write_film(ring(), tmp_path / "film", fps=10, every=4)
    frames = list(SceneRenderer(ring()).frames([0, 4, 8]))
    assert path.name == "film.mp4" and path.read_bytes() == b"".join(frame.tobytes() for frame in frames)
    assert all(side % 2 == 0 for side in frames[0].shape[:2])  # as the format wants them
    assert f"'{frames[0].shape[1]}x{frames[0].shape[0]}'" in (tmp_path / "film.partial.mp4.txt").read_text()


def test_a_film_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ffmpeg(tmp_path, status=1)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "film.mp4").write_text("the one before")
    with pytest.raises(OSError, match="ffmpeg could not write"):
        film.write_film(ring(), tmp_path / "film", fps=10, every=4)
    assert (tmp_path / "film.mp4").read_text() == "the one before"
    assert not (tmp_path / "film.partial.mp4").exists()


def without(scene: Scene, vehicle: int, moments: slice) -> Scene:
    """The scene while a vehicle is not on the road."""
    rows = {name: getattr(scene, name).copy() for name in ("x", "y", "heading", "speed", "length", "measured")}
    for row in rows.values():
        row[moments, vehicle] = np.nan
    return replace(scene, **rows)


def test_a_vehicle_that_is_not_there_is_not_drawn_hears_nothing_and_counts_in_no_mean() -> None:
    scene, gone = ring(), without(ring(), 1, slice(6, None))
    renderer, without_it = SceneRenderer(scene), SceneRenderer(gone)
    np.testing.assert_array_equal(without_it.frame(2)[100:400], renderer.frame(2)[100:400])
    without_it.frame(7)
    arcs = without_it._moving["messages"].get_segments()
    assert len(arcs) == 3 and np.isfinite(arcs).all()  # of the five on a cycle, those without vehicle 1
    assert without_it._moving["mean"].get_text() == "mean 4.5 m/s"  # of 0, 4, 6 and 8
    corners = np.array([path.vertices[:4] for path in without_it._moving["cars"].get_paths()[:1]])
    assert np.isfinite(corners).all()
    pictures = [one.frame(7).astype(int) for one in (renderer, without_it)]
    x, y = scene.x[7, 1] - 2.5 * np.cos(scene.heading[7, 1]), scene.y[7, 1] - 2.5 * np.sin(scene.heading[7, 1])
    across, up = renderer._map.transData.transform((x, y)).round().astype(int)
    there, empty = (picture[len(picture) - 1 - up, across] for picture in pictures)
    assert np.abs(there - empty).max() > 20 and np.ptp(empty) < 20  # the gray of the road


def test_a_road_without_anybody_can_be_filmed() -> None:
    nobody = ring()
    for vehicle in range(5):
        nobody = without(nobody, vehicle, slice(None))
    renderer = SceneRenderer(nobody)
    assert renderer.frame(3).any() and renderer._moving["mean"].get_text() == "nobody"


def test_the_view_stands_over_a_network_of_several_roads() -> None:
    scene = platoon()
    assert not SceneRenderer(replace(scene, roads=[*scene.roads, scene.roads[0] + 3.2])).traveling
    assert not SceneRenderer(without(scene, 0, slice(3))).traveling


@pytest.mark.parametrize("change", [{"speed": np.zeros((12, 6))}, {"graph": nx.empty_graph(1)}])
def test_odd_scenes_can_be_filmed(change: dict[str, Any]) -> None:
    assert SceneRenderer(replace(ring(), **change)).frame(0).any()
