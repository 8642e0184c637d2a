"""Tasks: what they are, how their rows are loaded, and own files; torch comes in where texts are encoded."""
