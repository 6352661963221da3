"""The explorers in Python, without a browser: a control's value does what moving it does."""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

pytest.importorskip("plotly", reason="the explorers need plotly: pip install 'tfexplore[notebooks]'")
pytest.importorskip("ipywidgets", reason="the explorers need ipywidgets: pip install 'tfexplore[notebooks]'")

import numpy as np
from plotly.basedatatypes import Undefined

from tests.pictures import messages, spread
from tfexplore import explore
from tfexplore.explore.base.controls import Choice, Knob, Play, RangeSlider, Scale, Slider, Tick, button, moved
from tfexplore.explore.base.explorer import Explorer, worker
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Line, Panel, Sheet
from tfexplore.explore.race import explorer as race_explorer
from tfexplore.measure.contestants import WAYS


class Empty(Runner):
    """Draws nothing."""

    def sheet(self) -> Sheet:
        return Sheet({"nothing": Panel()})

    def sentence(self) -> str:
        return ""


@pytest.fixture(scope="module")
def race() -> Any:
    return explore.race(steps=3, neurons=1000, device="cpu")


def test_a_contestant_that_computes_something_else_does_not_race(race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = race_explorer.contestants

    def dishonest(*given: Any, **options: Any) -> dict[str, Any]:
        return honest(*given, **options) | {"fused": lambda: tuple(map(torch.zeros_like, honest(3, 1000)["fused"]()))}

    monkeypatch.setattr(race_explorer, "contestants", dishonest)
    with pytest.raises(RuntimeError, match="'fused' gives other spikes"):
        asyncio.run(race.run())
    assert not race.result.seconds


def test_race_measures_all_three_and_says_so(race: Any) -> None:
    result = asyncio.run(race.run())
    assert set(result.seconds) == set(WAYS)
    assert all(value > 0 for value in result.seconds.values())
    assert "times as" in race.message.value
    assert list(race.trace("times").x) == [1e3 * result.seconds[name] for name in WAYS]
    assert spread(race.picture()) > 0.05


def test_a_moved_slider_sends_the_bars_back(race: Any) -> None:
    race.controls["steps"].value = 4
    assert race.result.steps == 4
    assert not race.result.seconds
    assert list(race.trace("times").x) == [0, 0, 0]
    assert "4 time steps" in race.message.value
    assert repr(race) == "Race(steps=4, neurons=1000)"


def test_race_stops_between_two_runs(race: Any) -> None:
    async def run_and_stop() -> None:
        run = asyncio.create_task(race.run())
        while not race.result.seconds:
            await asyncio.sleep(0)
        assert not race.controls["stop"].disabled
        race.controls["stop"].click()
        await run

    asyncio.run(run_and_stop())
    assert race.controls["stop"].disabled
    assert len(race.result.seconds) < len(WAYS)


def test_an_error_in_long_work_is_shown_and_raised() -> None:
    class Broken(Empty):
        def look(self):  # type: ignore[no-untyped-def]
            return None

        def work(self, result):  # type: ignore[no-untyped-def]
            yield None
            raise ValueError("the <third> layer is missing")

    broken = Broken()
    with pytest.raises(ValueError, match="third"):
        asyncio.run(broken.run())
    assert "ValueError: the &lt;third&gt; layer is missing" in broken.message.value
    assert 'role="alert"' in broken.message.value
    assert not broken.running


def test_every_control_is_labelled(race: Any) -> None:
    for name, control in race.controls.items():
        assert control.description, name
        assert control.tooltip, name
    assert race.caption.endswith(".")


def test_every_label_is_read_in_full() -> None:
    """There are 155 pixels for it."""
    kinds = [kind for name in explore.__all__ if isinstance(kind := getattr(explore, name), type)]
    beside = [each for kind in kinds for each in vars(kind).values() if isinstance(each, Choice | Scale | Slider)]
    assert len(beside) > 40
    assert [each.label for each in beside if len(each.label) > 23] == []


def test_a_stopped_run_resumes_where_it_was_unless_abandoned() -> None:
    class Counting(Empty):
        resumable = True

        def look(self):  # type: ignore[no-untyped-def]
            return []

        def work(self, result):  # type: ignore[no-untyped-def]
            for k in range(6):
                result.append(k)
                if k == 2:
                    self.stop()
                yield None

    counting = Counting()
    with pytest.raises(RuntimeError, match="no stopped run to resume; press Start"):
        asyncio.run(counting.run(resume=True))
    assert asyncio.run(counting.run()) == [0, 1, 2]
    assert not counting.controls["resume"].disabled
    assert asyncio.run(counting.run(resume=True)) == [0, 1, 2, 3, 4, 5]
    assert counting.controls["resume"].disabled
    assert asyncio.run(counting.run()) == [0, 1, 2]  # Start begins anew
    counting.abandon()
    assert counting.controls["resume"].disabled


# -- what the browser receives --------------------------------------------------------------------------------------


def taken(traces: list[dict[str, Any]], message: dict[str, Any]) -> None:
    """As plotly's browser half takes a message (plotly 7.1): a list has a value for each trace, and a gap in it clears."""
    for path, values in message["style_data"].items():
        for k, value in zip(message["style_traces"], values, strict=True):
            place, (*ways, name) = traces[k], path.split(".")
            for way in ways:
                place = place.get(way, {}) if value is Undefined else place.setdefault(way, {})
            if value is Undefined:
                place.pop(name, None)
            else:
                place[name] = value


def plain(value: Any) -> Any:
    """Arrays, also those that plotly has written as text, as lists."""
    if isinstance(value, dict) and "bdata" in value:
        shape = json.loads(f"[{value.get('shape', -1)}]")
        value = np.frombuffer(b64decode(value["bdata"]), value["dtype"]).reshape(shape)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def drawn(traces: Any) -> list[str]:
    return [json.dumps(plain(trace), sort_keys=True) for trace in traces]  # text: in it, NaN equals NaN


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("cuts", {"network": "sew", "batches": 80}),
        ("event_driven", {"rows": 64, "width": 512, "counted": "operations"}),
        ("kernel", {"micro_step": 30, "kernel": "backward", "steps": 7}),
        ("memory", {"way": "fused, keep bits", "neuron": "ALIF"}),
        ("neuron", {"strength": 0.4, "steps": 120, "current": "noise", "reset": "hard"}),
        ("schedules", {"piece": 3, "walk": "layer by layer", "network": "feedback"}),
        ("scan_map", {"passes": "forward + backward", "shown": "depth", "steps": 256}),
        ("split_plan", {"devices": 3, "steps": 64}),
        ("surrogate", {"tau": 4.0, "steps": 80, "colours": "linear"}),
        ("training", {"neuron": 1, "layer": "lif1", "steps": 8}),
        ("unrolling", {"reset": "none", "steps": 8, "neuron": "LI"}),
    ],
)
def test_a_control_is_one_message_and_one_drawing(name: str, moved: dict[str, Any]) -> None:
    """And the browser has then what the figure has."""
    made = getattr(explore, name)()
    traces, told = made.figure.to_plotly_json()["data"], messages(made.figure)
    for control, value in moved.items():
        assert made.controls[control].value != value, f"{control} would not move"
        made.controls[control].value = value
        assert [said["name"] for said in told] == ["_py2js_update"], control
        taken(traces, told.pop()["new"])
        assert drawn(traces) == drawn(made.figure.to_plotly_json()["data"]), control


