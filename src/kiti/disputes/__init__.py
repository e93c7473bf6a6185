"""Money that travellers' banks want back: what is under dispute, until when it can be answered, how it ended."""
