"""Many runs from one file: the plan of what they need, and carrying it out."""