# -- a run's end, and its beginning --------------------------------------------------------------------------------


class Careful(Empty):
    """Its work opens something, and closes it."""

    opened = 0

    def look(self) -> list[str]:
        return []

    def work(self, result: list[str]) -> Iterator[Any]:
        self.opened += 1
        try:
            yield None
            yield self.in_background(self.piece)
            result.append("done")
            self.stop()
            yield None
        finally:
            self.opened -= 1

    def piece(self) -> None:
        return None


class Resumable(Careful):
    resumable = True


def made(kind: type[Careful]) -> Any:
    return kind()


@pytest.mark.parametrize("kind", [Careful, Resumable])
def test_what_a_failed_run_opened_is_closed_at_once(kind: type[Careful]) -> None:
    runner = made(kind)
    runner.piece = lambda: 1 / 0
    try:
        asyncio.run(runner.run())
    except ZeroDivisionError:  # not by pytest.raises: here the error, and so the generator, is still at hand
        assert runner.opened == 0
    else:
        pytest.fail("it must be raised")
    assert "ZeroDivisionError" in runner.message.value


@pytest.mark.parametrize("kind", [Careful, Resumable])
def test_what_a_cancelled_run_opened_is_closed(kind: type[Careful]) -> None:
    async def cancel() -> None:
        runner.start()
        while not runner.opened:
            await asyncio.sleep(0)
        runner.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await runner.task
        assert runner.opened == 0

    runner = made(kind)
    asyncio.run(cancel())
    assert not runner.running


