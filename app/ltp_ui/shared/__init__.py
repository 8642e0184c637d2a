"""What every page shares: state, live models, jobs, charts, tables, exports."""
