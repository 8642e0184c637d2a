"""Whether pruning pays: a checkpoint on some lengths and on a machine, put together from the store.

Accuracy is what the runs' records say, FLOPs are counted, and a time is always one that was measured.
What the store lacks for a fuller answer is named. Torch-free.
"""
