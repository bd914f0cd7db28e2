"""What a user types after --where and --filter goes in, conditions of parametrised SQL that reach nothing else come out."""

from tcpwhy.expression.condition import Condition, ExpressionError
from tcpwhy.expression.filter import parse_filter
from tcpwhy.expression.where import parse_where

__all__ = ["Condition", "ExpressionError", "parse_filter", "parse_where"]
