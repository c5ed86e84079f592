"""A film of one episode: the road from above, its vehicles colored by speed, and their messages as arcs.

What stands still is drawn once; each frame redraws only what moves, on top of a copy of that picture.
"""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any, cast

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageColor

from experiments.drawing.plots import BLUE, FAINT, GRAY, INK, ORANGE, SPEEDS, speed_range

Floats = NDArray[Any]

KERB, ROAD, WRECK = "#c9ced6", "#e9ebef", "#b3261e"
_DPI = 100
_LANE, _CAR = 3.2, 1.9  # m, widths
_POSTS = 50.0  # m between the posts beside a straight road
_FAR = 3.0  # a road this many times as long as its vehicles need is not shown whole
_ARC = np.linspace(0.0, 1.0, 9)[:, None]  # of a message, from its sender to its receiver


@dataclass(frozen=True)
class Scene:
    """Episode to film; T moments, M vehicles, of which the first N learn.

    Attributes:
        title: above the picture.
        roads: middle lines (P, 2) in m.
        x, y: middle of the front bumpers, (T, M) in m.
        heading: (T, M) in radians counterclockwise from the x axis.
        speed: (T, M) in m/s.
        length: (T, M) in m. All five are NaN where a vehicle is not on the road.
        measured: (T, V) in m/s, speeds of the vehicles that evaluation measures, for the chart; NaN likewise.
        collided: (T,), whether there has been a collision.
        graph: communication graph of the N learners.
        seconds: between two moments.
    """

    title: str
    roads: Sequence[Floats]
    x: Floats
    y: Floats
    heading: Floats
    speed: Floats
    length: Floats
    measured: Floats
    collided: NDArray[np.bool_]
    graph: nx.Graph
    seconds: float

    @property
    def learners(self) -> int:
        """N."""
        return int(self.graph.number_of_nodes())


def write_film(scene: Scene, stem: Path, fps: int, every: int) -> Path:
    """Make the film: MP4 where there is an ffmpeg, otherwise GIF.

    Args:
        scene: what to film.
        stem: path without the ending, which the format decides.
        fps: pictures a second.
        every: moments from one picture to the next.

    Returns:
        The film's path; that name never holds half a film.
    """
    encoder = which("ffmpeg")
    path = stem.with_suffix(".mp4" if encoder else ".gif")
    partial = stem.with_name(f"{stem.name}.partial{path.suffix}")
    frames = SceneRenderer(scene).frames(range(0, len(scene.x), every))
    try:
        if encoder:
            _write_mp4(frames, partial, fps, encoder)
        else:
            _write_gif(frames, partial, fps)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


