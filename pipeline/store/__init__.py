"""Results on the disk: objects, records, scratch."""
