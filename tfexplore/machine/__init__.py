"""What this computer has: folders and caches, its CUDA set-up, the doctor, wheels for a classroom without a network.

paths        `kernels_dir`, `notebooks_dir`, `cache_dir`
doctor       `checks`, the lines that `tfexplore doctor` prints: `Check`
cuda_setup   what CUDA's errors mean
wheels       what `tfexplore wheels` collects
files        atomic writes
"""

from tfexplore.machine.doctor import Check, checks
from tfexplore.machine.paths import cache_dir, kernels_dir, notebooks_dir

__all__ = ["Check", "cache_dir", "checks", "kernels_dir", "notebooks_dir"]
