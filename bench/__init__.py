"""Benchmarks on real data; each script writes its own table into bench/README.md."""
