"""A case on disk goes in; what each file is, and whose, comes out."""

from tcpwhy.evidence.case import Evidence, VantagePoint, open_evidence
from tcpwhy.evidence.error import EvidenceError
from tcpwhy.evidence.single_state import open_state
from tcpwhy.evidence.source import Source, plain_text

__all__ = ["Evidence", "EvidenceError", "Source", "VantagePoint", "open_evidence", "open_state", "plain_text"]
