"""Benchmarks: what a recording, the state, the start and a percentile cost, beside the stock SDK and others, in one run each."""
