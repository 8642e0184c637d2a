"""Question answering: windows become answers, answers become scores."""
