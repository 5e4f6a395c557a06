"""The pure core of Sudur: bytes, times and readers come in, verdicts and bytes go out.

Nothing in this package opens a file, a socket or a clock. Read ARCHITECTURE.md first; the byte
formats are in docs/format.md.
"""
