"""The published encoders as data: `encoders`, `files` and `dialects`, with the paper's own columns beside them.

No code knows an encoder's name: what tells one from another stands in the tables, which `tables` reads and checks.
"""

from ssl_risk_rs.encoders.catalogue.tables import (
    Address,
    Catalogue,
    Dialect,
    EncoderRow,
    Rule,
    Status,
    catalogue,
    published_entry,
    published_names,
    resolve_alias,
)

__all__ = [
    "Address",
    "Catalogue",
    "Dialect",
    "EncoderRow",
    "Rule",
    "Status",
    "catalogue",
    "published_entry",
    "published_names",
    "resolve_alias",
]
