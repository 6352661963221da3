"""Simulated events: a pixel of the sensor by a plain loop, and what must hold for every picture that ends where it began."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tfexplore.data import Split, moving_digits

PICTURES = torch.rand(6, 25, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6)
DATA = Split(PICTURES[:4], LABELS[:4], PICTURES[4:], LABELS[4:])


def bilinear(picture: np.ndarray, y: float, x: float) -> float:
    """The picture between its pixels, 0 outside."""
    below, left = math.floor(y), math.floor(x)
    total = 0.0
    for row in (below, below + 1):
        for column in (left, left + 1):
            if 0 <= row < len(picture) and 0 <= column < len(picture):
                total += picture[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def test_a_sensor_pixel_by_pixel() -> None:
    steps, reach, threshold, room = 9, 1.5, 0.4, 2
    found = moving_digits(steps, seed=3, threshold=threshold, reach=reach, data=DATA)
    begins = torch.rand(4, generator=torch.Generator().manual_seed(3)).tolist()
    corners = [(reach * math.cos(2 * math.pi * k / 3), reach * math.sin(2 * math.pi * k / 3)) for k in (0, 1, 2, 0)]
    others = 0
    for number, begin in enumerate(begins):
        picture = PICTURES[number].double().view(5, 5).numpy()
        first, so_far = np.zeros((9, 9)), np.zeros((9, 9))
        for step in range(steps + 1):
            part = (begin + step % steps / steps) % 1 * 3
            k, along = int(part), part - int(part)
            dx, dy = (a + along * (b - a) for a, b in zip(corners[k], corners[k + 1], strict=True))
            for row in range(9):
                for column in range(9):
                    light = math.log(0.05 + bilinear(picture, row - room + dy, column - room + dx))
                    if step == 0:
                        first[row, column] = light
                        continue
                    change = (light - first[row, column]) / threshold - so_far[row, column]
                    n = int(change)
                    came = found.train_simulated[step - 1, number, :, row, column].tolist()
                    if came != [max(-n, 0), max(n, 0)]:
                        assert abs(change - round(change)) < 1e-4, (step, row, column)
                        others += 1  # float32 has rounded to the other side
                    so_far[row, column] += came[1] - came[0]
    assert others < 5


def test_what_ends_where_it_began_has_as_many_on_as_off() -> None:
    events = moving_digits(24, seed=1, data=DATA).train_simulated.int()
    net = (events[:, :, 1] - events[:, :, 0]).sum(0)
    assert not net.any()
    assert events.sum() > 500


def test_a_dark_picture_is_silent_and_the_seed_decides() -> None:
    dark = Split(torch.zeros(2, 9), LABELS[:2], torch.zeros(1, 9), LABELS[:1])
    assert moving_digits(5, data=dark).train_simulated.sum() == 0
    one, same, other = (moving_digits(5, seed=seed, data=DATA) for seed in (0, 0, 1))
    assert torch.equal(one.test_simulated, same.test_simulated)
    assert not torch.equal(one.test_simulated, other.test_simulated)
    assert one.test_simulated.dtype == torch.uint8
    assert one.test_labels.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 on"),
        ({"threshold": 0.0}, r"threshold must be a finite number from 0\.02 on, but got 0\.0"),
        ({"reach": 0.0}, "reach must be a finite number above 0"),
        (
            {"data": DATA._replace(train_images=PICTURES[:4, :24])},
            r"square pictures, \[n, pixels\], but got shape \(4, 24\)",
        ),
        ({"data": DATA._replace(train_images=PICTURES[:4] * 255)}, "x must be from 0 to 1"),
    ],
)
def test_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moving_digits(**arguments)  # type: ignore[arg-type]
