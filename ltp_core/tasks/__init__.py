"""Data sets: what the tasks are, loading, batching, lengths, and kinds of token.

Import the modules by name: `data.batching` needs torch, `data.tasks`, `data.loading` and
`data.lengths` do not.
"""
