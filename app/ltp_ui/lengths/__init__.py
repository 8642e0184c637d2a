"""The Length shift page: stored counts, own data, charts, tables and sentences about them."""
