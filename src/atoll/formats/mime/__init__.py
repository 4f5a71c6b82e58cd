"""Internet messages: one bounded scanner that every reader of mail uses (docs/seams.md 5)."""

from .addresses import Address, parse_addresses
from .dates import parse_date
from .fields import header_end, header_fields, header_lines
from .limits import DEFAULT, ScanLimits
from .scan import Scanned, scan
from .sections import Part, decode, find_part, section
from .structure import body_of
from .subjects import base_subject
from .text import SearchText, search_text
from .tree import Node, parse_tree
from .wire import nstring, string
from .words import decoded, to_text

__all__ = [
    "DEFAULT", "Address", "Node", "Part", "ScanLimits", "Scanned", "SearchText", "base_subject", "body_of", "decode",
    "decoded", "find_part", "header_end", "header_fields", "header_lines", "nstring", "parse_addresses", "parse_date",
    "parse_tree", "scan", "search_text", "section", "string", "to_text",
]  # fmt: skip
