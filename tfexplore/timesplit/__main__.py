"""Trains the course's network for the digits, its time steps split over the processes that torchrun starts:

    torchrun --nproc-per-node 3 -m tfexplore.timesplit --check

The training loop is that of one process (`networks.fit`); only the function that runs the network differs. --check trains the
same network in one process too, and compares the losses.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import islice

import torch
from torch import Tensor, nn

from tfexplore.nn.networks import RATES, Walk, built_in, fit
from tfexplore.timesplit.ranks import TIMEOUT, RankError, Ranks, ranks
from tfexplore.timesplit.split import TimeSplit

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-3}
"""How far the losses of the two may be apart: rounding alone, which grows from batch to batch."""


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, but got {text!r}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="torchrun --nproc-per-node P -m tfexplore.timesplit",
        description="Trains a small network for digits, its time steps split over P processes.",
    )
    network = "network of the course to train; default: %(default)s"
    parser.add_argument("--network", choices=sorted(RATES), default="conv", help=network)
    steps = "time steps of all ranks together; default: %(default)s"
    parser.add_argument("--steps", type=whole, default=32, metavar="T", help=steps)
    batches = "batches of 64 images to train on; default: %(default)s"
    parser.add_argument("--batches", type=whole, default=20, metavar="N", help=batches)
    micro = "micro-batches that each batch is cut into; default: %(default)s"
    parser.add_argument("--micro-batches", type=whole, default=1, metavar="M", help=micro)
    dtype = "of weights and images; default: %(default)s"
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help=dtype)
    timeout = "seconds that a rank waits for another one; default: %(default)g"
    parser.add_argument("--timeout", type=float, default=TIMEOUT, metavar="SECONDS", help=timeout)
    check = "train in one process as well, and compare the losses"
    parser.add_argument("--check", action="store_true", help=check)
    args = parser.parse_args()
    try:
        with ranks(args.timeout) as group:
            train(group, args)
    except (ValueError, RankError) as error:
        # one write: print and sys.exit may write the end of the line separately, and another rank's sentence gets in between
        sys.stderr.write(f"rank {os.environ.get('RANK', '0')}: {error}\n")
        sys.exit(1)


def train(group: Ranks, args: argparse.Namespace) -> None:
    dtype = getattr(torch, args.dtype)
    net, data = built_in(args.network)
    net = net.to(group.device, dtype)
    split = TimeSplit(net, micro_batches=args.micro_batches, ranks=group)

    def walk(_: nn.Module, x: Tensor) -> Tensor:
        return split.whole(split(split.segment(x)))

    images = data.train_images.to(group.device, dtype)
    data = data._replace(train_images=images, train_labels=data.train_labels.to(group.device))

    def losses_of(net: nn.Module, walk: Walk) -> tuple[list[float], float]:
        begin = time.perf_counter()
        losses = list(islice(fit(net, data, walk, args.steps, RATES[args.network]), args.batches))
        return losses, time.perf_counter() - begin

    losses, seconds = losses_of(net, walk)
    if not group.first:
        return
    steps = " + ".join(map(str, split.steps))
    print(
        f"{args.network}, {args.batches} batches, {args.steps} time steps = {steps} on {group.size} ranks: {seconds:.1f} s"
    )
    print("losses:", *(f"{loss:.4f}" for loss in losses))
    if args.check:
        alone, seconds = losses_of(built_in(args.network)[0].to(group.device, dtype), lambda net, x: net(x))
        apart = float(torch.tensor([losses, alone], dtype=torch.float64).diff(dim=0).abs().max())  # NaN stays one
        print(f"in one process: {seconds:.1f} s; losses at most {apart:.1e} apart")
        if not apart <= CLOSE[dtype]:
            hint = "; rounding in float32 moves a spike in the end, --dtype float64 separates that from a mistake"
            raise ValueError(
                f"the losses of {group.size} ranks and of one process are {apart:.1e} apart"
                f"{hint if dtype == torch.float32 else ''}."
            )


if __name__ == "__main__":
    main()
