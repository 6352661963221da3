"""The cost of the first result of tfexplore in a fresh process: `python benchmarks/first_result.py STEPS NEURONS DEVICE` prints
milliseconds as JSON. Numba (or CuPy) is imported by the first pass, so it counts as "compile or load"."""

import itertools
import json
import sys
import time

AGAIN = 5


def main(steps: int, neurons: int, device: str) -> dict[str, float]:
    clock = [time.perf_counter()]

    import torch  # which tfexplore imports, too

    clock.append(time.perf_counter())
    import tfexplore

    clock.append(time.perf_counter())

    def run() -> None:
        x = torch.full((steps, 1, neurons), 0.8, device=device, requires_grad=True)
        tfexplore.LIF(tau=2.0)(x).sum().backward()
        if device != "cpu":
            torch.cuda.synchronize(device)
        clock.append(time.perf_counter())

    for _ in range(1 + AGAIN):
        run()
    torch_took, tfexplore_took, first, *again = (1e3 * (b - a) for a, b in itertools.pairwise(clock))
    steady = sorted(again)[AGAIN // 2]
    parts = {"import torch": torch_took, "import tfexplore, without torch": tfexplore_took}
    parts |= {"compile or load": first - steady, "run": steady}
    return parts | {"in all": sum(parts.values())}  # the name of the total in the recorded results


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
