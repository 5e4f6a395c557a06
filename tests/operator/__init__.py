"""A program that holds the log's keys and lies, and who catches it. The table: docs/threat-model.md."""
