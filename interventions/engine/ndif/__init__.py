"""Models that an NDIF server holds: jobs, what they carry there and back, and waiting that always ends."""
