"""What the pages share: state, live model calls, charts, the token view, wording and exports."""
