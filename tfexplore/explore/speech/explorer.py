"""The speech explorer: trains on utterances of different length, and shows what the network does with one of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tfexplore.data import Sequences, japanese_vowels
from tfexplore.explore.base.controls import Slider, Tick, moved
from tfexplore.explore.base.runner import Runner
from tfexplore.explore.base.sheet import Sheet
from tfexplore.explore.speech import figure
from tfexplore.explore.speech.run import Heard, SpeechRun, listen, whole
from tfexplore.neurons.parameters import checked_count
from tfexplore.nn import speech

DRAWN = 0.5  # seconds between two drawings
MOST = 200


class Speech(Runner):
    """Trains a small spiking network to tell nine speakers apart by a vowel: JapaneseVowels, 270 utterances, 370 to test.

    Each has 7 to 29 steps; in a batch they are padded to the longest. With their lengths, every sample's loop ends at its own
    last step, and the mean output is that over its own steps.

    Args:
        hidden: spiking neurons.
        epochs: passes over the training utterances.
        lengths: whether each utterance ends at its own length; else the padding counts as speech.
        seed: of the weights and of the order of the batches.

    Controls: hidden, epochs, lengths; utterance chooses at any time which one is shown; start, stop, resume.

    Result: `tfexplore.explore.speech.run.SpeechRun`, with `losses`, `accuracies` and the trained `net`.

    Raises:
        ImportError: without sktime, which brings the data.
        ValueError: if hidden or epochs is no whole number, or out of range.

    Example:
        >>> import asyncio
        >>> from tfexplore import explore
        >>> made = explore.speech(hidden=64, epochs=1)
        >>> len(asyncio.run(made.run()).losses)
        9

    Kudo, Toyama and Shimbo, Multidimensional curve classification using passing-through regions, Pattern Recognition Letters
    20, 1999.
    """

    caption = (
        "Left: loss of every batch, and accuracy on the test utterances after every epoch. Right: one of these, its channels "
        "from low (blue) to high (red); the line is its end, behind it is padding. Below: the spikes of hidden neurons, and the "
        "output, averaged over time, for each of the nine speakers."
    )
    resumable = True

    hidden = Slider("hidden neurons", 32, 512, step=32)
    epochs = Slider("epochs", 1, MOST)
    lengths = Tick("ignore the padding", help="each utterance ends at its own length")
    utterance = Slider("test utterance shown", 0, 0)

    def __init__(self, hidden: int = 512, *, epochs: int = 60, lengths: bool = True, seed: int = 0) -> None:
        checked_count("hidden", hidden, 512)
        checked_count("epochs", epochs, MOST)
        self.data, self.seed = japanese_vowels(), seed
        self.heard: Heard
        shown = type(self).utterance.at(0, high=len(self.data.test_labels) - 1)
        super().__init__(hidden=hidden, epochs=epochs, lengths=lengths, utterance=shown)

    @property
    def told(self) -> Sequences:
        """The data with the lengths that the network is given."""
        return self.data if self.lengths else whole(self.data)

    def look(self) -> SpeechRun:
        return SpeechRun(speech.network(self.hidden, seed=self.seed), self.lengths)

    def update(self) -> None:
        """Another network, untrained."""
        self.abandon()
        self.result = self.look()
        self.choose()

    @moved("epochs")
    def change_epochs(self) -> None:
        self.draw()

    @moved("utterance")
    def choose(self) -> None:
        """Shows what the network, as it is now, does with the chosen utterance."""
        self.heard = listen(self.result.net, self.data, self.told, self.utterance)
        self.draw()
        self.say(self.sentence())

    def work(self, result: SpeechRun) -> Iterator[object]:
        self.say_compiling()
        data, epochs = self.told, self.epochs
        batches = speech.fit(result.net, data, epochs, seed=self.seed)
        in_epoch, drawn = -(-len(self.data.train_labels) // speech.BATCH), time.perf_counter()

        def learn() -> None:
            begin = time.perf_counter()
            for _, loss in zip(range(in_epoch), batches, strict=False):
                result.losses.append(loss)
            result.seconds += time.perf_counter() - begin
            result.accuracies.append((len(result.accuracies) + 1, speech.accuracy(result.net, data)))

        for _ in range(epochs):
            yield self.in_background(learn)
            if time.perf_counter() - drawn > DRAWN:
                self.choose()
                drawn = time.perf_counter()
        self.choose()

    def sheet(self) -> Sheet:
        return figure.sheet(self.result, self.heard, self.epochs)

    def sentence(self) -> str:
        return f"{self.result.sentence()} Utterance {self.utterance}: {self.heard.sentence()}"