class SceneRenderer:
    """Renderer of a scene at any of its moments."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.norm = speed_range(scene.measured)  # as in the time-space diagram, which has no others
        self.traveling = _travels(scene)
        low, high = self._window()
        self._figure, self._map, self._chart = _layout(scene.title, low, high)
        self._canvas = cast(Any, FigureCanvasAgg(self._figure))  # has no types
        pixels = self._map.get_position().width * self._figure.bbox.width / (high[0] - low[0])
        # At true width; never so thin that the color cannot be told.
        self._width = max(_CAR, 8.0 / pixels)
        self._focus = low + [0.5, 0.5] * (high - low) if not self.traveling else np.array([0.0, 1e6])
        self._highest = 0.1 * (high - low)[0]
        self._edges = np.array([edge for edge in scene.graph.edges if edge[0] != edge[1]], dtype=int).reshape(-1, 2)
        self._draw_road()
        self._draw_chart()
        self._moving = self._artists()
        self._canvas.draw()
        self._empty = self._canvas.copy_from_bbox(self._figure.bbox)

    def frames(self, moments: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Pictures (height, width, 3), one at a time."""
        for moment in moments:
            yield self.frame(moment)

    def frame(self, moment: int) -> NDArray[np.uint8]:
        """The picture (height, width, 3) of one moment."""
        self._canvas.restore_region(self._empty)
        self._move(moment)
        for artist in self._moving.values():
            (artist.axes or self._figure).draw_artist(artist)
        return np.array(self._canvas.buffer_rgba())[..., :3]

    def _window(self) -> tuple[Floats, Floats]:
        """Lower left and upper right corner, in m; behind the first vehicle where the view travels."""
        scene = self.scene
        if self.traveling:
            behind = (scene.x.max(axis=1) - scene.x.min(axis=1)).max() + scene.length.max()
            margin = 0.03 * behind
            return np.array([-behind - margin, -0.1 * behind]), np.array([margin, 0.14 * behind])
        points = np.concatenate(list(scene.roads))
        margin = 0.04 * np.ptp(points, axis=0).max() + _LANE
        return points.min(axis=0) - margin, points.max(axis=0) + margin

    def _origin(self, moment: int) -> Floats:
        scene = self.scene
        return np.array([scene.x[moment].max(), scene.roads[0][0, 1]]) if self.traveling else np.zeros(2)

    def _draw_road(self) -> None:
        axes, low = self._map, self._map.get_xlim()
        lines = [np.array([[low[0], 0.0], [low[1], 0.0]])] if self.traveling else list(self.scene.roads)
        unit = _points_per_meter(axes)
        lane = max(_LANE, 1.4 * self._width)
        for width, color in ((1.25 * lane, KERB), (lane, ROAD)):
            axes.add_collection(LineCollection(lines, colors=color, linewidths=width * unit, capstyle="round"))
        legend = "outlined: learners   arcs: messages" + (f"   posts: every {_POSTS:g} m" if self.traveling else "")
        axes.text(0.027, 0.0, legend, transform=axes.transAxes, fontsize=9, color=GRAY, va="bottom")

    def _draw_chart(self) -> None:
        """Mean speed over the episode, between the slowest and the fastest, beside the scale of colors."""
        scene, axes = self.scene, self._chart
        speed = np.ma.masked_invalid(scene.measured)
        time = np.arange(len(speed)) * scene.seconds
        axes.fill_between(time, speed.min(axis=1), speed.max(axis=1), color=FAINT, lw=0)
        axes.plot(time, speed.mean(axis=1), color=INK, lw=1.6)
        axes.set_xlim(0.0, max(float(time[-1]), 1e-9))
        axes.set_ylim(float(self.norm.vmin or 0.0), float(self.norm.vmax or 1.0))
        bar = self._figure.add_axes((0.905, axes.get_position().y0, 0.03, axes.get_position().height))
        scale = self._figure.colorbar(ScalarMappable(self.norm, SPEEDS), cax=bar)
        scale.outline.set_visible(False)
        bar.tick_params(labelright=False, length=0)

    def _artists(self) -> dict[str, Any]:
        """Artists that each frame redraws, from the lowest to the topmost."""
        axes, learners = self._map, self.scene.learners
        outlines = [INK if i < learners else "none" for i in range(self.scene.length.shape[1])]
        thin = 1.0 if len(self._edges) <= 4 * learners else 0.5
        cars = PolyCollection([], cmap=SPEEDS, norm=self.norm, edgecolors=outlines, linewidths=1.2)
        collections = {
            "posts": LineCollection([], colors=GRAY, linewidths=1.2),
            "messages": LineCollection([], colors=BLUE, linewidths=1.6 * thin, alpha=0.75 * thin),
            "cars": cars,
        }
        for collection in collections.values():
            axes.add_collection(collection)
        chart, figure = self._chart, self._figure
        top: dict[str, Any] = {"va": "baseline", "fontsize": 15, "color": INK}
        y = 1.0 - 0.62 / figure.get_figheight()
        texts = {
            "time": figure.text(0.055, y, "", **top),
            "mean": figure.text(0.935, y, "", ha="right", **top),
            "now": chart.plot([], [], color=ORANGE, marker="o", ms=7, mec="white", mew=1.2, clip_on=False)[0],
        }
        moving = collections | texts
        for artist in moving.values():
            artist.set_animated(True)
        return moving

    def _move(self, moment: int) -> None:
        scene, moving = self.scene, self._moving
        front = np.stack([scene.x[moment], scene.y[moment]], axis=1) - self._origin(moment)  # (M, 2)
        ahead = np.stack([np.cos(scene.heading[moment]), np.sin(scene.heading[moment])], axis=1)
        length = scene.length[moment]
        moving["cars"].set_verts(_rectangles(front, ahead, length, self._width))
        moving["cars"].set_array(scene.speed[moment])
        middle = front - 0.5 * length[:, None] * ahead
        talking = self._edges[np.isfinite(middle[self._edges]).all(axis=(1, 2))]
        moving["messages"].set_segments(_arcs(middle, talking, self._focus, self._highest))
        moving["posts"].set_segments(self._post_lines(moment))
        measured = scene.measured[moment]
        mean = measured[np.isfinite(measured)].mean() if np.isfinite(measured).any() else np.nan
        wreck = "  collision" if scene.collided[moment] else ""
        moving["time"].set_text(f"{moment * scene.seconds:.1f} s{wreck}")
        moving["time"].set_color(WRECK if wreck else INK)
        moving["mean"].set_text(f"mean {mean:.1f} m/s" if np.isfinite(mean) else "nobody")
        moving["now"].set_data([moment * scene.seconds], [mean])

    def _post_lines(self, moment: int) -> list[Floats]:
        """Posts beside a road that the view travels along, which show that it moves."""
        if not self.traveling:
            return []
        (low, high), leader = self._map.get_xlim(), self._origin(moment)[0]
        at = np.arange(np.ceil((leader + low) / _POSTS), np.floor((leader + high) / _POSTS) + 1) * _POSTS - leader
        side = 0.5 * max(_LANE, self._width) + 1.5
        return [np.array([[x, -side], [x, -2.2 * side]]) for x in at]


