"""Data sets: what the tasks are, loading, batching, and statistics of lengths.

Import the modules by name: `data.batching` needs torch, `data.tasks`, `data.loading` and
`data.lengths` do not.
"""
