"""A sheet is drawn by plotly and by matplotlib: what both show is read back, and must be what the sheet says."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")
pytest.importorskip("matplotlib", reason="the pictures need matplotlib: pip install 'tfexplore[notebooks]'")

from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from tests.pictures import messages, spread
from tfexplore.explore.base import plotly_sheet, style
from tfexplore.explore.base.live import LiveFigure
from tfexplore.explore.base.picture import picture
from tfexplore.explore.base.sheet import Arrows, Axis, Bars, Heat, Line, Mark, Panel, Points, Rule, Sheet

X, Y = np.array([1.0, 2.0, 4.0]), np.array([3.0, 1.5, 2.0])
Z = np.array([[0.5, np.nan, -1.0], [0.25, 1.0, 0.0]])


def one(mark: Mark, x: Axis = Axis(), y: Axis = Axis(), **panel: Any) -> Sheet:  # noqa: B008  (frozen values)
    return Sheet({"only": Panel([mark], x=x, y=y, **panel)})


def traced(sheet: Sheet, name: str = "mark") -> Any:
    return plotly_sheet.trace(plotly_sheet.figure_of(plotly_sheet.described(sheet)), name)


def artists(sheet: Sheet, kind: type, name: str = "mark") -> list[Any]:
    return [artist for artist in picture(sheet).findobj(kind) if artist.get_gid() == name]


# -- every mark, both ways -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dash", "style_"), [("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-.")])
def test_a_line(dash: str, style_: str) -> None:
    sheet = one(Line("mark", X, Y, style.TEAL, dash, 3.0, sign="square", label="words"))
    trace, (drawn,) = traced(sheet), artists(sheet, Line2D)
    for x, y in ((trace.x, trace.y), drawn.get_data()):
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)
    assert (trace.mode, trace.line.dash, trace.line.color, trace.marker.symbol) == (
        "lines+markers", dash, style.TEAL, "square",
    )  # fmt: skip
    assert (drawn.get_linestyle(), to_hex(drawn.get_color()), drawn.get_marker()) == (style_, style.TEAL, "s")
    assert trace.name == drawn.get_label() == "words"


def test_a_line_in_steps_and_a_line_without_a_dash() -> None:
    sheet = one(Line("mark", X, Y, steps=True))
    assert traced(sheet).line.shape == "hvh"
    assert artists(sheet, Line2D)[0].get_drawstyle() == "steps-mid"
    sheet = one(Line("mark", X, Y, dash="", sign="circle"))
    assert traced(sheet).mode == "markers"
    assert artists(sheet, Line2D)[0].get_linestyle() == "None"


@pytest.mark.parametrize("sign", list(plotly_sheet.SIGNS))
def test_points(sign: str) -> None:
    sheet = one(Points("mark", X, Y, style.ROSE, sign))
    trace, (drawn,) = traced(sheet), artists(sheet, PathCollection)
    np.testing.assert_array_equal(np.stack([trace.x, trace.y], 1), np.stack([X, Y], 1))
    np.testing.assert_array_equal(drawn.get_offsets(), np.stack([X, Y], 1))
    assert trace.mode == "markers"
    assert (trace.marker.line.color if sign == "tick" else trace.marker.color) == style.ROSE
    assert to_hex((drawn.get_edgecolors() if sign == "tick" else drawn.get_facecolors())[0]) == style.ROSE


def test_points_of_several_colours_with_an_edge() -> None:
    colours = [style.ROSE, style.TEAL, style.SAND]
    sheet = one(Points("mark", X, Y, colours, edge=style.INK))
    trace, (drawn,) = traced(sheet), artists(sheet, PathCollection)
    assert list(trace.marker.color) == [to_hex(c) for c in drawn.get_facecolors()] == colours
    assert trace.marker.line.color == to_hex(drawn.get_edgecolors()[0]) == style.INK


@pytest.mark.parametrize("upright", [False, True])
def test_bars(upright: bool) -> None:
    colours, start = [style.SKY, style.WAITING, style.VIOLET], np.array([0.5, 0.0, 2.0])
    mark = Bars("mark", [0, 1, 2], X, start, 0.6, 0.1, colours, ["/", "", "x"], ["", style.INK, ""], ["a", "b", "c"],
                upright=upright)  # fmt: skip
    trace, drawn = traced(one(mark)), artists(one(mark), Rectangle)
    at, length = (trace.x, trace.y) if upright else (trace.y, trace.x)
    np.testing.assert_array_equal(at, [0, 1, 2])
    np.testing.assert_array_equal(length, X)
    np.testing.assert_array_equal(trace.base, start)
    assert (trace.width, trace.offset) == (0.6, pytest.approx(0.1 - 0.3))
    boxes = np.array([(*bar.get_xy(), bar.get_width(), bar.get_height()) for bar in drawn])
    boxes = boxes[:, [1, 0, 3, 2]] if upright else boxes
    np.testing.assert_allclose(boxes, np.stack([start, [-0.2, 0.8, 1.8], X, [0.6] * 3], 1))
    assert list(trace.marker.color) == [to_hex(bar.get_facecolor()) for bar in drawn] == colours
    assert list(trace.marker.pattern.shape) == ["/", "", "x"]
    assert [bar.get_hatch() for bar in drawn] == ["//", "", "xx"]
    assert list(trace.marker.line.width) == [0, 1.5, 0]
    assert [bar.get_linewidth() > 0 for bar in drawn] == [False, True, False]
    assert list(trace.text) == ["a", "b", "c"]
    assert {"a", "b", "c"} <= {text.get_text() for text in picture(one(mark)).findobj(Annotation)}


@pytest.mark.parametrize("upright", [False, True])
def test_bars_on_a_logarithmic_axis_end_where_they_should(upright: bool) -> None:
    log = {"y" if upright else "x": Axis(low=0.5, high=100, log=True)}
    sheet = one(Bars("mark", [0, 1], [1.0, 30.0], [0.0, 2.0], upright=upright), **log)
    drawn = artists(sheet, Rectangle)
    ends = [(bar.get_y() + bar.get_height()) if upright else (bar.get_x() + bar.get_width()) for bar in drawn]
    begins = [bar.get_y() if upright else bar.get_x() for bar in drawn]
    np.testing.assert_allclose(ends, [1.0, 32.0])
    np.testing.assert_allclose(begins, [0.5, 2.0])


def test_bars_at_words_and_texts_inside() -> None:
    axis = Axis(words=("first", "second", "third"), backwards=True)
    sheet = one(Bars("mark", ["third", "first"], [2.0, 1.0], texts=["3", "1"], inside=True), y=axis)
    trace, drawn = traced(sheet), artists(sheet, Rectangle)
    assert list(trace.y) == ["third", "first"]
    assert trace.textposition == "inside"
    assert [bar.get_y() + 0.4 for bar in drawn] == pytest.approx([2, 0])
    (axes,) = picture(sheet).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second", "third"]
    assert axes.yaxis_inverted()
    assert {text.get_text() for text in axes.texts} == {"3", "1"}
    layout = plotly_sheet.described(sheet)[1]["yaxis"]
    assert (layout["type"], layout["autorange"], layout["categoryarray"]) == (
        "category", "reversed", ["first", "second", "third"],
    )  # fmt: skip


def test_a_heat_map_leaves_out_what_is_no_number() -> None:
    sheet = one(Heat("mark", Z, [10, 20, 30], [0, 5], bar={-1: "low", 1: "high"}, texts=[["a", "", "b"], [""] * 3]))
    trace, (drawn,) = traced(sheet), artists(sheet, QuadMesh)
    assert [list(row) for row in trace.z] == [[0.5, None, -1.0], [0.25, 1.0, 0.0]]
    np.testing.assert_array_equal(np.ma.filled(drawn.get_array(), np.nan), Z)
    assert (list(trace.x), list(trace.y)) == ([10, 20, 30], [0, 5])
    np.testing.assert_array_equal(drawn.get_coordinates()[0, :, 0], [5, 15, 25, 35])
    np.testing.assert_array_equal(drawn.get_coordinates()[:, 0, 1], [-2.5, 2.5, 7.5])
    assert ((trace.zmin, trace.zmax), drawn.get_clim()) == ((-1, 1), (-1, 1))
    assert trace.colorbar.ticktext == ("low", "high")
    drawing = picture(sheet)
    assert [text.get_text() for text in drawing.axes[1].get_yticklabels()] == ["low", "high"]
    assert [text.get_text() for text in drawing.axes[0].texts] == ["a", "b"]


def test_cells_of_distinct_colours() -> None:
    colours = ("#eef2f6", "#c9c9c9", "#88ccee")
    sheet = one(Heat("mark", [[0, 1], [2, 1]], colours=colours, distinct=True, gap=2))
    trace, (drawn,) = traced(sheet), artists(sheet, QuadMesh)
    scale = [(edge, colour) for edge, colour in trace.colorscale]
    for value, colour in enumerate(colours):
        share = (value - trace.zmin) / (trace.zmax - trace.zmin)
        assert [c for (low, c), (high, _) in zip(scale[::2], scale[1::2], strict=True) if low < share < high] == [
            colour
        ]
        assert to_hex(drawn.cmap(drawn.norm(value))) == colour


def test_cells_of_a_table_have_no_axis_lines_and_the_numbers_of_their_columns_above() -> None:
    cells = Heat("mark", Z)
    for table in (True, False):
        sheet = one(cells, table=table, title="x")
        layout = plotly_sheet.figure_of(plotly_sheet.described(sheet)).layout
        assert (layout.xaxis.side == "top", layout.yaxis.showline is False) == (table, table)
        (axes,) = picture(sheet).axes
        lines = [spine.get_visible() for spine in axes.spines.values()]
        assert any(lines) is not table
        above, below = (axes.xaxis.get_tick_params()[place] for place in ("labeltop", "labelbottom"))
        assert (above, below) == (table, not table)


def test_arrows() -> None:
    ends = [((0.0, 0.0), (1.0, 2.0)), ((3.0, 1.0), (2.0, 1.0))]
    sheet = one(Arrows("mark", ends, style.ROSE, "dash"))
    trace, drawn = traced(sheet), artists(sheet, Annotation)
    assert list(zip(trace.x, trace.y, strict=True)) == [(0, 0), (1, 2), (None, None), (3, 1), (2, 1), (None, None)]
    assert list(trace.marker.symbol) == ["circle", "arrow", "circle"] * 2
    assert [(arrow.xyann, arrow.xy) for arrow in drawn] == ends


def test_rules() -> None:
    for mark, place in ((Rule("mark", x=2.0), "x"), (Rule("mark", y=3.0), "y")):
        (shape,) = plotly_sheet.described(one(mark))[1]["shapes"]
        (drawn,) = artists(one(mark), Line2D)
        at = mark.x if place == "x" else mark.y
        assert shape[f"{place}0"] == shape[f"{place}1"] == at
        assert set(drawn.get_xdata() if place == "x" else drawn.get_ydata()) == {at}
        assert shape["visible"]


def test_a_rule_without_a_place_is_not_drawn() -> None:
    (shape,) = plotly_sheet.described(one(Rule("mark")))[1]["shapes"]
    assert shape["visible"] is False
    assert not [line for line in artists(one(Rule("mark")), Line2D) if line.get_gid() == "mark"]


@pytest.mark.parametrize("mark", [Line("mark"), Points("mark"), Bars("mark"), Heat("mark"), Arrows("mark")], ids=repr)
def test_an_empty_mark_is_drawn_as_nothing_and_is_not_in_the_legend(mark: Mark) -> None:
    mark = dataclasses.replace(mark, label="words")
    sheet = dataclasses.replace(one(mark), legend="below")
    assert traced(sheet).showlegend is False
    assert not picture(sheet).legends


# -- axes, panels, legends -------------------------------------------------------------------------------------------


def test_axes() -> None:
    x = Axis("over", 0.1, 1000, log=True)
    y = Axis("up", 5, -1, ticks={0: "none", 2.5: "some"}, bare=True)
    sheet = one(Line("mark", X, Y), x, y)
    layout, (axes,) = plotly_sheet.described(sheet)[1], picture(sheet).axes
    assert (layout["xaxis"]["type"], axes.get_xscale()) == ("log", "log")
    np.testing.assert_allclose(layout["xaxis"]["range"], [-1, 3])
    np.testing.assert_allclose(axes.get_xlim(), [0.1, 1000])
    assert layout["yaxis"]["range"] == [5, -1] == list(axes.get_ylim())
    assert layout["yaxis"]["ticktext"] == ["none", "some"] == [t.get_text() for t in axes.get_yticklabels()]
    assert layout["xaxis"]["title"]["text"] == axes.get_xlabel() == "over"
    assert layout["yaxis"]["showgrid"] is False


def test_an_axis_with_one_end_and_a_format() -> None:
    sheet = one(Line("mark", X, Y), y=Axis(low=0, form=".0%", every=1))
    axis, (axes,) = plotly_sheet.described(sheet)[1]["yaxis"], picture(sheet).axes
    assert (axis["autorange"], axis["tickformat"], axis["dtick"]) == (True, ".0%", 1)
    assert "range" not in axis, "plotly.js forgets a range with one end when it updates the figure"
    assert axis["autorangeoptions"] == {"minallowed": 0, "maxallowed": None}
    assert axes.get_ylim()[0] == 0 < axes.get_ylim()[1]
    assert "200%" in [label.get_text() for label in axes.get_yticklabels()]


def test_numbers_on_a_logarithmic_axis_have_no_zeros_behind_them() -> None:
    sheet = one(Line("mark", X, Y), Axis(low=0.05, high=2000, log=True, form=",g"))
    assert plotly_sheet.described(sheet)[1]["xaxis"]["tickformat"] == ",~g"
    (axes,) = picture(sheet).axes
    assert {"0.1", "1", "1,000"} <= {label.get_text() for label in axes.get_xticklabels()}


def test_panels_lie_where_the_rows_say_in_both() -> None:
    panels = {name: Panel([Line(name, X, Y)], title=name) for name in ("a", "b", "c", "unused")}
    panels["unused"] = dataclasses.replace(panels["unused"], hidden=True)
    sheet = Sheet(panels, [["a", "c", "unused"], ["b", "c", "unused"]], (3, 1), (1, 2), gaps=(0.1, 0.2))
    layout = plotly_sheet.described(sheet)[1]
    assert (layout["xaxis"]["domain"], layout["yaxis"]["domain"]) == ([0, 0.675], [0.7333, 1])
    assert (layout["xaxis2"]["domain"], layout["yaxis2"]["domain"]) == ([0, 0.675], [0, 0.5333])
    assert (layout["xaxis3"]["domain"], layout["yaxis3"]["domain"]) == ([0.775, 1], [0, 1])
    assert layout["xaxis4"]["visible"] is False
    drawing = picture(sheet)
    drawing.draw_without_rendering()
    places = {axes.get_title("left"): axes.get_position() for axes in drawing.axes}
    assert set(places) == {"a", "b", "c"}
    a, b, c = (places[name] for name in "abc")
    assert a.y0 > b.y1
    assert c.x0 > max(a.x1, b.x1)
    assert (c.y0, c.y1) == pytest.approx((b.y0, a.y1))
    assert 2 < a.width / c.width < 4


def test_equal_labels_are_one_entry_of_the_legend() -> None:
    def panel(name: str) -> Panel:
        return Panel([Line(name, X, Y, label="both"), Line(f"{name} other", X, Y, label="one")])

    sheet = Sheet({"a": panel("a"), "b": panel("b")}, legend="above")
    traces, _ = plotly_sheet.described(sheet)
    assert [trace["showlegend"] for trace in traces] == [True, True, False, False]
    (legend,) = picture(sheet).legends
    assert [text.get_text() for text in legend.get_texts()] == ["both", "one"]


@pytest.mark.parametrize(("count", "length"), [(8, 8), (10, 25), (10, 50)])
def test_a_pictures_legend_is_no_wider_than_the_picture(count: int, length: int) -> None:
    labels = [("step by step, fused, " * 3)[:length] + str(k) for k in range(count)]
    drawing = picture(Sheet({"a": Panel([Line(label, X, Y, label=label) for label in labels])}, legend="below"))
    drawing.draw_without_rendering()
    (legend,) = drawing.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawing.bbox.x1


def test_a_picture_has_the_words_above_it() -> None:
    drawing = picture(one(Line("mark", X, Y)), "What is seen.")
    assert drawing.get_suptitle() == "What is seen."
    assert spread(style.png(drawing)) > 0.05


def test_a_picture_is_a_card_with_round_corners() -> None:
    opacity = imread(io.BytesIO(style.png(picture(one(Line("mark", X, Y))))))[..., 3]
    assert opacity[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 0.1
    middle = np.array(opacity.shape) // 2
    assert opacity[middle[0]].min() == opacity[:, middle[1]].min() == 1, "paper from edge to edge"


# -- a live figure ---------------------------------------------------------------------------------------------------


def several(k: float, hidden: bool = False) -> Sheet:
    grid = Panel([
        Bars("bars", np.arange(int(k)), X[0] * k + np.arange(int(k)), colour=[style.SKY] * int(k), texts=["t"] * int(k)),
        Arrows("arrows", [((0, 0), (k, 1))] * int(k)),
        Points("points", [k] * (k > 2), [1.0] * (k > 2), label="points"),
        Rule("rule", y=k),
    ], title=f"{k}", x=Axis(high=None if k > 2 else 5.0, low=None if k > 2 else 0.0))  # fmt: skip
    heat = Panel([Heat("heat", Z * k, bar={0: f"{k}"}), Line("line", X * k, np.where(k < Y, np.nan, Y))], hidden=hidden)
    return Sheet({"grid": grid, "heat": heat}, height=300 + int(k), legend="below")


def plain(figure: Any) -> str:
    made = json.loads(figure.to_json())
    for trace in made["data"]:
        trace.pop("uid", None)  # random
    return json.dumps(made, sort_keys=True)


def test_an_update_gives_the_figure_that_is_drawn_anew_in_one_message() -> None:
    figure, before = LiveFigure(plotly_sheet.figure_of(plotly_sheet.described(several(2)))), several(2)
    told = messages(figure)
    for sheet in (several(4), several(3, hidden=True), several(1), several(2)):
        plotly_sheet.update(figure, plotly_sheet.described(before), plotly_sheet.described(sheet))
        assert plain(figure) == plain(LiveFigure(plotly_sheet.figure_of(plotly_sheet.described(sheet))))
        assert [said["name"] for said in told] == ["_py2js_update"]
        before = sheet
        told.clear()
    plotly_sheet.update(figure, plotly_sheet.described(before), plotly_sheet.described(several(2)))
    assert told == [], "nothing has changed"


def test_frames_have_all_that_changes_between_any_two_and_nothing_else() -> None:
    sheets = {str(k): several(k) for k in (1, 2, 3)}
    page = plotly_sheet.playing(sheets, "2", "k", interval=300)
    assert [frame.name for frame in page.frames] == ["1", "2", "3"]
    assert page.layout.sliders[0].active == 1
    names = [page.data[k].meta for k in page.frames[0].traces]
    for name, frame in zip(sheets, page.frames, strict=True):
        assert list(frame.traces) == list(page.frames[0].traces)
        for mark, part in zip(names, frame.data, strict=True):
            own = traced(sheets[name], mark).to_plotly_json()
            for path, value in plotly_sheet.flat(part.to_plotly_json()):
                expected = dict(plotly_sheet.flat(own)).get(path)
                if path in ("x", "y") and len(expected) == 0:
                    expected = [None]
                if path not in ("meta", "type"):
                    assert plotly_sheet.same(np.asarray(value), np.asarray(expected)), (mark, path)
    still = plotly_sheet.playing({name: several(2) for name in "ab"}, "a", "k")
    assert still.frames[0].data == ()
    assert not still.layout.updatemenus
