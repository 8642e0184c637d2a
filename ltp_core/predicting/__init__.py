"""What a checkpoint says of many texts: its logits, a file of them, and as an object of Python."""
