"""A run's vectors as files that other tools read, with a card; and their way to the Hub."""