def _travels(scene: Scene) -> bool:
    """True if there is one road, along the x axis, much longer than the vehicles on it are ever apart."""
    points = np.concatenate(list(scene.roads))
    if len(scene.roads) > 1 or np.ptp(points[:, 1]) or not np.isfinite(scene.x).all():
        return False
    spread = max(float(np.ptp(scene.x, axis=1).max()), float(np.ptp(scene.y, axis=1).max()))
    return float(np.ptp(points, axis=0).max()) > _FAR * max(spread, 1.0)


def _layout(title: str, low: Floats, high: Floats) -> tuple[Figure, Axes, Axes]:
    """A portrait page for a phone: title and numbers, the map, and the chart of speeds."""
    width = 6.4
    tall = min(max((high - low)[1] / (high - low)[0], 0.1), 1.2) * 0.94 * width
    height = 0.8 + tall + 1.75
    # Even numbers of pixels, as video formats want them.
    figure = Figure(figsize=(width, round(height * _DPI / 2) * 2 / _DPI), dpi=_DPI, facecolor="white")
    height = figure.get_figheight()
    road = figure.add_axes((0.03, 1.7 / height, 0.94, tall / height), frameon=False)
    road.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[], aspect="equal")
    chart = figure.add_axes((0.115, 0.5 / height, 0.775, 1.1 / height))
    chart.spines[["top", "right"]].set_visible(False)
    chart.spines[["left", "bottom"]].set_color(GRAY)
    chart.tick_params(color=GRAY, labelcolor=INK, labelsize=10)
    chart.set_xlabel("time (s)", color=INK, fontsize=11, labelpad=1)
    chart.set_ylabel("speed (m/s)", color=INK, fontsize=11)
    figure.text(0.055, 1.0 - 0.3 / height, title, fontsize=13, fontweight="bold", color=INK)
    return figure, road, chart


def _rectangles(front: Floats, ahead: Floats, length: Floats, width: float) -> Floats:
    """Corners (M, 4, 2) of vehicles whose front bumpers are in the middle at ``front`` (M, 2)."""
    rear = front - length[:, None] * ahead
    side = 0.5 * width * np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    return np.stack([front + side, front - side, rear - side, rear + side], axis=1)


def _arcs(places: Floats, edges: NDArray[np.int64], focus: Floats, highest: float) -> Floats:
    """A curve (P, 2) for each edge, bent towards ``focus`` by less than ``highest``, and the more the longer it is.

    Straight ones would hide in one another along a road.
    """
    start, end = places[edges[:, 0]], places[edges[:, 1]]  # (edges, 2)
    along = end - start
    distance = np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    # The curve comes half as far as the point that bends it.
    height = 2.0 * highest * (1.0 - np.exp(-0.3 * distance / highest))
    bend = height * np.stack([-along[:, 1], along[:, 0]], axis=1) / distance
    middle = 0.5 * (start + end)
    bend *= np.where(((focus - middle) * bend).sum(axis=1) < 0, -1.0, 1.0)[:, None]
    s = _ARC[:, None]  # (P, 1, 1)
    curve = (1 - s) ** 2 * start + 2 * s * (1 - s) * (middle + bend) + s**2 * end  # (P, edges, 2)
    return np.moveaxis(curve, 0, 1)


def _points_per_meter(axes: Axes) -> float:
    (left, _), (right, _) = axes.transData.transform([(0.0, 0.0), (1.0, 0.0)])
    return float(right - left) * 72.0 / _DPI


def _write_gif(frames: Iterator[NDArray[np.uint8]], path: Path, fps: int) -> None:
    first = Image.fromarray(next(frames))
    # One palette for the whole film; the picture itself has too few of the colors that will come.
    palette = _palette(first)
    rest = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first.quantize(palette=palette, dither=Image.Dither.NONE).save(
        path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, optimize=False, disposal=1
    )


def _palette(picture: Image.Image) -> Image.Image:
    """At most 256 colors for all that a film shows: those of speeds, of text and road, and the rest of a picture's."""
    speeds = (SPEEDS(np.linspace(0.0, 1.0, 128))[:, :3] * 255).astype(np.uint8)
    named = [ImageColor.getrgb(color) for color in ("white", INK, GRAY, FAINT, BLUE, ORANGE, WRECK, KERB, ROAD)]
    rest = np.reshape(picture.quantize(256 - len(speeds) - len(named)).getpalette() or [], (-1, 3))
    # Pillow looks for the nearest color only roughly: white must have none beside it.
    far = np.abs(rest[:, None] - np.array(named)).max(axis=2).min(axis=1) > 8
    both = Image.new("P", (1, 1))
    both.putpalette(np.concatenate([speeds, named, rest[far]]).ravel().tolist())
    return both


def _write_mp4(frames: Iterator[NDArray[np.uint8]], path: Path, fps: int, encoder: str) -> None:
    first = next(frames)
    size = f"{first.shape[1]}x{first.shape[0]}"
    command = [encoder, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size]
    # Pixels at half the resolution in color are what every player knows.
    command += ["-r", str(fps), "-i", "-", "-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(first.tobytes())
        for frame in frames:
            pipe.write(frame.tobytes())
    if process.wait():
        raise OSError(f"{encoder} could not write {path}")