def test_a_stopped_run_is_kept_only_if_it_can_be_resumed() -> None:
    for kind, left in ((Careful, 0), (Resumable, 1)):
        runner = made(kind)
        assert asyncio.run(runner.run()) == ["done"]
        assert runner.opened == left
    asyncio.run(runner.run(resume=True))
    assert runner.opened == 0


def test_a_start_that_is_refused_is_shown_and_leaves_the_run_alone() -> None:
    async def press() -> None:
        with pytest.raises(RuntimeError, match="no stopped run to resume"):
            runner.guarded(runner.resume)()
        assert "no stopped run to resume" in runner.message.value
        runner.start()
        first = runner.task
        with pytest.raises(RuntimeError, match="running already"):
            runner.guarded(runner.start)()
        assert "running already" in runner.message.value
        assert runner.task is first
        assert await first == ["done"]

    runner = made(Resumable)
    asyncio.run(press())


class Turns(Empty):
    """Its pieces and its control take a moment, and must not meet."""

    a = Slider("a", 0, 99)

    def __init__(self) -> None:
        self.at_work, self.met, self.heard = 0, False, 0
        super().__init__()

    @moved("a")
    def busy(self) -> None:
        self.at_work += 1
        time.sleep(0.002)
        self.met |= self.at_work > 1
        self.at_work -= 1
        self.heard += 1

    def look(self) -> list[str]:
        return []

    def work(self, result: list[str]) -> Iterator[object]:
        while self.heard < 40:
            self.busy()
            yield None


def test_a_control_is_heard_between_two_pieces_also_from_another_thread() -> None:
    """As JupyterLab does it: what a slider says is answered in another thread than the cell that awaits a run."""
    runner = Turns()
    with ThreadPoolExecutor(1) as pool:
        cell = pool.submit(asyncio.run, runner.run())
        moved = 0
        while not cell.done():
            moved += 1
            runner.controls["a"].value = moved % 99 + 1
    cell.result()
    assert moved > 1
    assert not runner.met


def test_all_runners_share_one_thread() -> None:
    assert worker() is worker()
    assert not hasattr(made(Careful), "_worker")


class Declared(Empty):
    """A control of every kind."""

    steps = Slider("time steps T", 1, 16, help="in one pass")
    size = Slider("size", 0.0, 1.0, step=0.1)
    word = Choice("word", ("a", "b"))
    span = RangeSlider("span", 1, 9)
    power = Scale("power", {1: "one", 10: "ten"}, value=10)
    on = Tick("on")
    knob = Knob("1", help="the first")
    place = Slider("place", 0, 3)
    play = Play("play the places", of="place")

    def __init__(self, **given: Any) -> None:
        self.answers: list[str] = []
        super().__init__(**given)

    def look(self) -> None:
        self.answers.append("update")

    @moved("word", "on")
    def other(self) -> None:
        self.answers.append("other")

    @button("Again", icon="redo", help="again")
    def again(self) -> None:
        self.answers.append("again")


def test_controls_are_declared_and_their_values_are_the_widgets() -> None:
    made = Declared(steps=4, extra=Slider("extra", 0, 2), word="b")
    names = ["steps", "extra", "size", "word", "span", "power", "on", "knob", "place", "play", "start", "stop", "again"]
    assert list(made.controls) == names
    assert all(control.description and control.tooltip for control in made.controls.values())
    assert (made.steps, made.size, made.word, made.span, made.power, made.on) == (4, 0.0, "b", (1, 9), 10, False)
    assert isinstance(made.controls["steps"].value, int)
    made.steps = 7
    assert made.controls["steps"].value == 7
    made.controls["steps"].value = 9
    assert made.steps == 9
    assert Declared.steps.label == "time steps T", "on the class it is the declaration"
    assert "on" not in Declared(on=None).controls


