"""The same work on a cluster, by Ray: chunks of a file, runs of a sweep. Ray is an extra."""
