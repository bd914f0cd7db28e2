"""Live hosts go in; what is recorded of them comes out as files that the other commands read."""