def test_a_control_calls_what_is_moved_by_it_or_else_update() -> None:
    made = Declared()
    made.answers.clear()
    made.steps = 5
    made.word = "b"
    made.on = True
    made.controls["again"].click()
    made.power = 10  # as it was
    assert made.answers == ["update", "other", "other", "again"]
    with made.quietly():
        made.steps = 6
    assert len(made.answers) == 4
    made.controls["place"].max = 5
    assert made.controls["play"].max == 5


def test_a_method_that_overrides_a_button_or_an_answer_needs_no_mark_of_its_own() -> None:
    class Overriding(Declared):
        def again(self) -> None:
            self.answers.append("its own")

        def other(self) -> None:
            self.answers.append("its own other")

    made = Overriding()
    made.answers.clear()
    made.controls["again"].click()
    made.on = True
    assert made.answers == ["its own", "its own other"]


def test_a_given_control_that_the_class_does_not_have() -> None:
    assert list(Declared(extra=Slider("extra", 0, 2)).controls)[:2] == ["extra", "steps"]
    for given in ({"step": 3}, {"steps": 2, "step": 3}):
        with pytest.raises(TypeError, match=r"^Declared has the controls steps, size, .*, play, but got 'step'\.$"):
            Declared(**given)


def test_a_mark_that_is_there_only_sometimes_is_reported() -> None:
    class Sometimes(Explorer):
        count = Slider("count", 0, 3)

        def look(self) -> None: ...

        def sheet(self) -> Sheet:
            return Sheet({"only": Panel([Line(f"line {k}") for k in range(self.count)])})

        def sentence(self) -> str:
            return ""

    made = Sometimes()
    with pytest.raises(ValueError, match=r"the same marks in the same order .*, but \[\] became \['line 0'\]"):
        made.count = 1


@pytest.mark.parametrize(
    ("control", "unknown", "complaint"),
    [
        ("power", 3, "power must be one of 1, 10, but got 3."),
        ("word", "c", "word must be one of 'a', 'b', but got 'c'."),
    ],
)
def test_only_an_option_can_be_chosen(control: str, unknown: Any, complaint: str) -> None:
    made = Declared()
    for choose in (
        lambda: Declared(**{control: unknown}),
        lambda: setattr(made, control, unknown),
        lambda: setattr(made.controls[control], "value", unknown),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
            choose()
    assert (made.power, made.word) == (10, "a")


def test_after_an_error_while_controls_move_together_they_are_heard_again() -> None:
    heard = []

    class Hearing(Explorer):
        a = Slider("a", 0, 9)

        def update(self) -> None:
            heard.append(self.a)

    explorer = Hearing()
    controls = explorer.controls
    heard.clear()

    def together() -> None:
        with explorer.quietly():
            controls["a"].value = 1
            with explorer.quietly():
                pass
            controls["a"].value = 2
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        together()
    assert heard == []
    controls["a"].value = 3
    assert heard == [3]


def test_a_slider_sends_the_browser_its_bounds_before_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []
    made = Slider("potential", -1.0, 1.0, value=0.0, step=0.1).widget()
    monkeypatch.setattr(type(made), "_send", lambda self, message, buffers=None: told.append(list(message["state"])))
    monkeypatch.setattr(made, "comm", made.comm or object())
    with made.hold_sync():
        made.value, made.max, made.min = 0.5, 100.0, -100.0
        made.readout_format, made.step, made.value = ".0f", 1.0, -65.0
    (order,) = told
    assert set(order) == {"max", "min", "readout_format", "step", "value"}
    assert order[-1] == "value"


def test_a_player_that_stands_beyond_a_new_maximum_sends_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser links it to the slider, which would jump there."""
    player = Play("play", of="place").widget()
    player.max = 37
    player.value = 31
    sent: list[Any] = []
    monkeypatch.setattr(player, "_should_send_property", lambda key, value: sent.append(key) or False)
    player.max = 25
    assert sent == ["max"]
