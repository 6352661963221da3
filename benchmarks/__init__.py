"""The benchmarks: `tfexplore bench` runs them from a checkout; they print and record, and assert nothing on time."""
