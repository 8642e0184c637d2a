"""The Accuracy vs FLOPs page: operating points of stored runs beside the paper's."""
