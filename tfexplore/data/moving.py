"""Events simulated from pictures: each is moved in front of a simulated event sensor. No camera has seen them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from tfexplore.data.datasets import Split, digits
from tfexplore.data.encoders import check_values
from tfexplore.neurons.parameters import check_between, checked_count

DARK = 0.05
"""Added to the brightness of 0..1 before its logarithm: the light that a black pixel sees."""


class SimulatedEvents(NamedTuple):
    """Event counts [T, n, 2, height, width] of a *simulated* sensor and labels [n], to train and to test; axis 2 is OFF, ON."""

    train_simulated: Tensor
    train_labels: Tensor
    test_simulated: Tensor
    test_labels: Tensor


def moving_digits(
    steps: int = 30, seed: int = 0, *, threshold: float = 0.3, reach: float = 2.0, data: Split | None = None
) -> SimulatedEvents:
    """Digits that move before a *simulated* event sensor, along the triangle of N-MNIST's saccades.

    Each picture goes through three corners and ends where it began; where on the triangle that is, is random. Between pixels it
    is interpolated (bilinear). A pixel gives an event where its log intensity has changed by the threshold since its last one.
    With the log intensity L = log(0.05 + brightness), and c the events so far, ON less OFF::

        n[t] = trunc((L[t] - L[0]) / threshold - c[t-1])        |n| events, ON where n > 0, OFF where n < 0
        c[t] = c[t-1] + n[t],   c[0] = 0

    That is the principle of a dynamic vision sensor (Lichtsteiner, Posch and Delbruck, IEEE JSSC 2008), without its noise,
    refractory time and limited bandwidth: recordings look different.

    Args:
        steps: T, evenly spread over the way.
        seed: of where on the way each picture begins; the same seed gives the same events.
        threshold: the change of log intensity that makes an event, from 0.02 on.
        reach: the distance of the corners from the middle in pixels, above 0.
        data: square pictures [n, pixels] in 0..1; None for `digits()`.

    Returns:
        A named tuple: train_simulated [T, n, 2, height, width], counts of events in uint8, train_labels [n], test_simulated and
        test_labels. Height and width are those of the pictures and the room to move in, 2 ceil(reach) more.

    Raises:
        ValueError: naming the argument, what came and what is allowed.

    Example:
        >>> from tfexplore import data
        >>> events = data.moving_digits(steps=12)
        >>> events.train_simulated.shape, events.train_simulated.dtype       # [T, n, OFF and ON, height, width]
        (torch.Size([12, 1438, 2, 12, 12]), torch.uint8)
    """
    checked_count("steps", steps)
    check_between("threshold", threshold, 0.02)  # black to white is 3.05: fewer than 256 events, which a byte holds
    check_between("reach", reach, 0, above=True)
    data = digits() if data is None else data
    generator = torch.Generator().manual_seed(seed)
    train, test = (
        simulated(pictures, torch.rand(len(pictures), generator=generator), steps, threshold, reach)
        for pictures in (data.train_images, data.test_images)
    )
    return SimulatedEvents(train, data.train_labels, test, data.test_labels)


def simulated(pictures: Tensor, begin: Tensor, steps: int, threshold: float, reach: float) -> Tensor:
    """The events of pictures [n, pixels] that begin at this part of the way, [n] in 0..1."""
    check_values(pictures, 0, 1)
    side = math.isqrt(pictures.shape[1])
    if side**2 != pictures.shape[1]:
        raise ValueError(f"data must have square pictures, [n, pixels], but got shape {tuple(pictures.shape)}.")
    room = math.ceil(reach)
    canvas = torch.nn.functional.pad(pictures.view(-1, 1, side, side), (room,) * 4)
    scale = 2 * reach / canvas.shape[-1]  # a grid's coordinates go from -1 to 1
    first, so_far, out = None, torch.zeros(()), []
    for step in range(steps + 1):
        x, y = triangle((begin + step % steps / steps) % 1)  # the last is where the first was, to the bit
        still = torch.eye(2, 3).repeat(len(canvas), 1, 1)
        still[:, 0, 2], still[:, 1, 2] = scale * x, scale * y
        grid = affine_grid(still, list(canvas.shape), align_corners=False)
        light = (grid_sample(canvas, grid, align_corners=False) + DARK).log()
        if first is None:
            first = light
            continue
        # whole numbers are subtracted, so that a pixel that comes to be as dark as before has had as many ON as OFF
        count = ((light - first) / threshold - so_far).trunc()
        so_far = so_far + count
        out.append(torch.cat([(-count).clamp(min=0), count.clamp(min=0)], 1).to(torch.uint8))
    return torch.stack(out)


def triangle(part: Tensor) -> tuple[Tensor, Tensor]:
    """The point (x, y) at this part, [n] in 0..1, of the way around a triangle with corners at distance 1."""
    corner = 2 * math.pi / 3 * torch.arange(4)
    side = (3 * part).long().clamp(max=2)
    along = 3 * part - side
    x, y = ((1 - along) * ends[side] + along * ends[side + 1] for ends in (corner.cos(), corner.sin()))
    return x, y
