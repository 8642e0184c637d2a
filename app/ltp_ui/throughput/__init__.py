"""The Throughput page: measured speed, stored, uploaded or measured now."""
