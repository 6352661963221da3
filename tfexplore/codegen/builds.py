"""How a GPU kernel is built: the options that change its speed and nothing of its results.

A `Build` is one loop's; a `Config` both loops', which must agree on the chunk, since the forward pass saves the states at
the start of each. `default` is near the fastest, as `tools/candidates.py` predicts from the compiled code; `tune.py` measures
on a GPU and may know better.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

THREADS = 128
"""Threads of a block. A multiprocessor holds as many blocks as their registers and shared memory allow."""
ACCESS = 16
"""Bytes of the widest access that a GPU has."""
CHUNK_BYTES = 256
"""What a thread keeps of a chunk: 64 of its 255 registers (more, and the compiler spills), or 32 KB of shared memory a block."""
LEARNED = {"float32": 4, "float64": 1}
"""Neurons of a thread that have learned parameters; with more, the compiler spills (seven of Izhikevich's, as doubles)."""
BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
"""Bytes of a number."""


@dataclass(frozen=True)
class Build:
    """One loop over time.

    vector:    neurons in each thread, which move in one access.
    ahead:     time steps whose x (or g_out) are loaded before the first of them is used.
    shared:    a chunk's values are held in shared memory instead of registers (backward, keep="input").
    streaming: evict-first loads and stores for what is read once and written once.
    """

    vector: int
    ahead: int
    shared: bool = False
    streaming: bool = False

    def __str__(self) -> str:
        named = {"in shared memory": self.shared, "streaming": self.streaming}
        return ", ".join([f"{self.vector} wide", f"{self.ahead} ahead", *(name for name, yes in named.items() if yes)])

    def options(self, chunk: int, lengths: bool = False, chunked: bool = False, ends: bool = False) -> tuple[str, ...]:
        """As the compiler takes them: the named constants of `kernels/*.cu`.

        lengths: samples have a number of steps each. chunked: chunks of time run side by side; ends: only their ends are wanted.
        """
        named = {
            "THREADS": THREADS, "VECTOR": self.vector, "AHEAD": self.ahead, "CHUNK": chunk, "SHARED": int(self.shared),
            "STREAMING": int(self.streaming), "LENGTHS": int(lengths), "CHUNKED": int(chunked), "ENDS": int(ends),
        }  # fmt: skip
        return tuple(f"-D{name}={value}" for name, value in named.items())

    def narrow(self, chunk: int = 16) -> Build:
        """One neuron in each thread, where rows are no whole accesses or the neurons few: then more steps are in flight.

        chunk: where there is one, no more than that.
        """
        return replace(self, vector=1, ahead=min(16, chunk))


@dataclass(frozen=True)
class Config:
    """Both loops of a layer; chunk: the steps that the backward pass recomputes at once with keep="input"."""

    chunk: int
    forward: Build
    backward: Build

    def __str__(self) -> str:
        return f"chunks of {self.chunk}; forward: {self.forward}; backward: {self.backward}"


@dataclass(frozen=True)
class Shape:
    """What of a neuron and its data decides which build is the fastest; equal shapes share what was measured.

    real, data: the dtypes of the state and of x. keep: "nothing", "potential", "input" or "bits". needs: the values (or bits)
    that the adjoint needs of every step. learned: whether neurons have parameters of their own.
    """

    real: str
    data: str
    keep: str
    states: int
    needs: int
    learned: bool

    def __str__(self) -> str:
        values = f"{self.states} state{'s' * (self.states > 1)}, {self.needs} needed"
        return f"{self.data}, keep={self.keep}, {values}{', learned parameters' * self.learned}"

    @property
    def widest(self) -> int:
        """Neurons in the widest access. Learned parameters are their own, with a gradient each: registers are few then."""
        return min(ACCESS // BYTES[self.data], LEARNED[self.real] if self.learned else ACCESS)

    def chunk_bytes(self, chunk: int, vector: int) -> int:
        return chunk * max(1, self.needs) * vector * BYTES[self.real]


def default(shape: Shape) -> Config:
    """What is predicted to be the fastest for the neurons of the library; on an H200, within 3 % of the fastest measured for LIF.

    Four neurons in a thread and eight steps in flight; recomputed values are in shared memory, which leaves registers to more
    threads. A chunk of 16 steps costs little there (the states at its start); in half precision 8 are faster, where those states
    are a larger part of the bytes, but loads in flight need the cache that shared memory takes.

    >>> chosen = default(Shape("float32", "bfloat16", "input", states=1, needs=1, learned=False))
    >>> chosen.chunk, chosen.forward.vector, chosen.backward.vector, chosen.backward.shared
    (8, 4, 4, True)
    """
    chunk = 16 if BYTES[shape.data] == BYTES[shape.real] else 8
    while shape.chunk_bytes(chunk, 1) > CHUNK_BYTES and chunk > 1:
        chunk //= 2
    vector = min(shape.widest, 4)
    while shape.keep == "input" and shape.chunk_bytes(chunk, vector) > CHUNK_BYTES and vector > 1:
        vector //= 2
    back = Build(vector, min(8, chunk), shared=shape.keep == "input")
    return Config(chunk, Build(min(shape.widest, 4), 8), back)


def fits(config: Config, shape: Shape) -> bool:
    """Whether the kernels can be built so: whole accesses, whole batches in a chunk, and room for a chunk's values."""
    builds = (config.forward, config.backward)
    if any(build.vector > shape.widest for build in builds):
        return False
    if shape.keep != "input":
        return not config.backward.shared
    whole = config.chunk % config.backward.ahead == 0
    return whole and shape.chunk_bytes(config.chunk, config.backward.vector) <= CHUNK_BYTES
