"""Listings of packets as tcpdump and tshark print them go in, captures that the scan reads come out, and what a listing cannot tell.

A dialect is a file here, found by being there: it has `recognise(lines)`, which gives an object that reads its records.
"""

from tcpwhy.tables.listings._capture import HAS_IP_ID, IS_INFERRED, Lines
from tcpwhy.tables.listings._places import Listed, convert_listings

__all__ = ["HAS_IP_ID", "IS_INFERRED", "Lines", "Listed", "convert_listings"]
