"""What an agency does: issue, attest, change a status, always through one outbox."""
