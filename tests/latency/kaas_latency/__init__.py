"""The single-node latency harness: tests/latency/run. README.md beside it is the manual."""
