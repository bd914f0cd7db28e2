"""One packet's way through one host's state, in the kernel's order."""
