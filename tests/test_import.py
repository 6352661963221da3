"""What `import tfexplore` loads: torch, NumPy and SymPy, and nothing that takes its time or may be missing."""

import json
import subprocess

LATER = ("torch._dynamo", "numba", "cupy", "ipywidgets", "plotly", "matplotlib", "jax", "sklearn")


def test_importing_loads_nothing_that_is_used_later(python: str) -> None:
    text = f"import json, sys, tfexplore; print(json.dumps([name for name in {LATER} if name in sys.modules]))"
    done = subprocess.run([python, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
