"""The auditor: a whole log replayed by its rules, from public static resources alone."""
