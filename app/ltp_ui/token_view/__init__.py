"""The token view: what it shows, the live component, and its twins for export."""
