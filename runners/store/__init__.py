"""What cells leave behind, and how it survives: records, examples, checksums, locks."""
