"""The page that scores a file."""
