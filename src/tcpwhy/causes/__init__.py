"""Failed connections go in, answers come out: one file a cause, found by being in this folder, listed nowhere."""

from tcpwhy.causes._catalogue import ALL_IDS, CauseFile, catalogue
from tcpwhy.causes._real_case import RealCase, real_case
from tcpwhy.causes._verdict import Exhibit, Found, Open, RuledOut, Verdict

__all__ = ["ALL_IDS", "CauseFile", "Exhibit", "Found", "Open", "RealCase", "RuledOut", "Verdict", "catalogue", "real_case"]
