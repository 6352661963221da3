"""The figure of the speech explorer: loss and accuracy on the left; an utterance, its spikes and the scores on the right."""

from __future__ import annotations

import numpy as np

from tfexplore.explore.base import style
from tfexplore.explore.base.sheet import Axis, Bars, Heat, Line, Panel, Points, Rule, Sheet
from tfexplore.explore.speech.run import SHOWN, Heard, SpeechRun


def sheet(run: SpeechRun, heard: Heard, epochs: int) -> Sheet:
    steps, channels = heard.x.shape
    batches = np.arange(1, len(run.losses) + 1)
    tested = np.array(run.accuracies).reshape(-1, 2)
    time = Axis("", 0.5, steps + 0.5, silent=True)
    when, who = np.nonzero(heard.spikes > 0.5)
    speakers = [str(k + 1) for k in range(len(heard.scores))]
    size = float(np.abs(heard.scores).max()) or 1.0
    colours = [style.GREEN if k == heard.speaker else style.SKY for k in range(len(speakers))]
    panels = {
        "loss": Panel(
            [Line("loss", batches, np.array(run.losses), style.VIOLET, words="batch {x}: {y:.3g}")],
            title="loss of every batch", x=Axis("batches", 0, max(10.0, 1.03 * len(batches))),
            y=Axis(low=0, high=1.05 * max(run.losses, default=2.3)),
        ),
        "accuracy": Panel(
            [Line("accuracy", tested[:, 0], tested[:, 1], style.TEAL, sign="circle", size=4, words="epoch {x}: {y:.1%}")],
            title="test accuracy", x=Axis("epochs", 0, epochs + 0.5), y=Axis(low=0, high=1.03, form=".0%"),
        ),
        "speech": Panel(
            [
                Heat("channels", heard.x.T, np.arange(1, steps + 1), low=-3, high=3, words="step {x}, channel {y}: {under:.2f}",
                     under=heard.x.T),
                Rule("end", x=heard.length + 0.5, colour=style.INK),
            ],
            title="a test utterance: 12 channels", x=time, y=Axis("channel", channels - 0.5, -0.5, every=3, bare=True),
        ),
        "spikes": Panel(
            [
                Points("spikes", when + 1, who, style.VIOLET, "tick", 4, words="step {x}, neuron {y}"),
                Rule("end, spikes", x=heard.length + 0.5, colour=style.INK),
            ],
            title=f"spikes of the first {SHOWN} hidden neurons", x=Axis("time step", 0.5, steps + 0.5),
            y=Axis("neuron", SHOWN - 0.5, -0.5, bare=True),
        ),
        "scores": Panel(
            [Bars("scores", speakers, heard.scores, colour=colours, upright=True, words="speaker {x}: {y:.2f}")],
            title="mean output by speaker (the right one is green)", x=Axis(words=speakers, every=1, bare=True),
            y=Axis(low=-1.1 * size, high=1.1 * size),
        ),
    }  # fmt: skip
    rows = [["loss", "speech"], ["loss", "spikes"], ["accuracy", "spikes"], ["accuracy", "scores"]]
    return Sheet(panels, rows, (0.42, 0.58), (0.27, 0.21, 0.21, 0.31), (0.09, 0.12), height=720)
