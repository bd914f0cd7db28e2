"""A diagnosis goes in; what a person or a program reads of it comes out."""
