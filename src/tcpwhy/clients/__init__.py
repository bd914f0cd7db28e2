"""Joined connections, what packets reveal and hosts' tables go in; who the real client of each connection is comes out."""
